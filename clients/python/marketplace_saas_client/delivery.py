"""Sending what waits in the outbox, and learning from the answers what is done, due again, or rejected.

Nothing leaves the outbox before an answer about it is written down, and an answer is never guessed: what is not
understood counts as no answer. A crash at any point therefore costs one more sending, with the same id and content,
which the API answers `duplicate`. The same holds for two processes that send the same record.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from marketplace_saas_client import backoff
from marketplace_saas_client.calls import Call
from marketplace_saas_client.errors import ApiError, ClientError, NoAnswerError
from marketplace_saas_client.http import Http
from marketplace_saas_client.outbox import Entry, Outbox, Refusal, Rejected, Retry, Status
from marketplace_saas_client.records import UsageRecord
from marketplace_saas_client.steps import Steps

MAX_RECORDS = 500
MAX_BYTES = 2_097_152
"""docs/integration.md, section 5: at most 500 records and 2 MB in a request."""
_ENVELOPE = b'{"records":[', b"]}"
LEASE = 60.0
"""Longer than one request may take."""
LONGEST_BETWEEN_RETRIES = 300.0
"""For a record that the API has asked to send again: a subscription may become active at any time."""
TAKEN_FOR = 24 * 3600.0
"""AWS Marketplace takes usage for 24 hours."""
WARNED_AFTER = 20 * 3600.0
_COUNTED = ("recorded", "duplicate")
_POISONED = ("invalid_body", "request_too_large")
"""The codes of a refusal that may be the fault of one record."""
log = logging.getLogger("marketplace_saas_client")


@dataclass
class Delivery:
    """What one pass over the outbox did. `wait` is in seconds: when the next pass should begin. `problem` says why the
    pass ended before everything that is due was sent; the records stay in the outbox."""

    recorded: int = 0
    again: int = 0
    rejected: int = 0
    wait: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Listener:
    """What the application is told, each at least once. A function that raises is called again in the next pass.

    `on_rejected`: the record will not be counted. `on_aging`: the record has been waiting for most of the time in which
    AWS takes it, and once more with True when that time is over.
    """

    on_rejected: Callable[[Rejected], object] = field(default=lambda rejected: log.error("rejected: %s", rejected))
    on_aging: Callable[[UsageRecord, bool], object] = field(
        default=lambda record, lost: log.error("%s: %s", "too old for AWS" if lost else "waits for long", record)
    )


class Deliverer:
    """Sends what is in the outbox. Every method that answers Steps is a procedure for `run` or `run_async`."""

    def __init__(
        self,
        http: Http,
        outbox: Outbox,
        listener: Listener,
        now: Callable[[], datetime],
        *,
        jitter: backoff.Jitter,
        interval: float,
    ) -> None:
        self._http = http
        self._outbox = outbox
        self._listener = listener
        self._now = now
        self._jitter = jitter
        self._interval = interval
        self._failures = 0
        self._limit = MAX_RECORDS

    def deliver(self) -> Steps[Delivery]:
        """Send everything that is due, until there is nothing more or the API gives no answer."""
        delivery = Delivery(wait=self._interval)
        while not delivery.problem:
            batch: list[Entry] = yield self._take
            if not batch:
                break
            yield from self._send(batch, delivery)
        yield from self._tell()
        return delivery

    def attempt(self) -> Steps[float]:
        """Deliver, and answer after how many seconds to deliver again. A fault, of the disk for example, is logged and
        does not end what runs this again and again."""
        try:
            delivery = yield from self.deliver()
        except Exception:
            log.exception("a delivery failed; the usage records stay in the outbox")
            return self._interval
        return delivery.wait

    def flush(self, seconds: float) -> Steps[bool]:
        """Deliver until nothing waits, for so many seconds of waiting at most; answers whether nothing waits."""
        while True:
            delivery = yield from self.deliver()
            status: Status = yield self.status
            if not status.waiting or seconds <= 0:
                return not status.waiting
            wait = min(delivery.wait if delivery.problem else 1.0, seconds)
            seconds -= wait
            yield wait

    def status(self) -> Status:
        """What is in the outbox."""
        return self._outbox.status(self._seconds() - TAKEN_FOR)

    def _seconds(self) -> float:
        return self._now().timestamp()

    def _take(self) -> list[Entry]:
        size = MAX_BYTES - sum(map(len, _ENVELOPE))
        return self._outbox.take(self._seconds(), lease=LEASE, limit=self._limit, max_bytes=size)

    def _send(self, batch: Sequence[Entry], delivery: Delivery) -> Steps[None]:
        content = ",".join(entry.body for entry in batch).encode().join(_ENVELOPE)
        call = Call[Any]("POST", "/usage")
        try:
            answer = yield partial(self._http.exchange, call, content)
            results = _results(answer, len(batch))
        except ApiError as error:
            if error.code not in _POISONED:
                yield from self._failed(batch, error, delivery)
            elif len(batch) > 1:
                yield from self._send_halves(batch, delivery)
            else:
                yield from self._settle(batch, [_refusal(error)], delivery)
        except ClientError as error:
            yield from self._failed(batch, error, delivery)
        else:
            self._failures, self._limit = 0, min(MAX_RECORDS, 2 * self._limit)
            yield from self._settle(batch, results, delivery)

    def _send_halves(self, batch: Sequence[Entry], delivery: Delivery) -> Steps[None]:
        """One record has the whole request refused. The others go through, and it is found in the end."""
        middle = len(batch) // 2
        yield from self._send(batch[:middle], delivery)
        if delivery.problem:
            return  # the second half is due again when its lease is over
        yield from self._send(batch[middle:], delivery)

    def _failed(self, batch: Sequence[Entry], error: ClientError, delivery: Delivery) -> Steps[None]:
        """One record may be what the API fails of, so the next request is smaller, down to a single record; that one is
        put off then, and the others go on."""
        self._failures += 1
        is_put_off = self._limit == 1
        if isinstance(error, NoAnswerError) and not error.is_asked_to_wait:
            self._limit = max(1, self._limit // 2)
        retry_after = error.retry_after if isinstance(error, NoAnswerError) else None
        delivery.wait = backoff.delay(self._failures, retry_after=retry_after, jitter=self._jitter)
        delivery.problem = str(error)
        log.warning("%d usage records stay in the outbox: %s", len(batch), error)
        wait = LONGEST_BETWEEN_RETRIES if is_put_off else delivery.wait
        keys, due_at = [entry.key for entry in batch], self._seconds() + wait
        yield partial(self._outbox.release, keys, due_at)

    def _settle(self, batch: Sequence[Entry], results: Sequence[Mapping[str, Any]], delivery: Delivery) -> Steps[None]:
        done: list[str] = []
        again: list[Retry] = []
        refused: list[Refusal] = []
        now = self._seconds()
        for entry, result in zip(batch, results, strict=True):
            if result["status"] in _COUNTED:
                done.append(entry.key)
            elif result.get("retryable") is False:
                refused.append(Refusal(entry.key, str(result.get("reason")), str(result.get("message", ""))))
            else:
                wait = backoff.delay(entry.attempts + 1, longest=LONGEST_BETWEEN_RETRIES, jitter=self._jitter)
                again.append(Retry(entry.key, now + wait))
        delivery.recorded += len(done)
        delivery.again += len(again)
        delivery.rejected += len(refused)
        yield partial(self._outbox.settle, done, again, refused, now)

    def _tell(self) -> Steps[None]:
        """Tell the application what it has not been told."""
        ages = ((2, TAKEN_FOR, True), (1, WARNED_AFTER, False))
        for told, age, lost in ages:
            aging: list[tuple[str, UsageRecord]] = yield partial(self._outbox.aging, self._seconds() - age, told)
            for key, record in aging:
                if (yield partial(_heard, self._listener.on_aging, record, lost)):
                    yield partial(self._outbox.aging_told, key, told)
        rejected: list[Rejected] = yield partial(self._outbox.rejected, untold=True)
        for one in rejected:
            if (yield partial(_heard, self._listener.on_rejected, one)):
                yield partial(self._outbox.rejected_told, one.key)


def _results(answer: Any, count: int) -> list[Mapping[str, Any]]:
    """One result for each record. Raises NoAnswerError for what is no answer of the API."""
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != count:
        raise NoAnswerError("the answer has not one result for each record")
    if not all(isinstance(result, dict) and isinstance(result.get("status"), str) for result in results):
        raise NoAnswerError("the answer holds something that is no result")
    return results


def _refusal(error: ApiError) -> Mapping[str, Any]:
    return {"status": "rejected", "reason": error.code, "message": error.message, "retryable": False}


def _heard(listener: Callable[..., object], *told: object) -> bool:
    try:
        listener(*told)
    except Exception:
        log.exception("the application's listener failed; it is called again")
        return False
    return True
