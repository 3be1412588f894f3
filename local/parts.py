"""What a stack is made of, imported together because it is slow to import: moto, the emulator and what joins them."""

import uuid
from typing import TYPE_CHECKING, Any

from local.aws import LocalAws
from local.clock import StackClock
from local.console import Console
from local.delivery import Delivery
from local.errors import StackError
from local.gateway import INTEGRATION_SECONDS, Gateway, IntegrationError, UnavailableError
from local.logs import Log
from local.queues import Poller
from local.schedule import ScheduleError, Ticks, parse
from local.template import ACCOUNT, REGION, parameters_of, read
from marketplace_emulator import Marketplace, Settings, serve
from marketplace_emulator.clock import iso_seconds

if TYPE_CHECKING:
    from local.stack import Options

__all__ = [
    "INTEGRATION_SECONDS",
    "Console",
    "Delivery",
    "Gateway",
    "IntegrationError",
    "LocalAws",
    "Log",
    "Poller",
    "ScheduleError",
    "Ticks",
    "UnavailableError",
    "clock",
    "marketplace",
    "parameters_of",
    "parse",
    "read",
    "scheduled_event",
    "serve",
]


def clock(text: str) -> StackClock:
    """The clock that a text asks for: `real`, or `frozen:2026-11-22T10:00:00Z`. Raises StackError."""
    kind, _, moment = text.partition(":")
    if kind not in ("real", "frozen") or (kind == "frozen") != bool(moment):
        raise StackError(f"the clock {text!r} is not known; it is real, or frozen:2026-11-22T10:00:00Z")
    made = StackClock()
    if moment:
        made.freeze()
        try:
            made.set(moment, force=True)
        except ValueError as error:
            raise StackError(f"{moment!r} is not a time; for example 2026-11-22T10:00:00Z") from error
    return made


def marketplace(time: StackClock, options: "Options") -> Marketplace:
    """The emulator with the limits of AWS Marketplace."""
    settings = Settings(
        license_delay_seconds=options.license_delay,
        metering_rate=options.metering_rate,
        entitlement_rate=None if options.metering_rate is None else 20,
        seed=options.seed,
    )
    return Marketplace(time, settings)


def scheduled_event(rule: str, tick: float) -> dict[str, Any]:
    """What EventBridge hands the target of a schedule (EventBridge User Guide: scheduled rules)."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": iso_seconds(tick),
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}"],
        "detail": {},
    }
