"""Runs one command and returns its exit status (marketplace_saas_cli.exits)."""

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from marketplace.commands.refusal import CommandRefusedError
from marketplace_saas_cli import app
from marketplace_saas_cli.arguments import separated
from marketplace_saas_cli.aws import sentences
from marketplace_saas_cli.context import Context
from marketplace_saas_cli.exits import FINE, INTERRUPTED, USAGE, CliError, RefusedError

NAME = "marketplace-saas"


def main(arguments: Sequence[str]) -> int:
    """Runs the command. What stands in its way is said in a sentence on standard error, never by a traceback."""
    try:
        common, rest = separated(arguments, os.environ.get("STACK"))
        with sentences():
            command = typer.main.get_command(app.APP)
            status = command.main(rest, prog_name=NAME, standalone_mode=False, obj=Context(common))
    except CommandRefusedError as error:
        return _ended(RefusedError(str(error)))
    except CliError as error:
        return _ended(error)
    except TyperException as error:
        sys.stderr.write(f"{NAME}: {error.format_message()} (--help lists what there is)\n")
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write(f"{NAME}: interrupted; what was done stays done, and the command may be repeated\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read the output has gone
        return FINE
    return status if isinstance(status, int) else FINE


def _ended(error: CliError) -> int:
    sys.stderr.write(f"{NAME}: {error}\n")
    return error.status


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
