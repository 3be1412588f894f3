"""The bucket in memory answers the archive as moto's S3 does."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from marketplace.archive.bucket import ArchiveBucket
from marketplace.platform.errors import AwsError
from tests.support.memory_s3 import MemoryS3


@pytest.fixture(params=["memory", "moto"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryS3()
        return
    with mock_aws():
        made: Any = boto3.client("s3", region_name="us-east-1")
        made.create_bucket(Bucket="archive")
        yield made


@pytest.mark.parametrize("content", [b"", b"one\n", bytes(range(256)) * 1000])
def test_an_object_is_written_once_and_read_as_a_whole(client: Any, content: bytes) -> None:
    bucket = ArchiveBucket(lambda: client, "archive")
    assert bucket.put_new("usage/a/b.jsonl.gz", content)
    assert not bucket.put_new("usage/a/b.jsonl.gz", b"other")
    assert bucket.get("usage/a/b.jsonl.gz") == content


def test_what_is_not_there_is_an_error(client: Any) -> None:
    with pytest.raises(AwsError):
        ArchiveBucket(lambda: client, "archive").get("usage/none")
