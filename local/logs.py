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
    """Writes lines to one stream, from any thread. `now` stamps them with the emulator's time."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime]) -> None:
        self._stream = stream
        self._now = now
        self._lock = threading.Lock()

    def line(self, who: str, text: str) -> None:
        """One line, with the time and who it is from."""
        with self._lock:
            self._stream.write(f"{self._now():%H:%M:%S}  {who:<18} {text}\n")
            self._stream.flush()

    def printed(self, function: str, line: str) -> None:
        """A line that a function printed; metrics in the embedded format are left out."""
        text = readable(line)
        if text:
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
