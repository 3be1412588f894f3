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
MARKETPLACE_PAGES = {
    "store": "/",
    "store-refused": "/?product=ca2payasyougoproduct00000&account=12&at=product-x&problem=Wrong.",
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
    "tenant": "/subscriptions/{subscription}/tenant?at=claim&problem=Wrong.&tenant_id=acme",
    "tenant-claimed": "/subscriptions/{ended_subscription}/tenant",
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

PALE_BORDERS = """(() => {
  const channel = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const luminance = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number);
    return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b); };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/rgba[(].*, 0[)]/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll("input:not([type=hidden], [type=checkbox]), select, button")].map(e => {
    const a = luminance(getComputedStyle(e).borderTopColor), b = luminance(ground(e.parentElement));
    return [e.outerHTML.slice(0, 80), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)];
  }).filter(([, ratio]) => ratio < 3).map(([name]) => name);
})()"""
"""Fields and buttons whose border stands out less than 3:1 from the ground (WCAG 1.4.11), which axe does not test."""
TOO_SMALL = """[...document.querySelectorAll(
    "button, select, input:not([type=hidden], [type=checkbox]), .button, .links a")]
  .filter(e => e.offsetParent && e.getBoundingClientRect().height < 44).map(e => e.outerHTML.slice(0, 80))"""


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
    ended = outside.get(f"/subscriptions/{ids[again['license_arn']]}")
    outside.post(
        f"/subscriptions/{ended['subscription_id']}/claim",
        {"tenant_id": "acme", "claim_revision": ended["claim_revision"]},
    )
    outside.cancel(again["id"])
    outside.advance(2 * 3600)
    stack.aws.client("sqs").send_message(
        QueueUrl=stack.queue_url(dead_letters(stack)), MessageBody='{"never": "handled"}'
    )
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


def test_the_page_that_asks_for_the_fulfilment_url_is_accessible(
    stack: Stack, tab: Page, names: dict[str, str]
) -> None:
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    known = outside.admin("GET", "/settings")["fulfilment_url"]
    outside.admin("POST", "/settings", {"fulfilment_url": ""})
    try:
        tab.go(f"{stack.marketplace_url}/purchases/{names['purchase']}")
        tab.click("Set up your account")
        assert "The fulfilment URL is not set" in tab.text
        assert look(tab, "marketplace-fulfilment-url") == []
    finally:
        outside.admin("POST", "/settings", {"fulfilment_url": known})


def test_from_the_store_to_the_statement_by_clicks_alone(stack: Stack, tab: Page) -> None:
    tab.resize(1280, 900)
    tab.go(stack.marketplace_url)
    assert steps(tab)["Buy"] in ("now", "done")

    # Buy: the notice and what comes next are in view. Set up: the browser is sent to the seller's landing page.
    tab.click("Subscribe to Acme Analytics")
    assert in_view(tab, ".notice")
    assert "You bought Acme Analytics" in tab.text
    purchase_page = tab.url.partition("?")[0]
    assert steps(tab) == {"Buy": "done", "Set up": "now", "Report": "", "Metered": "", "Billed": ""}
    tab.click("Set up your account")
    if "/register/" not in tab.url:
        tab.click("Continue")
    tab.fill("email", "buyer@example.com")
    tab.press("form button")
    assert "buyer@example.com" in tab.text

    # The subscription becomes active while the page is open; the application is a click away.
    tab.go(purchase_page)
    assert steps(tab)["Set up"] == "done"
    tab.click("+1 hour")
    tab.click("Open in your application")
    assert tab.url.startswith(stack.console_url)
    tab.wait_for("Active")

    # Report usage, and move the clock to where the hour is metered: then it is billed, and all three are equal.
    tab.click("Report usage")
    assert "Recorded 100 api_calls" in tab.text
    assert in_view(tab, "#proof .notice")
    assert steps(tab)["Report"] == "done"
    assert steps(tab)["Metered"] == "now"
    tab.run_and_load("document.querySelector('#clock button[value^=until]').click()")
    assert "Metered: 100 api_calls" in tab.text
    assert "recorded, metered and billed are equal: 100" in tab.text
    assert set(steps(tab).values()) == {"done"}

    # Upgrade and cancel on AWS Marketplace; the last usage is metered before AWS stops taking it.
    tab.click("The purchase on AWS Marketplace")
    tab.run("document.querySelector('#change input').value = 25")
    tab.click("Change the contract")
    assert "The contract was changed" in tab.text
    tab.click("Open in your application")
    tab.click("Report usage")
    tab.click("The purchase on AWS Marketplace")
    tab.click("Cancel")
    assert "Usage is still taken for one hour" in tab.text
    tab.click("Open in your application")
    tab.wait_for("Closing: final usage")
    assert "metered for the last time at about" in tab.text
    tab.run_and_load("document.querySelector('#clock button[value^=until]').click()")
    assert "Metered: 100 api_calls" in tab.text
    tab.click("+1 hour")
    tab.wait_for("Ended")
    assert "takes no more usage" in tab.text

    # The statement of the month, and the bill of AWS Marketplace.
    tab.click("Statement")
    assert "200\t200\t200\t$0.40" in tab.text
    tab.click("the bill of AWS Marketplace")
    assert "$1,200.40" in tab.text or "$3,000.40" in tab.text
    assert [line for line in tab.console if "favicon" not in line] == []


def test_a_page_shows_what_happens_without_being_loaded_again(stack: Stack, tab: Page) -> None:
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    bought = outside.buy("ca2payasyougoproduct00000", "777788889999")
    tab.go(f"{stack.marketplace_url}/purchases/{bought['id']}")
    assert "Activation on its way" in tab.text
    tab.run("window.before = 1")

    outside.register(bought["id"])
    tab.wait_for("Open in your application")
    outside.advance(120)
    tab.wait_for("Active since")
    assert tab.run("window.before") == 1


def test_what_somebody_types_is_not_taken_away_when_the_page_changes(stack: Stack, tab: Page) -> None:
    tab.go(stack.marketplace_url)
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    tab.run("document.querySelector('[name=account]').value = '999900001111'")

    bought = outside.buy("ca2payasyougoproduct00000", "777788880000")
    tab.wait_for("Account 777788880000")

    assert bought["id"]
    assert tab.run("document.querySelector('[name=account]').value") == "999900001111"


def test_a_form_that_is_refused_keeps_what_was_typed(stack: Stack, tab: Page, names: dict[str, str]) -> None:
    tab.go(f"{stack.console_url}/subscriptions/{names['subscription']}")
    for field, value in {"quantity": "7", "tags": "team", "id": "mine"}.items():
        tab.run(f"document.querySelector('#report [name={field}]').value = '{value}'")

    tab.click("Report usage")

    assert "Each tag is a name and a value" in tab.text
    assert in_view(tab, "#report .notice")
    kept = {
        name: tab.run(f"document.querySelector('#report [name={name}]').value") for name in ("quantity", "tags", "id")
    }
    assert kept == {"quantity": "7", "tags": "team", "id": "mine"}


def test_axe_finds_what_is_wrong(tab: Page) -> None:
    tab.go("data:text/html,<title>x</title><img src=x><p style='color:%23ccc'>pale</p>")

    assert {"image-alt", "color-contrast"} <= {found.partition(":")[0] for found in tab.violations(axe.script())}


def steps(tab: Page) -> dict[str, str]:
    """The steps of the story, each with `done`, `now` or nothing."""
    found = tab.run(
        """Object.fromEntries([...document.querySelectorAll(".story li")].map(one => [
             one.innerText.match(/Buy|Set up|Report|Metered|Billed/)[0],
             one.classList.contains("done") ? "done" : one.hasAttribute("aria-current") ? "now" : ""]))"""
    )
    return dict(found)


def in_view(tab: Page, selector: str) -> bool:
    """Whether what is there can be seen without scrolling."""
    return bool(
        tab.run(
            f"""(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();
              return box.top >= 0 && box.bottom <= innerHeight; }})()"""
        )
    )


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
            wrong += [f"{here}: pale border of {found}" for found in tab.run(PALE_BORDERS)]
            if device == "phone":
                wrong += [f"{here}: too small for a finger: {found}" for found in tab.run(TOO_SMALL)]
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
