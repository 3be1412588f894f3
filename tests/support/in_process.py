"""Stock boto3 clients whose calls the emulator answers in this process, without a socket.

botocore's `before-send` event may answer in place of the network; everything before it (validation, serialisation,
signing) and after it (parsing, error classes, retries) is the SDK's own.
"""

from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from moto.core.models import botocore_stubber

from marketplace_emulator import Drop, Marketplace


class _Body:
    """The part of urllib3's response that botocore reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: object) -> list[bytes]:
        return [self._content]


class InProcess:
    """Answers for whichever emulator is set as `marketplace`, so that one client serves many worlds: making a client
    costs more than a whole simulated day."""

    def __init__(self) -> None:
        self.marketplace: Marketplace | None = None
        self.region = "us-east-1"

    def attach(self, client: Any) -> None:
        # moto would answer the metering API too, and wrongly.
        client.meta.events.unregister("before-send", botocore_stubber)
        client.meta.events.register("before-send", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        assert self.marketplace is not None
        target = request.headers["X-Amz-Target"]
        body = request.body
        answer = self.marketplace.handle(
            target.decode() if isinstance(target, bytes) else target,
            body if isinstance(body, bytes) else str(body).encode(),
            self.region,
        )
        if isinstance(answer, Drop):
            if answer.kind == "timeout":
                raise ReadTimeoutError(endpoint_url=request.url)
            raise ConnectionClosedError(endpoint_url=request.url)
        if answer.truncated:
            raise ConnectionClosedError(endpoint_url=request.url)
        return AWSResponse(request.url, answer.status, HTTPHeaders.from_dict(answer.headers), _Body(answer.body))


_transport = InProcess()
_clients: dict[str, Any] = {}


class _Bound:
    """The shared client of a service, answered by one emulator in one region whichever others are asked in between."""

    def __init__(self, client: Any, marketplace: Marketplace, region: str) -> None:
        self._client = client
        self._place = marketplace, region

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name == "exceptions" or not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            _transport.marketplace, _transport.region = self._place
            return found(*given, **named)

        return call


def client(service: str, marketplace: Marketplace, region: str = "us-east-1") -> Any:
    """A client of `meteringmarketplace`, `marketplace-entitlement` or `marketplace-agreement` without retries, answered
    by this emulator."""
    from botocore.config import Config

    if service not in _clients:
        make: Any = boto3.client
        made = make(
            service,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
        )
        _transport.attach(made)
        _clients[service] = made
    return _Bound(_clients[service], marketplace, region)
