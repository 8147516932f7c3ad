"""Look up known vulnerabilities of what an environment holds, and say what could not be looked up.

python scripts/audit.py .venv/bin/python

Runs pip-audit (PyPI's advisories) out of an environment of its own that is removed at the end. Fails for a known
vulnerability alone; without a network, or where the index does not know a version, it says so and passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SECONDS = 300
"""The longest that installing the tool may take, and asking with it."""
SHOWN = 8
"""Packages that a line names."""
SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main(python: str) -> int:
    """Audit the environment of an interpreter; 1 where something in it is known to be vulnerable."""
    where = _output([python, "-c", SITE_PACKAGES]).strip()
    with TemporaryDirectory(prefix="rcc-audit-") as scratch:
        try:
            dependencies = _audited(Path(scratch), where)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"NOT AUDITED: pip-audit could not be had or got no answer ({_reason(error)}).")
            return 0
    text, vulnerable = told(dependencies)
    print(text)
    return 1 if vulnerable else 0


def told(dependencies: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    """What pip-audit found as text, and whether something is vulnerable.

    Args:
        dependencies: each with 'name', and 'version' and 'vulns', or 'skip_reason'.
    """
    known = [each for each in dependencies if "skip_reason" not in each]
    unknown = [each["name"] for each in dependencies if "skip_reason" in each]
    lines = []
    for each in known:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            lines.append(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    vulnerable = bool(lines)
    lines.append(f"{len(known)} of {len(dependencies)} packages were looked up.")
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        lines.append(f"NOT AUDITED: the index has no record of {', '.join(unknown[:SHOWN])}{more} in these versions.")
    return "\n".join(lines), vulnerable


def _audited(scratch: Path, where: str) -> list[dict[str, Any]]:
    """What pip-audit says of the packages in the folder `where`."""
    own = scratch / "bin/python"
    _output([sys.executable, "-m", "venv", "--without-pip", str(scratch)])
    install = ["install", "--quiet", "--timeout", "15", "--retries", "1", "pip-audit"]
    _output([sys.executable, "-m", "pip", "--python", str(own), *install])
    report = scratch / "audit.json"
    # It exits with 1 where it found something and where it failed: only the latter leaves no report.
    asked = [str(own), "-m", "pip_audit", "--path", where, "--progress-spinner", "off", "-f", "json", "-o", str(report)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS)
    if not report.is_file():
        raise subprocess.CalledProcessError(done.returncode, asked, done.stdout, done.stderr)
    dependencies: list[dict[str, Any]] = json.loads(report.read_text())["dependencies"]
    return dependencies


def _output(words: Sequence[str]) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=SECONDS).stdout


def _reason(error: Exception) -> str:
    """The last line of what a program said, or the error itself."""
    said = str(getattr(error, "stderr", "") or "").strip().splitlines()
    return said[-1] if said else str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
