"""The account that published the product, as another one than the deployment's: its STS, and AWS Marketplace that takes
notice of whose credentials a call carries."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from marketplace.platform import clients, clock
from marketplace.platform.clock import HOUR
from marketplace.platform.seller_role import SellerRole
from marketplace_emulator import Marketplace
from tests.support.in_process import InProcess

ACCOUNT = "777788889999"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/marketplace-saas-seller"
EXTERNAL_ID = "marketplace-saas/prod"
SECRET = "secret-of-the-session"
TOKEN = "token-of-the-session"

MAKERS: dict[str, str] = {
    "metering_without_retries": "meteringmarketplace",
    "metering_for_registration": "meteringmarketplace",
    "entitlement": "marketplace-entitlement",
    "entitlement_while_waiting": "marketplace-entitlement",
    "agreement": "marketplace-agreement",
    "agreement_while_waiting": "marketplace-agreement",
}
"""The functions of the adapter layer that make clients of AWS Marketplace, with their services."""


def refused(code: str, status: int = 403) -> ClientError:
    """What the SDK raises of STS's refusal."""
    answer: Any = {
        "Error": {"Code": code, "Message": f"User: arn:aws:sts::1:assumed-role/x is not authorized on {ROLE}"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "AssumeRole")


@dataclass
class Sts:
    """Issues sessions of an hour by the clock `now`, or fails with `failure`. `asked` lists what was asked."""

    now: Callable[[], datetime] = clock.utc_now
    lifetime: float = HOUR
    failure: ClientError | BotoCoreError | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, datetime] = field(default_factory=dict)

    def assume_role(self, **given: Any) -> dict[str, Any]:
        self.asked.append(given)
        if self.failure is not None:
            raise self.failure
        key, expires = f"ASIASESSION{len(self.asked):09d}", self.now() + timedelta(seconds=self.lifetime)
        self.sessions[key] = expires
        return {
            "Credentials": {
                "AccessKeyId": key,
                "SecretAccessKey": SECRET,
                "SessionToken": TOKEN,
                "Expiration": expires,
            },
            "AssumedRoleUser": {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/seller/{given['RoleSessionName']}"},
        }


@dataclass
class SellerAccount:
    """Has the functions call as the seller's role, and the emulator answer them. `keys` lists the access key of every
    call that arrived; `arrived` is called at each."""

    sts: Sts
    keys: list[str] = field(default_factory=list)
    arrived: Callable[[], object] = lambda: None

    def install(self, monkeypatch: pytest.MonkeyPatch, marketplace: Marketplace) -> None:
        monkeypatch.setenv("SELLER_ROLE_ARN", ROLE)
        monkeypatch.setenv("SELLER_ROLE_EXTERNAL_ID", EXTERNAL_ID)
        monkeypatch.setattr(clients, "sts", lambda: self.sts)
        transport = InProcess()
        transport.marketplace = marketplace
        for name, service in MAKERS.items():
            monkeypatch.setattr(clients, name, self._making(service, transport))

    def _making(self, service: str, transport: InProcess) -> Callable[..., Any]:
        def made(*given: Any, seller: SellerRole | None = None, **_: Any) -> Any:
            role = seller or next(one for one in given if isinstance(one, SellerRole))
            client = clients._client_of(role)(service, region_name="us-east-1")
            client.meta.events.register_first("before-send", self._notice)
            transport.attach(client)
            return client

        return made

    def _notice(self, request: Any, **_: Any) -> None:
        self.keys.append(signed_by(request))
        self.arrived()


def signed_by(request: Any) -> str:
    """The access key that a prepared request is signed with."""
    header = request.headers["Authorization"]
    text = header.decode() if isinstance(header, bytes) else header
    found = re.search(r"Credential=(\w+)/", text)
    assert found
    return found[1]
