"""What the scan of every log line of the suite takes for an identifier, and what it lets through."""

import json

import pytest
from aws_lambda_powertools import Logger

from marketplace.registration.codes import new_code
from marketplace_emulator import Marketplace
from tests.support import log_scan


def line(**members: object) -> str:
    return json.dumps({"message": "m", "function_arn": "arn:aws:lambda:us-east-1:222233334444:function:f", **members})


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("jo@buyer.example", "an e-mail address"),
        ("AccessDenied for 111122223333", "an AWS account id"),
        ({"deep": ["arn:aws:sts::444455556666:assumed-role/x"]}, "an AWS account id"),
        ("arn:aws:license-manager::294406891311:license:l-0123", "a licence ARN"),
        ("x-amzn-marketplace-token=abc", "a registration token"),
        ("ASIAEXAMPLEEXAMPLE12", "a session's credentials"),
    ],
)
def test_an_identifier_is_found_wherever_it_stands(value: object, what: str) -> None:
    assert what in log_scan.identifiers_in(line(error=value))


def test_the_codes_and_tokens_that_are_really_given_out_are_found() -> None:
    marketplace = Marketplace()
    token = marketplace.registration_token(marketplace.purchases.subscribe().id)
    assert "a registration token" in log_scan.identifiers_in(line(error=f"bad {token}"))
    for _ in range(50):
        assert log_scan.identifiers_in(line(error=f"KeyError {new_code()}")) == ["a registration code"]


@pytest.mark.parametrize(
    "members",
    [
        {"subscription_id": "sub-wjfun54a47bdgnfj74jbzsqof3", "outcome": "applied"},
        {"message_id": "8edd66b9-2c4e-e85f-abdc-a03e55d4fc28", "at": ["handle:112"]},
        {"seller_account": "777788889999", "session": "arn:aws:sts::777788889999:assumed-role/seller/marketplace-saas"},
        {"quantity": 123456789012345, "hour": "2026-11-18T12:00:00Z", "units": {"metered": 21}},
    ],
)
def test_what_is_logged_by_design_is_not_found(members: dict[str, object]) -> None:
    assert log_scan.identifiers_in(line(**members)) == []


def test_every_line_of_a_function_is_read() -> None:
    Logger(service="log-scan-test").info("hello", extra={"of": "somebody"})
    assert [json.loads(one)["of"] for one in log_scan._lines] == ["somebody"]
