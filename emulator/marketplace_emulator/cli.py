"""The command `marketplace-emulator`."""

import argparse
import signal
import sys
from pathlib import Path
from threading import Event

from marketplace_emulator.catalog import load_products
from marketplace_emulator.clock import Clock
from marketplace_emulator.delivery import parse_target
from marketplace_emulator.errors import AdminError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.server import serve
from marketplace_emulator.settings import Settings

DEFAULT_PORT = 4599


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="marketplace-emulator", description="AWS Marketplace on one machine, for stock AWS SDKs."
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    options.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"0 takes any (default: {DEFAULT_PORT})")
    options.add_argument("--clock", default="real", help="real, or frozen:2026-11-22T10:00:00Z")
    options.add_argument("--products", type=Path, help="JSON file with the products to list")
    options.add_argument("--queue-url", action="append", default=[], help="SQS queue for notifications; repeatable")
    options.add_argument("--sqs-endpoint", default="", help="where SQS listens (default: the queue URL's host)")
    options.add_argument("--fulfilment-url", default="", help="where 'Set up your account' sends the buyer")
    options.add_argument("--rate", default="10", help="BatchMeterUsage calls a second and region, or off (default: 10)")
    options.add_argument("--seller-account", default=Settings().seller_account, help="the seller's AWS account")
    options.add_argument("--license-delay", type=float, default=61, help="seconds from purchase to licence (61)")
    options.add_argument("--seed", type=int, help="makes identifiers repeatable")
    return options


def build(arguments: argparse.Namespace) -> Marketplace:
    """Return the emulator that the command line describes. Raises AdminError or ValueError for a wrong option."""
    kind, _, moment = arguments.clock.partition(":")
    if kind not in ("real", "frozen") or (kind == "frozen") != bool(moment):
        raise AdminError(400, f"--clock {arguments.clock} is not known", "real, or frozen:2026-11-22T10:00:00Z")
    settings = Settings(
        seller_account=arguments.seller_account,
        fulfilment_url=arguments.fulfilment_url,
        license_delay_seconds=arguments.license_delay,
        metering_rate=None if arguments.rate == "off" else float(arguments.rate),
        entitlement_rate=None if arguments.rate == "off" else 20,
        trail_rate=None if arguments.rate == "off" else 2,
        seed=arguments.seed,
    )
    products = load_products(arguments.products) if arguments.products else None
    return Marketplace(Clock.frozen(moment) if moment else Clock(), settings, products)


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. The first line printed is the address."""
    options = parser().parse_args(arguments)
    try:
        marketplace = build(options)
        targets = tuple(parse_target({"queue_url": url, "endpoint": options.sqs_endpoint}) for url in options.queue_url)
        server = serve(marketplace, options.host, options.port, targets)
    except (AdminError, ValueError, OSError) as error:
        hint = error.hint if isinstance(error, AdminError) else ""
        sys.exit(f"marketplace-emulator: {error}{f' ({hint})' if hint else ''}")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sys.stdout.write(f"marketplace-emulator listening on {server.url}\n")
    sys.stdout.flush()
    stop.wait()
    server.close()
