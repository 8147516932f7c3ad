"""`scripts/audit.py` fails for known vulnerabilities alone, and says what it could not look up."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, *vulnerabilities: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": each, "fix_versions": ["1.1"]} for each in vulnerabilities],
    }


def test_a_known_vulnerability_is_told_with_the_version_that_mends_it(audit: ModuleType) -> None:
    text, vulnerable = audit.told([package("a"), package("b", "PYSEC-1")])
    assert vulnerable
    assert text == "b 1.0: PYSEC-1, fixed in 1.1\n2 of 2 packages were looked up."


def test_versions_that_the_index_does_not_know_are_told_and_do_not_fail(audit: ModuleType) -> None:
    unknown = [{"name": f"p{number}", "skip_reason": "not found"} for number in range(10)]
    text, vulnerable = audit.told([package("a"), *unknown])
    assert not vulnerable
    assert text.splitlines() == [
        "1 of 11 packages were looked up.",
        "NOT AUDITED: the index has no record of p0, p1, p2, p3, p4, p5, p6, p7 and 2 more in these versions.",
    ]


def test_without_a_network_it_says_so_and_passes(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere(scratch: Path, where: str) -> list[dict[str, Any]]:
        said = "Retrying\nERROR: No matching distribution found for pip-audit"
        raise subprocess.CalledProcessError(1, ["pip"], "", said)

    monkeypatch.setattr(audit, "_audited", nowhere)
    assert audit.main(sys.executable) == 0
    assert "NOT AUDITED: pip-audit could not be had or got no answer (ERROR: No matching" in capsys.readouterr().out
