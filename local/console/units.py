"""The units of a subscription by hour: what was recorded here, what the application takes as metered, and what AWS has
billed; where the three differ, why. And the chart of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from local.console.words import UNUSUAL, short
from marketplace_emulator.clock import DAY, HOUR, iso_seconds
from marketplace_emulator.ledger import MeteringRecord

GROUPS = 24
GROUP_WIDTH, BAR_WIDTH = 52, 13
LEFT, TOP, PLOT, BOTTOM = 56, 14, 120, 26
_UNSETTLED = {
    "held": "AWS Marketplace says that the subscription is not active; it is sent again",
    "rejected": "AWS Marketplace refused it",
    "conflict": "another sender reported this hour first, so AWS Marketplace has not taken it",
    "unbillable": "AWS Marketplace takes it no more",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One dimension in one hour (seconds since the epoch). `state` and `record` are the application's, None for what
    only AWS knows. `waits` and `differs` say in words what is still to happen, or what is not equal; `decided` what was
    decided about it while it was unusual, and `choices` what the seller may decide: `approve`, `refuse`."""

    hour: int
    dimension: str
    recorded: int
    metered: int
    billed: Decimal
    amount: Decimal
    record: Mapping[str, Any] | None
    waits: str = ""
    differs: str = ""
    decided: str = ""
    choices: tuple[str, ...] = ()

    @property
    def iso(self) -> str:
        return iso_seconds(self.hour)


def units(metering_records: Iterable[Mapping[str, Any]], bill: Iterable[MeteringRecord], now: float = 0) -> list[Unit]:
    """The units of each hour and dimension, newest first. `now` (seconds since the epoch) says what may be decided."""
    known = {(_seconds(one["hour"]), str(one["dimension"])): one for one in metering_records}
    billed: dict[tuple[int, str], list[MeteringRecord]] = {}
    for entry in bill:
        billed.setdefault((entry.hour * HOUR, entry.dimension), []).append(entry)
    return [_unit(key, known.get(key), billed.get(key, []), now) for key in sorted(known.keys() | billed.keys())[::-1]]


def _unit(key: tuple[int, str], record: Mapping[str, Any] | None, bill: list[MeteringRecord], now: float) -> Unit:
    recorded = int(record["quantity"]) if record else 0
    state = record["state"] if record else ""
    metered = recorded if state == "metered" else 0
    billed = sum((Decimal(one.quantity) for one in bill), Decimal(0))
    waits = differs = ""
    if record is None:
        differs = f"AWS has billed {billed:,} that were not recorded here"
    elif len(bill) > 1:
        differs = f"AWS has billed the hour {len(bill)} times: {billed:,} for {recorded:,} recorded"
    elif state == "unbillable" and record.get("approval") == "refused":
        differs = f"it is not sent{_because(record)}"
    elif state == "conflict" and "aws_quantity" in record:
        rest = f", and {short(record['carried_to'])} took the rest" if record.get("carried_to") else ""
        differs = f"another sender reported this hour: AWS Marketplace has {record['aws_quantity']:,}{rest}"
    elif state in _UNSETTLED and state != "held":
        differs = f"{_UNSETTLED[state]}{_because(record)}"
    elif state == "metered" and billed != metered:
        differs = f"the application takes {metered:,} as metered, AWS has billed {billed:,}"
    elif state == "metered":
        pass
    elif state == "awaiting_approval":
        waits = _awaiting(record)
    elif state == "held":
        waits = _UNSETTLED["held"] + _because(record)
    elif billed:
        waits = "AWS has billed it; the application has not got the answer yet and asks again"
    elif state == "open":
        waits = f"to be metered from {short(record['due_at'])} on" if record.get("due_at") else "to be metered"
    amount = sum((one.amount for one in bill), Decimal(0))
    decided = "" if record is None or waits or differs else _decided(record)
    choices = () if record is None else _choices(record, now - key[0])
    return Unit(key[0], key[1], recorded, metered, billed, amount, record, waits, differs, decided, choices)


def _awaiting(record: Mapping[str, Any]) -> str:
    """What happens next to unusual usage that was not sent."""
    match record.get("approval"):
        case "approved":
            return "you have approved it, and the next metering run sends it"
        case "refused":
            return "you have refused it, and the next metering run writes it off"
        case _:
            until = f" until {short(record['approval_ends_at'])}" if record.get("approval_ends_at") else ""
            return f"it is unusual and waits for your approval{until}{_because(record)}"


def _decided(record: Mapping[str, Any]) -> str:
    """How unusual usage came to be sent."""
    return {
        "approved": "it was unusual, and you have approved it",
        "awaited": "it was unusual, and was sent as nobody decided in time",
    }.get(str(record.get("approval")), "")


def _choices(record: Mapping[str, Any], age: float) -> tuple[str, ...]:
    """What the seller API may still take as a decision; it has the last word. What was sent without an answer may be
    known to AWS."""
    approval = record.get("approval")
    if record["state"] == "awaiting_approval" and not record.get("in_doubt"):
        return tuple(choice for choice, made in _CHOICES.items() if made != approval)
    was_refused = record["state"] == "unbillable" and approval == "refused"
    return ("approve",) if was_refused and age < DAY else ()


_CHOICES = {"approve": "approved", "refuse": "refused"}


def _because(record: Mapping[str, Any]) -> str:
    reason = str(record.get("reason") or "")
    known = UNUSUAL.get(reason.removesuffix("_in_doubt"), reason)
    return f" ({known})" if reason else ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart, in the chart's own units."""

    kind: str
    x: int
    y: float
    height: float
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Group:
    """The three bars of one hour."""

    x: int
    unit: Unit
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of one dimension. `equal`: whether nothing differs and nothing waits."""

    dimension: str
    groups: tuple[Group, ...]
    top: Decimal
    width: int
    recorded: Decimal
    metered: Decimal
    billed: Decimal
    left: int = LEFT
    base: int = TOP + PLOT
    height: int = TOP + PLOT + BOTTOM
    bar_width: int = BAR_WIDTH

    @property
    def equal(self) -> bool:
        return self.recorded == self.metered == self.billed and not any(one.unit.differs for one in self.groups)


def charts(found: Iterable[Unit]) -> list[Chart]:
    """A chart for each dimension that has any quantity, of its newest hours, the oldest on the left."""
    by_dimension: dict[str, list[Unit]] = {}
    for unit in found:
        by_dimension.setdefault(unit.dimension, []).append(unit)
    made = (_chart(name, of_it[:GROUPS][::-1]) for name, of_it in sorted(by_dimension.items()))
    return [chart for chart in made if chart.top]


def _chart(dimension: str, shown: list[Unit]) -> Chart:
    top = max(max(Decimal(one.recorded), one.billed) for one in shown)
    groups = tuple(_group(LEFT + index * GROUP_WIDTH, unit, top) for index, unit in enumerate(shown))
    return Chart(
        dimension,
        groups,
        top,
        LEFT + len(shown) * GROUP_WIDTH + 8,
        sum((Decimal(one.recorded) for one in shown), Decimal(0)),
        sum((Decimal(one.metered) for one in shown), Decimal(0)),
        sum((one.billed for one in shown), Decimal(0)),
    )


def _group(x: int, unit: Unit, top: Decimal) -> Group:
    quantities = (("recorded", Decimal(unit.recorded)), ("metered", Decimal(unit.metered)), ("billed", unit.billed))
    bars = []
    for index, (kind, quantity) in enumerate(quantities):
        height = round(float(quantity / top) * PLOT, 1) if top else 0.0
        bars.append(Bar(kind, x + index * (BAR_WIDTH + 1), round(TOP + PLOT - height, 1), height, quantity))
    return Group(x, unit, tuple(bars))


def _seconds(text: Any) -> int:
    return int(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp())
