"""Open the storage of a study: a journal file behind a lock that ends with its process, or a database by its URL."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from filelock import FileLock

from rcc.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PASSWORD = "RCC_STORAGE_PASSWORD"
"""The variable of the environment that holds the password of a URL which has a user and none."""
LOCK_KEY = 0x726363
"""Of the advisory lock in a database: 'rcc'."""
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


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """What a storage cannot do, as an error of ours.

    Raises:
        UserError: it cannot be reached, read or written.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except ImportError as error:
        raise UserError(
            f"the study in {where} needs a package for its kind of database ({error}); for postgresql://:"
            " pip install 'rcc[postgresql]'."
        ) from error
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:  # Optuna calls whatever a database refuses "invalid data in the commit"
            first = first.__cause__
        reason = hidden(" ".join(str(first).split("\n(Background")[0].split()))
        raise UserError(
            f"the study in {where} cannot be used: {type(first).__name__}: {reason}. By default it is a"
            " file in the sweep's folder; storage=<url> names a database that runs and may be written to, whose"
            f" password may stand in {PASSWORD}."
        ) from error


@contextmanager
def alone(url: str) -> Iterator[None]:
    """Hold a lock that all processes share which use a database, on whatever machine: a moment, in which one of them
    chooses a trial. It ends with the process. SQLite has it in a file beside its own; databases other than
    PostgreSQL have none, and there two processes may choose the same point.

    Raises:
        UserError: the database cannot be reached.
    """
    with ExitStack() as held:
        with storage_errors(without_password(url)):
            from sqlalchemy import create_engine, text
            from sqlalchemy.engine import make_url

            parts = make_url(url)
            kind = parts.get_backend_name()
            if kind == "sqlite" and parts.database:
                held.enter_context(FileLock(f"{parts.database}.lock"))
            elif kind == "postgresql":
                engine = create_engine(with_password(url))
                held.callback(engine.dispose)
                connection = held.enter_context(engine.connect())
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        yield


def journal(path: Path) -> BaseStorage:
    """The storage in a journal file."""
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
