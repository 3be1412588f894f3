"""A migration while usage is reported: whatever the moment, it puts no hour on both integrations.

A request is two steps, reading subscriptions and booking; a migration is one step for each of its calls, and its wait.
The migration's steps are run in order, the request's before any two of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from marketplace.commands.migration import IN_FLIGHT, Cutover, Migration, MigrationRefusedError
from marketplace.dynamodb.keys import subscription_pk
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import HOUR
from marketplace.platform.errors import AwsError
from marketplace.seller_api.views import subscription_view
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from tests.support.calls import CrashError, no_answer
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.observed_client import ObservedClient
from tests.support.world import NOON, World
from tools import template

pytestmark = pytest.mark.slow

STEPS = ("get_item", "get_item", *("query",) * 3, "update_item", "wait", *("query",) * 3, "transact_write_items")
WAIT = STEPS.index("wait")
END = len(STEPS)
"""After the last step."""
IN_THE_API = [
    (read, booked) for read in range(END + 1) for booked in range(read, END + 1) if read >= WAIT or booked <= WAIT
]
"""When a request may read and when it may book. One that began before the wait has ended before the wait has."""
LIMIT = 100
TERM_END = NOON + 90 * 24 * HOUR


@dataclass
class Customer:
    """A legacy customer and their licence, 14 minutes into an hour. `migrate` moves them, doing what `meanwhile` says
    before each step."""

    world: World
    legacy: Subscription
    licensed: Subscription
    made: list[str] = field(default_factory=list)

    @classmethod
    def of_a_product(cls, **given: Any) -> "Customer":
        world = World.on(MemoryDynamoDB(), **given)
        product = next(one for one in world.marketplace.registry.products.values() if one.integration == "legacy")
        purchase = world.marketplace.purchases.subscribe(product.code, provision=True)
        legacy = world.store_subscription(purchase, activated_at=world.time.seconds())
        values = replace(legacy, integration="license", license_arn=purchase.license_arn, customer_identifier=None)
        licensed = replace(values, id=values.identity.subscription_id)
        world.put_subscription(licensed)
        world.time.advance(2 * HOUR + 14 * 60)
        return cls(world, legacy, licensed)

    def migrate(
        self,
        meanwhile: Callable[[int], None] = lambda _: None,
        after: Callable[[int], None] = lambda _: None,
    ) -> Cutover:
        self.made.clear()

        def begin(name: str) -> None:
            self.made.append(name)
            meanwhile(len(self.made) - 1)

        def wait(seconds: float) -> None:
            begin("wait")
            self.world.time.sleep(seconds)

        client: Any = ObservedClient(
            self.world.dynamodb,
            before=lambda name, _: begin(name),
            after=lambda _, __: after(len(self.made) - 1),
        )
        return Migration(
            table=Table(client, self.world.tables.subscriptions, sleep=wait, jitter=lambda: 0.5),
            usage_table=Table(client, self.world.tables.usage),
            clock=self.world.time.now,
            sleep=wait,
        ).migrate(self.legacy.id, self.licensed.id)

    def stored(self, subscription: Subscription) -> Subscription:
        return self.reader().get_many([subscription.id])[subscription.id]

    def reader(self) -> SubscriptionReader:
        return SubscriptionReader(Table(self.world.dynamodb, self.world.tables.subscriptions))

    def hours(self, subscription: Subscription) -> set[int]:
        """The hours of this subscription that are to be sent to AWS."""
        return {hour["hour"] for hour in self.world.stored() if hour["pk"] == subscription_pk(subscription.id)}

    def on_both(self) -> set[int]:
        return self.hours(self.legacy) & self.hours(self.licensed)

    def units(self) -> int:
        return sum(hour["quantity"] for hour in self.world.stored())


class Request:
    """A request to record one unit of usage for each of some subscriptions."""

    def __init__(self, customer: Customer, *named: Subscription, at: int | None = None, quantity: int = 1) -> None:
        self._customer = customer
        self._seen: dict[str, Subscription] = {}
        given: dict[str, Any] = {} if at is None else {"at": at}
        self._records = [customer.world.usage(one, quantity, **given) for one in named]
        self._began = customer.world.time.now()

    def begin(self) -> None:
        self._began = self._customer.world.time.now()
        self.read(self._customer.legacy, self._customer.licensed)

    def read(self, *subscriptions: Subscription) -> None:
        self._seen |= self._customer.reader().get_many([one.id for one in subscriptions])

    def book(self) -> list[dict[str, Any]]:
        """With what was read, as of when the request began."""
        recorder = self._customer.world.recorder()
        recorder.subscriptions, recorder.clock = self, lambda: self._began
        self.results = recorder.record(self._records)
        return self.results

    def get_many(self, ids: Sequence[str]) -> Mapping[str, Subscription]:
        return {one: self._seen[one] for one in ids}

    def repeated_for(self, subscription: Subscription) -> list[dict[str, Any]]:
        """The records, of which each names the subscription."""
        return [{**record, "subscription_id": subscription.id} for record in self._records]

    def repeat(self) -> list[dict[str, Any]]:
        """As an application does with what may be sent again."""
        return self._customer.world.report_all(self._records)


def moved(customer: Customer, moments: Mapping[int, Sequence[Callable[[], object]]]) -> Cutover | None:
    """Migrates and does what is to be done at each moment; None when it was refused."""

    def at(step: int) -> None:
        for act in moments.get(step, ()):
            act()

    try:
        cutover: Cutover | None = customer.migrate(at)
    except MigrationRefusedError:
        cutover = None
    for step in range(min(len(customer.made), END), END + 1):  # steps that a refusal has left out
        at(step)
    return cutover


def schedule(*acts: tuple[int, Callable[[], object]]) -> dict[int, list[Callable[[], object]]]:
    moments: dict[int, list[Callable[[], object]]] = {}
    for step, act in acts:
        moments.setdefault(step, []).append(act)
    return moments


def check_sides(customer: Customer, cutover: Cutover | None) -> None:
    """No hour is on both; across a cut-over each is on its own side; without one nothing is left of the attempt."""
    assert customer.on_both() == set()
    legacy, licensed = customer.stored(customer.legacy), customer.stored(customer.licensed)
    assert licensed.usage_hold is None
    assert licensed.activated_at == customer.licensed.activated_at
    if cutover is None:
        assert (legacy.migrated_to, licensed.migrated_from, licensed.cutover_at) == (None, None, None)
    else:
        assert (legacy.migrated_to, licensed.migrated_from) == (licensed.id, legacy.id)
        assert legacy.cutover_at == licensed.cutover_at == cutover.at
        assert all(hour < cutover.at for hour in customer.hours(legacy))
        assert all(hour >= cutover.at for hour in customer.hours(licensed))


def report_until_after(customer: Customer, cutover: Cutover | None) -> None:
    """The application goes on to report for the licence: at once, and after the cut-over."""
    assert customer.world.report(customer.licensed, 1)["status"] == "recorded"
    customer.world.time.to((cutover.at if cutover else customer.world.time.seconds() + 2 * HOUR) + 60)
    assert customer.world.report(customer.licensed, 1)["status"] == "recorded"


def test_these_are_the_steps() -> None:
    customer = Customer.of_a_product()
    customer.migrate()
    assert tuple(customer.made) == STEPS


def test_the_wait_outlasts_every_request() -> None:
    function = template.load()["Resources"]["SellerApiFunction"]["Properties"]
    assert 2 * function["Timeout"] <= IN_FLIGHT


# A request in flight


@pytest.mark.parametrize(("read", "booked"), IN_THE_API)
def test_usage_of_the_licence_in_flight_is_on_one_side(read: int, booked: int) -> None:
    customer = Customer.of_a_product()
    request = Request(customer, customer.licensed)
    cutover = moved(customer, schedule((read, request.begin), (booked, request.book)))
    (result,) = request.results
    if result["status"] != "recorded":
        assert (result["reason"], result["retryable"]) == ("not_active", True)
        assert request.repeat()[0]["status"] == "recorded"
    report_until_after(customer, cutover)
    check_sides(customer, cutover)
    assert customer.units() == 3
    assert (cutover is None) == (read < STEPS.index("update_item") + 1)


@pytest.mark.parametrize("read", range(WAIT, END + 1))
@pytest.mark.parametrize("licence_first", [False, True])
def test_one_id_in_flight_for_the_customer_and_reported_for_the_licence_counts_once(
    read: int, licence_first: bool
) -> None:
    """Whatever the request in flight had read: the migration set, not set, or set between two reads."""
    customer = Customer.of_a_product()
    request = Request(customer, customer.legacy, quantity=40)
    (record,) = request.repeated_for(customer.licensed)
    results: list[dict[str, Any]] = []
    acts: list[Callable[[], object]] = [
        lambda: results.extend(request.book()),
        lambda: results.extend(customer.world.report_all([record])),
    ]
    moments = schedule((read, request.begin), *((END, act) for act in (reversed(acts) if licence_first else acts)))
    assert moved(customer, moments) is not None
    assert [result["status"] for result in results] == ["recorded", "duplicate"]
    assert customer.units() == 40


@pytest.mark.parametrize(("read", "booked"), IN_THE_API)
@pytest.mark.parametrize("minute", [0, 14, 49, 50, 54, 55, 59])
@pytest.mark.slow
def test_usage_of_the_customer_in_flight_is_on_one_side(read: int, booked: int, minute: int) -> None:
    """Also the usage that goes to the hour to come, by a reporter's clock that is ahead."""
    customer = Customer.of_a_product()
    customer.world.time.advance((minute - 14) % 60 * 60)
    for ahead in (0, 300):
        request = Request(customer, customer.legacy, at=customer.world.time.seconds() + ahead)
        cutover = moved(customer, schedule((read, request.begin), (booked, request.book)))
        assert cutover is not None
        assert request.results[0]["status"] == "recorded"
    report_until_after(customer, cutover)
    check_sides(customer, cutover)
    assert customer.units() == 4


@pytest.mark.parametrize(("first", "second"), [("legacy", "licensed"), ("licensed", "legacy")])
@pytest.mark.slow
def test_a_request_for_both_that_reads_them_at_different_moments_is_on_one_side(first: str, second: str) -> None:
    for read, booked in IN_THE_API:
        for between in range(read, booked + 1):
            customer = Customer.of_a_product()
            one, other = getattr(customer, first), getattr(customer, second)
            request = Request(customer, customer.legacy, customer.licensed)
            acts = schedule(
                (read, lambda request=request, one=one: request.read(one)),  # type: ignore[misc]
                (between, lambda request=request, other=other: request.read(other)),  # type: ignore[misc]
                (booked, request.book),
            )
            cutover = moved(customer, acts)
            if cutover is not None:
                request.repeat()
                report_until_after(customer, cutover)
                check_sides(customer, cutover)
                assert customer.units() == 4


@pytest.mark.parametrize(("read", "booked"), IN_THE_API)
def test_what_a_contract_includes_is_included_once(read: int, booked: int) -> None:
    customer = Customer.of_a_product()
    world = customer.world
    world.overage_dimensions = {(customer.legacy.product_code, "api_calls"): "seats"}
    for one in (customer.legacy, customer.licensed):
        world.grant(one, LIMIT, ends_at=TERM_END)
    request = Request(customer, customer.licensed, quantity=LIMIT)
    cutover = moved(customer, schedule((read, request.begin), (booked, request.book)))
    results = request.repeat()
    world.time.to((cutover.at if cutover else world.time.seconds()) + 60)
    results.append(world.report(customer.licensed, LIMIT))
    assert [result["included"] for result in results] == [LIMIT, 0]
    check_sides(customer, cutover)


def test_usage_that_is_included_whole_refuses_and_disturbs_nobody() -> None:
    customer = Customer.of_a_product()
    customer.world.overage_dimensions = {(customer.legacy.product_code, "api_calls"): "seats"}
    customer.world.grant(customer.licensed, LIMIT, ends_at=TERM_END)
    customer.world.report(customer.licensed, LIMIT)
    customer.world.time.advance(48 * HOUR)
    with pytest.raises(MigrationRefusedError, match="once more"):
        customer.migrate()
    assert {"wait", "update_item"}.isdisjoint(customer.made)
    check_sides(customer, None)


def test_usage_of_both_in_one_hour_refuses_even_while_it_is_in_flight() -> None:
    customer = Customer.of_a_product()
    customer.world.report(customer.legacy, 5)
    request = Request(customer, customer.licensed)
    request.begin()
    assert moved(customer, schedule((WAIT, request.book))) is None
    assert customer.stored(customer.legacy).migrated_to is None


# The hold


def test_while_the_licence_is_held_its_usage_is_to_be_sent_again_and_its_buyer_keeps_access() -> None:
    customer = Customer.of_a_product()
    seen: list[dict[str, Any]] = []

    def look() -> None:
        now = customer.world.time.seconds()
        seen.append(customer.world.report(customer.licensed, 1))
        seen.append(customer.world.report(customer.legacy, 1))
        seen.append(subscription_view(customer.stored(customer.licensed), now))

    assert moved(customer, schedule((WAIT, look))) is not None
    of_licence, of_customer, view = seen
    assert (of_licence["status"], of_licence["reason"], of_licence["retryable"]) == ("rejected", "not_active", True)
    assert of_customer["status"] == "recorded"
    assert (view["status"], view["access"]) == ("active", True)


@pytest.mark.parametrize("lost", ["call", "answer"])
@pytest.mark.parametrize("step", [step for step in range(END) if step != WAIT])
def test_a_migration_that_died_is_brought_to_its_end_by_repeating_it(step: int, lost: str) -> None:
    """Whatever it died at, and whenever a request that was running then books."""
    for booked in range(WAIT + 1):
        customer = Customer.of_a_product()
        request = Request(customer, customer.licensed)

        def die(at: int) -> None:
            if at >= step:
                raise CrashError

        def begin_and_die(at: int, request: Request = request) -> None:
            if at == min(step, WAIT):
                request.begin()
            if lost == "call":
                die(at)

        with pytest.raises(CrashError):
            customer.migrate(begin_and_die, die)
        cutover = moved(customer, schedule((booked, request.book)))
        request.repeat()
        report_until_after(customer, cutover)
        check_sides(customer, cutover)
        assert customer.units() == 3


@pytest.mark.parametrize("lost", ["call", "answer"])
@pytest.mark.parametrize("step", [step for step in range(END) if step != WAIT])
def test_a_call_without_an_answer_leaves_no_hold(step: int, lost: str) -> None:
    customer = Customer.of_a_product()

    def fail(at: int) -> None:
        if at == step:
            raise no_answer()

    with pytest.raises(AwsError):
        customer.migrate(*((fail,) if lost == "call" else (lambda _: None, fail)))
    assert customer.stored(customer.licensed).usage_hold is None
    cutover = customer.migrate()
    report_until_after(customer, cutover)
    check_sides(customer, cutover)


@pytest.mark.parametrize("step", range(END))
def test_two_runs_side_by_side_set_one_cut_over(step: int) -> None:
    customer = Customer.of_a_product()
    other = replace(customer, made=[])
    answers: list[Cutover] = []
    answers.append(customer.migrate(lambda at: answers.append(other.migrate()) if at == step else None))
    assert answers[0] == answers[1] == customer.migrate()
    check_sides(customer, answers[0])


def test_a_run_that_is_overtaken_ends_no_hold_but_its_own() -> None:
    customer = Customer.of_a_product()
    other = replace(customer, made=[])

    def until_its_wait(at: int) -> None:
        if at >= WAIT:
            raise CrashError

    def overtake() -> None:
        with pytest.raises(CrashError):
            other.migrate(until_its_wait)

    with pytest.raises(MigrationRefusedError, match="another run"):
        customer.migrate(lambda at: overtake() if at == END - 1 else None)
    assert customer.stored(customer.licensed).usage_hold is not None
    check_sides(customer, customer.migrate())


def test_a_hold_that_did_not_last_sets_nothing() -> None:
    """Another run found it, met an outage and ended it; the licence has taken usage since, unseen."""
    customer = Customer.of_a_product()
    other = replace(customer, made=[])

    def end_the_hold() -> None:
        with pytest.raises(AwsError):
            other.migrate(failing)
        report_until_after(customer, None)

    def failing(at: int) -> None:
        if at == STEPS.index("query"):
            raise no_answer()

    with pytest.raises(MigrationRefusedError, match="another run"):
        customer.migrate(lambda at: end_the_hold() if at == END - 1 else None)
    check_sides(customer, None)
