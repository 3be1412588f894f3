"""`reconcile`, `forecast` and `statement` on stored usage: prices, the seller's account, reports, what is written."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from marketplace.dynamodb.attributes import from_item
from marketplace.platform.clock import DAY, iso
from marketplace.statements.statement import Statement
from marketplace.subscriptions.model import Subscription
from marketplace_emulator.reports import billed_revenue, usage
from marketplace_saas_cli.exits import NO_ANSWER, TROUBLE, USAGE, NoAnswerError, RefusedError
from marketplace_saas_cli.prices import price_of, prices_of
from marketplace_saas_cli.session import Session
from marketplace_saas_cli.statements import as_json, statement_of
from tests.support.duty import Duty, on_duty
from tests.support.in_process import client
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.world import NOON, World

PAYG, LEGACY = "ca2payasyougoproduct00000", "legacysubscriptionproduct"
ROLE = "arn:aws:iam::222233334444:role/seller/marketplace"
DAYS = ("--from", iso(NOON - NOON % DAY), "--to", iso(NOON - NOON % DAY + DAY))
MONTH = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-12-01T00:00:00Z")


@pytest.fixture
def world() -> World:
    """An hour of two licences of one account and of a legacy customer, metered."""
    made = World.on(MemoryDynamoDB())
    buyers = [made.subscribe("111122223333", PAYG) for _ in range(2)] + [made.subscribe("777788889999", LEGACY)]
    for number, buyer in enumerate(buyers, 1):
        made.report(buyer, 100 * number, dimension="emails" if buyer.license_arn is None else "api_calls")
    made.to_due()
    made.meter()
    made.time.advance(DAY)
    return made


@pytest.fixture
def duty(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duty:
    clients = {"dynamodb": world.dynamodb, "cloudtrail": client("cloudtrail", world.marketplace)}
    parameters = {"ProductCodes": f"{PAYG},{LEGACY}", "SellerRoleArn": sender(world)}
    return on_duty(
        monkeypatch, tables=world.tables, now=world.time.now, capsys=capsys, clients=clients, parameters=parameters
    )


def sender(world: World) -> str:
    """The role that CloudTrail names as the sender of what was metered."""
    (event, *_) = (
        one for one in world.marketplace.trail.events(until=world.time.seconds()) if "BatchMeterUsage" in str(one)
    )
    identity = event["userIdentity"]
    return str((identity.get("sessionContext") or {}).get("sessionIssuer", {}).get("arn") or identity["arn"])


def plant(world: World, **order: Any) -> None:
    market = world.marketplace
    market.differences.plant([order], market.ledger, market.registry, market.settings)


def buyers(world: World) -> list[Subscription]:
    return [Subscription.from_values(item) for item in world.subscription_items() if item["sk"] == "SUBSCRIPTION"]


def usage_items(world: World) -> list[dict[str, Any]]:
    assert isinstance(world.dynamodb, MemoryDynamoDB)
    return [from_item(item) for item in world.dynamodb.items(world.tables.usage)]


# -- prices -------------------------------------------------------------------------------------------------


def test_the_narrowest_price_counts() -> None:
    prices = prices_of(["calls=1", "one/calls=2", "sub-a/calls=3", "a/b=4"])
    assert price_of(prices, "one", "calls", "sub-a") == Decimal(3)
    assert price_of(prices, "one", "calls", "sub-b") == Decimal(2)
    assert price_of(prices, "two", "calls") == Decimal(1)
    assert price_of(prices, "two", "a/b") == Decimal(4)
    assert price_of(prices, "two", "other", "sub-a") is None


@pytest.mark.parametrize("number", [0, 1])
def test_a_difference_is_priced_by_its_subscription(world: World, duty: Duty, number: int) -> None:
    plant(world, kind="other_quantity", license=world.marketplace.purchases.all()[number].id, where=["trail"])
    cheap = next(
        one for one in buyers(world) if str(one.license_arn) == world.marketplace.purchases.all()[0].license_arn
    )
    prices = ("--price", f"{PAYG}/api_calls=2", "--price", f"{cheap.id}/api_calls=0.5", "--price", "api_calls=9")
    (found,) = duty.json("reconcile", *DAYS, *prices, status=TROUBLE)["differences"]
    assert (found["units"], found["money"]) == (1, "0.5" if number == 0 else "2")


def test_a_forecast_shows_a_private_offer_by_itself(world: World, duty: Duty) -> None:
    cheap = next(one for one in buyers(world) if one.product_code == PAYG)
    found = duty.json("forecast", "--price", "api_calls=2", "--price", f"{cheap.id}/api_calls=0.5")
    rows = {row["subscription_id"]: row for row in found["dimensions"] if row["dimension"] == "api_calls"}
    assert {name: row["price"] for name, row in rows.items()} == {None: "2", cheap.id: "0.5"}
    assert sum(row["metered"] for row in rows.values()) == 300
    assert found["complete"] is False  # emails have no price


# -- the seller's account -----------------------------------------------------------------------------------


def test_cloudtrail_is_asked_in_the_account_of_the_seller(duty: Duty) -> None:
    assert duty.json("reconcile", *DAYS)["differences"] == []
    assert duty.assumed == [duty.parameters["SellerRoleArn"]]


def test_another_role_of_the_sellers_account_is_somebody_else(world: World, duty: Duty) -> None:
    duty.parameters = {**duty.parameters, "SellerRoleArn": ROLE}
    found = duty.json("reconcile", *DAYS, status=TROUBLE)
    assert {one["kind"] for one in found["differences"]} == {"sent_by_someone_else"}
    assert {*found["differences"][0]["senders"]} == {sender(world)}


def test_a_role_that_can_not_be_assumed_leaves_the_ledgers_side(
    duty: Duty, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    def refused(*_: Any) -> None:
        raise NoAnswerError("AWS denies it to the credentials of this shell (no)")

    monkeypatch.setattr("tests.support.duty.Clients.assuming", refused)
    assert duty.run("reconcile", *DAYS) == NO_ANSWER
    assert duty.err == "marketplace-saas: AWS denies it to the credentials of this shell (no)\n"
    buyer = buyers(world)[0]
    record = next(item for item in usage_items(world) if item["sk"].startswith("RECORD#") and buyer.id in item["pk"])
    (chain,) = duty.json("trace", record["sk"].removeprefix("RECORD#"), "--subscription", buyer.id)["chains"]
    assert chain["metering_record"]["state"] == "metered"
    assert chain["cloudtrail"] == {
        "asked": False,
        "why": "AWS denies it to the credentials of this shell (no)",
        "answers": [],
    }


# -- reports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("made", "period"), [(usage, DAYS), (billed_revenue, MONTH)])
def test_a_report_of_what_was_metered_makes_no_difference(
    world: World, duty: Duty, tmp_path: Path, made: Callable[..., str], period: tuple[str, ...]
) -> None:
    (tmp_path / "report.csv").write_text(made(world.marketplace, "2026-11"))
    found = duty.json("reconcile", "--report", str(tmp_path / "report.csv"), *period)
    assert (found["differences"], found["of_other_buyers"]) == ([], 0)
    assert found["compared"] == 3


def test_a_feed_names_agreements_and_is_compared_too(world: World, duty: Duty, tmp_path: Path) -> None:
    lines = ["usage_date,dimension_key,usage_quantity,agreement_id"]
    for number, known in enumerate(buyers(world)):
        buyer = replace(known, agreement_ids=(f"agmt-{number}",))
        world.put_subscription(buyer)
        records = [one for one in usage_items(world) if one["sk"].startswith("HOUR#") and buyer.id in one["pk"]]
        lines += [f"2026-11-18,{one['dimension']},{one['quantity']},{buyer.agreement_ids[-1]}" for one in records]
    (tmp_path / "feed.csv").write_text("\n".join([*lines, "2026-11-18,api_calls,7,agmt-of-somebody", ""]))
    found = duty.json("reconcile", "--report", str(tmp_path / "feed.csv"), *DAYS)
    assert (found["differences"], found["of_other_buyers"]) == ([], 1)
    assert duty.run("reconcile", "--report", str(tmp_path / "feed.csv"), *DAYS) == 0
    assert "not compared: 1 record of buyers who have no subscription here" in duty.out


@pytest.mark.parametrize("code", [PAYG, "anotherproductofours00000"])
def test_an_unknown_buyer_of_a_report_is_a_difference_where_the_product_is_sold_here(
    world: World, duty: Duty, tmp_path: Path, code: str
) -> None:
    text = usage(world.marketplace, "2026-11").splitlines()
    buyer = next(line for line in text if "111122223333" in line)
    stranger = buyer.replace("111122223333", "999900001111").replace(PAYG, code)
    for one in buyers(world):
        for agreement in one.agreement_ids:
            stranger = stranger.replace(agreement, "agmt-unknown")
    (tmp_path / "report.csv").write_text("\n".join([*text, stranger, ""]))
    status = TROUBLE if code == PAYG else 0
    found = duty.json("reconcile", "--report", str(tmp_path / "report.csv"), *DAYS, status=status)
    assert [one["kind"] for one in found["differences"]] == (["only_theirs"] if code == PAYG else [])
    assert found["of_other_buyers"] == (0 if code == PAYG else 1)


# -- statements ---------------------------------------------------------------------------------------------


def line(units: int, team: str) -> dict[str, Any]:
    return {"dimension": "calls", "tags": {"team": team}, **counts(units)}


def counts(units: int) -> dict[str, int]:
    """As a deployment of an earlier version answers, which has no `shadow`."""
    return {"recorded": units, "included": 0, "metered": units, "refused": 0, "open": 0, "credit": 0, "adjusted": 0}


def pages(*totals: int) -> Iterator[dict[str, Any]]:
    """A day of two lines on two pages, each with what it says is the whole day's total."""
    for number, total in enumerate(totals):
        day = {"day": "2026-11-18", "closed": False, "lines": [line(number + 1, f"t{number}")], "corrections": []}
        day["totals"] = [{"dimension": "calls", **counts(total)}]
        yield {"days": [day], "cursor": None if number == len(totals) - 1 else f"c{number}"}


def read(monkeypatch: pytest.MonkeyPatch, duty: Duty, *totals: int) -> Statement:
    answers = pages(*totals)
    monkeypatch.setattr(Session, "call", lambda *_: next(answers))
    session = duty.connect(*_options())
    return statement_of(session, "sub-a", "2026-11")


def _options() -> Any:
    from marketplace_saas_cli.arguments import Common
    from marketplace_saas_cli.output import Output

    return Common(), Output()


def test_a_day_on_two_pages_is_one_day(monkeypatch: pytest.MonkeyPatch, duty: Duty) -> None:
    (day,) = as_json(read(monkeypatch, duty, 3, 3))["days"]
    assert [one["recorded"] for one in day["lines"]] == [1, 2]
    assert day["totals"] == [{"dimension": "calls", **counts(3), "shadow": 0}]


@pytest.mark.parametrize("totals", [(3, 4), (2, 2), (1, 9)])
def test_a_day_that_changes_between_two_pages_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, duty: Duty, totals: tuple[int, ...]
) -> None:
    with pytest.raises(NoAnswerError, match="2026-11-18 has changed"):
        read(monkeypatch, duty, *totals)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--file", "statement.doc"], "statement.doc ends in none of .txt, .csv, .html, .json"),
        (["--format", "csv", "--json"], "--json and --format exclude each other"),
        (["--format", "pdf"], "'pdf' is not one of"),
        ([], "there is no subscription sub-"),
    ],
    ids=str,
)
def test_a_statement_that_can_not_be_made_is_said_in_a_sentence(duty: Duty, given: list[str], words: str) -> None:
    assert duty.run("statement", "sub-" + "a" * 26, *given) == USAGE
    assert words in duty.err
    assert duty.err.count("\n") == 1


def test_prices_that_are_none_are_refused() -> None:
    for wrong in ("calls", "calls=", "=1", "calls=-1", "calls=nan"):
        with pytest.raises(RefusedError):
            prices_of([wrong])


# -- usage that was taken back ------------------------------------------------------------------------------


def test_a_voided_record_is_traced_as_voided_and_is_none_of_its_hour(world: World, duty: Duty) -> None:
    buyer = next(one for one in buyers(world) if one.product_code == PAYG)
    for name, quantity in (("kept", 3), ("wrong", 4)):
        world.report(buyer, quantity, id=name)
    world.void(buyer, "wrong")
    world.to_due()
    world.meter()

    (chain,) = duty.json("trace", "wrong", "--subscription", buyer.id)["chains"]
    assert chain["record"]["voided_by"] == "arn:aws:iam::1:user/a"
    assert duty.run("trace", "wrong", "--subscription", buyer.id) == 0
    assert "by arn:aws:iam::1:user/a; nothing of it is metered" in duty.out
    assert "contract" not in duty.out
    (kept,) = duty.json("trace", "kept", "--subscription", buyer.id)["chains"]
    accepted = kept["metering_record"]["metering_record_id"]
    (back,) = duty.json("trace", accepted)["chains"]
    assert {one["id"]: one["quantity"] for one in back["usage_records"]} == {"kept": 3}
