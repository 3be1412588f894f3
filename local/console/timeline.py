"""What happened to one subscription, in one list: notifications of AWS, events for the seller, usage, what people have
decided about it, calls of AWS."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from local.aws import BusEvent
from local.console.words import RESULT, UNUSUAL, of_rejection, short
from local.traffic import Reported
from marketplace.commands.history import Told
from marketplace_emulator import Marketplace
from marketplace_emulator.model import Purchase
from marketplace_emulator.pages import concerns

_IDENTITY = frozenset(
    {
        *(
            "id",
            "time",
            "schema_version",
            "subscription_id",
            "product_code",
            "integration",
            "license_arn",
            "customer_identifier",
        ),
        *("account_id", "agreement_id", "offer_id"),
    }
)
"""What every event says about whom it concerns."""

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `kind` is notification, event, usage, decision or call; `url` shows it whole."""

    at: float
    kind: str
    who: str
    title: str
    text: str = ""
    url: str = ""


def timeline(
    marketplace: Marketplace,
    marketplace_url: str,
    purchase: Purchase | None,
    events: Iterable[BusEvent],
    reports: Iterable[Reported],
    *,
    decisions: Iterable[Told],
    here: str,
) -> list[Entry]:
    """The entries about the subscription whose page is at `here`, the newest first."""
    found = [*_events(events), *_usage(reports, here), *_decisions(decisions)]
    if purchase is not None:
        with marketplace.agenda.acting():
            found += _notifications(marketplace, purchase, marketplace_url)
            found += _calls(marketplace, purchase, marketplace_url)
    return sorted(found, key=lambda entry: entry.at, reverse=True)


def about(detail: Any) -> str:
    """What an event says beside whom it concerns, in one line."""
    if not isinstance(detail, dict):
        return str(detail)
    said = (
        (name, value) for name, value in detail.items() if name not in _IDENTITY and value not in (None, "", [], {})
    )
    return "; ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in said)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    text = UNUSUAL.get(str(value), str(value))
    return short(text) if text[10:11] == "T" and text[:4].isdigit() else text


def _notifications(marketplace: Marketplace, purchase: Purchase, url: str) -> Iterator[Entry]:
    for one in marketplace.outbox.log:
        if one.purchase_id == purchase.id:
            yield Entry(one.emitted_at, "notification", "AWS Marketplace", one.name, url=f"{url}/messages/{one.seq}")


def _calls(marketplace: Marketplace, purchase: Purchase, url: str) -> Iterator[Entry]:
    for call in marketplace.calls:
        if concerns(call, purchase):
            records = f"{call.records} records" if call.records > 1 else ""
            text = records if call.outcome == "ok" else call.outcome
            yield Entry(call.at, "call", "Call of AWS", call.operation, text, f"{url}/calls/{call.seq}")


def _events(events: Iterable[BusEvent]) -> Iterator[Entry]:
    """Each event once: it may be published again, with the same id."""
    first = {event.detail.get("id", event.seq): event for event in reversed(list(events))}
    for event in first.values():
        yield Entry(
            event.at, "event", "Event bus", event.detail_type, about(event.detail), f"/events#event-{event.seq}"
        )


def _usage(reports: Iterable[Reported], here: str) -> Iterator[Entry]:
    for one in reports:
        record, status = one.record, str(one.result.get("status"))
        title = f"{RESULT.get(status, ('', status))[1]}: {record.get('quantity')} {record.get('dimension')}"
        refused = status in ("rejected", "conflict")
        text = of_rejection(one.result).partition(": ")[2] if refused else f"id {record.get('id')}"
        proof = f"{here}?{urlencode({'record': record.get('id', '')})}#proof"
        yield Entry(one.at, "usage", "Usage", title, text, "" if status == "rejected" else proof)


def _decisions(decisions: Iterable[Told]) -> Iterator[Entry]:
    for one in decisions:
        text = _MOMENT.sub(r"\1 \2", one.detail) + (f", by {one.by}" if one.by else "")
        yield Entry(one.at, "decision", "Operator" if one.by else "AWS Marketplace", one.what.capitalize(), text)
