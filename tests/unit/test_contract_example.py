"""The example of a contract in docs/integration.md has the numbers that the code gives."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marketplace.subscriptions.model import Subscription
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import Timeline, World

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "integration.md"
HEADING = "| at (UTC) | what happens | included | overage | used of the term |"


def moment(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").astimezone(UTC).timestamp())


class Contract:
    """The contract of the example, step by step; `rows` are the table's."""

    def __init__(self) -> None:
        start = Timeline(moment("2026-11-30T20:00"))
        self.world = World.on(MemoryDynamoDB(), time=start)
        self.buyer: Subscription = self.world.subscribe()
        self.world.overage_dimensions = {(self.buyer.product_code, "api_calls"): "included_calls"}
        self.rows: list[str] = []

    def grant(self, at: str, calls: int, until: str, *, heard: bool = True) -> None:
        self.world.time.to(moment(at))
        self.world.grant(
            self.buyer, calls, dimension="included_calls", ends_at=moment(f"{until}T00:00"), read_back=heard
        )
        self.told(at, f"AWS grants {calls:,} until {until}" + ("" if heard else "; its notification is late"))

    def report(self, at: str, quantity: int, of: str | None = None) -> None:
        self.world.time.to(moment(at))
        given = {} if of is None else {"at": moment(of)}
        result = self.world.report(self.buyer, quantity, **given)
        what = f"{quantity:,} calls are reported" + ("" if of is None else f", made at {of[5:10]} {of[11:]}")
        if result["status"] != "recorded":
            self.told(at, f"{what}: `{result['reason']}`")
            return
        proof = self.world.queries().proof(self.buyer.id, str(result["id"]))
        assert proof is not None
        limit, used = proof["contract"]["limit"], self.used(proof)
        self.told(at, what, f"{result['included']:,}", f"{result['overage']:,}", f"{used:,} of {limit:,}")

    def read_back(self, at: str, given_back: str) -> None:
        """The notification that was late; it has the usage record with this id compared."""
        self.world.time.to(moment(at))
        self.world.entitlements().sync(self.buyer.id)
        proof = self.world.queries().proof(self.buyer.id, given_back)
        assert proof is not None
        contract = proof["contract"]
        what = f"the notification comes; of the {proof['record']['quantity']:,} calls reported before it"
        used = f"{self.used(proof):,} of {contract['limit']:,}"
        self.told(at, what, f"{contract['included']:,}", f"{contract['overage']:,}", used)

    def used(self, proof: dict[str, Any]) -> int:
        """What is included of all usage of the record's term."""
        proofs = (self.world.queries().proof(self.buyer.id, f"r{n}") for n in range(1, 20))
        contracts = [one["contract"] for one in proofs if one is not None]
        return sum(one["included"] for one in contracts if one["term_end"] == proof["contract"]["term_end"])

    def told(self, at: str, what: str, included: str = "", overage: str = "", used: str = "") -> None:
        cells = (f"{at[5:10]} {at[11:]}", what, included, overage, used)
        self.rows.append("| " + " | ".join(cells) + " |")


@pytest.fixture
def story() -> Contract:
    contract = Contract()
    contract.grant("2026-11-30T21:00", 10_000, "2026-12-01")
    contract.report("2026-11-30T21:10", 9_000)
    contract.grant("2026-11-30T21:11", 12_000, "2026-12-01", heard=False)
    contract.report("2026-11-30T21:12", 2_500)
    contract.read_back("2026-11-30T21:13", "r2")
    contract.report("2026-12-01T00:05", 400)
    contract.grant("2026-12-01T00:10", 10_000, "2027-12-01", heard=False)
    contract.report("2026-12-01T00:20", 400)
    contract.report("2026-12-01T00:25", 700, of="2026-11-30T23:50")
    contract.report("2026-12-01T00:30", 10_000)
    contract.report("2026-12-01T00:35", 300, of="2026-11-30T23:55")
    return contract


def test_the_table_of_the_guide_is_what_the_code_gives(story: Contract) -> None:
    guide = GUIDE.read_text()
    assert HEADING in guide
    table = guide.split(HEADING, 1)[1].split("\n\n", 1)[0].strip().splitlines()
    assert table[1:] == story.rows


def test_the_bill_is_the_overage_of_the_table(story: Contract) -> None:
    overage = sum(
        int(row.split(" | ")[3].replace(",", "") or 0)
        for row, after in zip(story.rows, [*story.rows[1:], ""], strict=True)
        if "the notification comes" not in after
    )
    world = story.world
    for _ in range(3):
        world.to_due()
        world.meter()
    assert world.billed() == {(story.buyer.id, "api_calls"): overage}
    assert f"AWS is sent {overage:,} calls" in " ".join(GUIDE.read_text().split())
