"""A whole system whose product another account published: the functions assume its role at moto's STS."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from local import stack as local_stack
from local.options import Options
from tests.local_stack.browser import Neighbourhood
from tests.local_stack.conftest import NOON
from tests.support.log_scan import FORBIDDEN
from tests.support.seller_account import ACCOUNT, EXTERNAL_ID, ROLE

CONTRACT = "ca1contractandconsumption"
MINUTE, HOUR = 60, 3600


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def stack(log: io.StringIO) -> Iterator[local_stack.Stack]:
    given = {
        "SellerRoleArn": ROLE,
        "SellerRoleExternalId": EXTERNAL_ID,
        "LegacyProductCodes": "",
        "LegacyContractProductCodes": "",
    }
    options = Options(clock=f"frozen:{NOON}", log=log, log_all=True, metering_rate=None, parameters=given)
    with local_stack.running(options) as running:
        yield running


def test_a_buyer_registers_and_their_usage_is_metered_as_the_seller(
    stack: local_stack.Stack, neighbourhood: Neighbourhood, log: io.StringIO
) -> None:
    bought = neighbourhood.buy(CONTRACT, "111122223333", entitlements={"seats": 10})
    neighbourhood.advance(2 * MINUTE)
    landing = neighbourhood.register(bought["id"])
    claimed = neighbourhood.claim(landing.rsplit("/", 1)[1], "acme")
    stack.settle()
    when: datetime = stack.clock.now()
    record = {
        "id": "r-1",
        "subscription_id": claimed["subscription_id"],
        "dimension": "api_calls",
        "quantity": 7,
        "timestamp": when.isoformat(),
    }
    (result,) = neighbourhood.report([record])
    assert result["status"] == "recorded"
    for _ in range(3):  # longer than credentials last
        neighbourhood.advance(HOUR)
    assert sum(line["quantity"] for line in neighbourhood.ledger(bought["id"])) == 7
    lines = log.getvalue().splitlines()
    for function in ("ResolveCustomer", "SellerApi", "EntitlementCheck", "MeterUsage"):
        assumed = [line for line in lines if f"  {function} " in line and "seller role assumed" in line]
        assert assumed, function
        assert all(f"seller_account={ACCOUNT}" in line for line in assumed)
    assert not [line for line in lines if "not assumed" in line or "Traceback" in line]
    for line in lines:  # of processes that tests/support/log_scan.py does not see
        text = re.sub(r"(seller_account|session)=\S+|\w+Seconds=", "", line)
        assert [what for what, pattern in FORBIDDEN.items() if pattern.search(text)] == [], line
