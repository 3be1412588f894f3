"""Every error code that AWS answers, in one table, and every error that the SDK raises, as members of the tree in
marketplace.platform.errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)

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


class SellerRoleError(CredentialRetrievalError):
    """STS gave no usable credentials of the seller's role; the call that needed them was not sent."""


# Codes as in the botocore models of meteringmarketplace, marketplace-entitlement and marketplace-agreement, and AWS's
# common errors. A code that is not here is classed by its HTTP status.
_BY_CODE: dict[str, type[AwsError]] = {
    "ExpiredTokenException": ExpiredTokenError,
    "InvalidTokenException": InvalidTokenError,
    "InvalidUsageDimensionException": RecordRefusedError,
    "InvalidLicenseException": RecordRefusedError,
    "InvalidTagException": RecordRefusedError,
    "InvalidUsageAllocationsException": RecordRefusedError,
    "InvalidCustomerIdentifierException": RecordRefusedError,
    "InvalidProductCodeException": RecordRefusedError,
    "TimestampOutOfBoundsException": RecordRefusedError,
    "ValidationException": InvalidParameterError,
    "InvalidParameterException": InvalidParameterError,
    "InvalidParameterValue": InvalidParameterError,
    "ThrottlingException": ThrottledError,
    "Throttling": ThrottledError,
    "ThrottledException": ThrottledError,
    "RequestThrottled": ThrottledError,
    "RequestThrottledException": ThrottledError,
    "TooManyRequestsException": ThrottledError,
    "RequestLimitExceeded": ThrottledError,
    "ProvisionedThroughputExceededException": ThrottledError,
    "ProvisionedThroughputExceeded": ThrottledError,
    "ThrottlingError": ThrottledError,
    "SlowDown": ThrottledError,
    "TransactionConflictException": ThrottledError,
    "TransactionConflict": ThrottledError,
    "TransactionInProgressException": NoAnswerError,
    "DisabledApiException": SystemicError,
    "AccessDeniedException": SystemicError,
    "AccessDenied": SystemicError,
    "UnrecognizedClientException": SystemicError,
    "InvalidClientTokenId": SystemicError,
    "ExpiredToken": SystemicError,
    "RequestExpired": SystemicError,
    "InvalidSignatureException": SystemicError,
    "SignatureDoesNotMatch": SystemicError,
    "IncompleteSignature": SystemicError,
    "MissingAuthenticationTokenException": SystemicError,
    "MissingAuthenticationToken": SystemicError,
    "OptInRequired": SystemicError,
    "NotAuthorized": SystemicError,
    "InternalServiceErrorException": NoAnswerError,
    "InternalServerException": NoAnswerError,
    "InternalFailure": NoAnswerError,
    "InternalServerError": NoAnswerError,
    "ServiceUnavailable": NoAnswerError,
    "ServiceUnavailableException": NoAnswerError,
}


# What the SDK raises before it asks AWS. Whatever else it raises (timeouts, lost connections, answers that can't be
# parsed) leaves open whether AWS has acted.
_CLIENT_SIDE: dict[type[BotoCoreError], type[AwsError]] = {
    ParamValidationError: InvalidParameterError,
    NoCredentialsError: SystemicError,
    PartialCredentialsError: SystemicError,
    CredentialRetrievalError: SystemicError,
    SellerRoleError: SystemicError,
    NoRegionError: SystemicError,
}


# ResolveCustomer's token error and STS's expired credentials share a name on some endpoints; only ResolveCustomer
# takes a registration token, so elsewhere this code speaks of the credentials.
_TOKEN_OPERATION = "ResolveCustomer"  # noqa: S105 - an operation, not a secret


def classified(error: BotoCoreError | ClientError, operation: str = "") -> AwsError:
    """The error of a call to AWS as a member of the tree above; decided on codes and classes, never on texts."""
    if not isinstance(error, ClientError):
        return _CLIENT_SIDE.get(type(error), NoAnswerError)(type(error).__name__, str(error))
    code = str(error.response.get("Error", {}).get("Code", "Unknown"))
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code == "ExpiredTokenException" and (operation or error.operation_name) != _TOKEN_OPERATION:
        return SystemicError(code, message)
    known = _BY_CODE.get(code)
    if known is None:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        known = SystemicError if status in {401, 403} else RefusedError if 400 <= status < 500 else NoAnswerError
    return known(code, message)


def statement_error(code: str) -> UnavailableError:
    """The error of a PartiQL statement that DynamoDB would not carry out, by the code in its answer. Its text is ours,
    so whatever is wrong is wrong for every statement."""
    known = _BY_CODE.get(code, SystemicError)
    return (known if issubclass(known, UnavailableError) else SystemicError)(code, "DynamoDB carried out no statement")


@contextmanager
def classified_errors() -> Iterator[None]:
    """Raises AwsError in place of whatever boto3 raises inside."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise classified(error) from error
