"""Every code that AWS answers has its place in the tree, and what the SDK raises itself too."""

import gzip
import json
from pathlib import Path
from typing import Any, get_args

import botocore
import pytest
from botocore import exceptions as sdk
from botocore.exceptions import BotoCoreError, ClientError

from marketplace.platform.aws_errors import _BY_CODE as TABLE
from marketplace.platform.aws_errors import classified, classified_errors
from marketplace.platform.errors import (
    AwsError,
    ExpiredTokenError,
    InvalidParameterError,
    InvalidTokenError,
    NoAnswerError,
    RecordRefusedError,
    RefusedError,
    SystemicError,
    ThrottledError,
    UnavailableError,
)


def model(service: str) -> dict[str, Any]:
    """botocore's model of a service, read as it is shipped."""
    (found,) = (Path(botocore.__file__).parent / "data" / service).glob("*/service-2.json*")
    content = found.read_bytes()
    parsed: dict[str, Any] = json.loads(gzip.decompress(content) if found.suffix == ".gz" else content)
    return parsed


def codes(service: str) -> set[str]:
    return {name for name, shape in model(service)["shapes"].items() if shape.get("exception")}


def answered(code: str, operation: str = "BatchMeterUsage", status: int = 400) -> AwsError:
    response: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return classified(ClientError(response, operation))


FOR_OTHER_APIS = {
    "CustomerNotEntitledException", "DuplicateRequestException", "IdempotencyConflictException",
    "InvalidEndpointRegionException", "InvalidPublicKeyVersionException", "InvalidRegionException",
    "PlatformNotSupportedException",
}  # fmt: skip
"""What only MeterUsage and RegisterUsage answer."""


def operations_of(service: str, *names: str) -> set[str]:
    operations = model(service)["operations"]
    return {error["shape"] for name in names for error in operations[name]["errors"]}


def test_every_code_of_the_calls_that_are_made_is_in_the_table() -> None:
    called = operations_of("meteringmarketplace", "BatchMeterUsage", "ResolveCustomer")
    called |= operations_of("marketplace-entitlement", "GetEntitlements")
    assert called - set(TABLE) == set()
    assert called & FOR_OTHER_APIS == set()


@pytest.mark.parametrize("service", ["meteringmarketplace", "marketplace-entitlement"])
def test_every_code_of_the_models_is_in_the_table_or_belongs_to_calls_that_are_not_made(service: str) -> None:
    assert codes(service) - set(TABLE) - FOR_OTHER_APIS == set()


@pytest.mark.parametrize("code", sorted(operations_of("meteringmarketplace", "BatchMeterUsage")))
def test_what_batch_meter_usage_answers_is_refused_for_a_record_or_for_everybody(code: str) -> None:
    error = answered(code)
    everybody = {
        "ThrottlingException": ThrottledError,
        "DisabledApiException": SystemicError,
        "InternalServiceErrorException": NoAnswerError,
    }
    assert type(error) is everybody.get(code, RecordRefusedError)
    assert error.code == code


def test_an_internal_error_is_not_taken_for_a_refusal() -> None:
    """InternalServiceErrorException is answered with 500 by the service; its model calls it a fault."""
    assert isinstance(answered("InternalServiceErrorException", status=400), NoAnswerError)
    assert model("meteringmarketplace")["shapes"]["InternalServiceErrorException"]["fault"] is True


@pytest.mark.parametrize(
    ("code", "operation", "kind"),
    [
        ("ExpiredTokenException", "ResolveCustomer", ExpiredTokenError),
        ("InvalidTokenException", "ResolveCustomer", InvalidTokenError),
        ("ExpiredTokenException", "BatchMeterUsage", SystemicError),
        ("ExpiredTokenException", "PutItem", SystemicError),
        ("ExpiredToken", "ResolveCustomer", SystemicError),
        ("AccessDeniedException", "GetEntitlements", SystemicError),
        ("UnrecognizedClientException", "BatchMeterUsage", SystemicError),
        ("InvalidParameterException", "GetEntitlements", InvalidParameterError),
        ("TransactionConflictException", "TransactWriteItems", ThrottledError),
        ("TransactionInProgressException", "TransactWriteItems", NoAnswerError),
        ("ProvisionedThroughputExceededException", "Query", ThrottledError),
    ],
)
def test_codes_that_mean_different_things(code: str, operation: str, kind: type[AwsError]) -> None:
    assert type(answered(code, operation)) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RefusedError), (404, RefusedError), (413, RefusedError), (401, SystemicError), (403, SystemicError),
     (500, NoAnswerError), (503, NoAnswerError), (0, NoAnswerError), (200, NoAnswerError)],
)  # fmt: skip
def test_an_unknown_code_goes_by_its_http_status(status: int, kind: type[AwsError]) -> None:
    error = answered("NeverHeardOfException", status=status)
    assert type(error) is kind
    assert error.code == "NeverHeardOfException"


def test_an_error_without_a_code_leaves_everything_open() -> None:
    assert type(classified(ClientError({}, "BatchMeterUsage"))) is NoAnswerError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sdk.NoCredentialsError(), SystemicError),
        (sdk.PartialCredentialsError(provider="env", cred_var="x"), SystemicError),
        (sdk.CredentialRetrievalError(provider="role", error_msg="x"), SystemicError),
        (sdk.NoRegionError(), SystemicError),
        (sdk.ParamValidationError(report="x"), InvalidParameterError),
        (sdk.ReadTimeoutError(endpoint_url="x"), NoAnswerError),
        (sdk.ConnectTimeoutError(endpoint_url="x"), NoAnswerError),
        (sdk.ConnectionClosedError(endpoint_url="x"), NoAnswerError),
        (sdk.EndpointConnectionError(endpoint_url="x"), NoAnswerError),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), NoAnswerError),
        (sdk.HTTPClientError(error="x"), NoAnswerError),
        (BotoCoreError(), NoAnswerError),
    ],
)
def test_what_the_sdk_raises_is_open_unless_it_never_asked(error: BotoCoreError, kind: type[AwsError]) -> None:
    assert type(classified(error)) is kind
    assert classified(error).code == type(error).__name__


def test_the_class_says_whether_trying_again_can_help() -> None:
    for kind in TABLE.values():
        assert issubclass(kind, RefusedError) != issubclass(kind, UnavailableError)


def test_errors_are_raised_in_place_of_those_of_the_sdk_with_their_cause() -> None:
    cause = sdk.ReadTimeoutError(endpoint_url="x")
    with pytest.raises(NoAnswerError) as raised, classified_errors():
        raise cause
    assert raised.value.__cause__ is cause
    with pytest.raises(KeyError), classified_errors():
        raise KeyError


def test_an_error_names_its_code_and_message() -> None:
    assert str(AwsError("Code", "text")) == "Code: text"
    assert str(AwsError("Code")) == "Code"
    assert get_args(AwsError) == ()
