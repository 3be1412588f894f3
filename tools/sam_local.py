"""What `sam local` functions talk to: DynamoDB, SQS, EventBridge and AWS Marketplace, on this machine.

    python -m tools.sam_local [--dynamodb-port 8000] [--aws-port 5000] [--marketplace-port 4599]
    python -m tools.sam_local --only-env-json      only writes events/env.json for servers that run elsewhere

The servers are those of `python -m local` without its functions and its console, with AWS's DynamoDB Local (moto where
there is no Java). template.yaml says which tables, queues and buses they hold. events/env.json tells the functions
where they are. The servers listen on every interface, because a container reaches this machine by another address than
127.0.0.1.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from rich.console import Console

from local.clock import StackClock
from local.deployment import REGION, Deployment
from local.options import ROOT, Options, StackError
from local.servers import Servers, deployment, endpoint_variables, marketplace
from marketplace_emulator import Marketplace
from tools import dynamodb_local

ENV_JSON = ROOT / "events" / "env.json"
EVERY_INTERFACE = "0.0.0.0"  # noqa: S104  a container reaches this machine by an address other than 127.0.0.1
SEEN_BY_CONTAINERS = "host.docker.internal"
SAMPLE_PRODUCTS = ("examplecode00000000000000",)
"""Product codes of the sample events that AWS Marketplace's emulator does not sell."""

FROM_TEMPLATE = (
    *("STAGE", "SUBSCRIPTIONS_TABLE", "USAGE_TABLE", "EVENT_BUS_NAME", "NOTIFICATION_QUEUE_URL"),
    *("READ_BACK_QUEUE_URL", "METERING_QUEUE_URL", "PRODUCT_CODES", "PRODUCT_TITLES", "SUPPORT_CONTACT"),
)
"""The functions' variables that env.json sets, beside the addresses of the servers. The others keep what
`sam local --parameter-overrides` or the template's defaults give them."""


@dataclass(frozen=True)
class Ports:
    """Where the three servers are: AWS's DynamoDB Local, moto (SQS and EventBridge; DynamoDB too where both ports are
    the same), and AWS Marketplace."""

    dynamodb: int
    aws: int
    marketplace: int

    def urls(self, host: str = "127.0.0.1") -> tuple[str, str, str]:
        """The three addresses, as this machine or as a container sees them."""
        dynamodb, aws, marketplace = (f"http://{host}:{port}" for port in (self.dynamodb, self.aws, self.marketplace))
        return dynamodb, aws, marketplace

    @property
    def options(self) -> Options:
        """What `local` is started with."""
        return Options(host=EVERY_INTERFACE, aws_port=self.aws, marketplace_port=self.marketplace)


def write_env_json(ports: Ports, path: Path = ENV_JSON) -> None:
    """Write what `sam local --env-vars` reads: one set of variables for all functions."""
    seen = ports.urls(SEEN_BY_CONTAINERS)
    market = marketplace(ports.options, StackClock())
    made = deployment(ports.options, market, _parameters(market), sqs_endpoint=seen[1])
    environment = next(iter(made.functions.values())).environment
    variables = {name: environment[name] for name in FROM_TEMPLATE}
    variables |= {name: url for name, url in endpoint_variables(*seen).items() if name in environment}
    variables["MARKETPLACE_CONSOLE_URL"] = f"{ports.urls()[2]}/#purchases"  # for a browser on this machine
    path.write_text(json.dumps({"Parameters": variables}, indent=2) + "\n")


@contextmanager
def running(ports: Ports) -> Iterator[Deployment]:
    """Run all servers for the length of a `with` block, which gets what they hold. Raises StackError or
    dynamodb_local.DynamoDBLocalError."""
    with ExitStack() as cleanup:
        dynamodb = None
        if ports.dynamodb != ports.aws:
            endpoint = cleanup.enter_context(dynamodb_local.running(ports.dynamodb))
            session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
            dynamodb = cleanup.enter_context(closing(session.client("dynamodb", endpoint_url=endpoint)))
        servers = Servers(ports.options, cleanup)
        servers.deploy(_parameters(servers.marketplace), dynamodb)
        servers.start_delivery(cleanup)
        yield servers.deployment


def _parameters(market: Marketplace) -> dict[str, str]:
    codes = (*(product.code for product in market.registry.products.values()), *SAMPLE_PRODUCTS)
    return {"ProductCodes": ",".join(codes), "SupportContact": "help@seller.example"}


def main() -> None:
    """Run the servers in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="Run what sam local's functions talk to.")
    parser.add_argument("--dynamodb-port", type=int, default=8000)
    parser.add_argument("--aws-port", "--moto-port", type=int, default=5000)
    parser.add_argument("--marketplace-port", "--emulator-port", type=int, default=4599)
    parser.add_argument("--only-env-json", action="store_true", help="start nothing, write events/env.json alone")
    given = parser.parse_args()
    dynamodb_port = given.dynamodb_port
    if not given.only_env_json and (lacking := dynamodb_local.missing()):
        print(f"DynamoDB Local {lacking}; moto takes its place.")
        dynamodb_port = given.aws_port
    ports = Ports(dynamodb=dynamodb_port, aws=given.aws_port, marketplace=given.marketplace_port)
    write_env_json(ports)
    print(f"Wrote {ENV_JSON.relative_to(ROOT)}", flush=True)
    if given.only_env_json:
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as cleanup:
            with Console(stderr=True).status("Starting DynamoDB, SQS, EventBridge and AWS Marketplace"):
                cleanup.enter_context(running(ports))
            dynamodb, aws, market = ports.urls()
            print(f"DynamoDB            {dynamodb}")
            print(f"SQS, EventBridge    {aws}")
            print(f"AWS Marketplace     {market}  (buy here)")
            print("Ready for: sam local invoke, sam local start-api. Ctrl-C ends it.", flush=True)
            stop.wait()
    except (StackError, dynamodb_local.DynamoDBLocalError) as error:
        sys.exit(f"sam-local: {error}")


if __name__ == "__main__":
    main()
