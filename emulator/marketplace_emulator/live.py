"""Tells open pages that something they show has changed: server-sent events, which static/live.js listens to."""

from collections.abc import Callable, Iterator
from threading import Event

from werkzeug.wrappers import Response

LOOK_SECONDS = 0.5
SILENT_LOOKS = 20
"""After so many looks without a change a comment is sent, so that a connection that is gone is noticed."""


def changes(version: Callable[[], str], since: str, stopping: Event) -> Response:
    """A stream with one event for each new version, from the version `since` on, which the page shows."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(_events(version, since, stopping), headers=headers, mimetype="text/event-stream")


def _events(version: Callable[[], str], since: str, stopping: Event) -> Iterator[bytes]:
    yield b"retry: 2000\n\n"
    silent = 0
    while not stopping.is_set():
        now = version()
        if now != since:
            since, silent = now, 0
            yield f"data: {now}\n\n".encode()
        elif silent >= SILENT_LOOKS:
            silent = 0
            yield b": nothing new\n\n"
        silent += 1
        stopping.wait(LOOK_SECONDS)
