"""The HTTP server, on Werkzeug: AWS calls by X-Amz-Target, the admin API under /admin, pages everywhere else."""

import json
import re
import socket
import traceback
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.utils import send_from_directory
from werkzeug.wrappers import Request, Response

from marketplace_emulator.admin import Admin, File
from marketplace_emulator.delivery import Target
from marketplace_emulator.errors import ServiceError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.pages import Pages
from marketplace_emulator.trail import Caller
from marketplace_emulator.views import STATIC
from marketplace_emulator.wire import Answer, Drop, failure, internal_error, signing_name

VERSION = "0.2.0"
MAX_BODY = 16 * 1024 * 1024
BACKLOG = 256

_SCOPE = re.compile(r"^AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request\b")


class Server:
    """A running emulator: `url`, and `close()` to stop it. Also a context manager."""

    def __init__(self, marketplace: Marketplace, host: str, port: int, targets: tuple[Target, ...] = ()) -> None:
        self.marketplace = marketplace
        self.admin = Admin(marketplace, VERSION)
        self._stopping = Event()
        self.pages = Pages(marketplace, self._stopping)
        self.connections: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Werkzeug ends the process if it cannot bind an address; a socket of our own raises OSError.
        with socket.create_server((host, port), family=family, backlog=BACKLOG) as listening:
            # The handler calls `answer` itself, so this object stands in the place of a WSGI application.
            self._http = make_server(
                host, port, cast(Any, self), threaded=True, request_handler=_Handler, fd=listening.fileno()
            )
        self.host, self.port = host, self._http.port
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  the address to show, not to bind
        self.url = f"http://{shown}:{self.port}"
        for target in targets:
            self.admin.add_target(target)
        self._thread = Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="emulator", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop accepting connections, close open ones, end deliveries."""
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self.connections):
            _hang_up(connection)
        self.admin.clear_targets()
        self._thread.join(timeout=5)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, request: Request) -> Response:
        """Return the response to one request. An unexpected exception is logged with its traceback and answered 500."""
        try:
            return self._dispatch(request)
        except HTTPException as error:
            return _last_response(Response.force_type(error.get_response(request.environ)))
        except Exception:
            traceback.print_exc()
            message = "an error of the emulator itself; its traceback is in the log"
            target = request.headers.get("X-Amz-Target")
            if target is not None and request.method == "POST":
                return self._respond(failure(target, "", ServiceError(internal_error(target), message, 500)), request)
            return _json(500, {"error": message})

    def _dispatch(self, request: Request) -> Response:
        length = request.content_length
        if (length is None and request.method == "POST") or (length or 0) > MAX_BODY:
            refused = {"error": f"a body needs a Content-Length up to {MAX_BODY}"}
            return _last_response(_json(413 if length else 411, refused))
        body = request.get_data()  # always read, because the next request follows it on the same connection
        target = request.headers.get("X-Amz-Target")
        if target is not None and request.method == "POST":
            return self._respond(self._aws(target, body, request), request)
        url = urlsplit(request.environ["REQUEST_URI"])
        path = [unquote(part) for part in url.path.split("/") if part]
        if request.method != "GET" and not _same_origin(request):
            return _json(403, {"error": "the request comes from another site", "hint": "use this server's pages"})
        if path[:1] == ["admin"]:
            return _admin(*self.admin.handle(request.method, path[1:], _last(request.args), body))
        if path[:1] == ["static"]:
            return send_from_directory(STATIC, "/".join(path[1:]), request.environ)
        return self.pages.handle(request.method, path, _last(request.args), _last(request.form))

    def _aws(self, target: str, body: bytes, request: Request) -> Answer:
        """Answer an AWS call in the region that it was signed for. Signatures are not verified."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            error = ServiceError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
            return failure(target, "", error)
        scope = _SCOPE.match(authorization)
        if scope is None:
            error = ServiceError("IncompleteSignatureException", "Authorization is not an AWS4-HMAC-SHA256 one")
            return failure(target, "", error)
        access_key, region, service = scope.groups()
        if service != signing_name(target):
            message = f"Credential should be scoped to correct service: '{signing_name(target)}'."
            return failure(target, "", ServiceError("InvalidSignatureException", message, 403))
        caller = Caller(access_key, request.remote_addr or "", request.headers.get("User-Agent", ""))
        return self.marketplace.handle(target, body, region, caller)

    def _respond(self, answer: Answer, request: Request) -> Response:
        if isinstance(answer, Drop):
            if answer.kind == "timeout":
                self._stopping.wait(answer.seconds)
            _hang_up(request.environ["werkzeug.socket"])
            return _last_response(Response())
        if answer.delay_seconds:
            self._stopping.wait(answer.delay_seconds)
        response = Response(answer.body, answer.status, answer.headers)
        if answer.truncated:
            response.data = answer.body[: len(answer.body) // 2]
            response.content_length = len(answer.body)
            return _last_response(response)
        return response


def serve(
    marketplace: Marketplace | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    targets: tuple[Target, ...] = (),
) -> Server:
    """Start an emulator in the background. Port 0 takes any free port. Raises OSError if the address is not free."""
    return Server(marketplace or Marketplace(), host, port, targets)


class _Handler(WSGIRequestHandler):
    """Keeps connections open between requests, as AWS does; Werkzeug's own handler closes them after each one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = wbufsize = 65536

    @property
    def _app(self) -> Server:
        return cast(Server, self.server.app)

    def setup(self) -> None:
        """Register the connection, so that `Server.close` can close it."""
        super().setup()
        self._app.connections.add(self.connection)

    def finish(self) -> None:
        """Close the connection, which the client or a fault may have done already."""
        self._app.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()
        self.rfile.close()

    def run_wsgi(self) -> None:
        """Answer one request, headers and body in one write."""
        request = Request(self.make_environ())
        response = self._app.answer(request)
        # A stream has no length, so its end is the connection's.
        is_stream = response.mimetype == "text/event-stream"
        if is_stream or "Transfer-Encoding" in self.headers or response.headers.get("Connection") == "close":
            self.close_connection = True
        if self.close_connection:
            response.headers["Connection"] = "close"
        body, status, headers = response.get_wsgi_response(request.environ)
        self.send_response_only(int(status[:3]), status[4:])
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if is_stream:
            self._stream(body)
        else:
            self.wfile.writelines(body)
            self.wfile.flush()
        response.close()

    def _stream(self, body: Iterable[bytes]) -> None:
        """Send each part as it comes, until the client has gone."""
        with suppress(OSError):
            for part in body:
                self.wfile.write(part)
                self.wfile.flush()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  the base class names it so
        """Log nothing per request: the calls are in the admin API."""


def _same_origin(request: Request) -> bool:
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")


def _last(values: MultiDict[str, str]) -> dict[str, str]:
    """The last value of each name, without empty values."""
    return {name: found[-1] for name, found in values.lists() if found[-1]}


def _admin(status: int, data: Any) -> Response:
    if isinstance(data, File):
        return Response(data.content, status, content_type=data.content_type)
    return _json(status, data)


def _json(status: int, data: Any) -> Response:
    return Response(json.dumps(data, indent=2), status, content_type="application/json")


def _last_response(response: Response) -> Response:
    """The last response of its connection: what the client sends after it is not read."""
    response.headers["Connection"] = "close"
    return response


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
