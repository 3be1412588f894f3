"""Moving from another meter on a whole system: compared in shadow, then the cut-over, and the bill is right."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from local.options import Options
from local.stack import Stack, running
from marketplace.platform.clock import HOUR, MINUTE, iso
from marketplace_saas_cli.exits import FINE, TROUBLE
from tests.local_stack.browser import Neighbourhood
from tests.local_stack.test_command_line import PRODUCT, Shell

BEGIN = int(datetime(2026, 11, 22, 12, 10, tzinfo=UTC).timestamp())
CUTOVER = int(datetime(2026, 11, 23, 0, 0, tzinfo=UTC).timestamp())


@pytest.fixture
def beside_another_meter() -> Iterator[Stack]:
    options = Options(
        clock=f"frozen:{iso(BEGIN)}",
        log=io.StringIO(),
        metering_rate=None,
        seed=1,
        parameters={"MeteringStartsAt": iso(CUTOVER)},
    )
    with running(options) as stack:
        yield stack


def test_a_seller_compares_then_cuts_over_and_every_unit_is_billed_once(
    beside_another_meter: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = beside_another_meter
    shell = Shell(stack, capsys)
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    purchase = outside.buy(PRODUCT, "111122223333")
    code = outside.register(purchase["id"]).rsplit("/", 1)[1]
    subscription_id = outside.claim(code, "acme")["subscription_id"]
    stack.advance(2 * MINUTE)
    license_arn = outside.get(f"/subscriptions/{subscription_id}")["license_arn"]
    earlier = boto3.client(
        "meteringmarketplace",
        region_name="us-east-1",
        endpoint_url=stack.marketplace_url,
        aws_access_key_id="OLDMETER",
        aws_secret_access_key="of-the-earlier-application",
    )

    def now() -> int:
        return int(stack.clock.timestamp())

    def used(number: int, quantity: int, *, sent: int | None = None) -> None:
        """An hour's usage, reported here, and sent by the earlier meter while it runs."""
        record = {"id": f"r{number}", "subscription_id": subscription_id, "dimension": "api_calls"}
        outside.report([{**record, "quantity": quantity, "timestamp": iso(now())}])
        if now() < CUTOVER:
            usage: Any = {
                "Timestamp": stack.clock.now(),
                "LicenseArn": license_arn,
                "CustomerAWSAccountId": "111122223333",
                "Dimension": "api_calls",
                "Quantity": quantity if sent is None else sent,
            }
            earlier.batch_meter_usage(UsageRecords=[usage])

    for number in range(4):
        used(number, 100 + number, sent=90 if number == 2 else None)
        stack.advance(HOUR)
    stack.advance(3 * HOUR)
    shown = shell.json("shadow", status=TROUBLE)
    assert (shown["metering_starts_at"], shown["compared"]) == (iso(CUTOVER), 4)
    ((differs),) = shown["differences"]
    assert (differs["kind"], differs["ours"], differs["theirs"], differs["units"]) == ("other_quantity", 102, 90, -12)
    assert [(day["day"], day["ours"], day["theirs"]) for day in shown["days"]][-1] == ("2026-11-22", 406, 394)

    while now() < CUTOVER:
        stack.advance(HOUR)
    used(4, 7)
    stack.advance(HOUR)
    used(5, 8)
    stack.advance(2 * HOUR)
    billed = [int(entry["quantity"]) for entry in outside.ledger(purchase["id"])]
    assert sorted(billed) == [7, 8, 90, 100, 101, 103]
    assert shell.run("status") == FINE
    assert shell.run("reconcile", "--from", iso(CUTOVER), "--to", iso(CUTOVER + 2 * HOUR)) == FINE
    statement = shell.json("statement", subscription_id, "--month", "2026-11")
    assert [(total["recorded"], total["shadow"], total["metered"]) for total in statement["totals"]] == [(421, 406, 15)]
