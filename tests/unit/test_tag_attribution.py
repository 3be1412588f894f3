"""What is sent is attributed to the tags that were reported, whatever a query finds of the allocations at that moment.

A query may find a transaction applied to one item and not yet to another (DynamoDB Developer Guide, "Isolation levels
for DynamoDB transactions"). The in-memory DynamoDB applies transactions at once, so a wrapper shows allocations late.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.ledger.seal import in_doubt
from marketplace.metering.store import _READS as READS
from marketplace.platform.clock import HOUR
from marketplace.subscriptions.model import Subscription
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import World


class LateAllocations:
    """A client whose next `times` queries for allocations find those that there were when it was told to `hold`."""

    def __init__(self, dynamodb: MemoryDynamoDB) -> None:
        self._dynamodb = dynamodb
        self._seen: dict[tuple[str, str], Any] = {}
        self.times = 0
        self.asked = 0
        self.show_deleted = False

    def hold(self, world: World, times: int) -> None:
        items = self._dynamodb.items(world.tables.usage)
        self._seen = {(item["pk"]["S"], item["sk"]["S"]): item for item in items}
        self.times = times

    def query(self, **request: Any) -> Any:
        answer: Any = self._dynamodb.query(**request)
        prefix = request.get("ExpressionAttributeValues", {}).get(":prefix", {}).get("S", "")
        if not prefix.endswith(keys.TAGS_MARK):
            return answer
        self.asked += 1
        if self.times and self.show_deleted:
            self.times -= 1
            answer = {**answer, "Items": [self._seen[key] for key in sorted(self._seen) if key[1].startswith(prefix)]}
        elif self.times:
            self.times -= 1
            found = (self._seen.get((item["pk"]["S"], item["sk"]["S"])) for item in answer["Items"])
            answer = {**answer, "Items": [item for item in found if item is not None]}
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)


@pytest.fixture
def late() -> LateAllocations:
    return LateAllocations(MemoryDynamoDB())


@pytest.fixture
def world(late: LateAllocations) -> World:
    return World.on(late._dynamodb, wrap=lambda client: late if isinstance(client, MemoryDynamoDB) else client)


def billed_by_team(world: World) -> Counter[str]:
    """What AWS attributes to each team; untagged usage under no name."""
    billed: Counter[str] = Counter()
    for record in world.marketplace.ledger.records:
        for tags, quantity in record.allocations:
            billed[next((value for _, value in tags), "")] += int(quantity)
    return billed


def reported_late(world: World, late: LateAllocations, team: str, times: int) -> Subscription:
    """A buyer with 90 units of the team `red` in an hour that is due, and 7 more of `team` at that moment, whose
    allocation the next queries don't find."""
    buyer = world.subscribe()
    at = world.time.seconds()
    world.report(buyer, 90, tags={"team": "red"})
    world.to_due()
    late.hold(world, times)
    world.report(buyer, 7, tags={"team": team}, at=at)
    return buyer


@pytest.mark.parametrize("times", [1, READS - 1])
@pytest.mark.parametrize(("team", "billed"), [("red", {"red": 97}), ("blue", {"red": 90, "blue": 7})])
def test_allocations_that_are_behind_their_record_are_read_again(
    world: World, late: LateAllocations, team: str, billed: dict[str, int], times: int
) -> None:
    reported_late(world, late, team, times)
    began = world.time.monotonic()
    world.meter()
    assert billed_by_team(world) == billed
    assert late.asked == times + 1
    assert world.time.monotonic() > began  # it waits in between


@pytest.mark.parametrize("team", ["red", "blue"])
def test_allocations_that_stay_behind_leave_their_record_due_and_hold_up_no_other(
    world: World, late: LateAllocations, team: str
) -> None:
    other = world.subscribe("444455556666")
    world.report(other, 5)
    buyer = reported_late(world, late, team, READS)
    report = world.meter()
    assert world.billed() == {(other.id, "api_calls"): 5}
    (left,) = world.stored("open")
    assert left["pk"] == keys.subscription_pk(buyer.id)
    assert not in_doubt(left["seal"])
    assert report.errors == {"IncompleteAllocations": 1}
    world.meter()
    assert world.billed()[buyer.id, "api_calls"] == 97
    assert billed_by_team(world) == ({"red": 97} if team == "red" else {"red": 90, "blue": 7})


def test_a_record_in_doubt_whose_allocations_stay_behind_stays_in_doubt(world: World, late: LateAllocations) -> None:
    reported_late(world, late, "blue", 0)
    faults = [{"operation": "BatchMeterUsage", "fault": "internal_error_after", "times": 99}]
    world.marketplace.faults.plan(faults)
    world.meter()
    (doubtful,) = world.stored("open")
    assert in_doubt(doubtful["seal"])
    world.marketplace.faults.clear()
    late._seen = {}
    late.times = READS
    world.meter()
    (still,) = world.stored("open")
    assert in_doubt(still["seal"])
    world.meter()
    assert not world.stored("open")
    assert billed_by_team(world) == {"red": 90, "blue": 7}


def without_the_sum(item: dict[str, Any]) -> None:
    del item["tagged_quantity"]


def with_a_part_of_the_sum(item: dict[str, Any]) -> None:
    item["tagged_quantity"] = {"N": "7"}


@pytest.mark.parametrize("as_before", [without_the_sum, with_a_part_of_the_sum])
def test_a_record_whose_tagged_usage_was_not_counted_is_sent_as_it_stands(
    world: World, late: LateAllocations, as_before: Callable[[dict[str, Any]], None]
) -> None:
    """Earlier versions did not keep the sum; one and the same hour may have usage that both have booked."""
    reported_late(world, late, "blue", 0)
    for item in late._dynamodb.items(world.tables.usage):
        if "seal" in item:
            as_before(item)
            late._dynamodb.put_item(TableName=world.tables.usage, Item=item)
    world.meter()
    assert billed_by_team(world) == {"red": 90, "blue": 7}


@pytest.mark.parametrize("taken", [{"red": 90}, {"red": 89}])
def test_allocations_that_are_ahead_of_their_record_are_not_sent(
    world: World, late: LateAllocations, taken: dict[str, int]
) -> None:
    """What was taken out of an hour again may still be found: all of a team, or a part of it."""
    reported_late(world, late, "blue", 0)
    late.hold(world, READS)
    left = 90 - taken["red"]
    for item in late._dynamodb.items(world.tables.usage):
        if "seal" in item:
            changed = {"quantity": 7 + left, "tagged_quantity": 7 + left, "tag_sets": 2 if left else 1}
            late._dynamodb.put_item(TableName=world.tables.usage, Item={**item, **to_item(changed)})
        elif keys.is_allocation(item["sk"]["S"]) and from_item(item)["tags"]["team"] == "red":
            late._dynamodb.put_item(TableName=world.tables.usage, Item={**item, **to_item({"quantity": left})})
            if not left:
                key = {name: item[name] for name in ("pk", "sk")}
                late._dynamodb.delete_item(TableName=world.tables.usage, Key=key)
    late.show_deleted = True
    assert world.meter().errors == {"IncompleteAllocations": 1}
    assert not world.billed()
    late.show_deleted = False
    world.meter()
    assert billed_by_team(world) == ({"red": left, "blue": 7} if left else {"blue": 7})


tags = st.none() | st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from("xyz"), max_size=3)
usage = st.tuples(st.integers(0, 5), tags, st.sampled_from(["api_calls", "emails"]), st.booleans())


@given(st.lists(st.lists(usage, max_size=6), max_size=4))
@pytest.mark.slow
def test_a_record_says_what_its_allocations_sum_to(requests: list[list[Any]]) -> None:
    """Also when tags find no room, and when a contract includes a part of the usage."""
    world = World.on(MemoryDynamoDB())
    buyer = world.subscribe()
    world.overage_dimensions = {(buyer.product_code, "emails"): "seats"}
    world.grant(buyer, 6, ends_at=world.time.seconds() + 30 * 24 * HOUR)
    for request in requests:
        records = [
            world.usage(buyer, quantity, tags=tagged, dimension=dimension, at=world.time.seconds() - HOUR * earlier)
            for quantity, tagged, dimension, earlier in request
        ]
        assert {result["status"] for result in world.report_all(records)} <= {"recorded"}
    sums: Counter[tuple[str, str]] = Counter()
    for allocation in world.allocations():
        sums[allocation["pk"], allocation["sk"].split(keys.TAGS_MARK)[0]] += allocation["quantity"]
    for hour in world.stored():
        assert hour.get("tagged_quantity", 0) == sums[hour["pk"], hour["sk"]]
    world.to_due()
    world.meter()
    assert not world.stored("open")
