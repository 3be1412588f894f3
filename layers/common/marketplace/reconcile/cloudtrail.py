"""What CloudTrail says of BatchMeterUsage: its events from LookupEvents or from the files of a trail, as entries.

Sources: the Seller Guide's example of such an event; CloudTrail User Guide, "CloudTrail record contents" (what is left
out of an event that is too large) and "CloudTrail log file examples".
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import epoch, hour_of
from marketplace.platform.errors import ThrottledError
from marketplace.reconcile.evidence import (
    Entry,
    Gap,
    UnreadableEvidenceError,
    payer_of_customer,
    payer_of_license,
    quantity_of,
)

EVENT_NAME = "BatchMeterUsage"
SECONDS_PER_LOOKUP = 0.5
"""LookupEvents allows two calls a second for an account and region (CloudTrail API reference)."""
_ATTEMPTS = 8
_TEXT = re.compile(r"([A-Z][a-z]{2}) (\d{1,2}), (\d{4}),? (\d{1,2}):(\d\d):(\d\d)\s([AP]M)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

type Event = Mapping[str, Any]


class EventLookup(Protocol):
    """The one operation of CloudTrail's client that is called here."""

    def lookup_events(self, **arguments: Any) -> Mapping[str, Any]: ...


def looked_up(
    client: EventLookup, start: int, end: int, *, sleep: Callable[[float], None], seconds: float | None = None
) -> Iterator[Event]:
    """The events of BatchMeterUsage calls from `start` to `end` (seconds since the epoch), of the client's region and
    of the last 90 days. One call after another, `seconds` apart. Raises AwsError."""
    pause = SECONDS_PER_LOOKUP if seconds is None else seconds
    arguments: dict[str, Any] = {
        "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": EVENT_NAME}],
        "StartTime": datetime.fromtimestamp(start, UTC),
        "EndTime": datetime.fromtimestamp(end, UTC),
        "MaxResults": 50,
    }
    while True:
        page = _page(client, arguments, sleep, pause)
        for event in page["Events"]:
            yield json.loads(event["CloudTrailEvent"])
        token = page.get("NextToken")
        if not token:
            return
        arguments["NextToken"] = token
        sleep(pause)


def _page(
    client: EventLookup, arguments: Mapping[str, Any], sleep: Callable[[float], None], pause: float
) -> Mapping[str, Any]:
    for attempt in range(_ATTEMPTS):
        try:
            with classified_errors():
                return client.lookup_events(**arguments)
        except ThrottledError:
            if attempt + 1 == _ATTEMPTS:
                raise
            sleep(pause * 2**attempt)
    raise AssertionError("unreachable")


def events_in(file: bytes, name: str = "") -> Iterator[Event]:
    """The events of BatchMeterUsage calls in one file of a trail, gzip or not. `name` is for the error. Raises
    UnreadableEvidenceError."""
    try:
        content = gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file
        records = json.loads(content)["Records"]
        yield from (record for record in records if record.get("eventName") == EVENT_NAME)
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableEvidenceError(f"{name or 'the file'} is no file of a trail: {error}") from error


def events_under(folder: Path) -> Iterator[Event]:
    """The events in all files of a trail below a folder, such as a copy of its bucket; digest files are left out."""
    for path in sorted(folder.rglob("*.json*")):
        if "CloudTrail-Digest" not in path.parts:
            yield from events_in(path.read_bytes(), str(path))


def entries_of(events: Iterable[Event], gaps: list[Gap]) -> Iterator[Entry]:
    """An entry for each record that AWS has accepted. Events that do not show their records are added to `gaps`.
    Raises UnreadableEvidenceError."""
    for event in events:
        if event.get("errorCode"):
            continue
        answer = event.get("responseElements")
        sender, moment = _sender(event), _moment(event.get("eventTime"))
        results = answer.get("results") if isinstance(answer, Mapping) else None
        if results is None:
            gaps.append(Gap(str(event.get("eventID")), moment, sender))
            continue
        product = (event.get("requestParameters") or {}).get("productCode")
        yield from _accepted(event, results, product, sender, moment)


def _accepted(
    event: Event, results: Sequence[Mapping[str, Any]], product: str | None, sender: str, moment: int
) -> Iterator[Entry]:
    try:
        for result in results:
            if result.get("status") != "Success":
                continue
            record = result["usageRecord"]
            license_arn = record.get("licenseArn")
            if license_arn:
                payer = payer_of_license(license_arn)
            else:
                customer = record.get("customerIdentifier") or record.get("customerAWSAccountId")
                payer = payer_of_customer(product or "", str(customer))
            yield Entry(
                payer,
                record["dimension"],
                hour_of(_moment(record["timestamp"])),
                quantity_of(record.get("quantity", record.get("quantityAsDecimal", 0))),
                result.get("meteringRecordId") or "",
                sender,
                "",
                moment,
            )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableEvidenceError(f"event {event.get('eventID')} has another form: {error!r}") from error


def _sender(event: Event) -> str:
    """The role that signed the call, whichever of its sessions; of another kind of caller, its ARN."""
    identity = event.get("userIdentity") or {}
    issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
    return str(issuer.get("arn") or identity.get("arn") or identity.get("invokedBy") or "unknown")


@lru_cache(maxsize=65536)
def _moment(value: Any) -> int:
    """Seconds since the epoch of a time: the text that CloudTrail prints within a request, ISO 8601, or a number.
    Raises ValueError."""
    if isinstance(value, int | float):
        return int(value) // 1000 if value > 10**11 else int(value)
    found = _TEXT.fullmatch(str(value))
    if found is None:
        moment = datetime.fromisoformat(str(value))
        return epoch(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    month, day, year, hour, minute, second, half = found.groups()
    hours = int(hour) % 12 + (12 if half == "PM" else 0)
    parts = (int(year), _MONTHS.index(month) + 1, int(day), hours, int(minute), int(second))
    return epoch(datetime(*parts, tzinfo=UTC))
