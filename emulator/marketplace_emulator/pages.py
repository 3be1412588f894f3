"""The buyer's pages."""

from dataclasses import dataclass, field

from marketplace_emulator.marketplace import Marketplace


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML answer."""

    status: int
    html: str
    headers: dict[str, str] = field(default_factory=dict)


class Pages:
    """Renders the pages and carries out their forms."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._marketplace = marketplace

    def handle(self, method: str, path: list[str], query: dict[str, str], form: dict[str, str]) -> Page:
        """Answer a page request."""
        del method, path, query, form
        return Page(200, "<!doctype html><title>AWS Marketplace emulator</title>")
