"""The buyer's pages: plain HTML without scripts, and with nothing from elsewhere but the seller's logo. Every value in
them is escaped.

They have what AWS Marketplace requires of a registration page: an e-mail field, a support contact, a way to log in for
existing customers, and a note of when and how access is given (Seller Guide: SaaS product guidelines).
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape

from marketplace.platform.problem import Problem
from marketplace.registration.contacts import FIELDS, Field
from marketplace.registration.seller import Seller
from marketplace.registration.style import style


class Html(str):
    """Text that is HTML already; only this module makes it."""

    __slots__ = ()


def headers(seller: Seller) -> Mapping[str, str]:
    """What goes with every page. A browser applies only its one style and fetches only the seller's logo."""
    digest = base64.b64encode(hashlib.sha256(style(seller.color).encode()).digest()).decode()
    images = " ".join(filter(None, ("data:", seller.logo_origin)))
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src {images}; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ),
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    }


def landing(
    seller: Seller,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    product_code: str = "",
) -> Html:
    """The form. `typed` holds the values to fill in, `problems` what is wrong with them, both by field."""
    typed, problems = typed or {}, problems or {}
    inputs = _join(_input(field, typed.get(field.name, ""), problems.get(field.name)) for field in FIELDS)
    body = _html(
        """{steps}<h1>Finish setting up your account</h1>
<p class="lead">{confirmed} Tell us who to contact and we will e-mail you how to get access, usually within one business
day.</p>
{summary}<form method="post">
{inputs}<button type="submit">Send my details</button>
</form>
{login}""",
        steps=_steps(current=1),
        confirmed=_confirmed(seller, product_code),
        summary=_summary(problems),
        inputs=inputs,
        login=_login(seller),
    )
    title = "Finish setting up your account"
    return _page(f"Error: {title}" if problems else title, body, seller)


def confirmation(seller: Seller, email: str, product_code: str = "") -> Html:
    """What the buyer sees once the details are stored; reloading it changes nothing."""
    body = _html(
        """{steps}<h1>Thank you, we have your details</h1>
<p class="lead">{confirmed} We will write to <strong class="value">{email}</strong>.</p>
<h2>What happens next</h2>
<ol class="next">
<li>We prepare your account as soon as AWS Marketplace has activated the subscription, usually within minutes.</li>
<li>You get an e-mail that tells you how to sign in, usually within one business day.</li>
<li>You see and manage the subscription in <a href="{aws}">AWS Marketplace</a> at any time.</li>
</ol>
<p>Wrong address? <a href="?">Change your details</a>.</p>
{login}""",
        steps=_steps(current=2),
        confirmed=_confirmed(seller, product_code),
        email=email,
        aws=seller.marketplace_url,
        login=_login(seller),
    )
    return _page("Thank you, we have your details", body, seller)


def how_to_start(seller: Seller) -> Html:
    """For visitors whom AWS Marketplace did not send here."""
    body = _html(
        """<h1>Start from AWS Marketplace</h1>
<p class="lead">Your account is set up from your AWS Marketplace subscription, so we need AWS to send you here.</p>
<ol class="next">
<li>Open <a href="{aws}">Manage subscriptions</a> in AWS Marketplace, in the AWS account that subscribed.</li>
<li>Choose the product{titles}.</li>
<li>Choose <strong>Set up your account</strong>. AWS Marketplace brings you back here.</li>
</ol>
<p>Not subscribed yet? Find the product in AWS Marketplace and subscribe first.</p>
{login}""",
        aws=seller.marketplace_url,
        titles=f": {_alternatives(list(seller.product_titles.values()))}" if seller.product_titles else "",
        login=_login(seller),
    )
    return _page("Start from AWS Marketplace", body, seller)


def problem_page(seller: Seller, problem: Problem) -> Html:
    """An error, with what the buyer can do about it."""
    body = _html(
        """<h1>{title}</h1>
<p class="lead">{message}</p>
<p><a class="button" href="{aws}">Open AWS Marketplace</a></p>
{login}""",
        title=problem.title,
        message=problem.message,
        aws=seller.marketplace_url,
        login=_login(seller),
    )
    return _page(problem.title, body, seller)


def _html(template: str, **values: str) -> Html:
    """The template with its values in place, escaped unless they are HTML already."""
    safe = {name: value if isinstance(value, Html) else escape(value) for name, value in values.items()}
    return Html(template.format_map(safe))


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _input(field: Field, value: str, problem: str | None) -> Html:
    note = "" if field.required else _html(' <span class="optional">(optional)</span>')
    error_id = f"{field.name}-error"
    return _html(
        """<div class="field{state}"><label for="{name}">{label}{note}</label>
{error}<input id="{name}" name="{name}" type="{type}" value="{value}" autocomplete="{autocomplete}" \
maxlength="{maximum}"{required}{described}></div>
""",
        state=" wrong" if problem else "",
        name=field.name,
        label=field.label,
        note=note,
        error=_html('<p class="error" id="{id}">{text}</p>\n', id=error_id, text=problem) if problem else "",
        type=field.type,
        value=value,
        autocomplete=field.autocomplete,
        maximum=str(field.max_length),
        required=Html(" required") if field.required else "",
        described=_html(' aria-invalid="true" aria-describedby="{id}"', id=error_id) if problem else "",
    )


def _summary(problems: Mapping[str, str]) -> Html:
    if not problems:
        return Html("")
    items = _join(
        _html('<li><a href="#{name}">{text}</a></li>', name=name, text=text) for name, text in problems.items()
    )
    return _html(
        """<div class="summary" role="alert" tabindex="-1" autofocus><h2>Please check your details</h2>
<ul>{items}</ul></div>
""",
        items=items,
    )


def _steps(current: int) -> Html:
    names = ("Subscribed", "Your details", "Access")
    items = _join(
        _html(
            '<li class="{state}"{now}>{name}</li>',
            state="done" if place < current else "now" if place == current else "later",
            now=Html(' aria-current="step"') if place == current else "",
            name=name,
        )
        for place, name in enumerate(names)
    )
    return _html('<ol class="steps" aria-label="Progress">{items}</ol>\n', items=items)


def _confirmed(seller: Seller, product_code: str) -> Html:
    product = seller.product_titles.get(product_code, "")
    to = _html(' to <strong class="value">{product}</strong>', product=product) if product else ""
    return _html("Your AWS Marketplace subscription{to} is confirmed.", to=to)


def _alternatives(titles: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))


def _header(seller: Seller) -> Html:
    """Who the pages are from. The logo is decoration beside the name; alone it stands for the seller."""
    if not seller.name and not seller.logo_origin:
        return Html("")
    described = "" if seller.name else "Seller's logo"
    logo = _html('<img src="{url}" alt="{described}">', url=seller.logo_url, described=described)
    name = _html("<span>{name}</span>", name=seller.name) if seller.name else ""
    return _html("<header>{logo}{name}</header>\n", logo=logo if seller.logo_origin else "", name=name)


def _login(seller: Seller) -> Html:
    if not _is_web_address(seller.login_url):
        return Html("")
    return _html('<p class="login">Already have an account? <a href="{url}">Log in</a></p>\n', url=seller.login_url)


def _support(seller: Seller) -> Html:
    contact = seller.support_contact
    if not contact:
        return Html("")
    if _is_web_address(contact):
        link = _html('<a href="{url}">{url}</a>', url=contact)
    elif "@" in contact and not any(character.isspace() for character in contact):
        link = _html('<a href="mailto:{address}">{address}</a>', address=contact)
    else:
        link = _html("{text}", text=contact)
    return _html("<footer>Questions? Contact support: {link}</footer>", link=link)


def _is_web_address(text: str) -> bool:
    return text.startswith(("https://", "http://localhost", "http://127.0.0.1"))


def _page(title: str, body: Html, seller: Seller) -> Html:
    return _html(
        """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{header}<main>
{body}</main>
{support}
</body>
</html>
""",
        title=f"{title} - {seller.name}" if seller.name else title,
        style=Html(style(seller.color)),
        header=_header(seller),
        body=body,
        support=_support(seller),
    )
