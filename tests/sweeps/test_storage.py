"""The storage of a study: passwords are shown nowhere, and processes that make one database agree."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from optuna.study import StudyDirection

from rcc.errors import UserError
from rcc.sweeps.storage import (
    PASSWORD,
    alone,
    database,
    hidden,
    keep_password,
    storage_errors,
    with_password,
    without_password,
)

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


@pytest.mark.parametrize("way", ["read-only", "locked"])
def test_a_database_that_cannot_be_written_to_is_told(tmp_path, way):
    path = tmp_path / "studies.db"
    database(f"sqlite:///{path}").create_new_study([StudyDirection.MINIMIZE], "one")
    url = f"sqlite:///file:{path}?mode=ro&uri=true" if way == "read-only" else f"sqlite:///{path}?timeout=0.05"
    with closing(sqlite3.connect(path)) as other:
        if way == "locked":
            other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError) as told, storage_errors(url):
            database(url).create_new_study([StudyDirection.MINIMIZE], "two")
    said = {"read-only": "attempt to write a readonly database", "locked": "database is locked"}[way]
    assert f"the study in {url} cannot be used" in str(told.value)
    assert said in str(told.value)
    assert "storage=<url> names a database that runs and may be written to" in str(told.value)


def test_a_server_that_is_not_there_is_told():
    pytest.importorskip("psycopg", reason="pip install 'rcc[postgresql]'")
    told = r"postgresql://me@127\.0\.0\.1:1/studies cannot be used: OperationalError"
    with pytest.raises(UserError, match=told), alone("postgresql://me@127.0.0.1:1/studies"):
        pass


def test_processes_choose_from_one_database_in_turn(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    code = f"from rcc.sweeps.storage import alone\nwith alone({url!r}): print('held', flush=True)"
    with alone(url):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1.5)
    assert other.communicate()[0] == b"held\n"
