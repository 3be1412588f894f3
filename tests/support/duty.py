"""The command line `marketplace-saas` as a person or a script runs it, on clients of a test's choice."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from marketplace_saas_cli import context
from marketplace_saas_cli.__main__ import main
from marketplace_saas_cli.arguments import Common
from marketplace_saas_cli.output import Output
from marketplace_saas_cli.session import Session
from marketplace_saas_cli.stack import NEEDED, StackDescription
from tests.support.tables import Tables

STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/shop/1"


@dataclass
class Clients:
    """In place of marketplace_saas_cli.aws.Aws: a client by its service, or the error that making it raises."""

    by_service: dict[str, Any]
    credentials: Any = None
    assumed: list[str] = field(default_factory=list)

    def assuming(self, role_arn: str, _external_id: str) -> "Clients":
        """The same clients, as a role."""
        self.assumed.append(role_arn)
        return self

    def client(self, service: str, *_: Any, **__: Any) -> Any:
        found = self.by_service[service]
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Duty:
    """`run` answers the exit status of a command; `out` and `err` hold what it printed. `answer`: what a person says to
    a question, None where nobody can be asked. `entitlements`: GetEntitlements as the commands use it."""

    tables: Tables
    now: Callable[[], datetime]
    capsys: pytest.CaptureFixture[str]
    clients: dict[str, Any]
    parameters: Mapping[str, str] = field(default_factory=dict)
    entitlements: Any = None
    transport: Any = None
    sleep: Callable[[float], None] = lambda _: None
    answer: str | None = None
    asked: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    out: str = ""
    err: str = ""

    def run(self, *arguments: str) -> int:
        self.capsys.readouterr()
        status = main([*arguments, "--stack", "shop"])
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.err
        return status

    def json(self, *arguments: str, status: int = 0) -> Any:
        """The one JSON document that a command prints."""
        assert self.run(*arguments, "--json") == status, self.err
        return json.loads(self.out)

    def session(self) -> Session:
        """What a command connects to, for what is not a command."""
        return self.connect(Common(), Output())

    def connect(self, common: Common, _output: Output) -> Session:
        outputs = dict.fromkeys(NEEDED, "queue") | {
            "ApiUrl": "https://api.invalid",
            "SubscriptionsTableName": self.tables.subscriptions,
            "UsageTableName": self.tables.usage,
        }
        aws: Any = Clients(self.clients, assumed=self.assumed)
        session = Session(
            StackDescription("shop", STACK_ID, "CREATE_COMPLETE", outputs, self.parameters),
            aws,
            Output(as_json=common.as_json, yes=common.yes, ask=self._asked),
            clock=self.now,
            sleep=self.sleep,
            transport=self.transport,
        )
        if self.entitlements is not None:
            session.__dict__["entitlement_source"] = self.entitlements
        return session

    def _asked(self, question: str) -> str | None:
        self.asked.append(question)
        return self.answer


def on_duty(monkeypatch: pytest.MonkeyPatch, **given: Any) -> Duty:
    """A command line that is led to the clients given."""
    duty = Duty(**given)
    monkeypatch.setattr(context, "connect", duty.connect)
    return duty
