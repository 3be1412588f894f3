"""A seller's day made up from a seed: buyers, usage, metering, trouble; and what must hold when it has drained."""

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from marketplace.clock import DAY, HOUR, hour_of
from marketplace.errors import UnavailableError
from marketplace.items import from_item
from marketplace.metering_record import in_doubt
from marketplace.seller_events import SellerEvent
from marketplace.subscription import Subscription
from marketplace_emulator import Purchase
from marketplace_emulator import Settings as EmulatorSettings
from tests.faults.interleaving import CrashError, Scheduler
from tests.support.observed_client import ObservedClient
from tests.support.world import Bus, LookAgain, Timeline, World

TAGS: tuple[dict[str, str] | None, ...] = (
    None,
    None,
    {"user": "john"},
    {"user": "jane", "feature": "storage"},
    {"feature": "storage", "user": "jane"},
    {"team": "a", "cost": "b", "env": "c", "zone": "d"},
)
AWS_FAULTS = (
    "throttle", "internal_error", "internal_error_after", "unavailable", "drop_before", "drop_after", "truncate",
    "timeout_before", "timeout_after", "disabled_api", "access_denied", "expired_token_credentials",
    "unrecognized_credentials", "malformed", "unprocessed", "omit", "omit_after", "unknown_status",
)  # fmt: skip
STARTS = (
    datetime(2026, 11, 18, 12, 3, tzinfo=UTC),
    datetime(2026, 11, 30, 20, 47, tzinfo=UTC),
    datetime(2026, 12, 31, 22, 58, tzinfo=UTC),
    datetime(2028, 2, 28, 21, 1, tzinfo=UTC),
    datetime(2028, 2, 29, 23, 59, tzinfo=UTC),
    datetime(2026, 12, 1, 5, 40, tzinfo=UTC),
)


REFUSALS = (
    "InvalidUsageDimensionException", "InvalidLicenseException", "InvalidTagException",
    "InvalidUsageAllocationsException", "InvalidCustomerIdentifierException", "InvalidProductCodeException",
    "TimestampOutOfBoundsException", "ValidationException",
)  # fmt: skip
"""Codes with which AWS refuses a whole call for one record in it."""

UNPUBLISHED = "no_such_dimension"

MAPPED = ("ca1contractandconsumption", "api_calls")
"""A dimension whose usage counts against an entitlement first."""


@dataclass(frozen=True)
class Step:
    """One thing that happens. `seed` decides its details, whatever steps stand around it."""

    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}({self.seed})"


KINDS = {
    "report": 10,
    "repeat": 4,
    "meter": 5,
    "together": 6,
    "minutes": 5,
    "hours": 4,
    "outage": 1,
    "aws_fault": 5,
    "store_fault": 2,
    "suspend": 1,
    "unsuspend": 2,
    "close": 1,
    "reopen": 2,
    "cancel": 1,
    "poison": 1,
    "curse": 1,
    "mend": 1,
    "skew": 1,
    "foreign": 1,
}


HARMFUL = {"outage", "suspend", "close", "cancel", "skew", "foreign"}
"""What can make usage unbillable however well it is metered. Crashes, races and every fault of AWS or the store can't,
as long as the schedule goes on."""


def steps_of(seed: int) -> list[Step]:
    """Every other seed is without what is HARMFUL: there every unit must be billed in the end."""
    dice = random.Random(f"steps-{seed}")  # noqa: S311 - repeatable, not secret
    kinds = [kind for kind in KINDS if seed % 2 or kind not in HARMFUL]
    weights = [KINDS[kind] for kind in kinds]
    return [Step(kind, dice.randrange(1_000_000)) for kind in dice.choices(kinds, weights, k=dice.randint(8, 30))]


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
class _Buyer:
    purchase: Purchase
    subscription: Subscription


class _ObservedBus(Bus):
    """The seller's bus, where a run can die as at any other call."""

    def __init__(self, point: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._point = point

    def publish(self, events: Iterable[SellerEvent]) -> None:
        self._point("publish", {})
        super().publish(events)
        self._point("publish", {})


class _ObservedRequests(LookAgain):
    """The queue, likewise."""

    def __init__(self, point: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._point = point

    def look_again(self, *given: Any, **named: Any) -> None:
        self._point("look_again", {})
        super().look_again(*given, **named)
        self._point("look_again", {})


def _usage_dimensions(buyer: _Buyer) -> list[str]:
    return [key for key, dimension in buyer.purchase.product.dimensions.items() if dimension.type == "usage"]


class Schedule:
    """Plays steps in a world; `check` says whether every unit is where it must be.

    Besides the crashes that the seed draws, whoever makes call `crash_at` dies before it, or after it: every call has
    two points. `points` names the call of each.
    """

    def __init__(self, seed: int, make_dynamodb: Callable[[], Any], crash_at: int | None = None) -> None:
        dice = random.Random(f"world-{seed}")  # noqa: S311 - repeatable, not secret
        self.crash = dice.choice((0.0, 0.01, 0.05))
        self.crash_at = crash_at
        self.points: list[str] = []
        self.scheduler: Scheduler | None = None
        self.store_faults: list[tuple[str, str]] = []
        settings = EmulatorSettings(seed=seed, identical_resend=dice.choice(("success", "duplicate")))
        start = int(dice.choice(STARTS).timestamp())
        self.world = World.on(
            make_dynamodb(),
            time=Timeline(start),
            settings=settings,
            wrap=self._observed,
            bus=_ObservedBus(self._point),
            requests=_ObservedRequests(self._point),
            overage_dimensions={MAPPED: "seats"},
        )
        self.limits: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.acknowledged: dict[tuple[str, str], dict[str, Any]] = {}
        self.sent: list[dict[str, Any]] = []
        self.foreign: set[tuple[str, str, int]] = set()
        self.cursed: dict[tuple[str, str], str] = {}
        self.ever_cursed: set[tuple[str, str]] = set()
        self.kinds: set[str] = set()
        self.undelivered: list[_Buyer] = []
        self.seals: Counter[tuple[str, str]] = Counter()
        self.unanswered: Counter[tuple[str, str, int]] = Counter()
        self.run_failed = False
        self.outcome = Outcome()
        products = [product.code for product in self.world.marketplace.products()]
        self.buyers = [self._buyer(n, products[n % len(products)]) for n in range(dice.randint(1, 4))]
        for buyer in self.buyers:
            if buyer.subscription.product_code == MAPPED[0]:
                self.limits[buyer.subscription.id] = dice.choice((0, 3, 20, 2500))
                self.world.grant(buyer.subscription, self.limits[buyer.subscription.id], ends_at=start + 90 * DAY)

    def _buyer(self, number: int, product: str) -> _Buyer:
        purchase = self.world.marketplace.subscribe(product, f"{100000000000 + number}", provision=True)
        return _Buyer(purchase, self.world.store_subscription(purchase, activated_at=self.world.time.seconds()))

    # -- trouble in the store -----------------------------------------------------------------------------

    def _observed(self, client: Any) -> Any:
        return ObservedClient(client, before=self._before, after=self._after)

    def _before(self, name: str, kwargs: dict[str, Any]) -> None:
        self._point(name, kwargs)
        self._strike("before", name)
        if name == "batch_execute_statement":
            self.seals.update((one["Parameters"][1]["S"], one["Parameters"][2]["S"]) for one in kwargs["Statements"])
        if name == "batch_meter_usage":
            self.unanswered.update(_sent_as(record) for record in kwargs["UsageRecords"])
            self._refuse(kwargs)

    def _after(self, name: str, kwargs: dict[str, Any]) -> None:
        if name == "batch_meter_usage":
            self.unanswered.subtract(_sent_as(record) for record in kwargs["UsageRecords"])
        self._strike("after", name)
        self._point(name, kwargs)

    def _point(self, name: str, kwargs: dict[str, Any]) -> None:
        """Somebody else may go on here, or this one dies."""
        if self.scheduler is None:
            return
        self.scheduler.point(name, kwargs)
        self.points.append(f"{name} {kwargs.get('IndexName', '')}".strip())
        if len(self.points) - 1 == self.crash_at:
            self.outcome.crashes += 1
            raise CrashError

    def _strike(self, when: str, name: str) -> None:
        if (when, name) in self.store_faults:
            self.store_faults.remove((when, name))
            if when == "after":
                raise ReadTimeoutError(endpoint_url="dynamodb")
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException", "Message": ""}}, name)

    def _refuse(self, kwargs: dict[str, Any]) -> None:
        """AWS refuses a call whole, for any record in it."""
        for record in kwargs["UsageRecords"]:
            code = self.cursed.get(_sent_as(record)[:2])
            if code:
                answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}
                raise ClientError(answer, "BatchMeterUsage")

    # -- the steps ----------------------------------------------------------------------------------------

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.kinds.add(step.kind)
            self.outcome.lines.append(f"{self.world.time.now():%m-%d %H:%M:%S} {step}")
            getattr(self, f"_{step.kind}")(random.Random(step.seed))  # noqa: S311 - repeatable, not secret

    def _act(self, dice: random.Random, *work: Callable[[], None], crash: float | None = None) -> None:
        self.scheduler = Scheduler(str(dice.random()), self.crash if crash is None else crash)
        try:
            self.scheduler.run(*work)
        finally:
            self.outcome.crashes += self.scheduler.crashes
            self.scheduler = None

    def _records(self, dice: random.Random) -> list[dict[str, Any]]:
        now = self.world.time.seconds()
        records = []
        for _ in range(dice.choice((1, 1, 3, 8))):
            buyer = dice.choice(self.buyers)
            dimension = dice.choice(_usage_dimensions(buyer))
            age = dice.choice((0, 0, 60, HOUR, 3 * HOUR, 20 * HOUR, DAY - 600, DAY + 60, -200))
            quantity = dice.choice((0, 1, 5, 1000, 2_147_483_647 if dice.random() < 0.1 else 7))
            given: dict[str, Any] = {"dimension": dimension, "tags": dice.choice(TAGS)}
            if dice.random() < 0.7:
                given["at"] = now - age
            records.append(self.world.usage(buyer.subscription, quantity, **given))
        if dice.random() < 0.3:
            records.append(dict(dice.choice(records)))
        return records

    def _submit(self, records: Sequence[dict[str, Any]]) -> None:
        self.sent += [record for record in records if record not in self.sent]
        try:
            results = self.world.report_all(list(records))
        except UnavailableError:
            return
        for record, result in zip(records, results, strict=True):
            if result["status"] in {"recorded", "duplicate"}:
                self._acknowledge((record["subscription_id"], record["id"]), record, result)

    def _acknowledge(self, key: tuple[str, str], record: dict[str, Any], result: dict[str, Any]) -> None:
        told = {"quantity": record["quantity"], "included": result.get("included")}
        _must(self.acknowledged.setdefault(key, told) == told, f"{key} was acknowledged twice, and not alike")
        if told["included"] is not None:
            _must(told["included"] + result["overage"] == record["quantity"], f"{key} is not split exactly")

    def _meter_once(self) -> None:
        try:
            report = self.world.meter()
        except UnavailableError:
            return
        self.outcome.aws_calls += report.calls
        self.run_failed = report.breaker_opened or report.left > 0

    def _report(self, dice: random.Random) -> None:
        records = self._records(dice)
        self._act(dice, lambda: self._submit(records))

    def _repeat(self, dice: random.Random) -> None:
        if self.sent:
            records = dice.choices(self.sent, k=min(4, len(self.sent)))
            self._act(dice, lambda: self._submit(records))

    def _meter(self, dice: random.Random) -> None:
        self._act(dice, self._meter_once)

    def _together(self, dice: random.Random) -> None:
        """Reporters and metering runs at once, some reporting the same records, and the seller's other business; AWS
        may fail some of them."""
        if dice.random() < 0.3:
            self._aws_fault(dice)
        batches = [self._records(dice) for _ in range(dice.randint(0, 3))]
        if batches and dice.random() < 0.5:
            batches.append(batches[0])
        reporters = [lambda records=records: self._submit(records) for records in batches]
        runs = [self._meter_once for _ in range(dice.randint(1, 3))]
        others: list[Callable[[], None]] = []
        if dice.random() < 0.3:
            buyer = dice.choice(self.buyers)
            others = [lambda: self._quietly(lambda: self._look_after(buyer)), lambda: self._retry(buyer)]
        self._act(dice, *reporters, *runs, *others)

    def _minutes(self, dice: random.Random) -> None:
        self._play_until(dice, self.world.time.seconds() + dice.choice((60, 300, 900)))

    def _hours(self, dice: random.Random) -> None:
        self._play_until(dice, self._later(dice))

    def _play_until(self, dice: random.Random, target: int) -> None:
        """Time passes as in production: a metering run every quarter of an hour, and the timers of closing ones. Any
        run may crash or meet an outage of AWS, but not two in a row."""
        while (now := self.world.time.seconds()) < target:
            tick = (now - 300) // 900 * 900 + 1200
            self.world.time.to(min(target, tick))
            if tick > target:
                return
            self._timers(dice)
            if self.run_failed:
                self.world.marketplace.faults.clear()
                self.store_faults.clear()
            crash = 0.0 if self.run_failed else self.crash
            self.run_failed = True
            self._act(dice, self._meter_once, crash=crash)

    def _outage(self, dice: random.Random) -> None:
        """Time passes and nothing runs."""
        self.world.time.to(self._later(dice))

    def _later(self, dice: random.Random) -> int:
        now = self.world.time.seconds()
        target = hour_of(now) + HOUR + dice.choice((-1, 0, 1, 600, 601, 300))
        return max(now, target + dice.choice((0, 0, 0, HOUR, 5 * HOUR, 12 * HOUR)))

    def _aws_fault(self, dice: random.Random) -> None:
        fault: dict[str, Any] = {"operation": "BatchMeterUsage", "fault": dice.choice(AWS_FAULTS)}
        fault["times"] = dice.choice((1, 1, 2, 6))
        if fault["fault"] in {"unprocessed", "omit", "omit_after", "unknown_status"}:
            fault["indexes"] = dice.sample(range(8), dice.randint(1, 8))
        self.world.marketplace.faults.plan([fault])

    def _store_fault(self, dice: random.Random) -> None:
        operations = (
            "transact_write_items", "query", "batch_get_item", "batch_write_item", "batch_execute_statement",
            "update_item",
        )  # fmt: skip
        self.store_faults.append((dice.choice(("before", "after")), dice.choice(operations)))

    def _suspend(self, dice: random.Random) -> None:
        self.world.marketplace.suspend(dice.choice(self.buyers).purchase.account_id)

    def _unsuspend(self, dice: random.Random) -> None:
        buyer = dice.choice(self.buyers)
        self.world.marketplace.unsuspend(buyer.purchase.account_id)
        self._notify(dice, buyer)

    def _close(self, dice: random.Random) -> None:
        """A closing event that a later one takes back."""
        self._close_buyer(dice, dice.choice(self.buyers))

    def _close_buyer(self, dice: random.Random, buyer: _Buyer) -> None:
        deadline = self.world.time.seconds() + HOUR
        buyer.subscription = replace(buyer.subscription, status="closing", closing_deadline=deadline)
        self.world.put_subscription(buyer.subscription)
        self._notify(dice, buyer)

    def _notify(self, dice: random.Random, buyer: _Buyer) -> None:
        """What follows a change of a subscription; the queue brings it again until it has been done whole."""
        self.undelivered.append(buyer)
        self._deliver(dice, buyer)

    def _deliver(self, dice: random.Random, buyer: _Buyer, crash: float | None = None) -> None:
        done: list[bool] = []
        self._act(dice, lambda: self._quietly(lambda: done.append(self._look_after(buyer))), crash=crash)
        if done and buyer in self.undelivered:
            self.undelivered.remove(buyer)

    def _look_after(self, buyer: _Buyer) -> bool:
        """The subscription's usage by its status, as the lifecycle does it."""
        now, subscription = self.world.time.seconds(), buyer.subscription
        if subscription.status == "closing" and subscription.closing_deadline is not None:
            self.world.deadlines().close(subscription.id, deadline=subscription.closing_deadline, now=now)
        elif subscription.status == "active":
            self.world.deadlines().release(subscription.id, now=now)
        return True

    def _reopen(self, dice: random.Random) -> None:
        for buyer in self.buyers:
            if buyer.subscription.status == "closing" and buyer.purchase.id not in self._cancelled:
                buyer.subscription = replace(buyer.subscription, status="active", closing_deadline=None)
                self.world.put_subscription(buyer.subscription)
                self._notify(dice, buyer)

    _cancelled: set[str] = set()  # noqa: RUF012 - replaced on the instance by _cancel

    def _cancel(self, dice: random.Random) -> None:
        buyer = dice.choice(self.buyers)
        if buyer.purchase.id not in self._cancelled:
            self._cancelled = {*self._cancelled, buyer.purchase.id}
            self.world.marketplace.cancel(buyer.purchase.id)
            self._close_buyer(dice, buyer)

    def _poison(self, dice: random.Random) -> None:
        records = [self.world.usage(dice.choice(self.buyers).subscription, 3, dimension=UNPUBLISHED)]
        self._act(dice, lambda: self._submit(records))

    def _curse(self, dice: random.Random) -> None:
        """From now on AWS refuses one buyer's records of one dimension."""
        buyer = dice.choice(self.buyers)
        dimension = dice.choice(_usage_dimensions(buyer))
        who = buyer.subscription.license_arn or buyer.subscription.customer_identifier or ""
        self.cursed[who, dimension] = dice.choice(REFUSALS)
        self.ever_cursed.add((buyer.subscription.id, dimension))

    def _mend(self, dice: random.Random) -> None:
        """The seller mends what AWS refused, and has it sent again; twice at once, as people do."""
        self.cursed.clear()
        for product in self.world.marketplace.products():
            if UNPUBLISHED not in product.dimensions and dice.random() < 0.5:
                listed = product.as_dict()
                dimensions = [*listed["dimensions"], {"key": UNPUBLISHED, "type": "usage"}]
                self.world.marketplace.add_product(listed | {"dimensions": dimensions})
        retries = [lambda buyer=buyer: self._retry(buyer) for buyer in self.buyers]
        self._act(dice, *retries, *retries, self._meter_once)

    def _retry(self, buyer: _Buyer) -> None:
        with contextlib.suppress(UnavailableError):
            retried = self.world.retry().retry(buyer.subscription.id)
            self.outcome.due_again += len(retried.due_again) if retried else 0

    def _skew(self, dice: random.Random) -> None:
        self.world.time.skew = dice.choice((0, -90, 90, -2 * HOUR, 2 * HOUR))

    def _foreign(self, dice: random.Random) -> None:
        """Another sender of the same seller takes an hour with a quantity of its own."""
        from tests.support.in_process import client

        buyer = dice.choice(self.buyers)
        dimension = dice.choice(_usage_dimensions(buyer))
        if buyer.subscription.license_arn is None:
            return
        hour = hour_of(self.world.time.seconds())
        record: dict[str, Any] = {
            "Timestamp": max(hour, buyer.subscription.activated_at or 0),
            "Dimension": dimension,
            "Quantity": 999_983,
            "LicenseArn": buyer.subscription.license_arn,
            "CustomerAWSAccountId": buyer.subscription.account_id,
        }
        # A fault that was meant for the product may strike here.
        with contextlib.suppress(Exception):
            client("meteringmarketplace", self.world.marketplace).batch_meter_usage(UsageRecords=[record])
        self.foreign.add((buyer.subscription.id, dimension, hour_of(record["Timestamp"])))

    def _quietly(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except UnavailableError:
            return

    # -- the end ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Every trouble ends, the schedule goes on as in production, and time passes until nothing can be open."""
        self.world.marketplace.faults.clear()
        self.store_faults.clear()
        self.crash = 0.0
        self.world.time.skew = 0
        self.cursed.clear()
        end = self.world.time.seconds() + 28 * HOUR
        dice = random.Random(0)  # noqa: S311 - nothing depends on it: nobody crashes any more
        while self.world.time.seconds() < end:
            self._timers(dice, crash=0.0)
            self._meter_once()
            self.world.time.advance(900 if self._urgent() else 2 * HOUR)
        self._meter_once()

    def _timers(self, dice: random.Random, crash: float | None = None) -> None:
        """The queue brings what was not done, and the timers of closing subscriptions."""
        for buyer in self.buyers:
            if buyer in self.undelivered or buyer.subscription.status == "closing":
                self._deliver(dice, buyer, crash)

    def _urgent(self) -> bool:
        return any(buyer.subscription.status_at(self.world.time.seconds()) == "closing" for buyer in self.buyers)

    def check(self) -> None:
        """Every unit that was acknowledged is billed once, or stands in a list with a reason; raises InvariantError."""
        records, hours, allocations = self._usage_table()
        self._check_acknowledged(records)
        self._check_included(records)
        self._check_hours(records, hours, allocations)
        self._check_bill(hours, allocations)
        self._check_events(hours)
        for hour in hours.values():
            self.outcome.units[hour["state"]] += hour["quantity"]
            self.outcome.records[hour["state"]] += 1
        self.outcome.units["included"] = sum(record.get("included", 0) for record in records.values())
        self.outcome.records["included"] = sum(record.get("included", 0) > 0 for record in records.values())
        self.outcome.records["recorded"] = len(records)
        recorded = sum(record["quantity"] for record in records.values())
        _must(sum(self.outcome.units.values()) == recorded, "units are unaccounted for")
        self.outcome.units["recorded"] = recorded
        if not self.kinds & HARMFUL:
            lost = recorded - sum(self.outcome.units[state] for state in ("metered", "rejected", "included"))
            _must(lost == 0, f"{lost} units could have been billed and were not: {self.outcome.units}")

    def _usage_table(self) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Counter[Any]]]:
        records: dict[Any, Any] = {}
        hours: dict[Any, Any] = {}
        allocations: dict[Any, Counter[Any]] = defaultdict(Counter)
        for raw in self.world._all_items(self.world.tables.usage):
            item = from_item(raw)
            subscription_id = item["pk"].removeprefix("SUB#")
            if "record_id" in item:
                records[subscription_id, item["record_id"]] = item
            elif "seal" in item:
                hours[item["pk"], item["sk"]] = item
            elif "used" in item:
                self.used[subscription_id] = item["used"]
            else:
                hour_sk = item["sk"].partition("#TAGS#")[0]
                allocations[item["pk"], hour_sk][tuple(sorted(item["tags"].items()))] += item["quantity"]
        return records, hours, allocations

    def _check_acknowledged(self, records: dict[Any, Any]) -> None:
        reported = {(record["subscription_id"], record["id"]): record["quantity"] for record in self.sent}
        for key, told in self.acknowledged.items():
            _must(key in records, f"{key} was acknowledged and is not there")
            stored = {name: records[key].get(name) for name in told}
            _must(stored == told, f"{key} was acknowledged as {told} and recorded as {stored}")
        for key, record in records.items():
            _must(reported.get(key) == record["quantity"], f"{key} was never reported so")

    def _check_included(self, records: dict[Any, Any]) -> None:
        """Each contract includes exactly what it grants, or all of the usage where that is less."""
        for subscription_id, limit in self.limits.items():
            mapped = [
                record for (owner, _), record in records.items()
                if owner == subscription_id and record["dimension"] == MAPPED[1]
            ]  # fmt: skip
            _must(all("included" in record for record in mapped), f"{subscription_id} has usage without a split")
            reported = sum(record["quantity"] for record in mapped)
            included = sum(record["included"] for record in mapped)
            _must(included == min(reported, limit), f"{included} of {reported} units are included, {limit} should be")
            _must(self.used.get(subscription_id, 0) == included, f"{subscription_id}'s counter is not what was booked")

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
            _must(booked.pop(key, 0) == hour["quantity"], f"{key} doesn't hold what was booked to it")
            _must(tagged.pop(key, Counter()) == allocations[place], f"{key} has other allocations than were booked")
            _must(hour["state"] != "open" and hour["state"] != "held", f"{key} was never settled: {hour}")
            _must("due_shard" not in hour, f"{key} is settled and still in the index")
        _must(not booked, f"records are booked to hours that don't exist: {booked}")

    def _check_bill(self, hours: dict[Any, Any], allocations: dict[Any, Counter[Any]]) -> None:
        ours = {(h["pk"].removeprefix("SUB#"), h["dimension"], h["hour"]): (place, h) for place, h in hours.items()}
        seen: set[Any] = set()
        for entry in self.world.marketplace.ledger():
            key = (self.world.subscription_id_of(entry), entry.dimension, entry.hour * HOUR)
            _must(key not in seen, f"{key} is billed twice")
            seen.add(key)
            if key in self.foreign and entry.quantity == 999_983:
                _must(key not in ours or ours[key][1]["state"] != "metered" or self._excused(*ours[key]),
                      f"{key} is marked metered but another sender's quantity is billed")  # fmt: skip
                continue
            _must(key in ours, f"{key} is billed and unknown to us")
            place, hour = ours[key]
            _must(entry.quantity == hour["quantity"], f"{key} is billed with another quantity")
            billed_tags = {tags: quantity for tags, quantity in entry.allocations if tags}
            _must(billed_tags == dict(allocations[place]), f"{key} is billed with other allocations")
            _must(hour["state"] == "metered" or in_doubt(hour["seal"]), f"{key} is billed and marked {hour['state']}")
        for key, (_, hour) in ours.items():
            if hour["state"] == "metered":
                _must(key in seen, f"{key} is marked metered and not billed")
            if hour["state"] == "conflict":
                _must(key in self.foreign, f"{key} is a conflict without another sender")
            if hour["state"] == "rejected":
                poisoned = hour["dimension"] == UNPUBLISHED or key[:2] in self.ever_cursed
                _must(poisoned or "skew" in self.kinds, f"{key} is rejected: {hour['reason']}")

    def _excused(self, place: tuple[str, str], hour: dict[str, Any]) -> bool:
        """AWS answers a doubtful attempt like another sender's: with DuplicateRecord. What was in doubt says so, and
        had been sealed before, or sent without an answer."""
        who = hour.get("license_arn") or hour["customer_identifier"]
        doubt = self.seals[place] > 1 or self.unanswered[who, hour["dimension"], hour["timestamp"]] > 0
        return doubt and hour.get("reason") == "answered_as_duplicate"

    def _check_events(self, hours: dict[Any, Any]) -> None:
        told: dict[tuple[str, str, str, str], SellerEvent] = {}
        for event in self.world.bus.events:
            detail = event.detail
            told[detail["subscription_id"], detail["dimension"], detail["hour"], event.kind] = event
        for hour in hours.values():
            kind = {"conflict": "Usage Conflict", "unbillable": "Usage Not Billable"}.get(hour["state"])
            if kind:
                when = datetime.fromtimestamp(hour["hour"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                told_of = told.get((hour["pk"].removeprefix("SUB#"), hour["dimension"], when, kind))
                _must(told_of is not None, f"nobody was told of {hour}")
                _must(told_of is not None and told_of.detail["quantity"] == hour["quantity"], "told another quantity")
        _must(len(self.world.bus.distinct()) == len(told), "an event changed its id when it was repeated")


def _sent_as(record: dict[str, Any]) -> tuple[str, str, int]:
    """What tells a UsageRecord from others."""
    return record.get("LicenseArn") or record["CustomerIdentifier"], record["Dimension"], record["Timestamp"]


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantError(message)


def run(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> Outcome:
    """Plays the steps in the seed's world, drains and checks; raises InvariantError."""
    schedule = Schedule(seed, make_dynamodb)
    schedule.play(steps)
    schedule.drain()
    schedule.check()
    return schedule.outcome


def minimised(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> list[Step]:
    """The fewest steps found that still fail, by leaving out ever smaller parts."""
    current = list(steps)
    size = max(1, len(current) // 2)
    while size:
        start = 0
        while start < len(current):
            without = current[:start] + current[start + size :]
            if _fails(seed, without, make_dynamodb):
                current = without
            else:
                start += size
        size //= 2
    return current


def _fails(seed: int, steps: Sequence[Step], make_dynamodb: Callable[[], Any]) -> bool:
    try:
        run(seed, steps, make_dynamodb)
    except Exception:
        return True
    return False
