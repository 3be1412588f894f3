"""What must hold when all usage is settled: every unit that was acknowledged is billed once, or stands in a list with a
reason."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from marketplace.dynamodb.attributes import from_item
from marketplace.ledger.seal import in_doubt
from marketplace.metering.report import MeteringReport
from marketplace.platform.clock import DAY, HOUR, iso
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.seller_events import SellerEvent
from marketplace_emulator import Purchase
from tests.faults.resolutions import Resolutions
from tests.support.world import World

UNPUBLISHED = "no_such_dimension"

CONTENT = frozenset({
    "InvalidUsageDimensionException", "InvalidTagException", "InvalidUsageAllocationsException",
    "InvalidCustomerIdentifierException", "InvalidProductCodeException", "ValidationException",
})  # fmt: skip
"""Codes with which AWS refuses a record for what it contains."""

IN_TROUBLE = ("held", "awaiting_approval", "rejected", "conflict", "unbillable")
EVENT_OF_STATE = {
    "awaiting_approval": "Usage Awaiting Approval",
    "rejected": "Usage Rejected",
    "conflict": "Usage Conflict",
    "unbillable": "Usage Not Billable",
}

MAPPED = ("ca1contractandconsumption", "api_calls")
"""A dimension whose usage counts against an entitlement first."""


@dataclass
class Outcome:
    """What a schedule came to, for the table."""

    units: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    "Usage records (recorded, included) and metering records by state."
    crashes: int = 0
    aws_calls: int = 0
    due_again: int = 0
    lines: list[str] = field(default_factory=list)


class InvariantError(AssertionError):
    """Units are lost, billed twice, or unaccounted for."""


@dataclass
class Buyer:
    purchase: Purchase
    subscription: Subscription


def usage_dimensions(buyer: Buyer) -> list[str]:
    return [key for key, dimension in buyer.purchase.product.dimensions.items() if dimension.type == "usage"]


class CheckedWorld:
    """What was reported to a world and what was answered, and whether its tables, AWS's bill and the seller's bus agree
    with that. `limits`: what the contracts of subscriptions include."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.limits: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.included_by_day: Counter[str] = Counter()
        self.acknowledged: dict[tuple[str, str], dict[str, Any]] = {}
        self.sent: list[dict[str, Any]] = []
        self.unvoided: list[dict[str, Any]] = []
        "What the seller wants to have voided and has no last answer about."
        self.voided: set[tuple[str, str]] = set()
        "What was answered `voided`."
        self.resolutions = Resolutions(world)
        self.ever_refused: set[tuple[str, str]] = set()
        self.clocks_stepped = False
        self.retries: Counter[str] = Counter()
        "The seller's requests to make refused usage due again, by subscription: AWS may refuse it anew after each."
        self.seals: Counter[tuple[str, str]] = Counter()
        self.unanswered: Counter[tuple[str, str, int]] = Counter()
        self.decided: dict[tuple[str, str, int], str] = {}
        "What the seller was answered to have decided about unusual usage, by subscription, dimension and hour."
        self.asked_to_refuse: set[tuple[str, str, int]] = set()
        "What the seller has asked to refuse, whatever the answer was."
        self.outcome = Outcome()

    def buyer(self, number: int, product: str) -> Buyer:
        purchase = self.world.marketplace.purchases.subscribe(product, f"{100000000000 + number}", provision=True)
        return Buyer(purchase, self.world.store_subscription(purchase, activated_at=self.world.time.seconds()))

    def acknowledge(self, key: tuple[str, str], record: dict[str, Any], result: dict[str, Any]) -> None:
        told = {"quantity": record["quantity"], "included": result.get("included")}
        before = self.acknowledged.setdefault(key, told)
        must(not_less(told, before), f"{key} was acknowledged as {before}, and then as {told}")
        self.acknowledged[key] = told
        if told["included"] is not None:
            must(told["included"] + result["overage"] == record["quantity"], f"{key} is not split exactly")

    def check(self) -> None:
        """Every unit that was acknowledged is billed once, or stands in a list with a reason; raises InvariantError."""
        records, hours, allocations = self._usage_table()
        carried, wrong = self.resolutions.carried(records, hours)
        must(not wrong, "; ".join(wrong))
        reported = {key: record for key, record in records.items() if key not in carried}
        self._check_acknowledged(reported)
        self._check_included({key: record for key, record in reported.items() if "voided_at" not in record})
        records = {key: record for key, record in records.items() if "voided_at" not in record}
        self._check_hours(records, hours, allocations)
        self._check_bill(hours, allocations)
        self._check_events(hours)
        self._check_decided(hours)
        self._check_shadow(records, hours)
        for hour in hours.values():
            self.outcome.units[fate(hour)] += hour["quantity"]
            self.outcome.records[fate(hour)] += 1
        self.outcome.units["included"] = sum(record.get("included", 0) for record in records.values())
        self.outcome.records["included"] = sum(record.get("included", 0) > 0 for record in records.values())
        self.outcome.records["recorded"] = len(records)
        recorded = sum(record["quantity"] for record in records.values())
        must(sum(self.outcome.units.values()) == recorded, "units are unaccounted for")
        self.outcome.units["recorded"] = recorded

    def check_told(self) -> None:
        """At any moment, of every metering record that is not plainly metered the seller has heard, or the index holds
        it for the next metering run to tell."""
        names = ("subscription_id", "dimension", "hour")
        told = {(event.kind, *(event.detail.get(name) for name in names)) for event in self.world.bus.events}
        looked_at = self.world.looked_at()
        for hour in self.world.stored():
            if hour["state"] in {"open", "metered", "shadow"} or hour.get("due_at", 0) > 0:
                continue
            subscription_id = hour["pk"].removeprefix("SUB#")
            if hour["state"] == "held":
                must("due_shard" in hour, f"held usage left the index: {hour}")
                must(subscription_id in looked_at, f"nobody looks at {hour}")
                continue
            savable = hour["state"] in {"rejected", "awaiting_approval"}
            must(not savable or "due_shard" in hour, f"usage that can still be billed left the index: {hour}")
            heard = (EVENT_OF_STATE[hour["state"]], subscription_id, hour["dimension"], iso(hour["hour"]))
            must(heard in told, f"nobody was told of {hour}")

    def check_gauges(self, report: MeteringReport) -> None:
        """A metering run that nobody disturbed shows all that is in trouble."""
        standing: Counter[str] = Counter()
        for hour in self.world.stored():
            if hour["state"] in IN_TROUBLE and "due_shard" in hour:
                standing[hour["state"]] += hour["quantity"]
        shown = {state: report.standing_units[state] for state in IN_TROUBLE}
        stored = {state: standing[state] for state in IN_TROUBLE}
        must(shown == stored, f"the gauges show {shown}, the table holds {stored}")

    def _usage_table(self) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Counter[Any]]]:
        records: dict[Any, Any] = {}
        hours: dict[Any, Any] = {}
        allocations: dict[Any, Counter[Any]] = defaultdict(Counter)
        self.included_by_day.clear()
        for raw in self.world._all_items(self.world.tables.usage):
            item = from_item(raw)
            subscription_id = item["pk"].removeprefix("SUB#")
            if "record_id" in item:
                records[subscription_id, item["record_id"]] = item
            elif "seal" in item:
                hours[item["pk"], item["sk"]] = item
            elif "used" in item:
                self.used[subscription_id] = item["used"]
            elif item["sk"].startswith("DAY#"):
                self.included_by_day[subscription_id] += item.get("included", 0)
            elif "tags" in item:
                hour_sk = item["sk"].partition("#TAGS#")[0]
                allocations[item["pk"], hour_sk][tuple(sorted(item["tags"].items()))] += item["quantity"]
        return records, hours, allocations

    def _check_acknowledged(self, records: dict[Any, Any]) -> None:
        reported = {(record["subscription_id"], record["id"]): record["quantity"] for record in self.sent}
        for key, told in self.acknowledged.items():
            must(key in records, f"{key} was acknowledged and is not there")
            if "voided_at" in records[key]:
                continue
            stored = {name: records[key].get(name) for name in told}
            must(not_less(stored, told), f"{key} was acknowledged as {told} and recorded as {stored}")
        for key, record in records.items():
            must(reported.get(key) == record["quantity"], f"{key} was never reported so")
            must(("voided_at" in record) == (key in self.voided), f"{key} is voided, or not, as nobody was answered")

    def _check_included(self, records: dict[Any, Any]) -> None:
        """Each contract includes exactly what it grants, or all of the usage where that is less."""
        for subscription_id, limit in self.limits.items():
            mapped = [
                record for (owner, _), record in records.items()
                if owner == subscription_id and record["dimension"] == MAPPED[1]
            ]  # fmt: skip
            must(all("included" in record for record in mapped), f"{subscription_id} has usage without a split")
            reported = sum(record["quantity"] for record in mapped)
            included = sum(record["included"] for record in mapped)
            corrected = sum(record.get("correction_due", 0) for record in mapped)
            counted = included + corrected
            must(counted == min(reported, limit), f"{counted} of {reported} units are included, {limit} should be")
            must(self.used.get(subscription_id, 0) == counted, f"{subscription_id}'s counter is not what was booked")
            must(self.included_by_day[subscription_id] == included, f"{subscription_id}'s days are not what was booked")

    def _check_hours(
        self, records: dict[Any, Any], hours: dict[Any, Any], allocations: dict[Any, Counter[Any]]
    ) -> None:
        booked: Counter[Any] = Counter()
        tagged: dict[Any, Counter[Any]] = defaultdict(Counter)
        for (subscription_id, _), record in records.items():
            key = (subscription_id, record["hour"], record["dimension"])
            metered = record["quantity"] - record.get("included", 0)
            if "included" in record and not metered:
                continue
            booked[key] += metered
            if record.get("tags") and not record.get("untagged"):
                tagged[key][tuple(sorted(record["tags"].items()))] += metered
        for place, hour in hours.items():
            key = (hour["pk"].removeprefix("SUB#"), hour["hour"], hour["dimension"])
            must(booked.pop(key, 0) == hour["quantity"], f"{key} doesn't hold what was booked to it")
            must(tagged.pop(key, Counter()) == allocations[place], f"{key} has other allocations than were booked")
            must(hour["state"] in {"metered", "conflict", "unbillable", "shadow"}, f"{key} was never settled: {hour}")
            told = "due_shard" not in hour or (hour["state"] != "metered" and hour["due_at"] < 0)
            must(told, f"{key} is settled and still in the index")
            if fate(hour) == "unbillable" and not self.clocks_stepped:
                early = hour["settled_at"] < taken_until(hour["timestamp"])
                must(not early, f"{key} was written off while AWS could still take it: {hour}")
        must(not booked, f"records are booked to hours that don't exist: {booked}")

    def _check_bill(self, hours: dict[Any, Any], allocations: dict[Any, Counter[Any]]) -> None:
        ours = {(h["pk"].removeprefix("SUB#"), h["dimension"], h["hour"]): (place, h) for place, h in hours.items()}
        seen: set[Any] = set()
        others: dict[Any, Any] = {}
        for entry in self.world.marketplace.ledger.records:
            key = (self.world.subscription_id_of(entry), entry.dimension, entry.hour * HOUR)
            if entry.id in self.resolutions.foreign:
                others[key] = entry.quantity
                continue
            must(key not in seen, f"{key} is billed twice")
            seen.add(key)
            must(key in ours, f"{key} is billed and unknown to us")
            place, hour = ours[key]
            must(entry.quantity == hour["quantity"], f"{key} is billed with another quantity")
            billed_tags = {tags: quantity for tags, quantity in entry.allocations if tags}
            sent = dict(allocations[place])
            expected = [{}] if "tags_refused" in hour else [sent]
            if hour.get("reason") == "answered_as_duplicate":
                expected.append(sent)  # AWS may have accepted an attempt that was made before it refused the tags
            must(billed_tags in expected, f"{key} is billed with other allocations")
            must(hour["state"] == "metered" or in_doubt(hour["seal"]), f"{key} is billed and marked {hour['state']}")
        for key, (place, hour) in ours.items():
            if hour["state"] == "metered" and key not in seen:
                must(key in others, f"{key} is marked metered and not billed")
                same = others[key] == hour["quantity"]
                must(same or self._excused(place, hour), f"{key} is metered, and another sender's quantity is billed")
            if hour["state"] == "conflict":
                must(key in self.resolutions.contested, f"{key} is a conflict without another sender")
            if fate(hour) == "rejected":
                poisoned = hour["dimension"] == UNPUBLISHED or key[:2] in self.ever_refused
                must(poisoned or self.clocks_stepped, f"{key} is rejected: {hour['reason']}")

    def _check_decided(self, hours: dict[Any, Any]) -> None:
        """What was refused is not billed, and nothing else is held back."""
        about = {(hour["pk"].removeprefix("SUB#"), hour["dimension"], hour["hour"]): hour for hour in hours.values()}
        for key, approval in self.decided.items():
            must(about[key]["approval"] == approval, f"{key} was decided to be {approval}: {about[key]}")
            must((fate(about[key]) == "refused") == (approval == "refused"), f"{key} is not {approval}: {about[key]}")
        refuses = self.world.parameters.AnomalyHoldAtDeadline == "Refuse"
        for key, hour in about.items():
            if fate(hour) == "refused":
                wanted = refuses or self.decided.get(key) == "refused" or key in self.asked_to_refuse
                must(wanted, f"{key} was refused by nobody: {hour}")

    def _check_shadow(self, records: dict[Any, Any], hours: dict[Any, Any]) -> None:
        """What another meter bills stays apart from what is billed here."""
        start = self.world.parameters.starts_at
        for hour in hours.values():
            must((hour["state"] == "shadow") == (hour["hour"] < start), f"metering starts at {start}: {hour}")
        for key, record in records.items():
            must((record["own_hour"] < start) == (record["hour"] < start), f"{key} was moved across {start}: {record}")

    def _excused(self, place: tuple[str, str], hour: dict[str, Any]) -> bool:
        """AWS answers a doubtful attempt like another sender's: with DuplicateRecord. What was in doubt says so, and
        had been sealed before, or sent without an answer."""
        who = hour.get("license_arn") or hour["customer_identifier"]
        doubt = self.seals[place] > 1 or self.unanswered[who, hour["dimension"], hour["timestamp"]] > 0
        return doubt and hour.get("reason") == "answered_as_duplicate"

    def _check_events(self, hours: dict[Any, Any]) -> None:
        told: dict[tuple[str, str, str, str], SellerEvent] = {}
        ids: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
        usage = [event for event in self.world.bus.events if event.kind.startswith("Usage ")]
        for event in usage:
            detail = event.detail
            about = detail["subscription_id"], detail["dimension"], detail["hour"], event.kind
            told[about] = event
            ids[about].add(event.id)
        for hour in hours.values():
            kinds = {"conflict": ["Usage Conflict"], "unbillable": ["Usage Not Billable"]}.get(hour["state"], [])
            # What AWS refused first after its window had closed was never rejected; check_told has judged the rest.
            for kind in [*kinds, *(["Usage Rejected"] if hour["state"] == "rejected" else [])]:
                when = datetime.fromtimestamp(hour["hour"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                told_of = told.get((hour["pk"].removeprefix("SUB#"), hour["dimension"], when, kind))
                must(told_of is not None, f"nobody was told of {hour}")
                must(told_of is not None and told_of.detail["quantity"] == hour["quantity"], "told another quantity")
        for (subscription_id, *hour), found in ids.items():
            repeated = len(found) <= 1 + self.retries[subscription_id]
            must(repeated, f"an event of {hour} changed its id when it was repeated")
        must(len({event.id for event in usage}) == sum(map(len, ids.values())), "two events have one id")


def not_less(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a usage record is what it was, or has been given back units that a contract includes."""
    if now["included"] is None or before["included"] is None:
        return now == before
    return bool(now["quantity"] == before["quantity"] and now["included"] >= before["included"])


def fate(hour: dict[str, Any]) -> str:
    """A metering record's state; `rejected` for what became unbillable because AWS had refused it for its content:
    AWS's window has closed since; and `refused` for what the seller, or the deployment's choice, did not want sent."""
    if hour["state"] == "unbillable" and hour.get("approval") == "refused":
        return "refused"
    refused = hour["state"] == "unbillable" and hour["reason"].removesuffix("_in_doubt") in CONTENT
    return "rejected" if refused else str(hour["state"])


def taken_until(timestamp: int) -> float:
    """When AWS takes no usage of this Timestamp any more, by its rules and not the product's: 24 hours, and 06:00 UTC
    on the 1st of the next month."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    first = moment.replace(day=1, hour=6, minute=0, second=0) + timedelta(days=32)
    return min(timestamp + DAY, first.replace(day=1).timestamp())


def sent_as(record: dict[str, Any]) -> tuple[str, str, int]:
    """What tells a UsageRecord from others."""
    return record.get("LicenseArn") or record["CustomerIdentifier"], record["Dimension"], record["Timestamp"]


def must(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantError(message)
