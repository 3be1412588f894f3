"""The command line of `python -m local`, and what it prints."""

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn

from local import exports
from local.options import TEMPLATE, Options
from local.stack import Stack

API_PORT, CONSOLE_PORT, EMULATOR_PORT, MOTO_PORT = 8080, 8081, 4599, 4566


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, without the usage."""
        self.exit(2, f"{self.prog.removeprefix('python -m ')}: {message} (--help lists the options)\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = _Parser(prog="python -m local", description="The whole system on this machine; Ctrl-C ends all of it.")
    for name, default, what in (
        ("--port", API_PORT, "the HTTP API"),
        ("--console-port", CONSOLE_PORT, "the console, which plays your application"),
        ("--emulator-port", EMULATOR_PORT, "AWS Marketplace"),
        ("--moto-port", MOTO_PORT, "DynamoDB, SQS, EventBridge and S3"),
    ):
        options.add_argument(name, type=port, default=default, help=f"for {what}; 0 takes any free one ({default})")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    options.add_argument("--keep", type=Path, metavar="DIR", help="folder to keep the state in; without it all is lost")
    options.add_argument("--demo", action="store_true", help="begin with a month of a seller with a few customers")
    options.add_argument(
        "--require-signature", action="store_true", help="refuse unsigned calls to the seller API, as AWS does"
    )
    options.add_argument("--clock", default="real", help="real, or frozen:2026-11-22T10:00:00Z")
    options.add_argument("--sign-up", choices=("page", "console"), default="page", help="where a registered buyer goes")
    options.add_argument("--license-delay", type=seconds, default=5, help="seconds from a purchase to its licence (5)")
    options.add_argument("--template", type=Path, default=TEMPLATE, help="another template.yaml")
    options.add_argument(
        "--parameter",
        action="append",
        type=parameter,
        default=[],
        metavar="KEY=VALUE",
        help="a template parameter; repeatable",
    )
    options.add_argument("--log", type=Path, help="file for the functions' log (standard error)")
    options.add_argument("--log-all", action="store_true", help="log every run that finds nothing to do as well")
    return options


def options(given: argparse.Namespace) -> Options:
    """What a command line asks for. Raises OSError when the log can't be written."""
    return Options(
        template=given.template,
        parameters=dict(given.parameter),
        host=given.host,
        api_port=given.port,
        console_port=given.console_port,
        marketplace_port=given.emulator_port,
        aws_port=given.moto_port,
        clock=given.clock,
        sign_up=given.sign_up,
        license_delay=given.license_delay,
        log=sys.stderr if given.log is None else given.log.open("a", encoding="utf-8"),
        keep=given.keep,
        require_signature=given.require_signature,
        log_all=given.log_all,
    )


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; ports are from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 on")
    return value


def parameter(text: str) -> tuple[str, str]:
    """A template parameter and its value."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    return name, value


def welcome(stack: Stack) -> str:
    """What to open, what to do first, and what a shell needs."""
    given = exports.variables(stack.aws_url, stack.marketplace_url, stack.deployment.stack_name, stack.outputs)
    kept = f"The state is kept in {stack.options.keep}." if stack.options.keep else _LOST
    calls = (
        "Calls of the seller API are refused unless they are signed with these credentials."
        if stack.options.require_signature
        else "The seller API takes unsigned calls as well; --require-signature refuses them, as AWS does."
    )
    clock = (
        "\n  The clock stands still, and so does everything that waits for a time. Move it, or let it run:"
        f"\n  curl -s {stack.marketplace_url}/admin/clock -d '{{\"run\": true}}'\n"
        if stack.clock.is_frozen
        else ""
    )
    news = f"\n  {stack.kept.news}\n" if stack.kept is not None and stack.kept.news else ""
    return f"""
  AWS Marketplace    {stack.marketplace_url:<28} buy, change, cancel; move the clock; read the bill
  Your application   {stack.console_url:<28} sign buyers up, report usage, see it metered
  The API            {stack.api_url:<28} /register for buyers, the seller API beside it
  DynamoDB and SQS   {stack.aws_url:<28} the tables, the queues, the bus
{news}{clock}
  First: buy a product on {stack.marketplace_url} and choose "Set up your account".

  In another shell, so that the commands of docs/operations.md and docs/integration.md work here:
{"\n".join(exports.lines(given))}

  {calls}
  {kept}
  The functions' log follows; Ctrl-C ends everything.
"""


def farewell(given: Options) -> str:
    """What became of the state."""
    return f"Stopped. {f'The state is kept in {given.keep}.' if given.keep else 'The state is lost.'}"


_LOST = 'The state is lost when this ends; --keep DIR keeps it (make run ARGS="--keep DIR").'
