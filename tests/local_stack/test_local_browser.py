"""A person at the keyboard: from the store to the bill by clicks alone, and every page as it looks to everybody.

With SCREENSHOTS set to a folder, a picture of each page is kept there, in both widths and both colour schemes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import Stack
from tests.local_stack.browser import Neighbourhood
from tests.support.chromium import Page, page
from tests.support.machine import chromium
from tools import axe

pytestmark = [pytest.mark.browser, pytest.mark.axe]
WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = {"light": False, "dark": True}
PURCHASE, SUBSCRIPTION = "{purchase}", "{subscription}"
MARKETPLACE_PAGES = {
    "store": "/",
    "store-refused": "/?product=ca2payasyougoproduct00000&account=12&at=product-ca2payasyougoproduct00000&problem=Wrong.",
    "purchase": "/purchases/{purchase}?notice=Done.",
    "purchase-legacy": "/purchases/{legacy}",
    "purchase-ended": "/purchases/{ended}",
    "bill": "/bill",
    "calls": "/calls",
    "call": "/calls/1",
    "messages": "/messages",
    "message": "/messages/1",
    "faults": "/faults",
    "nowhere": "/nowhere",
}
CONSOLE_PAGES = {
    "subscriptions": "/",
    "usage": "/subscriptions/{subscription}",
    "usage-proof": "/subscriptions/{subscription}?record=r-1&at=proof&notice=Recorded.",
    "usage-refused": "/subscriptions/{subscription}?at=report&problem=Wrong.&quantity=x",
    "timeline": "/subscriptions/{subscription}/timeline",
    "access": "/subscriptions/{subscription}/access?check=seats&of=11",
    "statement": "/subscriptions/{subscription}/statement",
    "usage-ended": "/subscriptions/{ended_subscription}",
    "events": "/events",
    "requests": "/requests",
    "request": "/requests/1",
    "queues": "/queues",
    "sign-up": "/sign-up?registration=x",
    "sign-up-refused": "/sign-up?registration=x&tenant_id=acme&problem=Wrong.",
    "nowhere": "/nowhere",
}


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page(chromium() or "") as opened:
        yield opened


@pytest.fixture(scope="module")
def names(stack: Stack) -> dict[str, str]:
    """A stack in which much has happened: what its pages are called."""
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    bought = outside.buy("ca1contractandconsumption", "111122223333", entitlements={"seats": 10})
    again = outside.buy("ca1contractandconsumption", "111122223333", entitlements={"seats": 10})
    legacy = outside.buy("legacysubscriptionproduct", "444455556666", free_trial_days=14)
    for one in (bought, again, legacy):
        outside.register(one["id"])
    outside.advance(120)
    subscriptions = outside.get("/subscriptions?status=active")["subscriptions"]
    ids = {one["license_arn"]: one["subscription_id"] for one in subscriptions}
    subscription = ids[bought["license_arn"]]
    for hour in range(3):
        records = [
            {"id": f"r-{hour}", "subscription_id": subscription, "dimension": "api_calls", "quantity": 250 + 99 * hour}
            | {"tags": {"team": "search", "env": "prod"}},
            {"id": f"u-{hour}", "subscription_id": subscription, "dimension": "users", "quantity": 7},
            {"id": f"x-{hour}", "subscription_id": subscription, "dimension": "users", "quantity": -7},
        ]
        outside.report(records)
        outside.advance(3600)
    outside.report([{"id": "open", "subscription_id": subscription, "dimension": "api_calls", "quantity": 40}])
    outside.cancel(again["id"])
    outside.advance(2 * 3600)
    stack.aws.client("sqs").send_message(QueueUrl=stack.queue_url(dead_letters(stack)), MessageBody='{"never": "handled"}')
    outside.admin("POST", "/faults", [{"fault": "throttle", "operation": "BatchMeterUsage", "times": 2}])
    outside.admin("POST", "/delivery", [{"do": "repeat", "match": "Nothing*"}])
    return {
        "purchase": bought["id"],
        "legacy": legacy["id"],
        "ended": again["id"],
        "subscription": subscription,
        "ended_subscription": ids[again["license_arn"]],
    }


def dead_letters(stack: Stack) -> str:
    polled = {mapping.queue for mapping in stack.deployment.queue_mappings}
    return next(queue.name for queue in stack.deployment.queues if queue.name not in polled)


def look(tab: Page, name: str) -> list[str]:
    """What is wrong with the page that is shown, in each width and scheme. Keeps pictures where they are wanted."""
    wrong = []
    folder = os.environ.get("SCREENSHOTS")
    for device, width in WIDTHS.items():
        for scheme, dark in SCHEMES.items():
            tab.resize(width, 900, dark=dark)
            here = f"{name} ({device}, {scheme})"
            if tab.run("document.documentElement.scrollWidth") > width:
                wrong.append(f"{here}: wider than the window")
            wrong += [f"{here}: {found}" for found in tab.violations(axe.script())]
            if folder:
                tab.screenshot(Path(folder) / f"{name}-{device}-{scheme}.png")
    tab.resize(WIDTHS["desktop"], 900)
    return wrong


@pytest.mark.parametrize("name", MARKETPLACE_PAGES)
def test_a_page_of_the_emulator_is_accessible(stack: Stack, tab: Page, names: dict[str, str], name: str) -> None:
    tab.go(stack.marketplace_url + MARKETPLACE_PAGES[name].format(**names))

    assert look(tab, f"marketplace-{name}") == []


@pytest.mark.parametrize("name", CONSOLE_PAGES)
def test_a_page_of_the_console_is_accessible(stack: Stack, tab: Page, names: dict[str, str], name: str) -> None:
    tab.go(stack.console_url + CONSOLE_PAGES[name].format(**names))

    assert look(tab, f"console-{name}") == []
