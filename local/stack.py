"""The stack: everything started, wired and stopped together.

with stack.running() as local:
    local.api_url, local.marketplace_url, local.console_url, local.aws_url
    local.advance(3600)    # the clock passes an hour; returns when everything that follows from it is done
"""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from local.aws import BusEvent
from local.console.server import Console
from local.deployment import Schedule
from local.gateway import INTEGRATION_SECONDS, Gateway, IntegrationError, UnavailableError
from local.logs import Log
from local.options import IMPORT_PATH, Options, StackError
from local.queues import Poller
from local.runtime import BusyError, FunctionError, Runtime, StoppedError
from local.schedule import ScheduleError, Ticks, parse, scheduled_event
from local.servers import Servers, endpoint_variables, port_named
from local.traffic import Traffic

HOUR = 3600
ALL_TICKS = 3 * HOUR
HOURLY_TICKS = 26 * HOUR
RARE_TICKS = 12 * HOUR
DRAIN_SECONDS = 0.05
TICK_SECONDS = 0.25


@contextmanager
def running(options: Options | None = None) -> Iterator["Stack"]:
    """Run a stack for the length of a `with` block. Raises StackError or template.TemplateError."""
    with ExitStack() as cleanup:
        yield Stack(options or Options(), cleanup)


class Stack(Servers):
    """A running stack: the servers, and the functions with all that invokes them."""

    def __init__(self, options: Options, cleanup: ExitStack) -> None:
        # First of all: the functions' processes warm up while the rest is made.
        self.runtime = Runtime(IMPORT_PATH)
        cleanup.callback(self.runtime.stop)
        super().__init__(options, cleanup)
        self._stopping = threading.Event()
        self._last_activity = self.clock.timestamp()
        self._log = Log(options.log, self.clock.now) if options.log is not None else None
        self._pollers: list[Poller] = []
        self._ticks: dict[str, Ticks] = {}
        self._fired: dict[str, float] = {}
        self.traffic = Traffic(self.clock.timestamp)
        self._start_console_and_api(cleanup)
        self._start_functions(cleanup)
        self._start_events(cleanup)

    def _start_console_and_api(self, cleanup: ExitStack) -> None:
        options = self.options
        with port_named("the console (--console-port)", options.console_port):
            console = Console(options.host, options.console_port, self)
        cleanup.callback(console.stop)
        self.console_url = console.url
        self.marketplace.seller = console.seller
        self.deploy(
            {
                "SellerName": "Acme",
                "SupportContact": "support@acme.example",
                "LoginUrl": f"{self.console_url}/",
                "SignUpUrl": f"{self.console_url}/sign-up" if options.sign_up == "console" else "",
            }
        )
        with port_named("the API (--port)", options.api_port):
            gateway = Gateway(
                options.host,
                options.api_port,
                self.deployment.routes,
                self._serve,
                self.clock.now,
                watch=self.traffic.add,
            )
        cleanup.callback(gateway.stop)
        self.api_url = gateway.url
        self.marketplace.settings.update({"fulfilment_url": f"{self.api_url}{self.deployment.fulfilment_path}"})

    def _start_functions(self, cleanup: ExitStack) -> None:
        variables = endpoint_variables(self.aws_url, self.aws_url, self.marketplace_url)
        variables["MARKETPLACE_CONSOLE_URL"] = f"{self.marketplace_url}/#purchases"  # where "Set up your account" is
        self.runtime.deploy(self.deployment.functions, variables, self._printed)
        self.clock.share(self.runtime.clock)
        cleanup.callback(self.clock.unshare)
        self.runtime.wait_until_ready()

    def _start_events(self, cleanup: ExitStack) -> None:
        now = self.clock.timestamp()
        for one in self.deployment.schedules:
            try:
                self._ticks[one.name] = parse(one.expression, now)
            except ScheduleError as error:
                raise StackError(f"{one.name}: {error}") from error
            self._fired[one.name] = now
        for mapping in self.deployment.queue_mappings:
            poller = Poller(mapping, self.aws, self._invoke, self.queue_url(mapping.queue), self._note)
            cleanup.callback(poller.stop)
            self._pollers.append(poller)
        self.start_delivery(cleanup)
        self.clock.next_stop, self.clock.at_stop, self.clock.set_back = self._next_stop, self._do_due, self._set_back
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        ticker.start()
        cleanup.callback(ticker.join)
        cleanup.callback(self.runtime.stop)  # before the servers stop: what waits for a function stops waiting
        cleanup.callback(self.stop)

    # -- for tests and pages --------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock; returns when everything that follows from it is done."""
        self.clock.advance(seconds)

    def settle(self) -> None:
        """Wait until everything that is due has been done: nothing to deliver, no message to handle."""
        with self.clock.walking:
            self._do_due()

    def next_tick(self, after: float) -> float | None:
        """When a schedule fires next after a moment."""
        ticks = (ticks.after(after) for ticks in self._ticks.values())
        return min((tick for tick in ticks if tick is not None), default=None)

    def stop(self) -> None:
        """End all waiting; `running` ends the rest."""
        self._stopping.set()
        self.clock.stopping.set()

    # -- invoking ---------------------------------------------------------------------------------------------

    def _serve(self, function: str, event: dict[str, Any]) -> Any:
        """Invoke a function for the gateway."""
        try:
            return self._invoke(function, event, INTEGRATION_SECONDS)
        except FunctionError as error:
            self._note(function, f"ERROR {error}")
            raise IntegrationError(str(error)) from error
        except (BusyError, StoppedError) as error:
            raise UnavailableError from error

    def _invoke(self, function: str, event: Any, wait: float | None = None) -> Any:
        self._last_activity = max(self._last_activity, self.clock.timestamp())
        return self.runtime.invoke(function, event, wait)

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
        super().on_event(event)

    # -- time -------------------------------------------------------------------------------------------------

    def _next_stop(self, now: float, end: float) -> float | None:
        """The next moment up to `end` at which something happens."""
        moments = [self.marketplace.agenda.next_due(), *(self._next_tick(name, end) for name in self._ticks)]
        moments += [self.aws.next_visible_at(poller.mapping.queue, now) for poller in self._pollers]
        return min((moment for moment in moments if moment is not None and now < moment <= end), default=None)

    def _set_back(self, now: float) -> None:
        """The clock was set back: nothing has happened in its future."""
        self._fired = {name: min(fired, now) for name, fired in self._fired.items()}
        self._last_activity = min(self._last_activity, now)

    def _next_tick(self, name: str, end: float) -> float | None:
        """The schedule's next tick on the way to `end`.

        Where nothing has happened for hours, most ticks would find nothing to do and a jump of a year would take an
        hour. So beyond three hours without a request or a message one tick an hour is played, beyond 26 hours one in
        twelve hours, and always the last one before the end.
        """
        ticks, fired = self._ticks[name], self._fired[name]
        tick = ticks.after(fired)
        if tick is None or tick > end:
            return None
        quiet = tick - self._last_activity
        spacing = 0 if quiet <= ALL_TICKS else HOUR if quiet <= HOURLY_TICKS else RARE_TICKS
        if tick >= fired + spacing:
            return tick
        later = ticks.after(fired + spacing - 1)
        return later if later is not None and later <= end else self._last_tick(ticks, tick, end)

    @staticmethod
    def _last_tick(ticks: Ticks, tick: float, end: float) -> float:
        while (following := ticks.after(tick)) is not None and following <= end:
            tick = following
        return tick

    def _do_due(self) -> None:
        """Do everything that is due at this moment of the clock, and all that follows from it."""
        self._drain()
        for one in self.deployment.schedules:
            now = self.clock.timestamp()
            tick = self._ticks[one.name].after(self._fired[one.name])
            if tick is not None and tick <= now and not self._stopping.is_set():
                self._fired[one.name] = now
                self._run_scheduled(one, tick)
                self._drain()

    def _run_scheduled(self, one: Schedule, tick: float) -> None:
        event = json.loads(one.event) if one.event is not None else scheduled_event(one.name, tick)
        if one.queue is not None:
            self.aws.client("sqs").send_message(QueueUrl=self.queue_url(one.queue), MessageBody=json.dumps(event))
            return
        assert one.function is not None  # a schedule has one of the two
        try:
            self.runtime.invoke(one.function, event)
        except FunctionError as error:
            self._note(one.function, f"ERROR {error}")
        except (BusyError, StoppedError):
            pass

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
            now = self.clock.timestamp()
            due = (ticks.after(self._fired[name]) for name, ticks in self._ticks.items())
            if any(tick is not None and tick <= now for tick in due):
                with self.clock.walking:
                    self._do_due()
