"""Real threads and killed processes on AWS's DynamoDB Local: the invariant of the fault schedules holds there too."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import pytest
from botocore.exceptions import ClientError

from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, EpochSeconds, hour_of
from marketplace.subscriptions.model import Subscription
from marketplace.usage.approval import Choice, Decided
from marketplace_emulator import Settings as EmulatorSettings
from marketplace_emulator import serve
from tests.faults.invariant import Buyer, CheckedWorld, usage_dimensions
from tests.faults.killable import Child, Place, meter, report, run_together
from tests.faults.schedule import TAGS
from tests.support.parameters import Parameters
from tests.support.tables import Tables
from tests.support.world import NOON, Timeline, World

pytestmark = [pytest.mark.dynamodb_local, pytest.mark.timeout(1800)]

REPORTERS = 8
RUNS = 3


class Conflicts:
    """Put between the use cases and DynamoDB Local, which takes one transaction at a time and so never answers what
    DynamoDB does when two meet: whoever comes second gets TransactionConflict here, and nothing of theirs is written
    (DynamoDB Developer Guide, "Transaction conflict handling in DynamoDB")."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._in_flight: set[tuple[str, str]] = set()
        self._turn = threading.Lock()

    def wrap(self, client: Any) -> Any:
        return _Conflicting(client, self) if hasattr(client, "transact_write_items") else client

    @contextmanager
    def transaction(self, places: list[tuple[str, str]]) -> Iterator[list[int]]:
        """The indexes at which another transaction is under way; without any, this one is until the block ends."""
        with self._turn:
            met = [index for index, place in enumerate(places) if place in self._in_flight]
            if not met:
                self._in_flight.update(places)
        try:
            yield met
        finally:
            if not met:
                with self._turn:
                    self._in_flight.difference_update(places)

    def meets(self, place: tuple[str, str]) -> bool:
        with self._turn:
            return place in self._in_flight

    def note(self, error: ClientError) -> ClientError:
        with self._turn:
            for reason in error.response.get("CancellationReasons", []):
                self.seen[reason.get("Code", "None")] += 1
            self.seen[error.response["Error"]["Code"]] += 1
        return error


def place_of(key: Any) -> tuple[str, str]:
    return key["pk"]["S"], key["sk"]["S"]


class _Conflicting:
    def __init__(self, client: Any, conflicts: Conflicts) -> None:
        self._client = client
        self._conflicts = conflicts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _error(self, code: str, operation: str, **members: Any) -> ClientError:
        response = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}, **members}
        error: ClientError = self._client.exceptions.from_code(code)(response, operation)
        return error

    def transact_write_items(self, TransactItems: list[Any]) -> Any:  # noqa: N803 - boto3's name
        actions = [next(iter(item.values())) for item in TransactItems]
        places = [place_of(action.get("Key") or action["Item"]) for action in actions]
        with self._conflicts.transaction(places) as met:
            if met:
                reasons = [{"Code": "TransactionConflict" if n in met else "None"} for n in range(len(places))]
                raise self._conflicts.note(
                    self._error("TransactionCanceledException", "TransactWriteItems", CancellationReasons=reasons)
                )
            try:
                return self._client.transact_write_items(TransactItems=TransactItems)
            except ClientError as error:
                raise self._conflicts.note(error) from None

    def update_item(self, **request: Any) -> Any:
        if self._conflicts.meets(place_of(request["Key"])):
            raise self._conflicts.note(self._error("TransactionConflictException", "UpdateItem"))
        return self._client.update_item(**request)

    def batch_execute_statement(self, Statements: list[Any]) -> Any:  # noqa: N803 - boto3's name
        """Statements are taken one by one: those that meet a transaction fail, the others are done."""
        free = [
            statement
            for statement in Statements
            if not self._conflicts.meets((statement["Parameters"][1]["S"], statement["Parameters"][2]["S"]))
        ]
        failed: list[Any] = [{"Error": {"Code": "TransactionConflict", "Message": ""}}] * (len(Statements) - len(free))
        done = self._client.batch_execute_statement(Statements=free)["Responses"] if free else []
        return {"Responses": [*done, *failed]}


class PacedTimeline(Timeline):
    """Pauses are real, as they are between processes; the clock stands still meanwhile."""

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)


class Race(CheckedWorld):
    """The checks of a fault schedule, over a world where things really happen at once."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        products = [product.code for product in world.marketplace.registry.products.values()]
        self.buyers = [self.buyer(n, products[n % len(products)]) for n in range(3)]
        self._turn = threading.Lock()

    def submit(self, records: list[dict[str, Any]]) -> None:
        results = self.world.report_all(records)
        self.heard(records, results)

    def heard(self, records: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
        with self._turn:
            for record, result in zip(records, results, strict=True):
                assert result["id"] == record["id"]
                if result["status"] in {"recorded", "duplicate"}:
                    self.acknowledge((record["subscription_id"], record["id"]), record, result)

    def repeat_until_recorded(self, records: list[dict[str, Any]]) -> None:
        """As an application does: what may be sent again is, with the same ids."""
        for _ in range(20):
            results = self.world.report_all(records)
            self.heard(records, results)
            again = {result["id"] for result in results if result.get("retryable")}
            records = [record for record in records if record["id"] in again]
            if not records:
                return

    def drain(self) -> None:
        """The schedule goes on until nothing can be open."""
        end = self.world.time.seconds() + 28 * HOUR
        while self.world.time.seconds() < end:
            self.world.meter()
            self.world.time.advance(2 * HOUR)

    def usage_of(self, dice: random.Random, name: str, count: int, age: tuple[int, ...]) -> list[dict[str, Any]]:
        records = []
        for n in range(count):
            buyer: Buyer = dice.choice(self.buyers)
            dimension = dice.choice(usage_dimensions(buyer))
            at = self.world.time.seconds() - dice.choice(age)
            given = {"id": f"{name}-{n}", "dimension": dimension, "tags": dice.choice(TAGS), "at": at}
            records.append(self.world.usage(buyer.subscription, dice.randint(0, 1000), **given))
        self.sent += records
        return records


@pytest.fixture
def race(local_dynamodb: Any, local_tables: Tables) -> Iterator[Callable[..., Race]]:
    """Makes a race whose subscriptions have been active for six hours."""

    def make(resend: Literal["success", "duplicate"], **given: Any) -> Race:
        settings = EmulatorSettings(seed=1, identical_resend=resend)
        world = World(local_dynamodb, local_tables, time=PacedTimeline(NOON - 6 * HOUR), settings=settings, **given)
        made = Race(world)
        world.time.to(NOON + HOUR + 700)
        return made

    return make  # type: ignore[return-value]


def dice_of(seed: object) -> random.Random:
    return random.Random(str(seed))  # noqa: S311 - repeatable, not secret


def test_eight_reporters_and_three_metering_runs_at_one_hour_lose_nothing(race: Callable[..., Race]) -> None:
    conflicts = Conflicts()
    running = race("duplicate", wrap=conflicts.wrap)
    world = running.world
    late = (HOUR + 100, HOUR + 100, 60)
    shared = running.usage_of(dice_of("shared"), "shared", 20, late)
    requests = [[running.usage_of(dice_of((n, k)), f"r{n}-{k}", 12, late) for k in range(4)] for n in range(REPORTERS)]
    start = threading.Barrier(REPORTERS + RUNS)
    reporting = threading.Event()

    def reporter(mine: list[list[dict[str, Any]]]) -> None:
        start.wait()
        for records in mine:
            running.repeat_until_recorded(records)
        running.repeat_until_recorded(shared)

    def metering() -> None:
        start.wait()
        while not reporting.is_set():
            world.meter()

    with ThreadPoolExecutor(REPORTERS + RUNS) as pool:
        runs = [pool.submit(metering) for _ in range(RUNS)]
        reporters = [pool.submit(reporter, mine) for mine in requests]
        try:
            for one in reporters:
                one.result()
        finally:
            reporting.set()
        for one in runs:
            one.result()
    assert len(running.acknowledged) == len(running.sent)
    assert conflicts.seen["TransactionConflict"] > 0
    assert conflicts.seen["ConditionalCheckFailed"] > 0
    assert conflicts.seen["TransactionCanceledException"] > 10
    running.drain()
    running.check()
    assert running.outcome.units["recorded"] == sum(record["quantity"] for record in running.sent)


@pytest.mark.parametrize(("runs", "resend"), [(2, "success"), (4, "duplicate")])
def test_metering_runs_over_the_same_hours_bill_each_once(race: Callable[..., Race], runs: int, resend: str) -> None:
    running = race(resend)
    world = running.world
    buyers: list[Subscription] = [world.subscribe(f"7777{n:08d}") for n in range(60)]
    records = [world.usage(buyer, 5, id=f"m-{n}") for n, buyer in enumerate(buyers)]
    running.sent += records
    running.submit(records)
    world.to_due()
    start = threading.Barrier(runs)

    def metering() -> Counter[str]:
        start.wait()
        return world.meter().records

    with ThreadPoolExecutor(runs) as pool:
        reports = [one.result() for one in [pool.submit(metering) for _ in range(runs)]]
    assert sum(report.total() for report in reports) >= 60
    assert not any(report["conflict"] for report in reports)
    running.drain()
    running.check()


@pytest.mark.parametrize("at_deadline", ["Send", "Refuse"])
def test_decisions_beside_metering_runs_are_carried_out_or_answered_as_too_late(
    race: Callable[..., Race], at_deadline: str
) -> None:
    """Unusual usage of forty buyers, at the end of its wait."""
    running = race("duplicate", parameters=Parameters(AnomalyHoldFactor=3, AnomalyHoldAtDeadline=at_deadline))
    world = running.world
    buyers: list[Subscription] = [world.subscribe(f"7777{n:08d}") for n in range(40)]
    hour = hour_of(world.time.seconds())
    usual = world.approvals().usual
    assert usual is not None
    before = EpochSeconds(hour - 2 * DAY)
    for buyer in buyers:
        seen = MeteringRecord.new(buyer, before, "api_calls", timestamp=before, due_at=before, refuse_at=before)
        usual.learn([replace(seen, quantity=1)], {})
    records = [world.usage(buyer, 50, id=f"u-{n}") for n, buyer in enumerate(buyers)]
    running.sent += records
    running.submit(records)
    world.to_due()
    assert world.meter().records == {"awaiting_approval": len(buyers)}
    world.time.to(hour + 21 * HOUR)
    runs, deciders = 2, 4
    start = threading.Barrier(runs + deciders)

    def metering() -> None:
        start.wait()
        world.meter()

    def deciding(mine: list[Subscription]) -> list[Decided | None]:
        start.wait()
        choices: tuple[Choice, ...] = ("approve", "refuse")
        return [world.approval().decide(buyer.id, choices[n % 2], "seller") for n, buyer in enumerate(mine)]

    with ThreadPoolExecutor(runs + deciders) as pool:
        metered = [pool.submit(metering) for _ in range(runs)]
        decided = [pool.submit(deciding, buyers[n::deciders]) for n in range(deciders)]
        for one in metered:
            one.result()
        for first, answers in enumerate(decided):
            for buyer, made in zip(buyers[first::deciders], answers.result(), strict=True):
                assert made is not None
                for shown in made.decided:
                    running.decided[buyer.id, "api_calls", hour] = shown["approval"]
    running.drain()
    running.check()
    units = running.outcome.units
    assert units["metered"] + units["refused"] == units["recorded"] == 50 * len(buyers)


@pytest.mark.enable_socket  # the fork server is reached through a Unix socket
@pytest.mark.parametrize("seed", range(4))
def test_killed_processes_leave_nothing_that_the_next_ones_do_not_finish(
    race: Callable[..., Race], local_dynamodb: Any, local_tables: Tables, seed: int
) -> None:
    running = race(("success", "duplicate")[seed % 2])
    world = running.world
    dice = dice_of(seed)
    endpoint = str(local_dynamodb.meta.endpoint_url)
    killed = 0
    with serve(world.marketplace) as server:
        for turn in range(4):
            place = Place(endpoint, server.url, local_tables, world.time.seconds())
            reporters = [
                Child(
                    report,
                    (place, running.usage_of(dice, f"k{turn}-{n}", dice.choice((1, 6, 20)), (60, HOUR, 2 * HOUR))),
                )
                for n in range(dice.randint(1, 2))
            ]
            if running.acknowledged or turn:
                again = dice.sample(running.sent, min(8, len(running.sent)))
                reporters.append(Child(report, (place, list({record["id"]: record for record in again}.values()))))
            children = [*reporters, *(Child(meter, (place,)) for _ in range(dice.randint(1, 2)))]
            for child in children:
                if dice.random() < 0.75:
                    # A run begins with sixteen queries, each with a point before and after it.
                    first = 32 if child.work is meter and dice.random() < 0.9 else 0
                    child.kill_at, child.in_flight = first + dice.randrange(14), dice.random() < 0.5
            run_together(children, dice)
            for child in children:
                killed += child.killed
                for events in child.heard.get("published", []):
                    world.bus.publish(events)
                for results in child.heard.get("answered", []):
                    running.heard(child.arguments[1], results)
            world.time.advance(dice.choice((60, 900, 1800, HOUR + 700)))
    assert killed > 3
    running.drain()
    running.check()
    assert running.outcome.units["metered"] > 0
