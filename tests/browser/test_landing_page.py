"""The buyer's pages in a real browser, served by the real handler: the form works, the policy is kept, phones fit."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.resolve_customer import app
from local.gateway import Gateway
from local.template import read
from marketplace.platform.clock import utc_now
from marketplace.registration.seller import AWS_SUBSCRIPTIONS
from tests.support.chromium import Page, page
from tests.support.deployed import Deployed, deployed
from tests.support.machine import chromium
from tests.support.storefront import CODES
from tests.support.tables import Tables
from tests.support.translated import PARAMETERS
from tools.template import TEMPLATE

pytestmark = pytest.mark.browser

ROUTES = [
    one for one in read(TEMPLATE, PARAMETERS, sqs_endpoint="").routes if one.function == "ResolveCustomerFunction"
]
PHONE = (390, 844)
DESKTOP = (1280, 900)


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables) -> Iterator[Deployed]:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, LOGIN_URL="https://app.seller.example/login") as running:
        yield running


@pytest.fixture
def site(deployment: Deployed) -> Iterator[str]:
    gateway = Gateway("127.0.0.1", 0, ROUTES, lambda _function, event: deployment.buyer(event), utc_now)
    yield gateway.url
    gateway.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    executable = chromium()
    assert executable is not None
    with page(executable) as tab:
        yield tab


@pytest.fixture
def tab(browser: Page) -> Page:
    browser.console.clear()
    browser.statuses.clear()
    browser.resize(*DESKTOP)
    return browser


def arrive(tab: Page, site: str, token: str, path: str = "/register") -> None:
    """Comes as AWS Marketplace sends a buyer: a form posted from another site."""
    tab.go("about:blank")
    tab.run_and_load(
        f"""(() => {{
          const form = document.createElement("form");
          form.method = "post"; form.action = "{site}{path}";
          const field = document.createElement("input");
          field.name = "x-amzn-marketplace-token"; field.value = "{token}";
          form.append(field); document.body.append(form); form.submit();
        }})()"""
    )


def fits(tab: Page) -> bool:
    return bool(tab.run("document.documentElement.scrollWidth <= window.innerWidth"))


def test_a_buyer_registers(tab: Page, site: str, deployment: Deployed) -> None:
    token = deployment.token()
    arrive(tab, site, token)
    assert "Finish setting up your account" in tab.text
    assert token not in tab.url

    tab.fill("email", "jo@buyer.example")
    tab.fill("company", "Example & Sons <script>alert(1)</script>")
    tab.press("button")

    assert "Thank you, we have your details" in tab.text
    assert "jo@buyer.example" in tab.text
    tab.go(tab.url)
    assert "Thank you, we have your details" in tab.text

    tab.press('a[href="?"]')
    assert tab.run("document.getElementById('company').value") == "Example & Sons <script>alert(1)</script>"
    assert tab.console == []


def test_an_error_takes_the_focus_and_leads_to_its_field(tab: Page, site: str, deployment: Deployed) -> None:
    arrive(tab, site, deployment.token())
    tab.fill("email", "jo@localhost")
    tab.fill("phone", "call me")

    tab.press("button")

    assert "Please check your details" in tab.text
    assert tab.run("document.activeElement.getAttribute('role')") == "alert"
    assert tab.run("document.getElementById('phone').value") == "call me"
    tab.run("document.querySelector('.summary a').click()")
    assert tab.run("location.hash") == "#email"
    described = tab.run(
        "document.getElementById(document.getElementById('email').getAttribute('aria-describedby')).innerText"
    )
    assert described == "Enter an e-mail address like name@example.com."
    assert [entry for entry in tab.console if "400" not in entry] == []


def test_the_browser_itself_asks_for_the_address(tab: Page, site: str, deployment: Deployed) -> None:
    arrive(tab, site, deployment.token())

    tab.run("document.querySelector('button').click()")

    assert tab.run("document.getElementById('email').validity.valueMissing") is True
    assert "Finish setting up your account" in tab.text


@pytest.mark.parametrize("size", [PHONE, DESKTOP, (320, 568)], ids=["phone", "desktop", "small phone"])
def test_no_page_is_wider_than_the_screen(tab: Page, site: str, deployment: Deployed, size: tuple[int, int]) -> None:
    tab.resize(*size)
    arrive(tab, site, deployment.token())
    assert fits(tab)
    tab.fill("email", "x" * 60 + "@" + "y" * 60 + ".example")
    tab.press("button")
    assert "Thank you" in tab.text
    assert fits(tab)
    for path in ("/register", "/register/unknown-code-abcdefghijkl"):
        tab.go(site + path)
        assert fits(tab)


CONTRAST = """(() => {
  const channel = c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const luminance = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number);
    return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b); };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(.*, 0\\)/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  const speaks = e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
  return [...document.querySelectorAll("body *")].filter(speaks)
    .map(e => { const a = luminance(getComputedStyle(e).color), b = luminance(ground(e));
      return [e.tagName, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; }).filter(([, ratio]) => ratio < 4.5);
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(tab: Page, site: str, deployment: Deployed, dark: bool) -> None:
    tab.resize(*DESKTOP, dark=dark)
    arrive(tab, site, deployment.token())
    assert tab.run(CONTRAST) == []
    tab.fill("email", "jo@localhost")
    tab.press("button")
    assert tab.run(CONTRAST) == []
    tab.fill("email", "jo@buyer.example")
    tab.press("button")
    assert "Thank you" in tab.text
    assert tab.run(CONTRAST) == []
    tab.go(f"{site}/register")
    assert tab.run(CONTRAST) == []


def test_a_script_that_found_its_way_in_would_not_run(tab: Page, site: str) -> None:
    tab.go(f"{site}/register")

    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    tab.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")

    assert tab.run("window.ran") is None
    assert any("Content Security Policy" in entry for entry in tab.console)


def test_a_buyer_who_is_posted_to_the_address_with_a_slash_registers(
    tab: Page, site: str, deployment: Deployed
) -> None:
    token = deployment.token()

    arrive(tab, site, token, "/register/")

    assert "Finish setting up your account" in tab.text
    assert token not in tab.url
    landing = tab.url
    tab.go(f"{landing}/")
    assert tab.url == landing
    tab.go(f"{landing}///")
    assert tab.url == landing


@pytest.mark.parametrize("path", ["/", "/registr", "/register/a/b"])
def test_an_unknown_address_leads_back_to_aws_marketplace(tab: Page, site: str, path: str) -> None:
    tab.go(site + path)

    assert "Page not found" in tab.text
    assert tab.run("document.querySelector('.button').href") == AWS_SUBSCRIPTIONS
    assert [entry for entry in tab.console if "404" not in entry] == []


@pytest.fixture
def branded(monkeypatch: pytest.MonkeyPatch, deployment: Deployed) -> Callable[..., None]:
    """Gives the deployment's pages a seller's name, logo and colour."""

    def give(**settings: str) -> None:
        for name, value in {"SELLER_NAME": "Müller & Söhne Datenanalyse GmbH", **settings}.items():
            monkeypatch.setenv(name, value)
        app.routes.cache_clear()

    return give


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("color", ["#ffd400", "#ffffff", "#101010", "#7f7f7f"])
def test_every_text_stands_out_in_the_sellers_colour(
    tab: Page, site: str, deployment: Deployed, branded: Callable[..., None], *, color: str, dark: bool
) -> None:
    branded(SELLER_COLOR=color, PRODUCT_TITLES=",".join(f"{code}=Acme Search" for code in CODES))
    for size in (PHONE, DESKTOP):
        tab.resize(*size, dark=dark)
        arrive(tab, site, deployment.token())
        assert "Müller & Söhne Datenanalyse GmbH" in tab.text
        assert "subscription to Acme Search is confirmed" in tab.text
        assert tab.run(CONTRAST) == []
        assert fits(tab)
        tab.go(f"{site}/nowhere")
        assert tab.run(CONTRAST) == []
        assert fits(tab)
    button = tab.run("getComputedStyle(document.querySelector('.button')).backgroundColor")
    assert button == f"rgb({', '.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_the_sellers_logo_is_fetched_and_nothing_from_anywhere_else(
    tab: Page, site: str, branded: Callable[..., None]
) -> None:
    # Nothing listens there. A refused connection shows that the policy let the browser try.
    branded(SELLER_LOGO_URL="https://127.0.0.1:1/logo.svg")

    tab.go(f"{site}/register")

    assert any("ERR_CONNECTION_REFUSED" in entry or "ERR_UNSAFE_PORT" in entry for entry in tab.console)
    assert not any("Content Security Policy" in entry for entry in tab.console)
    tab.run("document.body.append(Object.assign(new Image(), {src: 'https://127.0.0.1:2/other.svg'}))")
    assert tab.run("document.images.length") == 2
    assert any("Content Security Policy" in entry and "127.0.0.1:2" in entry for entry in tab.console)
