"""The outbox: a file in which a usage record waits until the API has answered what became of it.

SQLite, with a commit that has reached the disk before `put` returns. Several threads and processes may use one file.
The file has to lie on a local disk: SQLite's log does not work on network file systems.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from marketplace_saas_client.records import UsageRecord, encoded, key_of

BUSY_SECONDS = 30
_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    subscription TEXT NOT NULL,
    used_at REAL NOT NULL,
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_use ON waiting (used_at);
CREATE TABLE IF NOT EXISTS rejected (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    rejected_at REAL NOT NULL,
    told INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """A record that was taken to be sent. `attempts` have been answered with a reason to send it again."""

    key: str
    body: str
    attempts: int


@dataclass(frozen=True)
class Rejected:
    """A record that the API will not count. It stays in the outbox until the application resends or discards it."""

    key: str
    record: UsageRecord
    reason: str
    message: str
    rejected_at: datetime


@dataclass(frozen=True)
class Status:
    """What is in the outbox. `lost`: how many of the waiting records are older than AWS takes."""

    waiting: int
    lost: int
    oldest: datetime | None
    rejected: int


@dataclass(frozen=True)
class Retry:
    """Send the record again at `due_at`."""

    key: str
    due_at: float


@dataclass(frozen=True)
class Refusal:
    """The record is rejected for good."""

    key: str
    reason: str
    message: str


class Outbox:
    """The outbox in a file, which is made when it is missing. Times are in seconds since 1970."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def put(self, records: Iterable[UsageRecord]) -> None:
        """Keep the records; they are on the disk when this returns. A record that is there already stays once. One that
        was rejected with the same content is sent again."""
        rows = []
        for record in records:
            body = encoded(record)
            rows.append((key_of(body), body, record.subscription, record.timestamp.timestamp()))
        with self._transaction() as connection:
            connection.executemany("DELETE FROM rejected WHERE key = ?", [(row[0],) for row in rows])
            connection.executemany(
                "INSERT OR IGNORE INTO waiting (key, body, subscription, used_at, due_at) VALUES (?, ?, ?, ?, 0)", rows
            )

    def take(self, now: float, *, lease: float, limit: int, max_bytes: int) -> list[Entry]:
        """Take records that are due, oldest usage first; nobody else takes them for `lease` seconds. Whoever dies with
        them has lost nothing: they are due again then. `max_bytes` bounds their bodies with a comma each; one record is
        taken whatever its size."""
        with self._transaction() as connection:
            # A time further ahead than any wait was written under a clock that has been set back since.
            found = connection.execute(
                "SELECT key, body, attempts FROM waiting WHERE due_at <= ?1 OR due_at > ?1 + 86400"
                " ORDER BY used_at LIMIT ?2",
                (now, limit),
            )
            entries: list[Entry] = []
            size = 0
            for entry in (Entry(*row) for row in found.fetchall()):
                size += len(entry.body) + 1  # the body is ASCII
                if entries and size > max_bytes:
                    break
                entries.append(entry)
            connection.executemany(
                "UPDATE waiting SET due_at = ? WHERE key = ?", [(now + lease, entry.key) for entry in entries]
            )
        return entries

    def settle(self, done: Sequence[str], again: Sequence[Retry], refused: Sequence[Refusal], now: float) -> None:
        """Write down what became of records that were taken. Another process may have sent the same records meanwhile:
        what is counted is no longer waiting or rejected, and what is not waiting any more is not rejected."""
        with self._transaction() as connection:
            counted = [(key,) for key in done]
            connection.executemany("DELETE FROM waiting WHERE key = ?", counted)
            connection.executemany("DELETE FROM rejected WHERE key = ?", counted)
            connection.executemany(
                "UPDATE waiting SET due_at = ?, attempts = attempts + 1 WHERE key = ?",
                [(retry.due_at, retry.key) for retry in again],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO rejected (key, body, reason, message, rejected_at)"
                " SELECT key, body, ?, ?, ? FROM waiting WHERE key = ?",
                [(refusal.reason, refusal.message, now, refusal.key) for refusal in refused],
            )
            connection.executemany("DELETE FROM waiting WHERE key = ?", [(refusal.key,) for refusal in refused])

    def release(self, keys: Sequence[str], due_at: float) -> None:
        """Make records that were taken, and of which nothing is known, due at a time."""
        with self._transaction() as connection:
            connection.executemany("UPDATE waiting SET due_at = ? WHERE key = ?", [(due_at, key) for key in keys])

    def wake(self, subscription: str) -> None:
        """Make the subscription's records due now. `subscription` is the id or ARN that they were reported with."""
        with self._transaction() as connection:
            connection.execute("UPDATE waiting SET due_at = 0 WHERE subscription = ?", (subscription,))

    def status(self, lost_before: float) -> Status:
        """What is in the outbox; waiting usage from before `lost_before` is lost to AWS."""
        with self._transaction() as connection:
            waiting, oldest, lost = connection.execute(
                "SELECT count(*), min(used_at), coalesce(sum(used_at < ?), 0) FROM waiting", (lost_before,)
            ).fetchone()
            (rejected,) = connection.execute("SELECT count(*) FROM rejected").fetchone()
        return Status(waiting, lost, None if oldest is None else datetime.fromtimestamp(oldest, UTC), rejected)

    def aging(self, used_before: float, told: int) -> list[tuple[str, UsageRecord]]:
        """Waiting records with usage from before a time of which the application has been told less than `told`."""
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT key, body FROM waiting WHERE used_at < ? AND told < ? ORDER BY used_at", (used_before, told)
            )
            return [(key, _record(body)) for key, body in found.fetchall()]

    def aging_told(self, key: str, told: int) -> None:
        """The application has been told of a waiting record."""
        with self._transaction() as connection:
            connection.execute("UPDATE waiting SET told = ? WHERE key = ?", (told, key))

    def rejected(self, *, untold: bool = False) -> list[Rejected]:
        """The rejected records, or those of which the application has not been told, oldest first."""
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT key, body, reason, message, rejected_at FROM rejected WHERE told <= ? ORDER BY rejected_at",
                (0 if untold else 1,),
            )
            return [
                Rejected(key, _record(body), reason, message, datetime.fromtimestamp(at, UTC))
                for key, body, reason, message, at in found.fetchall()
            ]

    def rejected_told(self, key: str) -> None:
        """The application has been told of a rejected record."""
        with self._transaction() as connection:
            connection.execute("UPDATE rejected SET told = 1 WHERE key = ?", (key,))

    def discard(self, key: str) -> None:
        """Remove a rejected record."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM rejected WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file; using the outbox opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # an error of the disk may have ended it already
                    connection.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            # A connection must not be used after a fork, and not be closed by the child either.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # every commit is on the disk before it returns
            connection.executescript(_SCHEMA)
            self._connection, self._owner = connection, os.getpid()
        return self._connection


def _record(body: str) -> UsageRecord:
    return UsageRecord.from_json(json.loads(body))
