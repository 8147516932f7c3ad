"""A PostgreSQL server of its own for one test, on a socket and a free port of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "s/cret"
FOLDERS = (*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin"))


def binaries() -> Path | None:
    """The folder of the server's programs; None where it is not installed, or may not run."""
    found = shutil.which("initdb")
    folders = ([Path(found).parent] if found else []) + [each for each in FOLDERS if (each / "initdb").exists()]
    return folders[0] if folders and (os.geteuid() or _unprivileged()) else None


def _unprivileged() -> str | None:
    """A user whom the server can run as: it refuses the superuser."""
    names = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """The URL of a new database, with its password."""
    user = None if os.geteuid() else _unprivileged()
    with tempfile.TemporaryDirectory(prefix="rcc-pg-") as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "password").write_text(PASSWORD)
        data = folder / "data"
        data.mkdir()
        if user:
            shutil.chown(data, user)

        def run(*words: object) -> None:
            subprocess.run([*map(str, words)], check=True, capture_output=True, user=user, cwd=folder)

        authentication = ("--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        run(programs / "initdb", "-D", data, "-U", "me", *authentication)
        options = f"-p {port} -h 127.0.0.1 -k {data} -F"
        run(programs / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
        try:
            yield f"postgresql://me:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}/postgres"
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
