"""The storage of a study: passwords are shown nowhere, and processes that make one database agree."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rcc.sweeps.storage import PASSWORD, hidden, keep_password, with_password, without_password

URL, SHOWN = "postgresql://me:s%2Fcret@host:5432/studies", "postgresql://me@host:5432/studies"


@pytest.mark.parametrize(("url", "shown"), [(URL, SHOWN), ("sqlite:///study.db", "sqlite:///study.db")])
def test_a_password_is_never_shown(url, shown):
    assert without_password(url) == shown


def test_a_password_waits_in_the_environment_for_the_url_that_lacks_it(monkeypatch):
    monkeypatch.setenv(PASSWORD, "of another")
    assert keep_password(URL) == SHOWN
    assert os.environ[PASSWORD] == "s/cret"
    assert with_password(SHOWN) == URL
    assert with_password("postgresql://me:own@host/studies") == "postgresql://me:own@host/studies"
    assert with_password("sqlite:///study.db") == "sqlite:///study.db"
    assert hidden(f"cannot parse {URL}: s/cret") == "cannot parse postgresql://me:…@host:5432/studies: …"
    monkeypatch.delenv(PASSWORD)
    assert (with_password(SHOWN), hidden(SHOWN)) == (SHOWN, SHOWN)


def test_two_processes_that_make_one_database_both_open_it(tmp_path):
    code = f"from rcc.sweeps.storage import database; database('sqlite:///{tmp_path}/studies.db')"
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
