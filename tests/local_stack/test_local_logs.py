"""What the functions print, as a person reads it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from local.logs import Log, readable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain text", "plain text"),
        ("{not JSON", "{not JSON"),
        ('{"statusCode": 200}', '{"statusCode": 200}'),
        (json.dumps({"level": "INFO", "message": "metering run", "service": "s", "due": 2}), "metering run  due=2"),
        (json.dumps({"level": "ERROR", "message": {"a": 1}, "error": None}), 'ERROR {"a":1}'),
        (json.dumps({"_aws": {}, "UsageMetered": 1}), ""),
    ],
)
def test_a_log_line_is_its_message_and_what_belongs_to_it(line: str, shown: str) -> None:
    assert readable(line) == shown


def test_lines_carry_the_emulator_s_time_and_metrics_are_left_out() -> None:
    stream = io.StringIO()
    log = Log(stream, lambda: datetime(2026, 11, 22, 12, 10, 5, tzinfo=UTC))
    log.printed("MeterUsageFunction", '{"_aws": {}}')
    log.printed("MeterUsageFunction", "hello")

    assert stream.getvalue() == "12:10:05  MeterUsage         hello\n"
