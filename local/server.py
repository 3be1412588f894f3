"""A threaded HTTP server on Werkzeug. The HTTP API, the console and moto each run on one."""

import json
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from werkzeug import Request, Response
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.serving import WSGIRequestHandler, make_server, select_address_family

MAX_BODY = 10 * 1024 * 1024
"""API Gateway's quota: the payload size of HTTP APIs, in bytes."""
BACKLOG = 256

_log = logging.getLogger(__name__)


class Server:
    """An HTTP server in the background, from construction to `stop`.

    `respond` answers each request, in a thread of its own. What it raises is logged with its traceback and answered
    with status 500. A request body above MAX_BODY is answered with status 413. Port 0 takes any free port. Raises
    OSError when the server can't listen there.
    """

    def __init__(self, host: str, port: int, respond: Callable[[Request], Response]) -> None:
        self._respond = respond
        # make_server ends the process when a port is taken, so the socket is made here.
        with socket.create_server((host, port), family=select_address_family(host, port), backlog=BACKLOG) as listening:
            self._http = make_server(
                host, port, self._application, threaded=True, request_handler=_Handler, fd=listening.fileno()
            )
        self.port = self._http.port
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - the address to show
        self.url = f"http://{shown}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests."""
        self._http.shutdown()
        self._thread.join()

    def _application(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        request.max_content_length = request.max_form_memory_size = MAX_BODY
        try:
            response = self._respond(request)
        except RequestEntityTooLarge:
            response = failure(413, "Request Entity Too Large")
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            response = failure(500, "Internal Server Error")
        return response(environ, start_response)


def failure(status: int, message: str) -> Response:
    """An error as API Gateway answers it."""
    return Response(json.dumps({"message": message}, separators=(",", ":")), status, content_type="application/json")


class _Handler(WSGIRequestHandler):
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet

    def finish(self) -> None:
        """Close the connection, which the client may have done already."""
        with suppress(OSError):
            super().finish()
        self.rfile.close()

    def log_request(self, *_: object) -> None:
        """Log no requests: the functions' log says what happened."""
