"""The stack: everything started, wired and stopped together.

with stack.running() as local:
    local.api_url, local.marketplace_url, local.console_url, local.aws_url
    local.advance(3600)    # the clock passes an hour; returns when everything that follows from it is done
"""

import errno
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from local.errors import StackError
from local.runtime import BusyError, FunctionError, Runtime, StoppedError

# The functions' processes start before the slow imports below; see `begin`.
ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
IMPORT_PATH = [ROOT / "layers" / "common"]

HOUR = 3600
ALL_TICKS = 3 * HOUR
HOURLY_TICKS = 26 * HOUR
RARE_TICKS = 12 * HOUR
DRAIN_SECONDS = 0.05
TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Options:
    """How to start. Port 0 takes any free one. `clock`: "real", or "frozen:" and a moment. `sign_up`: "page" leaves the
    buyer on the product's own landing page, "console" sends them to the console's sign-up.
    `license_delay`: seconds from a purchase to its licence. `parameters`: the template's, before the stack's own
    choices."""

    template: Path = TEMPLATE
    root: Path = ROOT
    parameters: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    api_port: int = 0
    console_port: int = 0
    marketplace_port: int = 0
    aws_port: int = 0
    clock: str = "real"
    sign_up: str = "page"
    license_delay: float = 61
    metering_rate: float | None = 10
    seed: int | None = None
    log: TextIO | None = None
    on_event: Callable[[Any], None] | None = None


def begin(import_path: list[Path] | None = None) -> Runtime:
    """Start the functions' processes, which warm up while the rest is imported and made."""
    return Runtime(import_path or IMPORT_PATH)


@contextmanager
def running(options: Options | None = None, runtime: Runtime | None = None) -> Iterator["Stack"]:
    """Run a stack for the length of a `with` block. Raises StackError or template.TemplateError."""
    given = options or Options()
    with ExitStack() as cleanup:
        started = runtime or begin()
        cleanup.callback(started.stop)
        yield Stack(given, started, cleanup)


class Stack:
    """A running stack."""

    def __init__(self, options: Options, runtime: Runtime, cleanup: ExitStack) -> None:
        # Slow to import: only now, so that the functions' processes are already warming up.
        from local import parts  # noqa: PLC0415

        self.options = options
        self.runtime = runtime
        self.clock = parts.clock(options.clock)
        self._stopping = threading.Event()
        self._last_activity = self.clock.timestamp()
        self._log = parts.Log(options.log, self.clock.now) if options.log is not None else None
        self._pollers: list[parts.Poller] = []
        self._delivery: parts.Delivery | None = None
        self._ticks: dict[str, parts.Ticks] = {}
        self._fired: dict[str, float] = {}
        self._start_servers(cleanup)
        self._deploy(cleanup)
        self._start_moving(cleanup)

    def _start_servers(self, cleanup: ExitStack) -> None:
        from local import parts  # noqa: PLC0415

        options = self.options
        with _port("moto (--moto-port)", options.aws_port):
            self.aws = parts.LocalAws(options.host, options.aws_port, self.clock.now)
        cleanup.callback(self.aws.stop)
        self.aws.on_event = self._event
        self.aws_url = self.aws.url
        self.marketplace = parts.marketplace(self.clock, options)
        with _port("the emulator (--emulator-port)", options.marketplace_port):
            emulator = parts.serve(self.marketplace, options.host, options.marketplace_port)
        cleanup.callback(emulator.close)
        self.marketplace_url = emulator.url
        with _port("the console (--console-port)", options.console_port):
            console = parts.Console(options.host, options.console_port, self)
        cleanup.callback(console.stop)
        self.console_url = console.url
        self.deployment = parts.read(options.template, self._parameters(), sqs_endpoint=self.aws_url, root=options.root)
        with _port("the API (--port)", options.api_port):
            gateway = parts.Gateway(options.host, options.api_port, self.deployment.routes, self._serve, self.clock.now)
        cleanup.callback(gateway.stop)
        self.api_url = gateway.url
        self.marketplace.settings.update({"fulfilment_url": f"{self.api_url}{self.deployment.fulfilment_path}"})

    def _deploy(self, cleanup: ExitStack) -> None:
        self.aws.furnish(self.deployment)
        self.runtime.deploy(self.deployment.functions, self._variables(), self._printed)
        self.clock.share(self.runtime.clock)
        cleanup.callback(self.clock.unshare)
        self.runtime.wait_until_ready()

    def _start_moving(self, cleanup: ExitStack) -> None:
        from local import parts  # noqa: PLC0415

        now = self.clock.timestamp()
        for one in self.deployment.schedules:
            try:
                self._ticks[one.name] = parts.parse(one.expression, now)
            except parts.ScheduleError as error:
                raise StackError(f"{one.name}: {error}") from error
            self._fired[one.name] = now
        urls = {queue.name: self.queue_url(queue.name) for queue in self.deployment.queues}
        for mapping in self.deployment.queue_mappings:
            poller = parts.Poller(mapping, self.aws, self._invoke, urls[mapping.queue], self._note)
            cleanup.callback(poller.stop)
            self._pollers.append(poller)
        self._delivery = parts.Delivery(self.marketplace, self.deployment, self.aws.client("sqs"), urls)
        cleanup.callback(self._delivery.stop)
        self.clock.next_stop, self.clock.at_stop, self.clock.set_back = self._next_stop, self._do_due, self._set_back
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        ticker.start()
        cleanup.callback(ticker.join)
        cleanup.callback(self.runtime.stop)  # first of all: whatever waits for a function stops waiting
        cleanup.callback(self.stop)

    # -- for tests and pages --------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock; returns when everything that follows from it is done."""
        self.clock.advance(seconds)

    def settle(self) -> None:
        """Wait until everything that is due has been done: nothing to deliver, no message to handle."""
        with self.clock.walking:
            self._do_due()

    def queue_url(self, name: str) -> str:
        """The address of a queue."""
        url: str = self.aws.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def next_tick(self, after: float) -> float | None:
        """When a schedule fires next after a moment."""
        ticks = (ticks.after(after) for ticks in self._ticks.values())
        return min((tick for tick in ticks if tick is not None), default=None)

    def stop(self) -> None:
        """Have whatever waits stop waiting; `running` ends the rest."""
        self._stopping.set()
        self.clock.stopping.set()

    # -- what the functions are handed ------------------------------------------------------------------------

    def _parameters(self) -> dict[str, str]:
        from local import parts  # noqa: PLC0415

        products = self.marketplace.registry.products.values()
        legacy = [product for product in products if product.integration == "legacy"]
        own = {
            "Stage": "local",
            "ProductCodes": ",".join(product.code for product in products),
            "LegacyProductCodes": ",".join(product.code for product in legacy),
            "LegacyContractProductCodes": ",".join(product.code for product in legacy if product.has_contract),
            "SupportContact": "support@acme.example",
            "LoginUrl": f"{self.console_url}/",
            "SignUpUrl": f"{self.console_url}/sign-up" if self.options.sign_up == "console" else "",
        }
        known = parts.parameters_of(self.options.template)
        return {name: value for name, value in own.items() if name in known} | dict(self.options.parameters)

    def _variables(self) -> dict[str, str]:
        aws = dict.fromkeys(("DYNAMODB", "SQS", "SNS", "EVENTBRIDGE"), self.aws_url)
        services = ("MARKETPLACE_METERING", "MARKETPLACE_ENTITLEMENT_SERVICE", "MARKETPLACE_AGREEMENT")
        endpoints = aws | dict.fromkeys(services, self.marketplace_url)
        return {f"AWS_ENDPOINT_URL_{service}": url for service, url in endpoints.items()}

    # -- invoking ---------------------------------------------------------------------------------------------

    def _serve(self, function: str, event: dict[str, Any]) -> Any:
        """For the gateway."""
        from local import parts  # noqa: PLC0415

        try:
            return self._invoke(function, event, parts.INTEGRATION_SECONDS)
        except FunctionError as error:
            self._note(function, f"ERROR {error}")
            raise parts.IntegrationError(str(error)) from error
        except (BusyError, StoppedError) as error:
            raise parts.UnavailableError from error

    def _invoke(self, function: str, event: Any, wait: float | None = None) -> Any:
        self._last_activity = max(self._last_activity, self.clock.timestamp())
        return self.runtime.invoke(function, event, wait)

    def _printed(self, function: str, line: str) -> None:
        if self._log is not None:
            self._log.printed(function, line)

    def _note(self, who: str, text: str) -> None:
        if self._log is not None:
            self._log.line(who.removesuffix("Function"), text)

    def _event(self, event: Any) -> None:
        about = event.detail.get("subscription_id", "") if isinstance(event.detail, dict) else ""
        self._note("event bus", f"{event.detail_type}  {about}".rstrip())
        if self.options.on_event is not None:
            self.options.on_event(event)

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
    def _last_tick(ticks: Any, tick: float, end: float) -> float:
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

    def _run_scheduled(self, one: Any, tick: float) -> None:
        from local import parts  # noqa: PLC0415

        event = json.loads(one.event) if one.event is not None else parts.scheduled_event(one.name, tick)
        if one.queue is not None:
            self.aws.client("sqs").send_message(QueueUrl=self.queue_url(one.queue), MessageBody=json.dumps(event))
            return
        try:
            self.runtime.invoke(one.function, event)
        except FunctionError as error:
            self._note(one.function, f"ERROR {error}")
        except (BusyError, StoppedError):
            pass

    def _drain(self) -> None:
        """Wait until nothing is to be delivered and no message waits or is being handled."""
        while not self._stopping.is_set() and self._delivery is not None:
            delivered = self._delivery.deliver()
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


@contextmanager
def _port(who: str, port: int) -> Iterator[None]:
    """Say whose port is taken."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise StackError(f"port {port} for {who} is taken; choose another, or 0 for any") from error
