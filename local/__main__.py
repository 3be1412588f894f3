"""`python -m local`: the whole system on this machine, until Ctrl-C."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from local.options import TEMPLATE, Options, StackError
from local.stack import Stack, running
from local.template import TemplateError

API_PORT, CONSOLE_PORT, EMULATOR_PORT, MOTO_PORT = 8080, 8081, 4599, 4566


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m local", description="The whole system on this machine; Ctrl-C ends all of it."
    )
    for name, default, what in (
        ("--port", API_PORT, "the HTTP API"),
        ("--console-port", CONSOLE_PORT, "the console, which plays your application"),
        ("--emulator-port", EMULATOR_PORT, "AWS Marketplace"),
        ("--moto-port", MOTO_PORT, "DynamoDB, SQS and EventBridge"),
    ):
        options.add_argument(name, type=int, default=default, help=f"for {what}; 0 takes any free one ({default})")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    options.add_argument("--clock", default="real", help="real, or frozen:2026-11-22T10:00:00Z")
    options.add_argument("--sign-up", choices=("page", "console"), default="page", help="where a registered buyer goes")
    options.add_argument("--license-delay", type=float, default=5, help="seconds from a purchase to its licence (5)")
    options.add_argument("--template", type=Path, default=TEMPLATE, help="another template.yaml")
    options.add_argument(
        "--parameter", action="append", default=[], metavar="KEY=VALUE", help="a template parameter; repeatable"
    )
    options.add_argument("--log", type=Path, help="file for the functions' log (standard error)")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; answers the exit code."""
    given = parser().parse_args(arguments)
    parameters = dict(pair.partition("=")[::2] for pair in given.parameter)
    if not all("=" in pair for pair in given.parameter):
        print("local: a --parameter is KEY=VALUE", file=sys.stderr)
        return 2
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _end(ended))
    try:
        log = sys.stderr if given.log is None else given.log.open("a", encoding="utf-8")
    except OSError as error:
        print(f"local: {error}", file=sys.stderr)
        return 2
    options = Options(
        template=given.template,
        parameters=parameters,
        host=given.host,
        api_port=given.port,
        console_port=given.console_port,
        marketplace_port=given.emulator_port,
        aws_port=given.moto_port,
        clock=given.clock,
        sign_up=given.sign_up,
        license_delay=given.license_delay,
        log=log,
    )
    try:
        with running(options) as stack:
            print(welcome(stack), flush=True)
            ended.wait()
            stack.stop()
    except (StackError, TemplateError, RuntimeError) as error:
        print(f"local: {error}", file=sys.stderr)
        return 1
    return 0


def _end(ended: threading.Event) -> None:
    """End the stack in order at the first signal, and the process at once at another one."""
    if ended.is_set():
        os._exit(130)
    ended.set()


def welcome(stack: Stack) -> str:
    """What to open, and what to do first."""
    return f"""
  AWS Marketplace    {stack.marketplace_url:<28} buy, change, cancel; move the clock; read the bill
  Your application   {stack.console_url:<28} sign buyers up, report usage, see it metered
  The API            {stack.api_url:<28} /register for buyers, the seller API beside it
  DynamoDB and SQS   {stack.aws_url:<28} for example: aws dynamodb list-tables --endpoint-url {stack.aws_url}

  First: buy a product on {stack.marketplace_url} and choose "Set up your account".
  Routes that ask for AWS_IAM take unsigned calls here. The functions' log follows; Ctrl-C ends everything.
"""


if __name__ == "__main__":
    # The servers' threads may still handle requests, and the interpreter would wait for some of them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
