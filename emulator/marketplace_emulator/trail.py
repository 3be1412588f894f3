"""CloudTrail: an event for every call that reached a service, for LookupEvents and as the files of a trail.

Sources: the Seller Guide's example of a BatchMeterUsage event (lower-camel members, times as text, status and
MeteringRecordId of each record); CloudTrail User Guide, "CloudTrail record contents" (userIdentity, readOnly,
requestParameters and responseElements of at most 100 KB each) and "CloudTrail log file names"; botocore's model of
CloudTrail for LookupEvents.
"""

import gzip
import hashlib
import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from marketplace_emulator.clock import iso_seconds, parse_time, to_datetime
from marketplace_emulator.differences import Difference, Differences
from marketplace_emulator.errors import ServiceError
from marketplace_emulator.ledger import MeteringRecord, plain
from marketplace_emulator.settings import Settings
from marketplace_emulator.wire import EVENT_SOURCES

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
MOST_BYTES = 100_000
EVENTS_KEPT = 250_000
FILE_SECONDS = 300
"""A trail delivers about every five minutes (CloudTrail User Guide, "How CloudTrail works")."""
CHANGES = frozenset({"BatchMeterUsage", "ResolveCustomer", "BatchCreateBillingAdjustmentRequest"})
"""The operations that are no reads. CloudTrail keeps what they answer; of a read it keeps the question only."""
_HIDDEN_MEMBERS = frozenset({"registrationToken", "description"})


class Caller(NamedTuple):
    """Who signed a call, and from where it came."""

    access_key: str = "EMULATORACCESSKEY"
    address: str = "127.0.0.1"
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """One call as it is kept until somebody asks for its event. Bodies are compressed."""

    at: float
    region: str
    operation: str
    request_id: str
    caller: Caller
    body: bytes
    answer: bytes
    error: str
    message: str


class Trail:
    """The events of one emulator, oldest first."""

    def __init__(self, settings: Settings, differences: Differences) -> None:
        self._settings = settings
        self._differences = differences
        self._calls: deque[Logged] = deque(maxlen=EVENTS_KEPT)

    def log(
        self,
        *,
        at: float,
        region: str,
        operation: str,
        request_id: str,
        caller: Caller,
        body: bytes,
        answer: bytes,
        error: ServiceError | None,
    ) -> None:
        """Keep a call that reached its service, with what the service answered."""
        code, message = (error.code, error.message) if error else ("", "")
        kept, told = zlib.compress(body, 1), zlib.compress(answer, 1)
        self._calls.append(Logged(at, region, operation, request_id, caller, kept, told, code, message))

    def events(self, *, until: float, since: float = 0, region: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the events of the calls from `since` to `until`, in seconds since the epoch, oldest first."""
        for call in self._calls:
            if since <= call.at <= until and region in (None, call.region):
                yield from self._events_of(call)

    def files(self, *, until: float, since: float = 0) -> Iterator[tuple[str, bytes]]:
        """Yield what a trail delivers of these calls: the key of each file, and its gzip."""
        account = self._settings.seller_account

        def file_of(event: dict[str, Any]) -> tuple[str, str]:
            moment = event["eventTime"]
            minute = int(moment[14:16]) // (FILE_SECONDS // 60) * (FILE_SECONDS // 60)
            return event["awsRegion"], f"{moment[:14]}{minute:02d}"

        found = sorted(self.events(until=until, since=since), key=lambda event: (*file_of(event), event["eventTime"]))
        for (region, minute), events in groupby(found, file_of):
            content = json.dumps({"Records": list(events)}, separators=(",", ":")).encode()
            unique = hashlib.sha256(f"{region} {minute}".encode()).hexdigest()[:16]
            day, stamp = minute[:10].replace("-", "/"), minute.replace("-", "").replace(":", "")
            name = f"{account}_CloudTrail_{region}_{stamp}Z_{unique}.json.gz"
            yield f"AWSLogs/{account}/CloudTrail/{region}/{day}/{name}", gzip.compress(content, 6, mtime=0)

    def _events_of(self, call: Logged) -> Iterator[dict[str, Any]]:
        """The event of a call; where differences are planted in its records, those are in events of their own."""
        request, answer = _json(call.body), _json(call.answer)
        planted = self._planted(answer)
        if planted:
            answer["Results"] = [one for one in answer["Results"] if one.get("MeteringRecordId") not in planted]
            left = [_key(one["UsageRecord"]) for one in answer["Results"]]
            others = [_key(one) for one in answer["UnprocessedRecords"]]
            request["UsageRecords"] = [one for one in request["UsageRecords"] if _key(one) in (*left, *others)]
        if not planted or request["UsageRecords"]:
            yield self._event(call, request, answer)
        for difference in planted.values():
            for number, record in enumerate(difference.shown):
                yield self._event(call, *_single(record), sender=difference.sender, salt=f"{record.id} {number}")

    def _planted(self, answer: Any) -> dict[str, Difference]:
        results = answer.get("Results", ()) if isinstance(answer, dict) else ()
        ids = (one.get("MeteringRecordId") for one in results)
        found = ((record_id, self._differences.of(record_id, "trail")) for record_id in ids if record_id)
        return {record_id: difference for record_id, difference in found if difference is not None}

    def _event(self, call: Logged, request: Any, answer: Any, *, sender: str = "", salt: str = "") -> dict[str, Any]:
        account = self._settings.seller_account
        changes = call.operation in CHANGES
        event = {
            "eventVersion": "1.11",
            "userIdentity": self._identity(call, sender),
            "eventTime": iso_seconds(call.at),
            "eventSource": EVENT_SOURCES[call.operation],
            "eventName": call.operation,
            "awsRegion": call.region,
            "sourceIPAddress": call.caller.address,
            "userAgent": call.caller.agent,
            "requestParameters": _within("requestParameters", _shown(request)),
            "responseElements": _within("responseElements", _shown(answer)) if changes and not call.error else None,
            "requestID": call.request_id,
            "eventID": _uuid(f"event {call.request_id} {salt}"),
            "readOnly": not changes,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
        }
        return event | {"errorCode": call.error, "errorMessage": call.message} if call.error else event

    def _identity(self, call: Logged, sender: str) -> dict[str, Any]:
        """The session of a role, as a Lambda function or anybody with temporary credentials has one. The setting
        `callers` says whose an access key is; by default a role has the access key's name."""
        account, key = self._settings.seller_account, call.caller.access_key
        by_default = f"arn:aws:sts::{account}:assumed-role/{key}/{key}"
        arn = sender or self._settings.callers.get(key, by_default)
        _, _, session = arn.partition(":assumed-role/")
        role, _, name = session.partition("/")
        principal = f"AROA{hashlib.sha256(role.encode()).hexdigest()[:17].upper()}"
        issuer = {
            "type": "Role",
            "principalId": principal,
            "arn": f"arn:aws:iam::{account}:role/{role}",
            "accountId": account,
            "userName": role,
        }
        return {
            "type": "AssumedRole",
            "principalId": f"{principal}:{name}",
            "arn": arn,
            "accountId": account,
            "accessKeyId": "ASIASOMEONEELSE" if sender else key,
            "sessionContext": {
                "sessionIssuer": issuer,
                "attributes": {"creationDate": iso_seconds(call.at), "mfaAuthenticated": "false"},
            },
        }


def summary(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a member of what LookupEvents answers; the event itself is JSON text in it."""
    identity = event["userIdentity"]
    return {
        "EventId": event["eventID"],
        "EventName": event["eventName"],
        "ReadOnly": "true" if event["readOnly"] else "false",
        "AccessKeyId": identity["accessKeyId"],
        "EventTime": parse_time(event["eventTime"]),
        "EventSource": event["eventSource"],
        "Username": identity["principalId"].partition(":")[2],
        "Resources": [],
        "CloudTrailEvent": json.dumps(event, separators=(",", ":")),
    }


def time_text(timestamp: float) -> str:
    """A time as CloudTrail prints it within a request: `Apr 19, 2018 4:32:50 PM`, in UTC."""
    moment = to_datetime(timestamp)
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    half = "AM" if moment.hour < 12 else "PM"
    return f"{months[moment.month - 1]} {moment.day}, {moment.year} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


def _single(record: MeteringRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """Request and answer of a call that sent one record, which was accepted."""
    who: dict[str, Any] = {"CustomerIdentifier": record.customer_identifier}
    if record.license_arn:
        who = {"CustomerAWSAccountId": record.account_id, "LicenseArn": record.license_arn}
    usage = {
        "Timestamp": record.timestamp,
        "Dimension": record.dimension,
        "Quantity": plain(record.quantity),
        **who,
        **_allocations(record),
    }
    request: dict[str, Any] = {"UsageRecords": [usage]}
    if not record.license_arn:
        request["ProductCode"] = record.product_code
    result = {"UsageRecord": usage, "MeteringRecordId": record.id, "Status": "Success"}
    return request, {"Results": [result], "UnprocessedRecords": []}


def _allocations(record: MeteringRecord) -> dict[str, Any]:
    shown = [
        {
            "AllocatedUsageQuantity": plain(quantity),
            **({"Tags": [{"Key": key, "Value": value} for key, value in tags]} if tags else {}),
        }
        for tags, quantity in record.allocations
    ]
    return {"UsageAllocations": shown} if shown else {}


def _key(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def _shown(value: Any) -> Any:
    """JSON of a request or an answer as CloudTrail shows it: members in lower camel case, times as text, what is
    sensitive hidden. Keys of maps, which are in capitals, stay."""
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {}
    for name, item in value.items():
        member = name if name.isupper() else name[:1].lower() + name[1:]
        if member in _HIDDEN_MEMBERS:
            shown[member] = HIDDEN
        elif member == "timestamp" and isinstance(item, int | float):
            shown[member] = time_text(item)
        else:
            shown[member] = _shown(item)
    return shown


def _within(name: str, value: Any) -> Any:
    size = len(json.dumps(value, separators=(",", ":"))) if value else 0
    if size <= MOST_BYTES:
        return value
    return {"omitted": True, "originalSize": size, "reason": f"{name} is larger than 100 KB"}


def _json(packed: bytes) -> Any:
    try:
        return json.loads(zlib.decompress(packed))
    except ValueError:
        return None


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
