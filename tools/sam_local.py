"""What `sam local` functions talk to: DynamoDB, SQS, EventBridge and AWS Marketplace, on this machine.

    python -m tools.sam_local [--dynamodb-port 8000] [--aws-port 4566] [--marketplace-port 4599]
    python -m tools.sam_local --only-env-json      only writes events/env.json for servers that run elsewhere

The servers are those of `python -m local` without its API and its console, with AWS's DynamoDB Local (moto where there
is no Java). template.yaml says which tables, queues and buses they hold. What no `sam local` command does, the
functions of the source do here: they take the messages of the queues, and run by the schedules. events/env.json tells
the functions in containers where the servers are.
"""

import argparse
import errno
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import boto3
from rich.console import Console

from local import command
from local.clock import StackClock
from local.deployment import REGION
from local.options import ROOT, Options, StackError
from local.servers import deployment, endpoint_variables, marketplace
from local.template_yaml import TemplateError
from local.workers import Workers
from marketplace_emulator import Marketplace
from tools import dynamodb_local

ENV_JSON = ROOT / "events" / "env.json"
EVERY_INTERFACE = "0.0.0.0"  # noqa: S104  a container reaches this machine by an address other than 127.0.0.1
SEEN_BY_CONTAINERS = "host.docker.internal"
START_API = "http://127.0.0.1:3000"
"""Where `sam local start-api` listens unless it is told otherwise."""
SAMPLE_PRODUCT = {
    "code": "examplecode00000000000000",
    "id": "prod-abcdefghijklm",
    "title": "The product of the sample events",
    "integration": "license",
    "pricing": "contract_with_consumption",
    "dimensions": [
        {"key": "seats", "type": "entitlement", "price": "120.00", "unit": "seat a year"},
        {"key": "api_calls", "type": "usage", "price": "0.002", "unit": "call"},
        {"key": "users", "type": "usage", "price": "0.05", "unit": "user-hour"},
    ],
}
SAMPLE_LICENSE = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"
"""The licence of the subscription that the files in events/ name. AWS Marketplace sells it when this starts, so that
they find it."""

FROM_TEMPLATE = (
    *("STAGE", "SUBSCRIPTIONS_TABLE", "USAGE_TABLE", "EVENT_BUS_NAME", "NOTIFICATION_QUEUE_URL"),
    *("READ_BACK_QUEUE_URL", "METERING_QUEUE_URL", "PRODUCT_CODES", "PRODUCT_TITLES", "SUPPORT_CONTACT"),
)
"""The functions' variables that env.json sets, beside the addresses of the servers. The others keep what
`sam local --parameter-overrides` or the template's defaults give them."""


@dataclass(frozen=True)
class Ports:
    """Where the three servers are: AWS's DynamoDB Local, moto (SQS and EventBridge; DynamoDB too where both ports are
    the same), and AWS Marketplace. `host`: the address that they listen on."""

    dynamodb: int
    aws: int
    marketplace: int
    host: str = EVERY_INTERFACE

    def urls(self, host: str = "127.0.0.1") -> tuple[str, str, str]:
        """The three addresses, as this machine or as a container sees them."""
        dynamodb, aws, marketplace = (f"http://{host}:{port}" for port in (self.dynamodb, self.aws, self.marketplace))
        return dynamodb, aws, marketplace

    def options(self, log: TextIO | None = None) -> Options:
        """What `local` is started with."""
        return Options(
            host=self.host, aws_port=self.aws, marketplace_port=self.marketplace, license_delay=5, log=log, log_all=True
        )

    def refuse_taken(self) -> None:
        """Raises StackError when somebody else listens on one of the ports."""
        for name in ("dynamodb", "aws", "marketplace"):
            port = getattr(self, name)
            if port == 0:
                raise StackError(f"--{name}-port is a fixed one, which events/env.json names; 0 is none")
            try:
                socket.create_server((self.host, port)).close()
            except OSError as error:
                reason = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
                raise StackError(f"port {port} {reason}; choose another with --{name}-port") from error


def write_env_json(ports: Ports, path: Path = ENV_JSON) -> None:
    """Write what `sam local --env-vars` reads: one set of variables for all functions."""
    seen = ports.urls(SEEN_BY_CONTAINERS)
    market = marketplace(ports.options(), StackClock())
    made = deployment(ports.options(), market, _parameters(market), sqs_endpoint=seen[1])
    environment = next(iter(made.functions.values())).environment
    variables = {name: environment[name] for name in FROM_TEMPLATE}
    variables |= {name: url for name, url in endpoint_variables(*seen).items() if name in environment}
    variables["MARKETPLACE_CONSOLE_URL"] = f"{ports.urls()[2]}/#purchases"  # for a browser on this machine
    path.write_text(json.dumps({"Parameters": variables}, indent=2) + "\n")


@contextmanager
def running(ports: Ports, *, works: bool = True, api: str = START_API, log: TextIO | None = None) -> Iterator[Workers]:
    """Run all servers for the length of a `with` block, which gets them. `works`: whether the queues and the schedules
    are worked. `api`: where the API is, for "Set up your account". Raises StackError or
    dynamodb_local.DynamoDBLocalError."""
    ports.refuse_taken()
    with ExitStack() as cleanup:
        dynamodb, (dynamodb_url, aws_url, marketplace_url) = None, ports.urls()
        if ports.dynamodb != ports.aws:
            cleanup.enter_context(dynamodb_local.running(ports.dynamodb))
            session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
            dynamodb = cleanup.enter_context(closing(session.client("dynamodb", endpoint_url=dynamodb_url)))
        workers = Workers(ports.options(log), cleanup)
        workers.deploy(_parameters(workers.marketplace), dynamodb)
        fulfilment_url = f"{api}{workers.deployment.fulfilment_path}"
        workers.marketplace.settings.update({"fulfilment_url": fulfilment_url})
        workers.start_functions(endpoint_variables(dynamodb_url, aws_url, marketplace_url), cleanup)
        if works:
            workers.start_work(cleanup)
            sample = {"entitlements": {"seats": 25}, "license_arn": SAMPLE_LICENSE, "provision": True}
            workers.marketplace.purchases.subscribe(SAMPLE_PRODUCT["code"], **sample)  # type: ignore[arg-type]
            workers.advance(2)  # an event of this second may lie ahead of the clock by a part of it
        else:
            workers.start_delivery(cleanup)
        yield workers


def _parameters(market: Marketplace) -> dict[str, str]:
    market.registry.add_product(dict(SAMPLE_PRODUCT))
    codes = (product.code for product in market.registry.products.values())
    return {"ProductCodes": ",".join(codes), "SupportContact": "help@seller.example"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="sam-local", description="Run what sam local's functions talk to.")
    options.add_argument("--dynamodb-port", type=command.port, default=8000)
    options.add_argument("--aws-port", "--moto-port", type=command.port, default=4566)
    options.add_argument("--marketplace-port", "--emulator-port", type=command.port, default=4599)
    options.add_argument("--host", default=EVERY_INTERFACE, help=f"address to listen on ({EVERY_INTERFACE})")
    options.add_argument("--api", default=START_API, help=f"where sam local start-api listens ({START_API})")
    options.add_argument("--only-env-json", action="store_true", help="start nothing, write events/env.json alone")
    return options


def main() -> None:
    """Run the servers in the foreground until interrupted."""
    given = parser().parse_args()
    dynamodb_port = given.dynamodb_port
    if not given.only_env_json and (lacking := dynamodb_local.missing()):
        print(f"DynamoDB Local {lacking}; moto takes its place.")
        dynamodb_port = given.aws_port
    ports = Ports(dynamodb=dynamodb_port, aws=given.aws_port, marketplace=given.marketplace_port, host=given.host)
    if given.only_env_json:
        write_env_json(ports)
        print(f"Wrote {ENV_JSON.relative_to(ROOT)}", flush=True)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as cleanup:
            with Console(stderr=True).status("Starting DynamoDB, SQS, EventBridge and AWS Marketplace"):
                workers = cleanup.enter_context(running(ports, api=given.api, log=sys.stderr))
            write_env_json(ports)
            print(welcome(ports, given.api), flush=True)
            stop.wait()
            workers.stop()
    except (StackError, TemplateError, RuntimeError, dynamodb_local.DynamoDBLocalError) as error:
        sys.exit(f"sam-local: {error}")


def welcome(ports: Ports, api: str) -> str:
    """Where everything is, who can reach it, and what to do."""
    dynamodb, aws, market = ports.urls(ports.host)
    reach = (
        "They listen on every interface, because a container reaches this machine by an address other than 127.0.0.1:"
        "\n  whoever reaches this machine over the network reaches them. --host names one address."
        if ports.host == EVERY_INTERFACE
        else "Containers reach them only if host.docker.internal leads to that address. DynamoDB Local always listens"
        "\n  on every interface."
    )
    shown = ports.urls()[2] if ports.host == EVERY_INTERFACE else market
    return f"""
  DynamoDB            {dynamodb}
  SQS, EventBridge    {aws}
  AWS Marketplace     {market}    buy here: {shown}

  {reach}
  Wrote {ENV_JSON.relative_to(ROOT)}. Ready for: sam local invoke, sam local start-api (expected on {api}).
  The subscription of the sample events is active. Messages of the queues and the schedules are worked here, by the
  functions of the source; their log follows. The state is lost when this ends. Ctrl-C ends it.
"""


if __name__ == "__main__":
    main()
