"""Sends a file of usage records to the seller API, and keeps in a result file what was answered for each line.

The result file makes the import resumable: a line that has a final answer there is not sent again. A batch whose answer
was not written down before a crash is sent again; its records are answered as duplicates, because each has an id of its
own. So a file is counted once, however often its import is started.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO

import marketplace_saas_client.operations as api
from marketplace.seller_api.requests import MAX_RECORDS
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.session import Session
from marketplace_saas_cli.usage_file import Line, UsageFile

ATTEMPTS = 3
"""How often what is answered as retryable is sent in one run."""
PAUSE = 2.0
"""Seconds before such records are sent again."""


class ResultFile:
    """One JSON object a line: the first names the content of the imported file, each other one the answer for a line
    of it."""

    def __init__(self, path: Path, digest: str) -> None:
        """Raises RefusedError when the file is another import's, or can't be read."""
        self.path = path
        self._digest = digest
        self.done: set[int] = set()
        self.counts: Counter[str] = Counter()
        try:
            self._end = self._read() if path.exists() else 0
        except OSError as error:
            raise RefusedError(f"the result file {path} can't be read: {error.strerror}") from error

    def _read(self) -> int:
        """Takes note of what is answered; returns where the last whole line ends, because a crash may have torn one."""
        end = 0
        with self.path.open("rb") as file:
            for number, content in enumerate(file):
                if not content.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(content)
                    if number == 0 and entry["sha256"] != self._digest:
                        raise RefusedError(
                            f"{self.path} holds the results of another file, or of an earlier content of this one; "
                            "name another with --result"
                        )
                    if number:
                        self.done.add(entry["line"])
                        self.counts[entry["status"]] += 1
                except (ValueError, KeyError, TypeError) as error:
                    raise RefusedError(f"{self.path} is not the result file of an import") from error
                end += len(content)
        return end

    def open(self) -> BinaryIO:
        """The file, to be written on from where its last whole line ends. Raises RefusedError."""
        try:
            file = self.path.open("r+b" if self.path.exists() else "w+b")
            file.truncate(self._end)
            file.seek(self._end)
            if not self._end:
                _write(file, [{"sha256": self._digest}])
        except OSError as error:
            raise RefusedError(f"the result file {self.path} can't be written: {error.strerror}") from error
        return file

    def add(self, file: BinaryIO, entries: list[dict[str, Any]]) -> None:
        """Stores answers; they are on the disk when this returns."""
        _write(file, entries)
        for entry in entries:
            self.done.add(entry["line"])
            self.counts[entry["status"]] += 1


def send(session: Session, usage: UsageFile, results: ResultFile, records: int) -> Counter[str]:
    """Sends every line that has no final answer. Returns how many are still to be sent, by the reason that the API
    gave. Raises NoAnswerError; a later run goes on."""
    left: Counter[str] = Counter()
    with results.open() as file:
        pending = batched(
            (line for line in usage.lines() if line.number not in results.done), MAX_RECORDS, strict=False
        )
        for lines in _shown(session, pending, records - len(results.done)):
            again, reasons = list(lines), Counter[str]()
            for attempt in range(ATTEMPTS):
                if attempt:
                    session.sleep(PAUSE)
                again, reasons = _sent(session, results, file, again)
                if not again:
                    break
            left += reasons
    return left


def _sent(session: Session, results: ResultFile, file: BinaryIO, lines: list[Line]) -> tuple[list[Line], Counter[str]]:
    """Sends a batch and stores the final answers; returns the lines that are to be sent again, and why."""
    body: Any = {"records": [line.record for line in lines]}
    answers = session.call(api.record_usage(body))["results"]
    final: list[dict[str, Any]] = []
    again: list[Line] = []
    reasons: Counter[str] = Counter()
    for line, answer in zip(lines, answers, strict=True):
        if answer.get("retryable"):
            again.append(line)
            reasons[str(answer["reason"])] += 1
        else:
            final.append({"line": line.number, **answer})
    results.add(file, final)
    return again, reasons


def _shown(session: Session, batches: Iterator[tuple[Line, ...]], records: int) -> Iterator[tuple[Line, ...]]:
    return session.output.each(
        batches, f"sending {records:,} records, {MAX_RECORDS} at a time", -(-records // MAX_RECORDS)
    )


def _write(file: BinaryIO, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
