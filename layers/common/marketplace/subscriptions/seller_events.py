"""The events for the seller's application, on the seller's EventBridge bus with the source `marketplace.saas`.

Each is published at least once: after a crash an event may be published again, with the same id in `detail.id`, by
which a consumer recognises the repetition. Schemas and samples are in docs/events/.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import iso
from marketplace.platform.errors import NoAnswerError
from marketplace.subscriptions.waiting import waits

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

SOURCE = "marketplace.saas"
ENTRIES_PER_CALL = 10
"""EventBridge API reference: PutEvents takes at most ten entries."""
ATTEMPTS = 3
SCHEMA_VERSION = 1
"""The version of the events' schemas. A new member does not change it; what would break a consumer is another kind."""

type Kind = Literal[
    "Registration Resolved",
    "Registration Completed",
    "Contact Provided",
    "Claim Released",
    "Claim Transferred",
    "Subscription Activated",
    "Subscription Closing",
    "Subscription Ended",
    "Subscription Failed",
    "Entitlements Changed",
    "Usage Rejected",
    "Usage Conflict",
    "Conflict Resolved",
    "Usage Not Billable",
    "Usage Awaiting Approval",
    "Usage Released",
    "Overage Correction Due",
    "Correction Completed",
    "Correction Refused",
    "Usage Differences Found",
    "Advisory Issued",
]
KINDS: tuple[Kind, ...] = get_args(Kind.__value__)


@dataclass(frozen=True, slots=True)
class SellerEvent:
    """One event for the seller. `id` stays the same when it is published again; `time` is when the thing happened,
    in seconds since the epoch; `detail` holds plain JSON values."""

    kind: Kind
    id: str
    time: int
    detail: Mapping[str, Any]

    @property
    def published_detail(self) -> dict[str, Any]:
        """The detail as it is published: what every event carries, and this one's own."""
        return {"id": self.id, "time": iso(self.time), "schema_version": SCHEMA_VERSION, **self.detail}


def stable_id(*parts: str | int) -> str:
    """The same parts always give the same id, different parts another: lower-case base32 of 26 characters."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return "evt-" + base64.b32encode(digest).decode().lower()[:26]


def outbox_item(subscription_id: str, event: SellerEvent) -> Item:
    """The event as an item, for the transaction that makes the change which it reports. The next message about the
    subscription publishes it; `Requests.look_again` sends one."""
    return to_item(
        {
            **keys.outbox(subscription_id, event.id)._asdict(),
            "kind": event.kind,
            "event_id": event.id,
            "time": event.time,
            "detail": json.dumps(event.detail, separators=(",", ":"), sort_keys=True),
            **waits("event", event.time),
        }
    )


def from_outbox(item: Item) -> SellerEvent:
    values = from_item(item)
    return SellerEvent(values["kind"], values["event_id"], values["time"], json.loads(values["detail"]))


class SellerBus:
    """The seller's event bus."""

    def __init__(self, events_client: "EventBridgeClient", bus_name: str) -> None:
        self._events = events_client
        self._bus_name = bus_name

    def publish(self, events: Sequence[SellerEvent]) -> None:
        """Publishes the events. Entries that EventBridge refuses one by one, in an answer with status 200, are tried
        again.

        Raises AwsError when some are still not on the bus. Others may be, so the caller publishes all of them again.
        """
        for start in range(0, len(events), ENTRIES_PER_CALL):
            self._publish_few(events[start : start + ENTRIES_PER_CALL])

    def _publish_few(self, events: Sequence[SellerEvent]) -> None:
        entries = [self._entry(event) for event in events]
        code = ""
        for _ in range(ATTEMPTS):
            with classified_errors():
                answer = self._events.put_events(Entries=entries)
            if not answer["FailedEntryCount"]:
                return
            results = answer["Entries"]
            code = next((result["ErrorCode"] for result in results if result.get("ErrorCode")), "Unknown")
            entries = [entry for entry, result in zip(entries, results, strict=True) if result.get("ErrorCode")]
        raise NoAnswerError(code, f"{len(entries)} events were not taken by the bus")

    def _entry(self, event: SellerEvent) -> "PutEventsRequestEntryTypeDef":
        return {
            "Source": SOURCE,
            "DetailType": event.kind,
            "Time": datetime.fromtimestamp(event.time, UTC),
            "EventBusName": self._bus_name,
            "Detail": json.dumps(event.published_detail, separators=(",", ":"), sort_keys=True),
        }
