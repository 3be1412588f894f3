"""The bucket of the archive: an object is written once, and read as a whole."""

import base64
import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from marketplace.archive.content import ArchiveDamagedError
from marketplace.platform.aws_errors import classified, classified_errors
from marketplace.platform.errors import AwsError


class Objects(Protocol):
    """What the archive asks of its bucket."""

    def put_new(self, name: str, content: bytes, /) -> bool: ...
    def get(self, name: str, /) -> bytes: ...


class ArchiveBucket:
    """Methods raise AwsError when S3 gives no answer; an object may have been written then. `new_client` makes the
    client at the first call: most requests to a function that may read the archive need none."""

    def __init__(self, new_client: Callable[[], Any], name: str) -> None:
        self._new_client = new_client
        self._name = name

    @cached_property
    def _client(self) -> Any:
        return self._new_client()

    def put_new(self, name: str, content: bytes) -> bool:
        """Writes an object if there is none of this name; False when there is, be it by an attempt whose answer was
        lost. S3 checks the hash, which a bucket with Object Lock requires too."""
        try:
            self._client.put_object(
                Bucket=self._name,
                Key=name,
                Body=content,
                IfNoneMatch="*",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(content).digest()).decode(),
            )
        except (BotoCoreError, ClientError) as error:
            response: Any = getattr(error, "response", None) or {}
            if response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise classified(error) from error
            return False
        return True

    def get(self, name: str) -> bytes:
        """Raises ArchiveDamagedError where S3 says that there is no such object. To a role that may not list the bucket
        it answers AccessDenied instead (S3 API reference, GetObject)."""
        try:
            with classified_errors():
                content: bytes = self._client.get_object(Bucket=self._name, Key=name)["Body"].read()
        except AwsError as error:
            if error.code == "NoSuchKey":
                raise ArchiveDamagedError(name, "it is not there") from error
            raise
        return content


def archive_of(new_client: Callable[[], Any], name: str) -> ArchiveBucket | None:
    """The archive of a deployment; None of one that has no bucket."""
    return ArchiveBucket(new_client, name) if name else None
