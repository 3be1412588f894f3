"""The options that every command has. They may stand anywhere on the line, as people write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marketplace_saas_cli.exits import RefusedError

LOCAL_PORT = "4566"
"""Where `make run` has DynamoDB and SQS listen, unless it is told otherwise."""

HELP = """Options of every command:

--stack NAME: the deployment to ask, by its CloudFormation stack (or the variable STACK).

--local [PORT or DIR]: the system that `make run` has started on this machine, by the port of its DynamoDB and SQS
(4566), or by the folder of --keep.

--json: one JSON document on standard output, instead of tables.

--yes: confirm changes without being asked, for scripts.

Exit status: 0 fine; 1 something needs a person; 2 can't be done as asked; 3 no answer from AWS; 4 not confirmed.
"""


@dataclass(frozen=True, slots=True)
class Common:
    """The options of every command. `local` is a port or a folder."""

    stack: str | None = None
    local: str | None = None
    as_json: bool = False
    yes: bool = False


def separated(arguments: Sequence[str], environment_stack: str | None = None) -> tuple[Common, list[str]]:
    """The common options, and the arguments without them. Raises RefusedError."""
    stack: str | None = None
    local: str | None = None
    flags = {"--json": False, "--yes": False}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        one = waiting.pop(0)
        name, equals, value = one.partition("=")
        if one == "--":
            rest += [one, *waiting]
            break
        if name == "--stack":
            stack = value if equals else _value_of(name, waiting)
        elif name == "--local":
            local = value if equals else waiting.pop(0) if waiting and _is_place(waiting[0]) else LOCAL_PORT
        elif one in flags:
            flags[one] = True
        else:
            rest.append(one)
    if stack is not None and local is not None:
        raise RefusedError("--stack and --local exclude each other")
    if stack is None and local is None:
        stack = environment_stack or None
    return Common(stack, local, flags["--json"], flags["--yes"]), rest


def _value_of(name: str, waiting: list[str]) -> str:
    if not waiting or waiting[0].startswith("-"):
        raise RefusedError(f"{name} needs a value")
    return waiting.pop(0)


def _is_place(text: str) -> bool:
    """Whether the word after `--local` is where the local system is, and not the command."""
    return text.isdecimal() or "/" in text or (Path(text) / "lock").exists()
