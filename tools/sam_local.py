"""What `sam local` functions talk to: DynamoDB, SQS, EventBridge and AWS Marketplace, on this machine.

    python -m tools.sam_local [--dynamodb-port 8000] [--aws-port 5000] [--marketplace-port 4599]
    python -m tools.sam_local --only-env-json      only writes events/env.json for servers that run elsewhere

Starts AWS's DynamoDB Local (moto where there is no Java), moto for SQS and EventBridge, and the emulator; makes the
tables from template.yaml, the queue and the bus; writes events/env.json, which tells the functions where all of it is.
The servers listen on every interface, because a container reaches this machine by another address than 127.0.0.1.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

from tools import dynamodb_local
from tools.template import ROOT, create_table_arguments

ENV_JSON = ROOT / "events" / "env.json"
EVERY_INTERFACE = "0.0.0.0"  # noqa: S104  a container reaches this machine by an address other than 127.0.0.1
SEEN_BY_CONTAINERS = "host.docker.internal"
SUBSCRIPTIONS_TABLE, USAGE_TABLE, QUEUE, BUS = "subscriptions", "usage", "notifications", "marketplace-saas"
ACCOUNT = "123456789012"
EMULATED_PRODUCTS = ("ca1contractandconsumption", "ca2payasyougoproduct00000", "legacysubscriptionproduct")
SAMPLE_PRODUCTS = ("examplecode00000000000000",)
STARTUP_SECONDS = 60
STOP_SECONDS = 5


@dataclass(frozen=True)
class Servers:
    """Where the three servers are: AWS's DynamoDB Local, moto (SQS and EventBridge), and the emulator."""

    dynamodb: int
    aws: int
    marketplace: int
    host: str = "127.0.0.1"

    def url(self, port: int, host: str | None = None) -> str:
        """Answer the address of one server, as this machine or as a container sees it."""
        return f"http://{host or self.host}:{port}"


def variables(servers: Servers, host: str = SEEN_BY_CONTAINERS) -> dict[str, str]:
    """Answer what differs, in the functions' environment, from the template's defaults."""
    dynamodb, aws, marketplace = (
        servers.url(port, host) for port in (servers.dynamodb, servers.aws, servers.marketplace)
    )
    return {
        "STAGE": "local",
        "SUBSCRIPTIONS_TABLE": SUBSCRIPTIONS_TABLE,
        "USAGE_TABLE": USAGE_TABLE,
        "EVENT_BUS_NAME": BUS,
        "NOTIFICATION_QUEUE_URL": f"{aws}/{ACCOUNT}/{QUEUE}",
        "PRODUCT_CODES": ",".join(EMULATED_PRODUCTS + SAMPLE_PRODUCTS),
        "SUPPORT_CONTACT": "help@seller.example",
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
        "AWS_ENDPOINT_URL_SQS": aws,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": aws,
        "AWS_ENDPOINT_URL_MARKETPLACE_METERING": marketplace,
        "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE": marketplace,
        "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT": marketplace,
    }


def write_env_json(servers: Servers, path: Path = ENV_JSON) -> None:
    """Write what `sam local --env-vars` reads: one set of variables for all functions."""
    path.write_text(json.dumps({"Parameters": variables(servers)}, indent=2) + "\n")


@contextmanager
def running(servers: Servers) -> Iterator[Servers]:
    """Run all servers, with the tables, the queue and the bus, for the length of a `with` block."""
    with ExitStack() as stack:
        moto = [sys.executable, "-m", "moto.server", "--host", EVERY_INTERFACE, "--port", str(servers.aws)]
        stack.enter_context(_server(moto, servers.aws))
        if servers.dynamodb != servers.aws:
            stack.enter_context(dynamodb_local.running(servers.dynamodb))
        _furnish(servers)
        emulator = [
            *(sys.executable, "-m", "marketplace_emulator", "--host", EVERY_INTERFACE),
            *("--port", str(servers.marketplace)),
            *("--queue-url", f"{servers.url(servers.aws)}/{ACCOUNT}/{QUEUE}"),
        ]
        stack.enter_context(_server(emulator, servers.marketplace))
        yield servers


@contextmanager
def _server(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT / "emulator")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not _listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start on port {port}: {' '.join(command)}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _furnish(servers: Servers) -> None:
    """Make the tables, the queue and the bus."""
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
    aws = servers.url(servers.aws)
    with closing(session.client("dynamodb", endpoint_url=servers.url(servers.dynamodb))) as dynamodb:
        dynamodb.create_table(**create_table_arguments("SubscriptionsTable", SUBSCRIPTIONS_TABLE))
        dynamodb.create_table(**create_table_arguments("UsageTable", USAGE_TABLE))
    with closing(session.client("sqs", endpoint_url=aws)) as sqs:
        sqs.create_queue(QueueName=QUEUE)
    with closing(session.client("events", endpoint_url=aws)) as events:
        events.create_event_bus(Name=BUS)


def main() -> None:
    """Run the servers in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="Run what sam local's functions talk to.")
    parser.add_argument("--dynamodb-port", type=int, default=8000)
    parser.add_argument("--aws-port", type=int, default=5000)
    parser.add_argument("--marketplace-port", type=int, default=4599)
    parser.add_argument("--only-env-json", action="store_true", help="start nothing, write events/env.json alone")
    given = parser.parse_args()
    dynamodb_port = given.dynamodb_port
    if not given.only_env_json and (lacking := dynamodb_local.missing()):
        print(f"DynamoDB Local {lacking}; moto takes its place.")
        dynamodb_port = given.aws_port
    servers = Servers(dynamodb=dynamodb_port, aws=given.aws_port, marketplace=given.marketplace_port)
    write_env_json(servers)
    print(f"Wrote {ENV_JSON.relative_to(ROOT)}", flush=True)
    if given.only_env_json:
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with running(servers):
            print(f"DynamoDB            {servers.url(servers.dynamodb)}")
            print(f"SQS, EventBridge    {servers.url(servers.aws)}")
            print(f"AWS Marketplace     {servers.url(servers.marketplace)}  (buy here)")
            print("Ready for: sam local invoke, sam local start-api. Ctrl-C ends it.", flush=True)
            stop.wait()
    except (RuntimeError, dynamodb_local.DynamoDBLocalError) as error:
        sys.exit(f"sam-local: {error}")


if __name__ == "__main__":
    main()
