"""Unusual usage on a whole system: it is held, listed, approved by a command, and billed."""

import io
from collections.abc import Iterator

import pytest

from local.options import Options
from local.stack import Stack, running
from marketplace.platform.clock import DAY, HOUR
from marketplace_saas_cli.exits import FINE, TROUBLE
from tests.local_stack.browser import Neighbourhood
from tests.local_stack.test_command_line import PRODUCT, Shell


@pytest.fixture
def holding() -> Iterator[Stack]:
    """A system that holds what is more than three times as great as usual."""
    options = Options(
        clock="frozen:2026-11-22T12:10:00Z",
        log=io.StringIO(),
        metering_rate=None,
        seed=1,
        parameters={"AnomalyHoldFactor": "3"},
    )
    with running(options) as stack:
        yield stack


def test_unusual_usage_is_listed_approved_and_billed(holding: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(holding, capsys)
    outside = Neighbourhood(holding.api_url, holding.marketplace_url, holding.console_url)
    purchase: str = outside.buy(PRODUCT, "111122223333")["id"]
    code = outside.register(purchase).rsplit("/", 1)[1]
    subscription_id: str = outside.claim(code, "acme")["subscription_id"]
    holding.advance(120)
    for number, quantity in enumerate((10, 12, 37)):
        record = {"id": f"r{number}", "subscription_id": subscription_id, "dimension": "api_calls"}
        outside.report([{**record, "quantity": quantity}])
        holding.advance(DAY if quantity != 37 else 2 * HOUR)

    (held,) = shell.json("approvals", "list", status=TROUBLE)["metering_records"]
    assert (held["quantity"], held["reason"], held["approval"]) == (37, "far_above_usual", "awaited")
    assert shell.json("status", status=TROUBLE)["states"]["awaiting_approval"]["units"] == 37
    (chain,) = shell.json("trace", "r2", status=TROUBLE)["chains"]
    assert chain["metering_record"]["state"] == "awaiting_approval"

    assert shell.json("approvals", "approve", subscription_id, "--yes")["changed"] is True
    holding.advance(HOUR)
    assert shell.run("approvals", "list") == FINE
    (chain,) = shell.json("trace", "r2")["chains"]
    assert (chain["metering_record"]["state"], chain["metering_record"]["quantity"]) == ("metered", 37)
    assert [int(entry["quantity"]) for entry in outside.ledger(purchase)] == [10, 12, 37]
