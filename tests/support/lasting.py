"""Clients that all tests on moto share, because making one takes longer than most tests. moto forgets its state between
tests, and a client holds none."""

from functools import cache
from typing import Any

import boto3


@cache
def client(service: str) -> Any:
    """A client of this service, for tests that run under moto."""
    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
