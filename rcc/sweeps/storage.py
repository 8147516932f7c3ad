"""Open the storage of a study: a journal file behind a lock that ends with its process, or a database by its URL."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PASSWORD = "RCC_STORAGE_PASSWORD"
"""The variable of the environment that holds the password of a URL which has a user and none."""
TRIES, PAUSE = 4, 0.5
"""How often, and how many seconds apart, the tables of a new database are asked for: of two processes that make them
at the same time one fails and finds them made."""


def without_password(url: str) -> str:
    """A URL as it may be printed and stored."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{host}"))


def keep_password(url: str) -> str:
    """A URL without its password, which goes to the environment: no message, file or list of processes shows it, and
    the processes that this one starts find it."""
    password = urlsplit(url).password
    if password is not None:
        os.environ[PASSWORD] = unquote(password)
    return without_password(url)


def with_password(url: str) -> str:
    """The URL that a database is opened by: with the password of the environment where it has a user and none."""
    parts, password = urlsplit(url), os.environ.get(PASSWORD)
    if password is None or parts.username is None or parts.password is not None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def hidden(text: str) -> str:
    """A driver's message without the password, should it repeat the URL."""
    password = os.environ.get(PASSWORD)
    return text.replace(quote(password, safe=""), "…").replace(password, "…") if password else text


def database(url: str) -> BaseStorage:
    """The storage in a database, its tables made where they are not there. Raises what its driver raises."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(TRIES - 1):
        try:
            return RDBStorage(with_password(url))
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            if "alembic_version" not in str(error) and "already exists" not in str(error):
                raise
            time.sleep(PAUSE)
    return RDBStorage(with_password(url))


def journal(path: Path) -> BaseStorage:
    """The storage in a journal file."""
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import BaseJournalFileLock

    class Lock(BaseJournalFileLock):
        def __init__(self) -> None:
            self._lock = FileLock(path.with_name(f".{path.name}.lock"))

        def acquire(self) -> bool:
            self._lock.acquire()
            return True

        def release(self) -> None:
            self._lock.release()

    _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=Lock()))


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process did not finish: nothing after it could be read."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
