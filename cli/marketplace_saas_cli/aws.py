"""The one place where the command line makes clients of AWS, and where what they raise becomes a sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from marketplace.platform.aws_errors import classified, classified_errors
from marketplace.platform.errors import AwsError
from marketplace_saas_cli.exits import NoAnswerError

REGION = "us-east-1"
"""Where every stack is (template.yaml, rule RightPlace), and AWS Marketplace's entitlements and agreements."""

_CAUSES = {
    "ResourceNotFoundException": "there is no such table or function in this account and region",
    "QueueDoesNotExist": "there is no such queue in this account and region",
    "AWS.SimpleQueueService.NonExistentQueue": "there is no such queue in this account and region",
    "NoCredentialsError": "this shell has no AWS credentials",
    "PartialCredentialsError": "the AWS credentials of this shell are incomplete",
    "CredentialRetrievalError": "the AWS credentials of this shell can't be read",
    "NoRegionError": "this shell has no region; set AWS_DEFAULT_REGION",
    "EndpointConnectionError": "nothing answers at that address",
    "ExpiredToken": "the AWS credentials of this shell have expired",
    "ExpiredTokenException": "the AWS credentials of this shell have expired",
    "InvalidClientTokenId": "AWS does not know the credentials of this shell",
    "UnrecognizedClientException": "AWS does not know the credentials of this shell",
    "ProfileNotFound": "there is no such profile in the AWS configuration of this shell",
}
MAX_WORDS = 300
"""Characters of an error of AWS that are shown."""
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})


class Aws:
    """Clients of one account. `endpoints` lead services to other addresses than AWS's, by their names in boto3; the one
    under `*` is for every other service."""

    def __init__(self, endpoints: Mapping[str, str] | None = None, credentials: tuple[str, ...] = ()) -> None:
        self._endpoints = endpoints or {}
        key, secret, token = (*credentials, None, None, None)[:3]
        with sentences():
            self._session = boto3.Session(
                region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token
            )

    def assuming(self, role_arn: str, external_id: str) -> "Aws":
        """The same with the credentials of a role, for an hour. Raises NoAnswerError."""
        asked = {"RoleArn": role_arn, "RoleSessionName": "marketplace-saas-cli"}
        with sentences():
            given = self.client("sts").assume_role(**asked, **({"ExternalId": external_id} if external_id else {}))
        found = given["Credentials"]
        return Aws(self._endpoints, (found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]))

    @property
    def credentials(self) -> Credentials | None:
        """What requests are signed with."""
        found: Credentials | None = self._session.get_credentials()
        return found

    def client(self, service: str, region: str = REGION, read_timeout: int = 20) -> Any:
        """A client of a service, which waits so many seconds for an answer."""
        made: Any = self._session.client  # the stubs want a literal service name
        return made(
            service,
            region_name=region,
            endpoint_url=self._endpoints.get(service, self._endpoints.get("*")),
            config=Config(
                connect_timeout=3, read_timeout=read_timeout, retries={"mode": "standard", "total_max_attempts": 4}
            ),
        )


def cause_of(error: AwsError) -> str:
    """Why AWS did not do its part, as a sentence."""
    words = " ".join(str(error).split())
    told = words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]}..."
    if error.code in _DENIED:
        return f"AWS denies it to the credentials of this shell ({told})"
    return f"{_CAUSES.get(error.code, 'AWS refused or gave no answer')} ({told})"


@contextmanager
def sentences() -> Iterator[None]:
    """Raises NoAnswerError with a sentence in place of what boto3 and the layer raise of AWS."""
    try:
        with classified_errors():
            yield
    except AwsError as error:
        raise NoAnswerError(cause_of(error)) from error


def why_unasked(error: BotoCoreError | ClientError | AwsError) -> str:
    """Why something could not be asked, for a check that goes on without it."""
    return cause_of(error if isinstance(error, AwsError) else classified(error))


ASKING = (BotoCoreError, ClientError, AwsError)
"""What a question to AWS may raise."""
