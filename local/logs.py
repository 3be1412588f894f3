"""What the functions print, one readable line each."""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TextIO

_KNOWN = frozenset(
    {
        *("level", "location", "message", "timestamp", "service", "cold_start", "function_name", "function_arn"),
        *("function_memory_size", "function_request_id", "correlation_id", "xray_trace_id", "sampling_rate"),
    }
)


class Log:
    """Writes lines to one stream, from any thread. `now` stamps them with the emulator's time. `quiet`: scheduled runs
    that find nothing to do are counted, in one line before the next other one."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime], *, quiet: bool = False) -> None:
        self._stream = stream
        self._now = now
        self._quiet = quiet
        self._lock = threading.RLock()
        self._held: dict[str, list[str]] = {}
        self._idle: dict[str, list[datetime]] = {}

    def hold(self, function: str) -> None:
        """Keep what the function prints until `release`."""
        if self._quiet:
            with self._lock:
                self._held[function] = []

    def release(self, function: str, *, idle: bool) -> None:
        """Write what was kept; of a run that was idle and printed no warning only the number of such runs."""
        with self._lock:
            kept = self._held.pop(function, [])
            if idle and kept and not any(line.startswith(("WARNING", "ERROR", "CRITICAL")) for line in kept):
                self._idle.setdefault(function, []).append(self._now())
                return
            for text in kept:
                self.line(function.removesuffix("Function"), text)

    def close(self) -> None:
        """Write what is still to be said of idle runs."""
        with self._lock:
            self._summarise()

    def _summarise(self) -> None:
        idle, self._idle = self._idle, {}
        for function, moments in idle.items():
            runs = f"{len(moments)} run{'' if len(moments) == 1 else 's'} found nothing to do"
            since = "" if len(moments) == 1 else f", the first at {moments[0]:%Y-%m-%d %H:%M}"
            self._write(moments[-1], function.removesuffix("Function"), f"{runs}{since}")

    def _write(self, moment: datetime, who: str, text: str) -> None:
        self._stream.write(f"{moment:%H:%M:%S}  {who:<18} {text}\n")
        self._stream.flush()

    def line(self, who: str, text: str) -> None:
        """One line, with the time and who it is from."""
        with self._lock:
            self._summarise()
            self._write(self._now(), who, text)

    def printed(self, function: str, line: str) -> None:
        """A line that a function printed; metrics in the embedded format are left out."""
        text = readable(line)
        with self._lock:
            if text and function in self._held:
                self._held[function].append(text)
            elif text:
                self.line(function.removesuffix("Function"), text)


def readable(line: str) -> str:
    """A log line of Powertools as text: level, message, then the other members; what isn't one, as it stands."""
    if not line.startswith("{"):
        return line
    try:
        content: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return line
    if "_aws" in content:
        return ""
    if "message" not in content:
        return line
    level = content.get("level", "INFO")
    extra = " ".join(
        f"{name}={_short(value)}" for name, value in content.items() if name not in _KNOWN and value not in (None, "")
    )
    return f"{'' if level == 'INFO' else f'{level} '}{_short(content['message'])}  {extra}".rstrip()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
