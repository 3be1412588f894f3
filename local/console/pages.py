"""The console's pages as responses, from the Jinja2 templates beside this file. Pages load nothing from elsewhere."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from werkzeug import Response

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
}
STATUS = {
    "active": ("good", "Active"),
    "pending": ("wait", "Waiting for AWS Marketplace"),
    "closing": ("wait", "Closing: final usage"),
    "ended": ("", "Ended"),
    "failed": ("bad", "Failed"),
}
STATE = {
    "open": ("", "Open"),
    "metered": ("good", "Metered"),
    "held": ("wait", "Held"),
    "rejected": ("bad", "Rejected"),
    "conflict": ("bad", "Conflict"),
    "unbillable": ("bad", "Not billable"),
}
REASONS = {
    "entitled": "AWS grants it.",
    "active": "The subscription is active.",
    "not_active": "AWS Marketplace has not activated the subscription yet.",
    "account_unknown": "AWS Marketplace has not named the buyer's AWS account yet.",
    "ended": "The subscription has ended.",
    "closing": "The subscription is ending.",
    "failed": "The subscription failed.",
    "expired": "The entitlement has expired.",
    "not_entitled": "AWS grants no such dimension.",
    "quantity_exceeded": "More than AWS grants.",
    "stale": "AWS could not be asked for too long.",
}


def render(template: str, status: int, **values: Any) -> Response:
    """A page."""
    content = _templates.get_template(template).render(values)
    return Response(content, status, HEADERS, content_type="text/html; charset=utf-8")


def as_json(content: Any) -> Response:
    """JSON, laid out for a person."""
    return Response(json.dumps(content, indent=2), content_type="application/json")


def outcome(result: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """What became of one usage record that the API took, in a sentence."""
    if result["status"] == "duplicate":
        return f"Already recorded under the id {record['id']}: counted once."
    late = f"; its own hour, {_iso(result['own_hour'])}, is closed" if "own_hour" in result else ""
    return f"Recorded {record['quantity']} {record['dimension']}, booked to the hour {_iso(result['hour'])}{late}."


def _iso(text: Any) -> str:
    """`2026-11-22 14:00` for an ISO time; an empty text for none."""
    return str(text)[:16].replace("T", " ") if text else ""


def _moment(seconds: float, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _about(detail: Any) -> str:
    """The detail of an event in one line."""
    if not isinstance(detail, dict):
        return json.dumps(detail)
    shown = ((name, value) for name, value in detail.items() if name not in ("id", "time", "schema_version") and value)
    return ", ".join(f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in shown)


def _capitalized(value: Any) -> str:
    return str(value).replace("_", " ").capitalize()


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "iso": _iso,
    "when": lambda seconds: _moment(seconds, "%Y-%m-%d %H:%M:%S"),
    "clock": lambda seconds: _moment(seconds, "%H:%M"),
    "about": _about,
    "capitalized": _capitalized,
    "quoted": lambda text: quote(str(text), safe=""),
    "number": lambda value: f"{value:,}",
}
_templates.globals |= {"STATUS": STATUS, "STATE": STATE, "REASONS": REASONS}
