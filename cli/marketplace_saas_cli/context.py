"""What every command gets from the command line: the common options, and with them the session."""

from dataclasses import dataclass, field

import typer

from marketplace_saas_cli.arguments import Common
from marketplace_saas_cli.output import Output
from marketplace_saas_cli.session import Session, connect


@dataclass
class Context:
    """The session is connected when a command first asks for it, so that `--help` asks nobody."""

    common: Common
    connected: Session | None = field(default=None)

    @property
    def session(self) -> Session:
        """Raises RefusedError and NoAnswerError."""
        if self.connected is None:
            self.connected = connect(self.common, Output(as_json=self.common.as_json, yes=self.common.yes))
        return self.connected


def session_of(context: typer.Context) -> Session:
    """The session of a command. Raises RefusedError and NoAnswerError."""
    own: Context = context.obj
    return own.session
