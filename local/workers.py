"""What works by itself: functions in their environments, pollers of queues, schedules, and the moving clock."""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from local.aws import BusEvent
from local.deployment import Schedule
from local.logs import Log
from local.options import IMPORT_PATH, Options
from local.queues import Poller
from local.runtime import BusyError, FunctionError, Runtime, StoppedError
from local.schedule import scheduled_event
from local.servers import Servers
from local.signature import ACCESS_KEY, SECRET_KEY
from local.stack_api import InvocationError, StackApi
from local.ticks import HOUR, Schedules

DRAIN_SECONDS = 0.05
TICK_SECONDS = 0.25
DAY = 24 * HOUR
PROGRESS_SECONDS = 2
"""A move of the clock that takes longer is logged as it goes on, so often."""


class Workers(Servers):
    """The servers, and the functions that work through the queues and by the schedules."""

    def __init__(self, options: Options, cleanup: ExitStack) -> None:
        # First of all: the functions' processes warm up while the rest is made.
        self.runtime = Runtime(IMPORT_PATH)
        cleanup.callback(self.runtime.stop)
        super().__init__(options, cleanup)
        self._stopping = threading.Event()
        self._log = Log(options.log, self.clock.now, quiet=not options.log_all) if options.log is not None else None
        self._pollers: list[Poller] = []
        self._writes = 0
        self._reported = 0.0
        self.schedules = Schedules((), self.clock.timestamp())

    def start_functions(self, variables: Mapping[str, str], cleanup: ExitStack) -> None:
        """Have the functions ready. `variables` lead them to the servers."""
        self.runtime.deploy(self.deployment.functions, variables, self._printed)
        account, functions = self.marketplace.settings.seller_account, self.deployment.functions.values()
        # So that CloudTrail shows who called.
        self.marketplace.settings.callers |= {
            one.access_key: f"arn:aws:sts::{account}:assumed-role/{one.role}/{one.name}" for one in functions
        }
        self.clock.share(self.runtime.clock)
        cleanup.callback(self.clock.unshare)
        self.schedules = Schedules(self.deployment.schedules, self.clock.timestamp())
        self.aws.on_write, self.aws.on_dead_letter = self._wrote, self._dead_lettered
        self.aws.stack_api = StackApi(
            self.deployment.stack_name,
            outputs={**self.outputs, **self._own_outputs},
            parameters={name: str(value) for name, value in self.deployment.parameters.items()},
            resources=self.deployment.resources,
            types=self.deployment.resource_types,
            invoke=self._invoke_by_hand,
        )
        self.runtime.wait_until_ready()

    def start_work(self, cleanup: ExitStack) -> None:
        """Work through the queues and by the schedules from now on."""
        for mapping in self.deployment.queue_mappings:
            poller = Poller(mapping, self.aws, self.runtime.invoke, self.queue_url(mapping.queue), self._note)
            cleanup.callback(poller.stop)
            self._pollers.append(poller)
        self.start_delivery(cleanup)
        self.clock.next_stop, self.clock.at_stop = self._next_stop, self._do_due
        self.clock.set_back, self.clock.on_move = self.schedules.set_back, self._moved
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        ticker.start()
        cleanup.callback(ticker.join)
        cleanup.callback(self.runtime.stop)  # before the servers stop: what waits for a function stops waiting
        cleanup.callback(self.stop)

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the template's stack."""
        return dict(self.deployment.outputs)

    @property
    def _own_outputs(self) -> dict[str, str]:
        """What the command line needs to know of this machine, and of no stack in AWS."""
        return {
            "LocalMarketplaceUrl": self.marketplace_url,
            "LocalAccessKeyId": ACCESS_KEY,
            "LocalSecretAccessKey": SECRET_KEY,
        }

    # -- for tests and pages --------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock; returns when everything that follows from it is done."""
        self.clock.advance(seconds)

    def settle(self) -> None:
        """Wait until everything that is due has been done: nothing to deliver, no message to handle."""
        with self.clock.walking:
            self._do_due()

    def next_tick(self, after: float) -> float | None:
        """When a schedule runs a function (metering) next after a moment."""
        return self.schedules.next_run(after)

    def stop(self) -> None:
        """End all waiting; whoever runs this ends the rest."""
        self._stopping.set()
        self.clock.stopping.set()

    # -- invoking ---------------------------------------------------------------------------------------------

    def _invoke_by_hand(self, function: str, event: Any) -> Any:
        """Invoke a function for Lambda's API."""
        try:
            return self.runtime.invoke(function, event)
        except FunctionError as error:
            raise InvocationError(error.kind, str(error)) from error

    def _wrote(self) -> None:
        self._writes += 1

    def on_delivery(self) -> None:
        """AWS Marketplace has sent a notification."""
        self.schedules.note_activity(self.clock.timestamp())

    # -- the log ----------------------------------------------------------------------------------------------

    def _printed(self, function: str, line: str) -> None:
        if self._log is not None:
            self._log.printed(function, line)

    def _note(self, who: str, text: str) -> None:
        if self._log is not None:
            self._log.line(who.removesuffix("Function"), text)

    def on_event(self, event: BusEvent) -> None:
        """Log an event that was put on a bus."""
        about = event.detail.get("subscription_id", "") if isinstance(event.detail, dict) else ""
        self._note("event bus", f"{event.detail_type}  {about}".rstrip())
        self.schedules.note_activity(event.at)
        super().on_event(event)

    def _dead_lettered(self, queue: str, dead_letters: str) -> None:
        self._note("SQS", f"ERROR a message of {queue} could not be handled; it is in {dead_letters}")

    def _moved(self, start: float, now: float, end: float) -> None:
        """Log how far a long move of the clock is."""
        if now == start:
            self._reported = time.monotonic()
        elif time.monotonic() - self._reported > PROGRESS_SECONDS:
            self._reported = time.monotonic()
            self._note("clock", f"at {self.clock.now():%Y-%m-%d %H:%M}, {(now - start) / (end - start):.0%} of the way")

    # -- time -------------------------------------------------------------------------------------------------

    def _next_stop(self, now: float, end: float) -> float | None:
        """The next moment up to `end` at which something happens."""
        moments = [self.marketplace.agenda.next_due(), self.schedules.next_stop(end)]
        moments += [self.aws.next_visible_at(poller.mapping.queue, now) for poller in self._pollers]
        return min((moment for moment in moments if moment is not None and now < moment <= end), default=None)

    def _do_due(self) -> None:
        """Do everything that is due at this moment of the clock, and all that follows from it."""
        with self.aws.sent:
            self.aws.sent.notify_all()  # messages become visible when the clock is moved
        self.aws.remove_expired()
        self._drain()
        for one, tick in self.schedules.due(self.clock.timestamp()):
            if self._stopping.is_set():
                return
            self._run_scheduled(one, tick)
            self._drain()

    def _run_scheduled(self, one: Schedule, tick: float) -> None:
        if not self.aws.is_enabled(self.deployment.resources.get(one.name, one.name)):
            return
        event = json.loads(one.event) if one.event is not None else scheduled_event(one.name, tick)
        if one.queue is not None:
            self.aws.client("sqs").send_message(QueueUrl=self.queue_url(one.queue), MessageBody=json.dumps(event))
            return
        assert one.function is not None  # a schedule has one of the two
        writes = self._writes
        if self._log is not None:
            self._log.hold(one.function)
        try:
            self.runtime.invoke(one.function, event)
        except FunctionError as error:
            self._note(one.function, f"ERROR {error}")
        except (BusyError, StoppedError):
            pass
        finally:
            idle = self._writes == writes
            if not idle:
                self.schedules.note_activity(self.clock.timestamp())
            if self._log is not None:
                self._log.release(one.function, idle=idle)

    def _drain(self) -> None:
        """Wait until nothing is to be delivered and no message waits or is being handled."""
        while not self._stopping.is_set():
            delivered = self.delivery.deliver()
            if delivered == 0 and all(poller.quiet() for poller in self._pollers):
                return
            with self.aws.sent:
                self.aws.sent.wait(DRAIN_SECONDS)

    def _tick(self) -> None:
        """Fire the schedules as the clock runs."""
        while not self._stopping.wait(TICK_SECONDS):
            if self.schedules.is_due(self.clock.timestamp()):
                with self.clock.walking:
                    self._do_due()
