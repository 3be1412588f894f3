"""The buyer's pages: complete, accessible, without scripts, and never made of what somebody typed."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.platform.problem import Problem
from marketplace.platform.settings import Settings
from marketplace.registration import pages, problems
from marketplace.registration.contacts import FIELDS
from marketplace.registration.pages import Html
from marketplace.registration.seller import AWS_SUBSCRIPTIONS, Seller
from tools import template

LINKS = Seller("help@seller.example", "https://app.seller.example/login")
BUYER_PROBLEMS = [value for value in vars(problems).values() if isinstance(value, Problem)]


class Parsed(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, page: Html) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def policy_of(seller: Seller) -> dict[str, str]:
    """The content security policy by directive."""
    return dict(part.strip().split(" ", 1) for part in pages.headers(seller)["content-security-policy"].split(";"))


EVERY_PAGE = [
    pages.landing(LINKS),
    pages.landing(LINKS, {"email": "x"}, {"email": "Enter your e-mail address."}),
    pages.confirmation(LINKS, "jo@buyer.example"),
    pages.how_to_start(LINKS),
    *(pages.problem_page(LINKS, problem) for problem in BUYER_PROBLEMS),
]


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_page_is_whole_and_fetches_nothing(page: Html) -> None:
    parsed = Parsed(page)

    assert page.startswith("<!doctype html>")
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("h1")) == len(parsed.all("title")) == len(parsed.all("main")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all("meta")
    assert not {"script", "img", "iframe", "object", "base"} & {tag for tag, _ in parsed.elements}
    assert [link["href"] for link in parsed.all("link")] == ["data:,"]
    assert not [
        name for _, attributes in parsed.elements for name in attributes if name.startswith("on") or name == "style"
    ]
    assert "help@seller.example" in parsed.text


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_the_policy_allows_the_one_style_that_the_page_has(page: Html) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"style-src 'sha256-{digest}'" in pages.headers(LINKS)["content-security-policy"]


def test_the_policy_allows_nothing_else() -> None:
    policy = policy_of(LINKS)

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe" not in str(policy)


def test_every_field_has_its_label_and_can_be_filled_in_by_the_browser() -> None:
    parsed = Parsed(pages.landing(LINKS))

    labels = {label["for"] for label in parsed.all("label")}
    inputs = parsed.all("input")
    assert [field["name"] for field in inputs] == ["email", "company", "name", "phone"]
    assert all(field["id"] in labels and field["autocomplete"] and field["maxlength"] for field in inputs)
    assert [field["name"] for field in inputs if "required" in field] == ["email"]


def test_the_landing_page_says_that_the_subscription_is_confirmed_and_when_access_comes() -> None:
    text = Parsed(pages.landing(LINKS)).text

    assert "Your AWS Marketplace subscription is confirmed" in text
    assert "we will e-mail you how to get access, usually within one business day" in text


def test_an_error_is_said_in_the_summary_and_beside_its_field_with_what_was_typed_kept() -> None:
    parsed = Parsed(pages.landing(LINKS, {"email": "jo", "company": "A & B"}, {"email": "Enter an address."}))

    (field, company, *_) = parsed.all("input")
    assert field["value"] == "jo"
    assert company["value"] == "A & B"
    assert field["aria-invalid"] == "true"
    assert {"class": "error", "id": field["aria-describedby"]} in parsed.all("p")
    assert {"href": "#email"} in parsed.all("a")
    assert any(attributes.get("role") == "alert" and "autofocus" in attributes for attributes in parsed.all("div"))
    assert "<title>Error: " in pages.landing(LINKS, {}, {"email": "x"})


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.text()), st.text())
def test_what_is_typed_is_shown_and_never_becomes_markup(typed: dict[str, str], address: str) -> None:
    tags = [tag for tag, _ in Parsed(pages.landing(LINKS)).elements]
    landing = Parsed(pages.landing(LINKS, typed))
    assert [tag for tag, _ in landing.elements] == tags
    for field in landing.all("input"):
        assert (field["value"] or "") == typed.get(str(field["name"]), "")

    confirmation = [tag for tag, _ in Parsed(pages.confirmation(LINKS, "x")).elements]
    assert [tag for tag, _ in Parsed(pages.confirmation(LINKS, address)).elements] == confirmation


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("help@seller.example", "mailto:help@seller.example"),
        ("https://seller.example/help?a=1&b=2", "https://seller.example/help?a=1&b=2"),
        ("the person who sold it to you", None),
        ("javascript:alert(1)", None),
    ],
)
def test_the_support_contact_is_a_link_where_it_can_be_one(contact: str, link: str | None) -> None:
    parsed = Parsed(pages.how_to_start(Seller(support_contact=contact)))

    assert contact in parsed.text
    assert [a["href"] for a in parsed.all("a") if a["href"] != AWS_SUBSCRIPTIONS] == ([link] if link else [])


@pytest.mark.parametrize(
    ("url", "shown"), [("https://app.seller.example", True), ("", False), ("javascript:alert(1)", False)]
)
def test_existing_customers_can_log_in_where_there_is_an_address(url: str, shown: bool) -> None:
    assert ("Log in" in pages.landing(Seller(login_url=url))) is shown


def test_without_a_support_contact_there_is_no_empty_line() -> None:
    assert "<footer>" not in pages.landing(Seller())


@pytest.mark.parametrize("problem", BUYER_PROBLEMS, ids=lambda problem: problem.code)
def test_every_error_page_says_what_to_do(problem: Problem) -> None:
    text = Parsed(pages.problem_page(LINKS, problem)).text

    assert problem.title in text
    assert problem.message in text
    assert (problem.retry_after is not None) == (problem.status == 503)


def test_codes_of_problems_are_not_used_for_two_things() -> None:
    by_code: dict[str, set[int]] = {}
    for problem in BUYER_PROBLEMS:
        by_code.setdefault(problem.code, set()).add(problem.status)
    assert all(len(statuses) == 1 for statuses in by_code.values())
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in by_code)


BRANDED = Seller(
    support_contact="help@seller.example",
    name="Müller & Söhne",
    logo_url="https://cdn.seller.example/logo.svg?v=2",
    color="#ffd400",
    product_titles={"search": "Acme Search", "mail": "Acme <Mail>"},
)


def every_page_of(seller: Seller, product: str = "search") -> list[Html]:
    return [
        pages.landing(seller, product_code=product),
        pages.landing(seller, {"email": "x"}, {"email": "Enter your e-mail address."}, product),
        pages.confirmation(seller, "jo@buyer.example", product),
        pages.how_to_start(seller),
        *(pages.problem_page(seller, problem) for problem in BUYER_PROBLEMS),
    ]


@pytest.mark.parametrize("page", every_page_of(BRANDED))
def test_every_page_names_the_seller_and_shows_the_logo(page: Html) -> None:
    parsed = Parsed(page)

    assert "Müller & Söhne" in parsed.text
    assert parsed.all("img") == [{"src": "https://cdn.seller.example/logo.svg?v=2", "alt": ""}]
    assert page.split("<title>")[1].split("</title>")[0].endswith(" - Müller &amp; Söhne")
    assert not {"script", "iframe", "object", "base"} & {tag for tag, _ in parsed.elements}


@pytest.mark.parametrize(("product", "named"), [("search", "Acme Search"), ("mail", "Acme <Mail>")])
def test_the_pages_of_a_registration_name_its_product(product: str, named: str) -> None:
    sentence = f"Your AWS Marketplace subscription to {named} is confirmed."
    for page in every_page_of(BRANDED, product)[:3]:
        assert sentence in Parsed(page).text.replace(" .", ".")


@pytest.mark.parametrize("product", ["other", ""])
def test_a_product_without_a_title_is_not_named(product: str) -> None:
    assert (
        "Your AWS Marketplace subscription is confirmed." in Parsed(pages.landing(BRANDED, product_code=product)).text
    )


@pytest.mark.parametrize(
    ("titles", "words"),
    [
        ({}, "Choose the product."),
        ({"a": "Search"}, "Choose the product: Search."),
        ({"a": "Search", "b": "Mail"}, "Choose the product: Search or Mail."),
        ({"a": "Search", "b": "Mail", "c": "Maps"}, "Choose the product: Search, Mail or Maps."),
    ],
)
def test_who_comes_without_aws_is_told_which_products_there_are(titles: dict[str, str], words: str) -> None:
    assert words in Parsed(pages.how_to_start(Seller(product_titles=titles))).text


@pytest.mark.parametrize(
    ("logo", "origin"),
    [
        ("https://cdn.seller.example/logo.svg", "https://cdn.seller.example"),
        ("https://cdn.seller.example:8443/a/b.png?x=1", "https://cdn.seller.example:8443"),
        ("", None),
        ("http://cdn.seller.example/logo.svg", None),
        ("https://cdn.seller.example", None),
        ("https://a.example; script-src */x", None),
        ("https://user:secret@a.example/x", None),
        ("javascript:alert(1)", None),
    ],
)
def test_the_policy_admits_the_logos_origin_and_no_other(logo: str, origin: str | None) -> None:
    seller = Seller(name="Acme", logo_url=logo)

    assert policy_of(seller) == {
        **policy_of(Seller()),
        "img-src": "data:" if origin is None else f"data: {origin}",
    }
    assert len(Parsed(pages.how_to_start(seller)).all("img")) == (origin is not None)


def test_a_logo_without_a_name_says_whose_it_is() -> None:
    (logo,) = Parsed(pages.how_to_start(Seller(logo_url="https://a.example/l.png"))).all("img")

    assert logo["alt"] == "Seller's logo"


def test_the_policy_follows_the_sellers_colour() -> None:
    for color in ("#ffd400", "#000000", ""):
        seller = Seller(color=color)
        (style,) = re.findall(r"<style>(.*?)</style>", pages.how_to_start(seller), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy_of(seller)["style-src"] == f"'sha256-{digest}'"


def any_of(parameter: str) -> st.SearchStrategy[str]:
    """Every value that template.yaml admits for a parameter."""
    return st.from_regex(template.load()["Parameters"][parameter]["AllowedPattern"], fullmatch=True)


@given(any_of("SellerName"), any_of("SellerLogoUrl"), any_of("SellerColor"), any_of("ProductTitles"))
def test_no_value_that_the_template_admits_becomes_markup_or_a_policy(
    name: str, logo: str, color: str, titles: str
) -> None:
    settings = Settings.from_env(
        {
            **dict.fromkeys(("SUBSCRIPTIONS_TABLE", "USAGE_TABLE", "EVENT_BUS_NAME"), "x"),
            **dict.fromkeys(("NOTIFICATION_QUEUE_URL", "READ_BACK_QUEUE_URL", "METERING_QUEUE_URL"), "x"),
            "SELLER_NAME": name,
            "SELLER_LOGO_URL": logo,
            "SELLER_COLOR": color,
            "PRODUCT_TITLES": titles,
        }
    )
    seller = Seller.from_settings(settings)
    code, title = next(iter(seller.product_titles.items()), ("", ""))
    page = Parsed(pages.landing(seller, product_code=code))

    plain = Seller(
        name="Acme" if name else "",
        logo_url="https://a.example/l.png" if logo else "",
        product_titles={"code": "Title"} if titles else {},
    )
    expected = Parsed(pages.landing(plain, product_code="code"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in expected.elements]
    assert [image["src"] for image in page.all("img")] == ([logo] if logo else [])
    assert " ".join(name.split()) in page.text
    assert " ".join(title.split()) in page.text
    assert policy_of(seller).keys() == policy_of(plain).keys()
    assert all(value.isascii() and value.isprintable() for value in pages.headers(seller).values())
    assert {**policy_of(seller), "img-src": "", "style-src": ""} == {**policy_of(plain), "img-src": "", "style-src": ""}


@pytest.mark.parametrize("url", [AWS_SUBSCRIPTIONS, "http://127.0.0.1:4599/#purchases"])
def test_the_way_back_leads_to_where_the_buyer_came_from(url: str) -> None:
    seller = Seller(marketplace_url=url)
    for page in every_page_of(seller)[2:]:
        assert url in {link["href"] for link in Parsed(page).all("a")}
