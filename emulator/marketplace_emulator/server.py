"""The HTTP server: AWS calls on /, the admin API under /admin, the buyer's pages beside them."""

import json
import re
import socket
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from marketplace_emulator.admin import Admin
from marketplace_emulator.delivery import Target
from marketplace_emulator.errors import ServiceError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.pages import Page, Pages
from marketplace_emulator.wire import Answer, Drop, Reply, failure

VERSION = "0.1.0"
MAX_BODY = 16 * 1024 * 1024

_SCOPE = re.compile(r"^AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request\b")
_REASONS = {200: "OK", 303: "See Other", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


class Server:
    """A running emulator: `url`, and `close()` to stop it at once. Also a context manager."""

    def __init__(self, marketplace: Marketplace, host: str, port: int, targets: tuple[Target, ...] = ()) -> None:
        self.marketplace = marketplace
        self.admin = Admin(marketplace, VERSION)
        self._http = _Http((host, port), self)
        self.host, self.port = host, int(self._http.server_address[1])
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  the address to show, not to bind
        self.url = f"http://{shown}:{self.port}"
        self.pages = Pages(marketplace)
        for target in targets:
            self.admin.add_target(target)
        self._thread = Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="emulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop: no new connections, open ones closed, deliveries ended."""
        self._http.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self.admin.clear_targets()
        self._thread.join(timeout=5)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    marketplace: Marketplace | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    targets: tuple[Target, ...] = (),
) -> Server:
    """Start an emulator in the background; port 0 takes any free port."""
    return Server(marketplace or Marketplace(), host, port, targets)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], app: Server) -> None:
        self.app = app
        self.stopping = Event()
        self._open: set[socket.socket] = set()
        self._open_lock = Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the reverse name look-up of the base class."""
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that closing the server closes it too."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget and close the connection."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the listening socket and every open connection."""
        super().server_close()
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error worth a trace; anything else is one of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"marketplace-emulator/{VERSION}"
    disable_nagle_algorithm = True
    rbufsize = 65536

    @property
    def _app(self) -> Server:
        return cast(_Http, self.server).app

    def do_GET(self) -> None:
        """Pages and the reading half of the admin API."""
        self._dispatch(b"")

    def do_DELETE(self) -> None:
        """The admin API."""
        self._dispatch(b"")

    def do_POST(self) -> None:
        """AWS calls, admin requests and the pages' forms."""
        length = self.headers.get("Content-Length")
        if length is None or not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self._send_json(413 if length else 411, {"error": f"a body needs a Content-Length up to {MAX_BODY}"})
            return
        body = self.rfile.read(int(length))
        target = self.headers.get("X-Amz-Target")
        if target is not None:
            self._answer(self._aws(target, body))
            return
        self._dispatch(body)

    def _dispatch(self, body: bytes) -> None:
        url = urlsplit(self.path)
        path = [unquote(part) for part in url.path.split("/") if part]
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if self.command != "GET" and not self._same_origin():
            self._send_json(403, {"error": "the request comes from another site", "hint": "use this server's pages"})
        elif path[:1] == ["admin"]:
            status, answer = self._app.admin.handle(self.command, path[1:], query, body)
            self._send_json(status, answer)
        else:
            form = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
            self._send_page(self._app.pages.handle(self.command, path, query, form))

    def _same_origin(self) -> bool:
        origin = self.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == self.headers.get("Host")

    def _aws(self, target: str, body: bytes) -> Answer:
        """The region is the one the call was signed for; signatures are not verified."""
        authorization = self.headers.get("Authorization")
        if authorization is None:
            error = ServiceError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
            return failure(target, "", error)
        scope = _SCOPE.match(authorization)
        if scope is None:
            error = ServiceError("IncompleteSignatureException", "Authorization is not an AWS4-HMAC-SHA256 one")
            return failure(target, "", error)
        if scope[2] != "aws-marketplace":
            message = "Credential should be scoped to correct service: 'aws-marketplace'."
            return failure(target, "", ServiceError("InvalidSignatureException", message, 403))
        return self._app.marketplace.handle(target, body, scope[1])

    def _answer(self, answer: Answer) -> None:
        stopping = cast(_Http, self.server).stopping
        if isinstance(answer, Drop):
            if answer.kind == "timeout":
                stopping.wait(answer.seconds)
            self.close_connection = True
            return
        if answer.delay_seconds:
            stopping.wait(answer.delay_seconds)
        self._send(answer)

    def _send_json(self, status: int, data: Any) -> None:
        body = json.dumps(data, indent=2).encode()
        self._send(Reply(status, {"Content-Type": "application/json"}, body))

    def _send_page(self, page: Page) -> None:
        headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", **page.headers}
        self._send(Reply(page.status, headers, page.html.encode()))

    def _send(self, reply: Reply) -> None:
        """Head and body in one write, so that they travel in one packet."""
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines.append(f"Content-Length: {len(reply.body)}")
        if self.close_connection or reply.truncated:
            self.close_connection = True
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        body = reply.body[: len(reply.body) // 2] if reply.truncated else reply.body
        with suppress(OSError):
            self.wfile.write(head + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Quiet: the call log is in the admin API."""
