"""A small threaded HTTP server, for the API and for the console."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, cast

MAX_BODY = 10 * 1024 * 1024
"""API Gateway's quota: the payload size of HTTP APIs."""


class Server:
    """A small threaded HTTP server for one application, closed at once with all its connections."""

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler], application: Any) -> None:
        self._http = _Http((host, port), handler)
        self._http.application = application
        self.port = int(self._http.server_address[1])
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - the address to show
        self.url = f"http://{shown}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    application: Any = None

    def server_bind(self) -> None:
        """Bind without the reverse name look-up of the base class."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error worth a trace."""
        del request, client_address


class RequestHandler(BaseHTTPRequestHandler):
    """What the gateway and the console share: reading a request, sending an answer in one packet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def application(self) -> Any:
        return cast(_Http, self.server).application

    def read_body(self) -> bytes | None:
        """The body; None when it is larger than API Gateway takes, and answered so."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return b"".join(self._chunks())
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            self.send(413, [("content-type", "application/json")], b'{"message":"Request Entity Too Large"}')
            return None
        return self.rfile.read(length) if length else b""

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        phrase = HTTPStatus(status).phrase if status in {item.value for item in HTTPStatus} else ""
        lines = [f"HTTP/1.1 {status} {phrase}"]
        # A header's line ends where the header's value says so, or a value could add headers of its own.
        lines += [f"{name}: {re.sub(r'[\r\n]', ' ', value)}" for name, value in headers if name != "content-length"]
        lines.append(f"content-length: {len(body)}")
        if self.close_connection:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        with suppress(OSError):
            self.wfile.write(head + (b"" if self.command == "HEAD" else body))
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet: the functions' log says what happened."""
