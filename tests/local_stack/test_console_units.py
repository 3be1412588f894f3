"""The units of a subscription by hour: what is equal, what waits, and what differs, in words and in the chart."""

from decimal import Decimal
from typing import Any

import pytest

from local.console.units import BAR_WIDTH, GROUPS, PLOT, TOP, charts, units
from marketplace_emulator.clock import HOUR
from marketplace_emulator.ledger import MeteringRecord

NOON = 1_795_348_800
"""2026-11-22 12:00 UTC."""


def recorded(
    quantity: int, state: str = "metered", hour: int = 0, dimension: str = "users", **more: Any
) -> dict[str, Any]:
    """A metering record as the API shows it."""
    return {
        "hour": f"2026-11-22T{12 + hour}:00:00Z",
        "dimension": dimension,
        "quantity": quantity,
        "state": state,
        **more,
    }


def unusual(approval: str, **more: Any) -> dict[str, Any]:
    """Usage that was not sent because it is unusual."""
    until: dict[str, Any] = {"approval_ends_at": "2026-11-23T09:00:00Z", "reason": "new_dimension"}
    return recorded(7, "awaiting_approval", approval=approval, **until, **more)


def billed(quantity: int, hour: int = 0, dimension: str = "users") -> MeteringRecord:
    """A record on the bill of AWS Marketplace."""
    return MeteringRecord(
        id="m-1",
        seq=1,
        region="us-east-1",
        integration="license",
        customer="l-1",
        purchase_id="purchase-1",
        license_arn="arn:aws:license-manager::1:license:l-1",
        customer_identifier="",
        account_id="111122223333",
        product_code="product",
        dimension=dimension,
        timestamp=NOON + HOUR * hour,
        hour=NOON // HOUR + hour,
        quantity=quantity,
        allocations=(),
        unit_price=Decimal("0.05"),
        received_at=NOON + HOUR * (hour + 1),
    )


def test_what_was_recorded_metered_and_billed_alike_neither_waits_nor_differs() -> None:
    (unit,) = units([recorded(7)], [billed(7)])

    assert unit.recorded == unit.metered == unit.billed == 7
    assert (unit.waits, unit.differs) == ("", "")
    assert unit.amount == Decimal("0.35")


def test_the_newest_hour_comes_first() -> None:
    found = units([recorded(1), recorded(2, hour=2), recorded(3, hour=1)], [])

    assert [unit.recorded for unit in found] == [2, 3, 1]


@pytest.mark.parametrize(
    ("record", "bill", "said"),
    [
        (recorded(7, "open", due_at="2026-11-22T13:20:00Z"), [], "to be metered from 2026-11-22 13:20 on"),
        (recorded(7, "open"), [], "to be metered"),
        (recorded(7, "held", reason="not_subscribed"), [], "is sent again (not_subscribed)"),
        (recorded(7, "open"), [billed(7)], "has not got the answer yet"),
        (unusual("awaited"), [], "waits for your approval until 2026-11-23 09:00 (the subscription has not used"),
        (unusual("approved"), [], "the next metering run sends it"),
        (unusual("refused"), [], "the next metering run writes it off"),
    ],
)
def test_what_is_still_to_happen_is_said(record: dict[str, Any], bill: list[MeteringRecord], said: str) -> None:
    (unit,) = units([record], bill)

    assert said in unit.waits
    assert unit.differs == ""


@pytest.mark.parametrize(
    ("record", "bill", "said"),
    [
        ([recorded(7)], [billed(7), billed(7)], "billed the hour 2 times: 14 for 7 recorded"),
        ([recorded(7)], [], "takes 7 as metered, AWS has billed 0"),
        ([recorded(7)], [billed(9)], "takes 7 as metered, AWS has billed 9"),
        ([], [billed(9)], "billed 9 that were not recorded here"),
        ([recorded(7, "rejected", reason="InvalidTag")], [], "refused it (InvalidTag)"),
        ([recorded(7, "conflict")], [billed(3)], "another sender"),
        ([recorded(7, "conflict", aws_quantity=3)], [billed(3)], "AWS Marketplace has 3"),
        (
            [recorded(7, "conflict", aws_quantity=3, carried_to="2026-11-22T15:00:00Z")],
            [billed(3)],
            "AWS Marketplace has 3, and 2026-11-22 15:00 took the rest",
        ),
        ([recorded(7, "unbillable")], [], "takes it no more"),
        (
            [recorded(7, "unbillable", reason="refused_by_seller", approval="refused")],
            [],
            "it is not sent (it was unusual, and you refused it)",
        ),
    ],
)
def test_what_is_not_equal_is_named(record: list[dict[str, Any]], bill: list[MeteringRecord], said: str) -> None:
    (unit,) = units(record, bill)

    assert said in unit.differs
    assert not charts([unit])[0].equal


@pytest.mark.parametrize(
    ("record", "hours", "choices"),
    [
        (unusual("awaited"), 2, ("approve", "refuse")),
        (unusual("approved"), 2, ("refuse",)),
        (unusual("refused"), 2, ("approve",)),
        (unusual("approved", in_doubt=True), 2, ()),
        (recorded(7, "unbillable", approval="refused"), 23, ("approve",)),
        (recorded(7, "unbillable", approval="refused"), 24, ()),
        (recorded(7, "unbillable"), 2, ()),
        (recorded(7, "open", approval="approved"), 2, ()),
        (recorded(7), 2, ()),
    ],
)
def test_what_the_api_may_still_take_as_a_decision_is_offered(
    record: dict[str, Any], hours: int, choices: tuple[str, ...]
) -> None:
    (unit,) = units([record], [], NOON + hours * HOUR)

    assert unit.choices == choices


@pytest.mark.parametrize(("approval", "said"), [("approved", "you have approved it"), ("awaited", "nobody decided")])
def test_what_was_decided_about_usage_that_is_billed_is_said(approval: str, said: str) -> None:
    (unit,) = units([recorded(7, approval=approval)], [billed(7)])

    assert said in unit.decided
    assert (unit.waits, unit.differs) == ("", "")


def test_a_chart_has_three_bars_of_equal_height_where_the_units_are_equal() -> None:
    (chart,) = charts(units([recorded(10), recorded(5, hour=1)], [billed(10), billed(5, hour=1)]))

    assert chart.equal
    assert [len({bar.height for bar in group.bars}) for group in chart.groups] == [1, 1]
    first, second = chart.groups
    assert (first.bars[0].height, second.bars[0].height) == (PLOT, PLOT / 2)
    assert all(bar.y + bar.height == TOP + PLOT for group in chart.groups for bar in group.bars)
    assert first.x + 3 * BAR_WIDTH < second.x


def test_each_dimension_has_a_chart_of_its_own_and_hours_without_units_make_none() -> None:
    found = units([recorded(1), recorded(9000, dimension="calls"), recorded(0, dimension="idle")], [])

    assert [(chart.dimension, chart.top) for chart in charts(found)] == [
        ("calls", Decimal(9000)),
        ("users", Decimal(1)),
    ]


def test_a_chart_shows_the_newest_hours() -> None:
    bill = [billed(hour + 1, hour=hour) for hour in range(GROUPS + 10)]
    (chart,) = charts(units([], bill))

    assert len(chart.groups) == GROUPS
    assert chart.groups[-1].unit.billed == GROUPS + 10
