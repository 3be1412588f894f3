"""A month of customers is made by purchases, reports and runs like any other, and every unit of it is on the bill."""

from __future__ import annotations

import io

import pytest

from local import demo
from local import stack as local_stack
from local.options import Options, StackError
from tests.local_stack.browser import Neighbourhood

NOON = "2026-11-25T12:10:00Z"
HOUR = 3600


def test_every_reported_unit_of_the_demo_is_on_the_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DAYS", 4)
    log = io.StringIO()
    said: list[str] = []
    with local_stack.running(Options(clock=f"frozen:{NOON}", log=log)) as stack:
        before = stack.clock.timestamp()
        demo.play(stack, said.append)
        assert stack.clock.timestamp() == before
        stack.advance(2 * HOUR)

        neighbourhood = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
        subscriptions = neighbourhood.get("/subscriptions?status=active")["subscriptions"]
        assert {one.get("tenant_id") for one in subscriptions} == {"acme", "globex", "initech"}
        usage = [
            record
            for one in subscriptions
            for record in neighbourhood.get(
                f"/subscriptions/{one['subscription_id']}/usage?from=2026-11-21T12:00:00Z&limit=500"
            )["metering_records"]
        ]
        assert usage
        assert {record["state"] for record in usage} == {"metered"}
        billed = sum(line.quantity for line in stack.marketplace.ledger.bill())
        assert billed == sum(record["quantity"] for record in usage)
        assert "ERROR" not in log.getvalue()
        with pytest.raises(StackError, match="there are purchases already"):
            demo.play(stack, said.append)
    assert said[0].startswith("Playing a month")
    assert "on the bill" in said[-1]
