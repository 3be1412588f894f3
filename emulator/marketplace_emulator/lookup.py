"""LookupEvents of CloudTrail: the events of a region's last 90 days, the newest first, in pages.

Source: botocore model of cloudtrail (2013-11-01): at most one attribute, 50 events a page, a token that belongs to its
request, and each error's name.
"""

from typing import Any

from marketplace_emulator import paging
from marketplace_emulator.clock import DAY
from marketplace_emulator.errors import ServiceError, serialization
from marketplace_emulator.settings import Settings
from marketplace_emulator.trail import Trail, summary

MAX_PAGE = 50
KEPT = 90 * DAY
_ATTRIBUTES = {
    "EventId": "EventId",
    "EventName": "EventName",
    "ReadOnly": "ReadOnly",
    "Username": "Username",
    "EventSource": "EventSource",
    "AccessKeyId": "AccessKeyId",
}
_ALWAYS_EMPTY = ("ResourceType", "ResourceName")
_LATEST = 253_402_300_799.0


class LookupService:
    """Answers LookupEvents from a trail."""

    def __init__(self, settings: Settings, trail: Trail) -> None:
        self._settings = settings
        self._trail = trail

    def lookup_events(self, request: dict[str, Any], region: str, now: float) -> dict[str, Any]:
        """An event can be looked up `trail_delay_seconds` after its call, and for 90 days. A token goes on among the
        events of its first page; later ones do not move them."""
        wanted = _attribute(request.get("LookupAttributes"))
        start, end = _moment(request, "StartTime", 0.0), _moment(request, "EndTime", _LATEST)
        if start > end:
            raise ServiceError("InvalidTimeRangeException", "StartTime is after EndTime")
        if request.get("EventCategory") not in (None, "insight"):
            raise ServiceError("InvalidEventCategoryException", "EventCategory is insight, or is left out")
        size = request.get("MaxResults", MAX_PAGE)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_PAGE:
            raise ServiceError("InvalidMaxResultsException", f"MaxResults is between 1 and {MAX_PAGE}")
        query = ["LookupEvents", region, wanted, start, end]
        until, offset = int((now - self._settings.trail_delay_seconds) * 1000), 0
        if request.get("NextToken") is not None:
            try:
                until, offset = paging.read(request["NextToken"], query, 2)
            except paging.TokenError as error:
                raise ServiceError("InvalidNextTokenException", f"NextToken {error}") from None
        if request.get("EventCategory") == "insight":
            return {"Events": []}
        since = max(start, now - KEPT)
        events = self._trail.events(since=since, until=min(end, until / 1000), region=region)
        found = [shown for shown in map(summary, events) if wanted is None or shown.get(wanted[0]) == wanted[1]][::-1]
        answer: dict[str, Any] = {"Events": found[offset : offset + size]}
        if offset + size < len(found):
            answer["NextToken"] = paging.made(query, until, offset + size)
        return answer


def _attribute(given: Any) -> list[str] | None:
    """The name of the member that is compared, and its value."""
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise serialization("LookupAttributes is not a list")
    if len(given) != 1 or not isinstance(given[0], dict):
        raise ServiceError("InvalidLookupAttributesException", "LookupAttributes holds one attribute")
    key, value = given[0].get("AttributeKey"), given[0].get("AttributeValue")
    if not isinstance(key, str) or not isinstance(value, str) or not 1 <= len(value) <= 2000:
        raise ServiceError("InvalidLookupAttributesException", "an attribute has an AttributeKey and an AttributeValue")
    if key in _ALWAYS_EMPTY:
        return [key, value]
    if key not in _ATTRIBUTES:
        raise ServiceError("InvalidLookupAttributesException", f"{key} is no attribute of an event")
    return [_ATTRIBUTES[key], value]


def _moment(request: dict[str, Any], name: str, default: float) -> float:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise serialization(f"{name} is not a time")
    if not 0 <= value <= _LATEST:
        raise ServiceError("InvalidTimeRangeException", f"{name} is out of range")
    return float(value)
