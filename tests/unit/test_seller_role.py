"""The credentials of a role in another account: asked for in time, shared, and a failure that says so and costs
nothing."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError, ReadTimeoutError

from marketplace.platform import clients, clock
from marketplace.platform.aws_errors import SellerRoleError, classified
from marketplace.platform.clock import HOUR, MINUTE
from marketplace.platform.errors import NoAnswerError, SystemicError
from marketplace.platform.seller_role import SellerRole, credentials
from tests.support.seller_account import ACCOUNT, EXTERNAL_ID, MAKERS, ROLE, SECRET, TOKEN, Sts, refused, signed_by


class Time:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 18, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Session:
    """A role's credentials, the STS that they come from, and what was reported of both."""

    def __init__(self, time: Time, external_id: str = EXTERNAL_ID) -> None:
        self.sts = Sts(time.now)
        self.assumed: list[str] = []
        self.failed: list[str] = []
        role = SellerRole(ROLE, external_id, "marketplace-saas-prod", self.assumed.append, self.failed.append)
        self.credentials = credentials(role, self.sts)

    def key(self) -> str:
        return str(self.credentials.get_frozen_credentials().access_key)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clock, "utc_now", time.now)
    return time


def test_the_role_is_assumed_at_the_first_call_and_not_before(time: Time) -> None:
    session = Session(time)
    assert session.sts.asked == []
    session.key()
    assert session.sts.asked == [
        {"RoleArn": ROLE, "RoleSessionName": "marketplace-saas-prod", "ExternalId": EXTERNAL_ID}
    ]
    assert session.assumed == [f"arn:aws:sts::{ACCOUNT}:assumed-role/seller/marketplace-saas-prod"]


def test_without_an_external_id_none_is_sent(time: Time) -> None:
    session = Session(time, external_id="")
    session.key()
    assert "ExternalId" not in session.sts.asked[0]


def test_new_credentials_are_asked_for_a_quarter_of_an_hour_before_the_old_ones_end(time: Time) -> None:
    session = Session(time)
    first = session.key()
    time.advance(HOUR - 15 * MINUTE)
    assert session.key() == first
    time.advance(1)
    assert session.key() != first
    assert len(session.sts.asked) == 2


def test_a_refresh_that_fails_early_is_reported_while_the_old_credentials_still_work(time: Time) -> None:
    session = Session(time)
    first = session.key()
    time.advance(HOUR - 14 * MINUTE)
    session.sts.failure = refused("AccessDenied")
    assert session.key() == first
    assert session.failed == ["AccessDenied"]


FAILURES = {
    "AccessDenied": refused("AccessDenied"),
    "ExpiredTokenException": refused("ExpiredTokenException", 400),
    "ValidationError": refused("ValidationError", 400),
    "Throttling": refused("Throttling", 400),
    "RegionDisabledException": refused("RegionDisabledException"),
    "InternalFailure": refused("InternalFailure", 500),
    "ReadTimeoutError": ReadTimeoutError(endpoint_url="https://sts.invalid"),
    "ConnectTimeoutError": ConnectTimeoutError(endpoint_url="https://sts.invalid"),
    "NoCredentialsError": NoCredentialsError(),
}


@pytest.mark.parametrize("code", FAILURES)
def test_a_refresh_that_fails_in_the_end_is_one_error_that_says_nothing_was_sent(
    time: Time, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever STS answers, it is neither a refusal of usage nor an answer of AWS Marketplace that is missing."""
    session = Session(time)
    session.key()
    time.advance(HOUR - 9 * MINUTE)
    session.sts.failure = FAILURES[code]  # type: ignore[assignment]
    with caplog.at_level(logging.DEBUG), pytest.raises(SellerRoleError) as raised:
        session.key()
    error = classified(raised.value, "ResolveCustomer")
    assert isinstance(error, SystemicError)
    assert not isinstance(error, NoAnswerError)
    assert (error.code, session.failed) == ("SellerRoleError", [code])
    assert code in str(error)
    for hidden in (SECRET, TOKEN, EXTERNAL_ID, "is not authorized on"):
        assert hidden not in caplog.text


def test_the_call_after_a_failure_asks_again(time: Time) -> None:
    session = Session(time)
    session.sts.failure = refused("AccessDenied")
    with pytest.raises(SellerRoleError):
        session.key()
    session.sts.failure = None
    assert session.key() == "ASIASESSION000000002"


def test_credentials_that_have_ended_already_are_a_failure(time: Time) -> None:
    session = Session(time)
    session.sts.lifetime = 0
    with pytest.raises(SellerRoleError):
        session.key()
    assert session.failed == ["CredentialsAlreadyExpired"]


@pytest.mark.parametrize("missing", ["Credentials", "AssumedRoleUser"])
def test_an_answer_without_credentials_is_a_failure(time: Time, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(time)
    answer = session.sts.assume_role(RoleSessionName="x")
    del answer[missing]
    monkeypatch.setattr(session.sts, "assume_role", lambda **_: answer)
    with pytest.raises(SellerRoleError):
        session.key()
    assert session.failed == ["KeyError"]


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "ap-southeast-2"])
def test_sts_is_asked_in_the_functions_own_region(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    session = boto3.Session()
    monkeypatch.setattr(boto3, "client", session.client)
    assert clients.sts().meta.endpoint_url == f"https://sts.{region}.amazonaws.com"


def made(maker: str, role: SellerRole | None) -> Any:
    make = getattr(clients, maker)
    return make("us-east-1", seller=role) if maker == "metering_without_retries" else make(role)


def signers(client: Any, keys: list[str]) -> None:
    """Has every call of the client fail, once it is noted who signed it."""

    def stop(request: Any, **_: Any) -> None:
        keys.append(signed_by(request))
        raise ReadTimeoutError(endpoint_url=request.url)

    client.meta.events.register_first("before-send", stop)


CALLS: dict[str, dict[str, Any]] = {
    "meteringmarketplace": {"operation": "resolve_customer", "RegistrationToken": "t"},
    "marketplace-entitlement": {"operation": "get_entitlements", "ProductCode": "p"},
    "marketplace-agreement": {"operation": "describe_agreement", "agreementId": "agmt-1"},
}


@pytest.mark.parametrize("maker", MAKERS)
def test_every_client_of_aws_marketplace_signs_as_the_role(moto: None, maker: str) -> None:
    """With moto's STS, which says in return whose account an access key is of."""
    keys: list[str] = []
    client = made(maker, SellerRole(ROLE, EXTERNAL_ID))
    signers(client, keys)
    call = dict(CALLS[MAKERS[maker]])
    with pytest.raises(ReadTimeoutError):
        getattr(client, call.pop("operation"))(**call)
    (key,) = set(keys)
    assert key.startswith("ASIA")
    identity: Any = boto3.client("sts", aws_access_key_id=key, aws_secret_access_key="x", region_name="us-east-1")
    assert identity.get_caller_identity()["Account"] == ACCOUNT


@pytest.mark.parametrize("maker", MAKERS)
def test_without_a_role_a_client_signs_as_the_function(moto: None, maker: str) -> None:
    keys: list[str] = []
    client = made(maker, None)
    signers(client, keys)
    call = dict(CALLS[MAKERS[maker]])
    with pytest.raises(ReadTimeoutError):
        getattr(client, call.pop("operation"))(**call)
    assert keys
    assert not [key for key in keys if key.startswith("ASIA")]


def test_clients_of_one_role_share_its_credentials(moto: None) -> None:
    assumed: list[str] = []
    role = SellerRole(ROLE, EXTERNAL_ID, assumed=assumed.append)
    for maker in ("entitlement", "agreement"):
        client, keys = made(maker, role), list[str]()
        signers(client, keys)
        call = dict(CALLS[MAKERS[maker]])
        with pytest.raises(ReadTimeoutError):
            getattr(client, call.pop("operation"))(**call)
    assert len(assumed) == 1
