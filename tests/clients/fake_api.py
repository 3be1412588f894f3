"""The API as a client meets it: it counts records by id as the real one does, and gives the answers that a test asks
for. Every request has to carry a valid signature, which botocore computes again."""

import json
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEYS = Credentials("AKIDEXAMPLE", "secret", "session")
MAX_BODY = 2_097_152
MAX_RECORDS = 500


@dataclass(frozen=True)
class Answer:
    """An answer in place of the real one; nothing is counted."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None


LOST = "the records are counted, and the answer is lost"
CLOSED = "the connection is closed before anything is counted"
KILLED = "the records are counted, and the client is killed"


class FakeApi:
    """`next` says how the coming requests are answered; `results` what a record is answered, once for each entry.
    A request with a record of `poison` is refused, one with a record of `broken` fails."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[list[str]] = []
        self.targets: list[tuple[str, str, Any]] = []
        self.sizes: list[int] = []
        self.unsigned: list[str] = []
        self.next: deque[Answer | str] = deque()
        self.results: dict[str, deque[dict[str, Any]]] = {}
        self.always: dict[str, dict[str, Any]] = {}
        self.poison: set[str] = set()
        self.broken: set[str] = set()
        self.client = 0
        self._lock = Lock()

    def reject(self, record: str, reason: str, *, retryable: bool, times: int | None = 1) -> None:
        """Have a record rejected so many times, or always."""
        result = {"id": record, "status": "rejected", "reason": reason, "message": "so it is", "retryable": retryable}
        if times is None:
            self.always[record] = result
        else:
            self.results.setdefault(record, deque()).extend([result] * times)

    @property
    def sent(self) -> list[str]:
        """The ids of all records of all requests, in order."""
        return [record for request in self.requests for record in request]

    def answer(self, method: str, target: str, body: bytes) -> Answer | None:
        """The answer to a request, or None to give none."""
        with self._lock:
            self.targets.append((method, target, json.loads(body) if body else None))
            how = self.next.popleft() if self.next else None
            if isinstance(how, Answer) or how == CLOSED:
                return how if isinstance(how, Answer) else None
            answer = self._usage(body) if target == "/usage" else Answer(200, {"target": target})
            if how == KILLED:
                os.kill(self.client, signal.SIGKILL)
            return None if how in (LOST, KILLED) else answer

    def _usage(self, body: bytes) -> Answer:
        records = json.loads(body)["records"]
        self.requests.append([record["id"] for record in records])
        self.sizes.append(len(body))
        if len(body) > MAX_BODY:
            return Answer(413, {"error": {"code": "request_too_large", "message": "send fewer"}})
        if len(records) > MAX_RECORDS or any(record["id"] in self.poison for record in records):
            return Answer(400, {"error": {"code": "invalid_body", "message": "not like this"}})
        if any(record["id"] in self.broken for record in records):
            return Answer(500, {"error": {"code": "internal_error", "message": "a fault of the service"}})
        return Answer(200, {"results": [self._result(record) for record in records]})

    def _result(self, record: dict[str, Any]) -> dict[str, Any]:
        key = (record.get("subscription_id") or record["license_arn"], record["id"])
        if key in self.counted:
            if self.counted[key] == record:
                return {"id": record["id"], "status": "duplicate", "hour": "2026-11-22T12:00:00Z"}
            return {
                "id": record["id"],
                "status": "conflict",
                "reason": "other_content",
                "message": "",
                "retryable": False,
            }
        if planned := self.results.get(record["id"]):
            return planned.popleft()
        if record["id"] in self.always:
            return self.always[record["id"]]
        self.counted[key] = record
        return {"id": record["id"], "status": "recorded", "hour": "2026-11-22T12:00:00Z"}


def is_signed(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a request carries the signature that botocore computes for it (SigV4, service execute-api)."""
    given = {name.lower(): value for name, value in headers.items()}
    parts = dict(
        part.strip().split("=", 1) for part in given.get("authorization", " ").partition(" ")[2].split(",") if part
    )
    signed = {name: given.get(name, "") for name in parts.get("SignedHeaders", "").split(";")}
    path, _, query = url.partition("?")
    request = AWSRequest(method, path, headers=signed, data=body, params=dict(parse_qsl(query, True)))
    request.context["timestamp"] = given.get("x-amz-date", "")
    signer = SigV4Auth(KEYS, "execute-api", "us-east-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return given.get("x-amz-security-token") == KEYS.token and parts.get("Signature") == signer.signature(text, request)


@contextmanager
def serving(api: FakeApi) -> Iterator[str]:
    """Serve the API for the length of a `with` block, which gets its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if not is_signed(self.command, f"{address}{self.path}", dict(self.headers.items()), body):
                api.unsigned.append(self.path)
                answer: Answer | None = Answer(403, {"message": "Forbidden"})
            else:
                answer = api.answer(self.command, self.path, body)
            if answer is None:
                self.close_connection = True
                return
            content = (json.dumps(answer.body) if answer.text is None else answer.text).encode()
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's name for it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
