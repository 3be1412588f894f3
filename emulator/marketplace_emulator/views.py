"""What the pages of the emulator and of the seller's console share: templates, filters, headers, pages of a list."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader
from werkzeug.wrappers import Response

from marketplace_emulator.clock import HOUR, iso_seconds, to_datetime
from marketplace_emulator.story import Story

STATIC = Path(__file__).parent / "static"
PAGE_SIZE = 20
_KEPT_IN_URL = "/?&=%#:+,;@!$'()*~"
"""What stays as it is in an address; line ends and the like are encoded."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link in the bar; `current` marks the page that is shown."""

    url: str
    text: str
    current: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds every page: the bar with the links and the clock, and the story.

    `site` is `marketplace` or `application`. `clock_buttons` are pairs of the value that moves the clock and the text.
    `back` is the page that moving the clock leads back to. `version` is what the page shows; see live.py.
    """

    site: str
    links: Sequence[Link]
    other: Link | None
    now: float
    frozen: bool
    clock_action: str
    clock_buttons: Sequence[tuple[str, str]]
    back: str
    version: str
    story: Story


@dataclass(frozen=True, slots=True)
class Paged[T]:
    """One page of a list; pages count from 1."""

    items: Sequence[T]
    page: int
    pages: int
    total: int


def paged[T](items: Sequence[T], page: str | None, size: int = PAGE_SIZE) -> Paged[T]:
    """The page of a list that a query asks for; the nearest one where there is no such page."""
    pages = max(1, -(-len(items) // size))
    number = min(max(int(page), 1), pages) if page is not None and page.isdecimal() and len(page) < 9 else 1
    return Paged(items[(number - 1) * size : number * size], number, pages, len(items))


def environment(*loaders: BaseLoader) -> Environment:
    """Jinja2 with these templates, then the emulator's, and the filters. Every value is escaped."""
    found = Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("marketplace_emulator")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "count": lambda quantity: f"{quantity:,}",
        "hour": lambda hour: minute(hour * HOUR),
        "iso": iso_seconds,
        "label": lambda key: str(key).replace("_", " ").capitalize(),
        "minute": minute,
        "money": money,
        "pretty": pretty,
        "query": urlencode,
        "quoted": lambda text: quote(str(text), safe=""),
        "second": lambda moment: f"{to_datetime(moment):%m-%d %H:%M:%S}",
        "time": lambda moment: f"{to_datetime(moment):%H:%M}",
        "when": lambda moment: f"{to_datetime(moment):%Y-%m-%d %H:%M:%S}",
    }
    return found


def respond(content: str, status: int = 200, *, nonce: str = "", form_action: str = "'self'") -> Response:
    """A page. It loads and runs nothing but this server's own files, and the inline script that has the nonce."""
    script = f"'self' 'nonce-{nonce}'" if nonce else "'self'"
    policy = (
        f"default-src 'none'; style-src 'self'; script-src {script}; connect-src 'self'; img-src data:; "
        f"form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, status, headers, mimetype="text/html")


def see_other(path: str, anchor: str = "", /, **query: str) -> Response:
    """303 to a page of this server, whose path may have a query already. What the query says is shown there."""
    given = {name: value for name, value in query.items() if value}
    more = f"{'&' if '?' in path else '?'}{urlencode(given)}" if given else ""
    place = quote(f"{path}{more}{f'#{anchor}' if anchor else ''}", safe=_KEPT_IN_URL)
    return Response(status=303, headers={"Location": place})


def local_path(text: str) -> str:
    """The text if it is a path on this server, otherwise `/`."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) else "/"


def sentences(*texts: str) -> str:
    """Texts of errors as sentences: each begins with a capital and ends with a full stop."""
    shown = (text.strip() for text in texts if text and text.strip())
    return " ".join(f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.?!' else '.'}" for text in shown)


def minute(moment: float) -> str:
    """`2026-11-22 14:00`."""
    return f"{to_datetime(moment):%Y-%m-%d %H:%M}"


def money(amount: Decimal) -> str:
    """Dollars with at least two decimals, and as many as the amount has up to six."""
    text = f"{amount:,.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"


def pretty(content: bytes | str | Mapping[str, Any]) -> str:
    """JSON laid out for a person; what is not JSON as it stands."""
    if isinstance(content, Mapping):
        return json.dumps(content, indent=2)
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    try:
        return json.dumps(json.loads(text), indent=2)
    except ValueError:
        return text
