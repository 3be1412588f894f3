"""The stack: everything started, wired and stopped together.

with stack.running() as local:
    local.api_url, local.marketplace_url, local.console_url, local.aws_url
    local.advance(3600)    # the clock passes an hour; returns when everything that follows from it is done
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from local.console.server import Console
from local.gateway import INTEGRATION_SECONDS, Gateway, IntegrationError, UnavailableError
from local.options import Options
from local.runtime import BusyError, FunctionError, StoppedError
from local.servers import endpoint_variables, port_named
from local.state import Keeper
from local.traffic import Traffic
from local.workers import Workers

_API_HOST = re.compile(r"^https://[^/]*\.execute-api\.[^/]*")


@contextmanager
def running(options: Options | None = None) -> Iterator["Stack"]:
    """Run a stack for the length of a `with` block. Raises StackError or template.TemplateError."""
    with ExitStack() as cleanup:
        yield Stack(options or Options(), cleanup)


class Stack(Workers):
    """A running stack: the servers, the functions with all that invokes them, the API and the console.

    `kept`: what keeps its state in a folder, where the options name one.
    """

    def __init__(self, options: Options, cleanup: ExitStack) -> None:
        super().__init__(options, cleanup)
        self.traffic = Traffic(self.clock.timestamp)
        self.kept = None if options.keep is None else Keeper(options.keep, cleanup)
        self._start_console_and_api(cleanup)
        variables = endpoint_variables(self.aws_url, self.aws_url, self.marketplace_url)
        variables["MARKETPLACE_CONSOLE_URL"] = f"{self.marketplace_url}/#purchases"  # where "Set up your account" is
        self.start_functions(variables, cleanup)
        if self.kept is not None:
            self.kept.restore(self)
            cleanup.callback(self.kept.finish, self)
        self.start_work(cleanup)
        if self.kept is not None:
            self.kept.start(self)

    def _start_console_and_api(self, cleanup: ExitStack) -> None:
        options = self.options
        with port_named("the console (--console-port)", options.console_port, options.host):
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
        with port_named("the API (--port)", options.api_port, options.host):
            gateway = Gateway(
                options.host,
                options.api_port,
                self.deployment.routes,
                self._serve,
                self.clock.now,
                require_signature=options.require_signature,
                watch=self.traffic.add,
            )
        cleanup.callback(gateway.stop)
        self.api_url = gateway.url
        self.set_fulfilment_url()

    def set_fulfilment_url(self) -> None:
        """Have AWS Marketplace send buyers to this API."""
        self.marketplace.settings.update({"fulfilment_url": f"{self.api_url}{self.deployment.fulfilment_path}"})

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the template's stack, with the API where it is on this machine."""
        return {name: _API_HOST.sub(self.api_url, value) for name, value in super().outputs.items()}

    def _serve(self, function: str, event: dict[str, Any]) -> Any:
        """Invoke a function for the gateway."""
        self.schedules.note_activity(self.clock.timestamp())
        try:
            return self.runtime.invoke(function, event, INTEGRATION_SECONDS)
        except FunctionError as error:
            self._note(function, f"ERROR {error}")
            raise IntegrationError(str(error)) from error
        except (BusyError, StoppedError) as error:
            raise UnavailableError from error
