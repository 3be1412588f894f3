"""How a stack is to be started."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
IMPORT_PATH = (ROOT / "layers" / "common",)


class StackError(Exception):
    """The stack can't be started; the message says what to do."""


@dataclass(frozen=True)
class Options:
    """How to start a stack. Port 0 takes any free port.

    `parameters`: template parameters, which take precedence over the stack's own choices. `clock`: "real", or "frozen:"
    and an ISO 8601 moment. `sign_up`: "page" leaves a registered buyer on the product's own landing page, "console"
    sends the buyer to the console's sign-up page. `license_delay`: seconds from a purchase to its licence.
    `metering_rate`: BatchMeterUsage calls a second and region, None for no limit. `log`: where the functions' log goes.
    `on_event`: called with each BusEvent. `keep`: a folder to keep the state in. `require_signature`: whether the
    routes that ask for AWS_IAM refuse calls without a valid signature. `log_all`: whether scheduled runs that find
    nothing to do are logged as well.
    """

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
    keep: Path | None = None
    require_signature: bool = False
    log_all: bool = False
