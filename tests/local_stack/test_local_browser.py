"""A person at the keyboard: buys, lands on the registration page, reports usage, moves the clock, sees it metered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import Stack
from tests.support.chromium import Page, page
from tests.support.machine import chromium

pytestmark = pytest.mark.browser
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page(chromium() or "") as opened:
        yield opened


def look(tab: Page, name: str) -> None:
    """No page is wider than its window; with SCREENSHOTS set, a picture of each is kept there."""
    folder = os.environ.get("SCREENSHOTS")
    for device, width in WIDTHS.items():
        tab.resize(width, 900)
        assert tab.run("document.documentElement.scrollWidth") <= width, f"{name} is too wide for a {device}"
        if folder:
            tab.screenshot(Path(folder) / f"{name}-{device}.png")
    tab.resize(WIDTHS["desktop"], 900)


def test_the_way_of_a_first_visitor(stack: Stack, tab: Page) -> None:
    tab.resize(1280, 900)
    tab.go(stack.console_url)
    assert "Buy a product on AWS Marketplace" in tab.text
    look(tab, "console-empty")

    # Buy, and set up the account: the browser is posted to the seller's landing page.
    tab.go(stack.marketplace_url)
    tab.press("form[action='/ui/subscribe'] button")
    tab.press("form[action$='/register'] button")
    if "/register/" not in tab.url:
        tab.press("form button")
    assert "/register/" in tab.url
    tab.fill("email", "buyer@example.com")
    tab.press("form button")
    assert "buyer@example.com" in tab.text

    # The licence comes a minute later; the console lists the subscription.
    tab.go(stack.console_url)
    tab.press("form[action='/clock'] button[value='next_hour']")
    assert "Active" in tab.text
    look(tab, "console-home")

    # Report usage, and move the clock to where the hour is metered.
    tab.press("article h3 a")
    tab.run("document.querySelector('[name=tags]').value = 'team=search'")
    tab.press("form[action$='/usage'] button")
    assert "Recorded 100" in tab.text
    look(tab, "console-recorded")
    tab.press("form[action='/clock'] button[value='metered']")
    assert "Metered" in tab.text
    tab.run("document.querySelector('[name=check]').value = 'seats'")
    tab.press("form[action$='#access'] button")
    assert "Allowed" in tab.text
    look(tab, "console-metered")

    # It is on the bill.
    tab.go(stack.marketplace_url)
    assert "team" in tab.text

    # Cancel: the console says so.
    tab.press("form[action$='/cancel'] button")
    stack.settle()
    tab.go(stack.console_url)
    assert "Closing" in tab.text
    tab.go(f"{stack.console_url}/sign-up?registration=x")
    look(tab, "console-sign-up")
    assert [line for line in tab.console if "favicon" not in line] == []
