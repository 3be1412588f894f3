"""A fault schedule made from a seed: buyers, usage, metering runs and faults, and the check after all has settled."""

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from marketplace.ledger import conflict
from marketplace.ledger.due_time import moment_of
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds, hour_of
from marketplace.platform.errors import UnavailableError
from marketplace.subscriptions.seller_events import SellerEvent
from marketplace.usage.approval import Choice
from marketplace_emulator import Settings as EmulatorSettings
from tests.faults.interleaving import CrashError, Scheduler
from tests.faults.invariant import (
    MAPPED,
    UNPUBLISHED,
    Buyer,
    CheckedWorld,
    fate,
    must,
    sent_as,
    usage_dimensions,
)
from tests.faults.resolutions import Place
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.observed_client import ObservedClient
from tests.support.parameters import Parameters
from tests.support.world import Bus, LookAgain, Timeline, World

MAPPING = "/".join(MAPPED) + "=seats"
"""OverageDimensions."""

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
    "ValidationException",
)  # fmt: skip
"""Codes with which AWS refuses a whole call for one record in it. TimestampOutOfBoundsException is left to the
emulator: a lie about the time would make AWS's word about older usage a lie as well."""

TAG_REFUSALS = {"InvalidTagException", "InvalidUsageAllocationsException"}


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
    "void": 3,
    "meter": 5,
    "together": 6,
    "minutes": 5,
    "hours": 4,
    "outage": 1,
    "aws_fault": 5,
    "store_fault": 2,
    "store_partial": 2,
    "index_lag": 1,
    "hurry": 1,
    "suspend": 1,
    "unsuspend": 2,
    "close": 1,
    "reopen": 2,
    "cancel": 1,
    "poison": 1,
    "refusal": 1,
    "mend": 1,
    "skew": 1,
    "foreign": 1,
}


DECISIONS = {"approve": 3, "refuse": 1}
"""Further steps of a world that holds unusual usage."""

HARMFUL = {"outage", "suspend", "close", "cancel", "skew", "foreign", "region", "refuse", "resolve"}
"""What can make usage unbillable however well it is metered. Crashes, races and every fault of AWS or the store can't,
as long as the schedule goes on."""


def is_harmless(seed: int) -> bool:
    """Every other seed is without what is HARMFUL: there every unit must be billed in the end."""
    return seed % 2 == 0


def steps_of(seed: int, kinds_of: Mapping[str, int] = KINDS) -> list[Step]:
    """The steps of a seed, of these kinds with these weights."""
    dice = random.Random(f"steps-{seed}")  # noqa: S311 - repeatable, not secret
    kinds = [kind for kind in kinds_of if not is_harmless(seed) or kind not in HARMFUL]
    weights = [kinds_of[kind] for kind in kinds]
    steps = [Step(kind, dice.randrange(1_000_000)) for kind in dice.choices(kinds, weights, k=dice.randint(8, 30))]
    # Drawn apart, so that the worlds without a hold stay as they are.
    hold = hold_dice(seed)
    if Parameters().holding(hold, refuses=not is_harmless(seed)).AnomalyHoldFactor:
        allowed = {kind: weight for kind, weight in DECISIONS.items() if not is_harmless(seed) or kind not in HARMFUL}
        for kind in hold.choices([*allowed], [*allowed.values()], k=hold.randint(2, 8)):
            steps.insert(hold.randint(0, len(steps)), Step(kind, hold.randrange(1_000_000)))
    if not is_harmless(seed):
        conflicts = random.Random(f"resolve-{seed}")  # noqa: S311 - repeatable, not secret
        for _ in range(conflicts.choice((0, 1, 3, 5))):
            steps.insert(conflicts.randint(0, len(steps)), Step("resolve", conflicts.randrange(1_000_000)))
    return steps


def hold_dice(seed: int) -> random.Random:
    """Decides whether and how a seed's world holds unusual usage."""
    return random.Random(f"hold-{seed}")  # noqa: S311 - repeatable, not secret


def shadow_dice(seed: int) -> random.Random:
    """Decides from which hour on a seed's world meters."""
    return random.Random(f"shadow-{seed}")  # noqa: S311 - repeatable, not secret


class _ObservedBus(Bus):
    """The seller's bus, where a run can crash as at any other call."""

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


class Schedule(CheckedWorld):
    """Plays steps in a world; `check` says whether every unit is where it must be.

    Besides the crashes that the seed draws, whoever makes call `crash_at` dies before it, or after it: every call has
    two points. `points` names the call of each. `apart`: unusual usage may be held, and some hours be in shadow, as the
    seed decides.
    """

    voids_included = True
    "Whether usage that counts against a contract is voided too."

    timed = False
    "Whether every usage record says when the usage happened."

    def __init__(
        self, seed: int, make_dynamodb: Callable[[], Any], crash_at: int | None = None, *, apart: bool = True
    ) -> None:
        dice = random.Random(f"world-{seed}")  # noqa: S311 - repeatable, not secret
        self.seed, self.harmless = seed, is_harmless(seed)
        self.crash = dice.choice((0.0, 0.01, 0.05))
        self.crash_at = crash_at
        self.points: list[str] = []
        self.results: Counter[str] = Counter()
        self.scheduler: Scheduler | None = None
        self.store_faults: list[tuple[str, str]] = []
        settings = EmulatorSettings(seed=seed, identical_resend=dice.choice(("success", "duplicate")))
        start = int(dice.choice(STARTS).timestamp())
        self.refusals: dict[tuple[str, str], str] = {}
        self.kinds: set[str] = set()
        self.undelivered: list[Buyer] = []
        self.actors, self.struck = 0, False
        self.run_failed = False
        self.repeats = dice.choice((0.0, 0.02, 0.1))
        self.sdk = random.Random(f"sdk-{seed}")  # noqa: S311 - repeatable, not secret
        drawn, hold = Parameters.drawn(dice, heartbeat="users", overage=MAPPING), hold_dice(seed)
        self.parameters = drawn
        if apart:
            self.parameters = drawn.holding(hold, refuses=not self.harmless).starting(shadow_dice(seed), start)
        super().__init__(self._world(make_dynamodb(), Timeline(start), settings))
        self._begin(dice, start)
        self._learn(hold, start)

    def _world(self, dynamodb: Any, time: Timeline, settings: EmulatorSettings) -> World:
        return World.on(
            dynamodb,
            time=time,
            settings=settings,
            wrap=self._observed,
            bus=_ObservedBus(self._point),
            requests=_ObservedRequests(self._point),
            parameters=self.parameters,
            calls_per_second=self.parameters.MeteringCallsPerSecond,
            overage_dimensions={MAPPED: "seats"},
        )

    def _begin(self, dice: random.Random, start: int) -> None:
        """The buyers as the schedule finds them."""
        products = [product.code for product in self.world.marketplace.registry.products.values()]
        self.buyers = [self.buyer(n, products[n % len(products)]) for n in range(dice.randint(1, 4))]
        for buyer in self.buyers:
            if buyer.subscription.product_code == MAPPED[0]:
                self.limits[buyer.subscription.id] = dice.choice((0, 3, 20, 2500))
                self.world.grant(buyer.subscription, self.limits[buyer.subscription.id], ends_at=start + 90 * DAY)

    def _learn(self, dice: random.Random, start: int) -> None:
        """What is usual of some dimensions when the schedule begins; the others are new or not judged yet."""
        if (usual := self.world.approvals().usual) is None:
            return
        for buyer in self.buyers:
            for dimension in usage_dimensions(buyer):
                if dice.random() < 0.6:
                    hour = EpochSeconds(hour_of(start) - dice.choice((3 * HOUR, 2 * DAY, 2 * DAY)))
                    times = {"timestamp": hour, "due_at": hour, "refuse_at": hour}
                    seen = MeteringRecord.new(buyer.subscription, hour, dimension, **times)
                    usual.learn([replace(seen, quantity=dice.choice((1, 5, 1000)))], {})

    # -- faults of the store ------------------------------------------------------------------------------

    def _observed(self, client: Any) -> Any:
        return ObservedClient(client, before=self._before, after=self._after, repeated=self._repeated)

    def _repeated(self, name: str, _: dict[str, Any]) -> bool:
        """The SDK repeats what got no answer; for BatchMeterUsage its retries are off."""
        return self.scheduler is not None and name != "batch_meter_usage" and self.sdk.random() < self.repeats

    def _before(self, name: str, kwargs: dict[str, Any]) -> None:
        self._point(name, kwargs)
        self._strike("before", name)
        if name == "batch_execute_statement":
            self.seals.update((one["Parameters"][1]["S"], one["Parameters"][2]["S"]) for one in kwargs["Statements"])
        if name == "batch_meter_usage":
            self.unanswered.update(sent_as(record) for record in kwargs["UsageRecords"])
            self._refuse_call(kwargs)

    def _after(self, name: str, kwargs: dict[str, Any]) -> None:
        if name == "batch_meter_usage":
            self.unanswered.subtract(sent_as(record) for record in kwargs["UsageRecords"])
        self._strike("after", name)
        self._point(name, kwargs)

    def _point(self, name: str, kwargs: dict[str, Any]) -> None:
        """Another actor may continue here, or this one crashes."""
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
            self.struck = True
            if when == "after" and self.sdk.random() < 0.5:
                raise ReadTimeoutError(endpoint_url="dynamodb")
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException", "Message": ""}}, name)

    def _refuse_call(self, kwargs: dict[str, Any]) -> None:
        """AWS refuses a call whole, for any record in it."""
        for record in kwargs["UsageRecords"]:
            code = self.refusals.get(sent_as(record)[:2])
            if code and (code not in TAG_REFUSALS or record.get("UsageAllocations")):
                answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}
                raise ClientError(answer, "BatchMeterUsage")

    # -- the steps ----------------------------------------------------------------------------------------

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.kinds.add(step.kind)
            self.outcome.lines.append(f"{self.world.time.now():%m-%d %H:%M:%S} {step}")
            getattr(self, f"_{step.kind}")(random.Random(step.seed))  # noqa: S311 - repeatable, not secret
            self.check_told()

    def _is_alone(self) -> bool:
        """Whether nobody else was at work during this, and no answer of the store was lost or late."""
        index_lag = isinstance(self.world.dynamodb, MemoryDynamoDB) and self.world.dynamodb.index_lag
        return self.actors == 1 and not self.struck and not index_lag

    def _act(self, dice: random.Random, *work: Callable[[], None], crash: float | None = None) -> None:
        self.actors, self.struck = len(work), False
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
            dimension = dice.choice(usage_dimensions(buyer))
            anywhere = dice.randrange(-300, DAY + 120)
            age = dice.choice((0, 0, 60, HOUR, 3 * HOUR, 20 * HOUR, DAY - 600, DAY + 60, -200, anywhere, anywhere))
            quantity = dice.choice((0, 1, 5, 1000, 2_147_483_647 if dice.random() < 0.1 else 7))
            given: dict[str, Any] = {"dimension": dimension, "tags": dice.choice(TAGS)}
            if self.timed or dice.random() < 0.7:
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
            self.results[f"{result['status']} {result.get('reason', '')}".strip()] += 1
            if result["status"] in {"recorded", "duplicate"}:
                self.acknowledge((record["subscription_id"], record["id"]), record, result)

    def _meter_once(self, time_for_calls: int | None = None) -> None:
        """A metering run; one that Lambda ends soon has time for only so many calls to AWS."""
        run = self.world.metering()
        if time_for_calls is not None:
            run.time_left = lambda: 0.0 if run.report.calls >= time_for_calls else 900.0
        try:
            report = run.run()
        except UnavailableError:
            return
        if report.failure is not None:
            raise report.failure
        self.outcome.aws_calls += report.calls
        if self._is_alone():
            self.check_gauges(report)
        self.run_failed = report.breaker_opened or report.left > 0

    def _report(self, dice: random.Random) -> None:
        records = self._records(dice)
        self._act(dice, lambda: self._submit(records))

    def _repeat(self, dice: random.Random) -> None:
        if self.sent:
            records = dice.choices(self.sent, k=min(4, len(self.sent)))
            self._act(dice, lambda: self._submit(records))

    def _void(self, dice: random.Random) -> None:
        """The seller takes back what they have reported, at times beside a metering run or another report of it."""
        records = [record for record in self.sent if self.voids_included or record["dimension"] != MAPPED[1]]
        if not records:
            return
        asked = dice.choices(records[-8:], k=dice.choice((1, 1, 3)))
        self.unvoided += asked
        others: list[Callable[[], None]] = [lambda: self._submit(asked)] if dice.random() < 0.3 else []
        others += [self._meter_once] if dice.random() < 0.5 else []
        self._act(dice, lambda: self._take_back(asked), *others)

    def _take_back(self, records: Sequence[dict[str, Any]]) -> None:
        """Voids; what is not answered for good stays to be asked for again."""
        names = [{name: record[name] for name in ("id", "subscription_id")} for record in records]
        try:
            results, _ = self.world.usage_void().void(names, "seller")
        except UnavailableError:
            return
        for record, result in zip(records, results, strict=True):
            self.results[f"void {result['reason']}"] += 1
            if result["status"] == "voided":
                self.voided.add((record["subscription_id"], record["id"]))
            if not result["retryable"] and record in self.unvoided:
                self.unvoided.remove(record)

    def _meter(self, dice: random.Random) -> None:
        self._act(dice, self._meter_once)

    def _hurry(self, dice: random.Random) -> None:
        calls = dice.randint(0, 2)
        self._act(dice, lambda: self._meter_once(calls))

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
        others = self._business(dice) if dice.random() < 0.3 else []
        self._act(dice, *reporters, *runs, *others)

    def _business(self, dice: random.Random) -> list[Callable[[], None]]:
        """What else goes on at the seller's."""
        buyer = dice.choice(self.buyers)
        return [lambda: self._quietly(lambda: self._look_after(buyer)), lambda: self._retry(buyer)]

    def _minutes(self, dice: random.Random) -> None:
        self._play_until(dice, self.world.time.seconds() + dice.choice((60, 300, 900)))

    def _hours(self, dice: random.Random) -> None:
        self._play_until(dice, self._later(dice))

    def _play_until(self, dice: random.Random, target: int) -> None:
        """Time passes as in production: a metering run every quarter of an hour, and the timers of closing ones. Any
        run may crash or meet an outage of AWS, but not two in a row."""
        while (now := self.world.time.seconds()) < target:
            tick = tick_after(now)
            self._pass_to(min(target, tick))
            if tick > target:
                return
            self._timers(dice)
            if self.run_failed:
                self.world.marketplace.faults.clear()
                self._heal_store()
            crash = 0.0 if self.run_failed else self.crash
            self.run_failed = True
            self._act(dice, self._meter_once, crash=crash)

    def _outage(self, dice: random.Random) -> None:
        """Time passes and nothing runs."""
        self._pass_to(self._later(dice))

    def _pass_to(self, moment: int) -> None:
        self.world.time.to(moment)
        if isinstance(self.world.dynamodb, MemoryDynamoDB):
            self.world.dynamodb.index_lag = False

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

    def _store_partial(self, dice: random.Random) -> None:
        """DynamoDB leaves a part of the members of its next batches undone, and says so."""
        chance, calls = dice.choice((0.2, 0.6, 1.0)), dice.choice((1, 4, 12))

        def undone(_: str, members: int) -> list[int]:
            nonlocal calls
            calls -= 1
            return [member for member in range(members) if calls >= 0 and dice.random() < chance]

        if isinstance(self.world.dynamodb, MemoryDynamoDB):
            self.world.dynamodb.unprocessed = undone

    def _index_lag(self, dice: random.Random) -> None:
        """Until time passes, the index answers as it stood now."""
        if isinstance(self.world.dynamodb, MemoryDynamoDB):
            self.world.dynamodb.index_lag = True

    def _heal_store(self) -> None:
        self.store_faults.clear()
        if isinstance(self.world.dynamodb, MemoryDynamoDB):
            self.world.dynamodb.unprocessed = None
            self.world.dynamodb.index_lag = False

    def _suspend(self, dice: random.Random) -> None:
        self.world.marketplace.purchases.suspend(dice.choice(self.buyers).purchase.account_id)

    def _unsuspend(self, dice: random.Random) -> None:
        buyer = dice.choice(self.buyers)
        self.world.marketplace.purchases.unsuspend(buyer.purchase.account_id)
        self._notify(dice, buyer)

    def _close(self, dice: random.Random) -> None:
        """A closing event that a later one takes back."""
        self._close_buyer(dice, dice.choice(self.buyers))

    def _close_buyer(self, dice: random.Random, buyer: Buyer) -> None:
        deadline = self.world.time.seconds() + HOUR
        buyer.subscription = replace(buyer.subscription, status="closing", closing_deadline=deadline)
        self.world.put_subscription(buyer.subscription)
        self._notify(dice, buyer)

    def _notify(self, dice: random.Random, buyer: Buyer) -> None:
        """What follows a change of a subscription; the queue brings it again until it has been done whole."""
        self.undelivered.append(buyer)
        self._deliver(dice, buyer)

    def _deliver(self, dice: random.Random, buyer: Buyer, crash: float | None = None) -> None:
        done: list[bool] = []
        self._act(dice, lambda: self._quietly(lambda: done.append(self._look_after(buyer))), crash=crash)
        if done and buyer in self.undelivered:
            self.undelivered.remove(buyer)

    def _look_after(self, buyer: Buyer) -> bool:
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
            self.world.marketplace.purchases.cancel(buyer.purchase.id)
            self._close_buyer(dice, buyer)

    def _poison(self, dice: random.Random) -> None:
        records = [self.world.usage(dice.choice(self.buyers).subscription, 3, dimension=UNPUBLISHED)]
        self._act(dice, lambda: self._submit(records))

    def _refusal(self, dice: random.Random) -> None:
        """From now on AWS refuses one buyer's records of one dimension."""
        buyer = dice.choice(self.buyers)
        dimension = dice.choice(usage_dimensions(buyer))
        who = buyer.subscription.license_arn or buyer.subscription.customer_identifier or ""
        self.refusals[who, dimension] = dice.choice(REFUSALS)
        self.ever_refused.add((buyer.subscription.id, dimension))

    def _mend(self, dice: random.Random) -> None:
        """The seller mends what AWS refused, and has it sent again; twice at once, as people do."""
        self.refusals.clear()
        for product in self.world.marketplace.registry.products.values():
            if UNPUBLISHED not in product.dimensions and dice.random() < 0.5:
                listed = product.as_dict()
                dimensions = [*listed["dimensions"], {"key": UNPUBLISHED, "type": "usage"}]
                self.world.marketplace.registry.add_product(listed | {"dimensions": dimensions})
        retries = [lambda buyer=buyer: self._retry(buyer) for buyer in self.buyers]
        self._act(dice, *retries, *retries, self._meter_once)

    def _retry(self, buyer: Buyer) -> None:
        self.retries[buyer.subscription.id] += 1
        with contextlib.suppress(UnavailableError):
            retried = self.world.retry().retry(buyer.subscription.id)
            self.outcome.due_again += len(retried.due_again) if retried else 0

    def _approve(self, dice: random.Random) -> None:
        self._decide(dice, "approve")

    def _refuse(self, dice: random.Random) -> None:
        self._decide(dice, "refuse")

    def _decide(self, dice: random.Random, choice: Choice) -> None:
        """The seller decides about unusual usage: all of a buyer's, or one hour by its name whatever was decided
        before; at times beside a metering run or a change of the deadline."""
        if not self.world.stored("awaiting_approval") and dice.random() < 0.5:
            records = self._records(dice)
            self._act(dice, lambda: self._submit(records))
            self._play_until(dice, hour_of(self.world.time.seconds()) + 2 * HOUR)
        decidable = [hour for hour in self.world.stored() if "approval" in hour]
        owners = {hour["pk"].removeprefix("SUB#") for hour in decidable if hour["state"] == "awaiting_approval"}
        buyer = dice.choice([one for one in self.buyers if one.subscription.id in owners] or self.buyers)
        held = [hour for hour in decidable if hour["pk"].endswith(buyer.subscription.id)]
        given: dict[str, Any] = {}
        if held and dice.random() < 0.5:
            hour = dice.choice(held)
            given = {"dimension": hour["dimension"], "hour": hour["hour"]}
            self.decided.pop((buyer.subscription.id, hour["dimension"], hour["hour"]), None)
            self.retries[buyer.subscription.id] += 1
        others: list[Callable[[], None]] = [self._meter_once] if dice.random() < 0.6 else []
        others += self._business(dice)[:1] if dice.random() < 0.3 else []
        self._act(dice, lambda: self._quietly(lambda: self._answered(buyer, choice, given)), *others)

    def _answered(self, buyer: Buyer, choice: Choice, given: dict[str, Any]) -> None:
        subscription_id = buyer.subscription.id
        if choice == "refuse":
            held = [hour for hour in self.world.stored() if "approval" in hour]
            self.asked_to_refuse |= {(subscription_id, hour["dimension"], hour["hour"]) for hour in held}
        made = self.world.approval().decide(subscription_id, choice, "seller", **given)
        for one in made.decided if made is not None else ():
            hour = int(datetime.fromisoformat(one["hour"]).timestamp())
            self.decided[subscription_id, one["dimension"], hour] = one["approval"]

    def _skew(self, dice: random.Random) -> None:
        self.clocks_stepped = True
        self.world.time.skew = dice.choice((0, -90, 90, -2 * HOUR, 2 * HOUR))

    def _foreign(self, dice: random.Random) -> None:
        """Another sender of the same seller takes an hour with a quantity of its own."""
        self._contest(dice, self.buyers)

    def _contest(self, dice: random.Random, buyers: Sequence[Buyer]) -> tuple[Buyer, str] | None:
        """The buyer and the dimension of which another sender takes the hour."""
        buyer = dice.choice(buyers)
        dimension = dice.choice(usage_dimensions(buyer))
        if buyer.subscription.license_arn is None:
            return None
        hour = hour_of(self.world.time.seconds())
        record: dict[str, Any] = {
            "Timestamp": max(hour, buyer.subscription.activated_at or 0),
            "Dimension": dimension,
            "Quantity": dice.choice((999_983, 999_983, 4)),
            "LicenseArn": buyer.subscription.license_arn,
            "CustomerAWSAccountId": buyer.subscription.account_id,
        }
        self.resolutions.meter(record, (buyer.subscription.id, dimension, hour_of(record["Timestamp"])))
        return buyer, dimension

    def _resolve(self, dice: random.Random) -> None:
        """A person resolves a conflict with what AWS has of the hour, at times twice at once or beside a metering
        run; where there is none, another sender makes one first."""
        licensed = [buyer for buyer in self.buyers if buyer.subscription.license_arn is not None] or self.buyers
        if not self._conflicts() and (contested := self._contest(dice, licensed)) is not None:
            buyer, dimension = contested
            used = dice.choice((1, 5, 1000, 2_000_000))
            records = [self.world.usage(buyer.subscription, used, dimension=dimension, at=self.world.time.seconds())]
            self._act(dice, lambda: self._submit(records))
            self._play_until(dice, hour_of(self.world.time.seconds()) + dice.choice((1, 2)) * HOUR + 20 * MINUTE)
        if not (found := self._conflicts()):
            return
        place = dice.choice(found)
        if dice.random() < 0.8:
            self._play_until(dice, self.world.time.seconds() + conflict.RUN_MAY_LAST)
        people = [lambda: self._quietly(lambda: self.resolutions.resolve(place, "ops"))] * dice.choice((1, 1, 2))
        others: list[Callable[[], None]] = [self._meter_once] if dice.random() < 0.5 else []
        others += self._business(dice)[:1] if dice.random() < 0.3 else []
        crash = dice.choice((1, 1, 3)) * self.crash
        self._act(dice, *people, *others, crash=crash)

    def _conflicts(self) -> list[Place]:
        """The conflicts of which something is left to do, so far as a person resolves them."""
        return [
            (hour["pk"].removeprefix("SUB#"), hour["dimension"], hour["hour"])
            for hour in self.world.stored("conflict")
            if "aws_quantity" not in hour or (hour["aws_quantity"] < hour["quantity"] and "carried_to" not in hour)
        ]

    def _quietly(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except UnavailableError:
            return

    # -- the end ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Every fault ends, the schedule goes on as in production, and time passes until no record can be open."""
        self.world.marketplace.faults.clear()
        self._heal_store()
        self.crash = self.repeats = 0.0
        self.world.time.skew = 0
        self.refusals.clear()
        self._take_back(list(self.unvoided))
        end = self.world.time.seconds() + 28 * HOUR
        last = end - 25 * HOUR  # what is recorded by then is settled in the end, even if it is held as unusual
        dice = random.Random(0)  # noqa: S311 - nothing depends on it: nobody crashes any more
        while self.world.time.seconds() < end:
            self._timers(dice, crash=0.0)
            self._meter_once()
            if "resolve" in self.kinds and self.world.time.seconds() < last:
                for place in {*self._conflicts(), *self.resolutions.unanswered}:
                    self.resolutions.resolve(place, "ops")
            self._pass_to(min(end, self._next_tick()))
        self._meter_once()
        self.check_told()

    def _next_tick(self) -> int:
        """When the scheduled metering run after this moment comes that finds something to do."""
        now = self.world.time.seconds()
        if self._urgent():
            return tick_after(now)
        steps = [moment_of(hour["state"], hour["due_at"]) for hour in self.world.stored() if "due_shard" in hour]
        return tick_after(max(now, min(steps, default=now + 2 * HOUR) - 1))

    def _timers(self, dice: random.Random, crash: float | None = None) -> None:
        """The queue brings what was not done, and the timers of closing subscriptions."""
        for buyer in self.buyers:
            if buyer in self.undelivered or buyer.subscription.status == "closing":
                self._deliver(dice, buyer, crash)

    def _urgent(self) -> bool:
        return any(buyer.subscription.status_at(self.world.time.seconds()) == "closing" for buyer in self.buyers)

    def check(self) -> None:
        """As every world is checked; and where nothing happened that can make usage unbillable, all of it is billed."""
        super().check()
        if not self.kinds & HARMFUL:
            units = self.outcome.units
            kept = ("metered", "rejected", "included", "refused", "shadow")
            lost = units["recorded"] - sum(units[state] for state in kept)
            # AWS called it too old, or its licence invalid: the last word about usage of a buyer whom it refused so.
            lost -= sum(
                hour["quantity"]
                for hour in self.world.stored("unbillable")
                if fate(hour) == "unbillable"
                and (hour["pk"].removeprefix("SUB#"), hour["dimension"]) in self.ever_refused
            )
            must(lost == 0, f"{lost} units could have been billed and were not: {units}")


def tick_after(now: int) -> int:
    """When the next metering run starts: cron(5/15 * * * ? *)."""
    return (now - 300) // 900 * 900 + 1200
