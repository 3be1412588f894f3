"""What the stack makes of a template that says something else, and of what can't be started."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from local import stack as local_stack
from local.options import Options, StackError
from tests.local_stack.browser import call, lines

NOON = "2026-11-22T12:10:00Z"
METERING_SCHEDULE = "cron(5/15 * * * ? *)"
HOUR = 3600


def test_a_function_that_fails_is_an_error_500_and_its_traceback_is_in_the_log(
    tmp_path: Path, changed: Callable[..., Path]
) -> None:
    broken = tmp_path / "functions" / "broken"
    broken.mkdir(parents=True)
    (broken / "app.py").write_text("def lambda_handler(event, context):\n    raise ValueError('no')\n")
    template = changed(("CodeUri: functions/seller_api/", f"CodeUri: {broken}"))
    log = io.StringIO()
    with local_stack.running(Options(template=template, log=log)) as stack:
        answer = call("GET", f"{stack.api_url}/subscriptions?status=active")

    assert (answer.status, answer.json()) == (500, {"message": "Internal Server Error"})
    assert lines(log, "SellerApi", "Traceback")
    assert lines(log, "SellerApi", "ERROR ValueError: no")


def test_the_stack_follows_a_changed_template(changed: Callable[..., Path]) -> None:
    template = changed(
        ("Method: GET, Path: /register }", "Method: GET, Path: /hello }"),
        ("/register\n", "/buyers\n"),
        ("source: [aws.agreement-marketplace]", "source: [nobody]"),
        (METERING_SCHEDULE, "rate(30 minutes)"),
    )
    log = io.StringIO()
    options = Options(template=template, clock=f"frozen:{NOON}", log=log, log_all=True)
    with local_stack.running(options) as stack:
        assert call("GET", f"{stack.api_url}/register").status == 404
        # The function knows its routes itself; that it is asked at all is the template's doing.
        assert call("GET", f"{stack.api_url}/hello").headers["content-type"].startswith("text/html")
        assert stack.marketplace.settings.fulfilment_url == f"{stack.api_url}/buyers"
        stack.marketplace.purchases.subscribe("ca2payasyougoproduct00000")
        stack.advance(HOUR)
        assert [line[:8] for line in lines(log, "metering run")] == ["12:40:00", "13:10:00"]
        assert lines(log, "EntitlementCheck", "title=") == []  # no notification came


def test_one_s_own_parameters_come_first() -> None:
    with local_stack.running(Options(parameters={"ProductCodes": "other"}, sign_up="console", seed=1)) as stack:
        environment = stack.deployment.functions["ResolveCustomerFunction"].environment

        assert environment["PRODUCT_CODES"] == "other"
        assert environment["SIGN_UP_URL"] == f"{stack.console_url}/sign-up"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (Options(clock="sundial"), "sundial"),
        (Options(clock="frozen:soon"), "soon"),
    ],
)
def test_what_can_t_be_started_says_so(options: Options, complaint: str) -> None:
    with pytest.raises(StackError, match=complaint), local_stack.running(options):
        pass


def test_a_schedule_that_can_t_be_played_is_named(changed: Callable[..., Path]) -> None:
    template = changed((METERING_SCHEDULE, "cron(0 0 L * ? *)"))
    with pytest.raises(StackError, match="MeterUsageSchedule"), local_stack.running(Options(template=template)):
        pass


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for options, who in ((Options(api_port=port), "the API"), (Options(aws_port=port), "moto")):
            with pytest.raises(StackError, match=f"port {port} for {who}"), local_stack.running(options):
                pass


def test_a_process_runs_one_stack_at_a_time() -> None:
    with (
        local_stack.running(Options()),
        pytest.raises(StackError, match="one stack at a time"),
        local_stack.running(Options()),
    ):
        pass
