"""One bucket of S3 in memory, as the archive uses it; tests/contract/test_memory_s3.py compares it with moto's."""

import base64
import hashlib
import io
from typing import Any

from tests.support.memory_dynamodb import aws_error


class MemoryS3:
    """A client's calls. `objects` is what the bucket holds, by name."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, **given: Any) -> dict[str, Any]:
        assert given.keys() == {"Bucket", "Key", "Body", "IfNoneMatch", "ChecksumSHA256"}
        assert given["IfNoneMatch"] == "*"
        if given["Key"] in self.objects:
            raise aws_error("PreconditionFailed", "PutObject", status=412)
        if base64.b64decode(given["ChecksumSHA256"]) != hashlib.sha256(given["Body"]).digest():
            raise aws_error("BadDigest", "PutObject", status=400)
        self.objects[given["Key"]] = given["Body"]
        return {}

    def get_object(self, **given: Any) -> dict[str, Any]:
        """A name that is not there is answered as to one who may not list the bucket (S3 API reference, GetObject)."""
        assert given.keys() == {"Bucket", "Key"}
        if given["Key"] not in self.objects:
            raise aws_error("AccessDenied", "GetObject", status=403)
        return {"Body": io.BytesIO(self.objects[given["Key"]])}
