"""Moments that callers write: exactly the forms that docs/integration.md names, each with one meaning."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketplace.platform.moments import moment_of
from marketplace.seller_api.requests import UsageQuery
from marketplace.usage.record import Rejection
from marketplace.usage.report import UsageReport, parsed


def at(*given: int) -> datetime:
    return datetime(*given, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-02-28T23:30:15Z", at(2027, 2, 28, 23, 30, 15)),
        ("2027-02-28t23:30:15z", at(2027, 2, 28, 23, 30, 15)),
        ("2027-02-28T23:30Z", at(2027, 2, 28, 23, 30)),
        ("2027-02-28T23:30:15.5Z", at(2027, 2, 28, 23, 30, 15, 500_000)),
        ("2027-02-28T23:30:15.123456789Z", at(2027, 2, 28, 23, 30, 15, 123_456)),
        ("2027-02-28T23:30:15-05:30", at(2027, 3, 1, 5, 0, 15)),
        ("2027-02-28T23:30:15+0130", at(2027, 2, 28, 22, 0, 15)),
        ("2028-02-29T00:00:00+00:00", at(2028, 2, 29)),
        ("2028-02-29T00:00:00-00:00", at(2028, 2, 29)),
    ],
)
def test_the_documented_forms_of_a_moment_are_read(text: str, moment: datetime) -> None:
    assert moment_of(text) == moment


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (1_803_857_415, "must be a text"),
        (1_803_857_415.5, "must be a text"),
        (True, "must be a text"),
        ("1803857415", "ISO 8601"),
        ("1803857415000", "ISO 8601"),
        ("1803857415.5", "ISO 8601"),
        ("-1", "ISO 8601"),
        ("2027", "ISO 8601"),
        ("20270228", "ISO 8601"),
        ("", "ISO 8601"),
        ("2027-02-28", "ISO 8601"),
        ("2027-W08-7T23:30:15Z", "ISO 8601"),
        ("20270228T233015Z", "ISO 8601"),
        ("2027-02-28T23Z", "ISO 8601"),
        ("2027-02-28T23:30:15", "ISO 8601"),
        ("2027-02-28 23:30:15Z", "ISO 8601"),
        ("2027-02-28T23:30:15,5Z", "ISO 8601"),
        ("2027-02-28T23:30:15.Z", "ISO 8601"),
        ("2027-02-28T23:30:15.1234567890Z", "ISO 8601"),
        ("2027-02-28T24:00:00Z", "ISO 8601"),
        ("2027-02-28T23:60:00Z", "ISO 8601"),
        ("2027-02-28T23:30:61Z", "ISO 8601"),
        ("2027-02-28T23:30:15+24:00", "ISO 8601"),
        ("2027-02-28T23:30:15+05:60", "ISO 8601"),
        ("2027-02-28T23:30:15+05", "ISO 8601"),
        ("2027-02-28T23:30:15UTC", "ISO 8601"),
        (" 2027-02-28T23:30:15Z", "ISO 8601"),
        ("2027-02-28T23:30:15Z\n", "ISO 8601"),
        ("２０２７-02-28T23:30:15Z", "ISO 8601"),  # noqa: RUF001 - digits of another script
        ("2027-02-28T23:59:60Z", "second 59"),
        ("2027-02-29T00:00:00Z", "no such day"),
        ("2027-13-01T00:00:00Z", "no such day"),
        ("0000-01-01T00:00:00Z", "no such day"),
        ("0001-01-01T00:00:00+00:01", "1 and 9999"),
        ("9999-12-31T23:59:59-00:01", "1 and 9999"),
        ("2027-02-28T23:30:15 05:30", "%2B"),
        ("2027-02-28T23:30 0000", "%2B"),
    ],
)
def test_no_other_text_and_no_number_is_taken_for_a_moment(text: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        moment_of(text)


offsets = st.integers(-(24 * 60 - 1), 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
seconds = st.integers(int(at(2, 1, 1).timestamp()), int(at(9998, 1, 1).timestamp()))


@given(seconds, st.integers(0, 999_999), offsets)
def test_a_moment_is_the_same_in_every_offset(second: int, microsecond: int, offset: timezone) -> None:
    moment = datetime.fromtimestamp(second, UTC).replace(microsecond=microsecond)
    there = moment.astimezone(offset).isoformat()
    assert moment_of(there) == moment
    assert moment_of(there[:-3] + there[-2:]) == moment


alike = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9](:[0-6][0-9]){1,2}([.,][0-9]{1,10})?"
    r"([Zz]|[+ -][0-2][0-9]:?[0-6][0-9])?",
    fullmatch=True,
)


@given(st.text() | alike | alike.map(str.swapcase))
@example("2027-02-28t23:30z")
@example("2027-02-28T23:30:15.987654321+05:30")
def test_whatever_the_reader_takes_the_standard_library_reads_alike(text: str) -> None:
    """Whatever it does not take is a ValueError, never another error and never a guess."""
    try:
        moment = moment_of(text)
    except ValueError:
        return
    assert moment == datetime.fromisoformat(text.upper())
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    ["1803857415", "2027", "2027-02-28", "2027-02-28T23:30:15", "2027-02-28T23:30:15 01:00", "2027-02-28T23:59:60Z"],
)
def test_a_timestamp_and_a_query_refuse_the_same_texts_for_the_same_reason(text: str) -> None:
    record = {"id": "r", "subscription_id": "sub-" + "a" * 26, "dimension": "d", "quantity": 1, "timestamp": text}
    rejection = parsed(record)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.retryable) == ("invalid_timestamp", False)
    with pytest.raises(ValidationError) as refused:
        UsageQuery.model_validate({"from": text})
    (error,) = refused.value.errors()
    assert rejection.message == f"timestamp: {error['msg'].removeprefix('Value error, ')}"


def test_a_timestamp_and_a_query_read_the_same_moment() -> None:
    text = "2027-02-28t23:30:15.25-0530"
    report = parsed(
        {"id": "r", "subscription_id": "sub-" + "a" * 26, "dimension": "d", "quantity": 1, "timestamp": text}
    )
    assert isinstance(report, UsageReport)
    assert report.timestamp == UsageQuery.model_validate({"from": text}).start == at(2027, 3, 1, 5, 0, 15, 250_000)
