"""The buyer's pages: plain HTML without scripts or assets from elsewhere. Every value in them is escaped.

They have what AWS Marketplace requires of a registration page: an e-mail field, a support contact, a way to log in for
existing customers, and a note of when and how access is given (Seller Guide: SaaS product guidelines).
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from marketplace.platform.problem import Problem
from marketplace.registration.contacts import FIELDS, Field

AWS_SUBSCRIPTIONS = "https://console.aws.amazon.com/marketplace/home#/subscriptions"


class Html(str):
    """Text that is HTML already; only this module makes it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SellerLinks:
    """What the seller's settings add to every page: an e-mail address, web address or text, and a web address."""

    support_contact: str = ""
    login_url: str = ""


def landing(
    links: SellerLinks, typed: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> Html:
    """The form. `typed` holds the values to fill in, `problems` what is wrong with them, both by field."""
    typed, problems = typed or {}, problems or {}
    inputs = _join(_input(field, typed.get(field.name, ""), problems.get(field.name)) for field in FIELDS)
    body = _html(
        """{steps}<h1>Finish setting up your account</h1>
<p class="lead">Your AWS Marketplace subscription is confirmed. Tell us who to contact and we will e-mail you how to get
access, usually within one business day.</p>
{summary}<form method="post">
{inputs}<button type="submit">Send my details</button>
</form>
{login}""",
        steps=_steps(current=1),
        summary=_summary(problems),
        inputs=inputs,
        login=_login(links),
    )
    title = "Finish setting up your account"
    return _page(f"Error: {title}" if problems else title, body, links)


def confirmation(links: SellerLinks, email: str) -> Html:
    """What the buyer sees once the details are stored; reloading it changes nothing."""
    body = _html(
        """{steps}<h1>Thank you, we have your details</h1>
<p class="lead">Your AWS Marketplace subscription is confirmed. We will write to
<strong class="value">{email}</strong>.</p>
<h2>What happens next</h2>
<ol class="next">
<li>We prepare your account as soon as AWS Marketplace has activated the subscription, usually within minutes.</li>
<li>You get an e-mail that tells you how to sign in, usually within one business day.</li>
<li>You see and manage the subscription in <a href="{aws}">AWS Marketplace</a> at any time.</li>
</ol>
<p>Wrong address? <a href="?">Change your details</a>.</p>
{login}""",
        steps=_steps(current=2),
        email=email,
        aws=AWS_SUBSCRIPTIONS,
        login=_login(links),
    )
    return _page("Thank you, we have your details", body, links)


def how_to_start(links: SellerLinks) -> Html:
    """For visitors whom AWS Marketplace did not send here."""
    body = _html(
        """<h1>Start from AWS Marketplace</h1>
<p class="lead">Your account is set up from your AWS Marketplace subscription, so we need AWS to send you here.</p>
<ol class="next">
<li>Open <a href="{aws}">Manage subscriptions</a> in AWS Marketplace, in the AWS account that subscribed.</li>
<li>Choose the product.</li>
<li>Choose <strong>Set up your account</strong>. AWS Marketplace brings you back here.</li>
</ol>
<p>Not subscribed yet? Find the product in AWS Marketplace and subscribe first.</p>
{login}""",
        aws=AWS_SUBSCRIPTIONS,
        login=_login(links),
    )
    return _page("Start from AWS Marketplace", body, links)


def problem_page(links: SellerLinks, problem: Problem) -> Html:
    """An error, with what the buyer can do about it."""
    body = _html(
        """<h1>{title}</h1>
<p class="lead">{message}</p>
<p><a class="button" href="{aws}">Open AWS Marketplace</a></p>
{login}""",
        title=problem.title,
        message=problem.message,
        aws=AWS_SUBSCRIPTIONS,
        login=_login(links),
    )
    return _page(problem.title, body, links)


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


def _login(links: SellerLinks) -> Html:
    if not _is_web_address(links.login_url):
        return Html("")
    return _html('<p class="login">Already have an account? <a href="{url}">Log in</a></p>\n', url=links.login_url)


def _support(links: SellerLinks) -> Html:
    contact = links.support_contact
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


def _page(title: str, body: Html, links: SellerLinks) -> Html:
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
<main>
{body}</main>
{support}
</body>
</html>
""",
        title=title,
        style=_STYLE,
        body=body,
        support=_support(links),
    )


_STYLE = Html("""
:root { color-scheme: light dark; --ground: #f2f4f7; --card: #ffffff; --text: #17202b; --soft: #4f5b69; --line: #8792a0;
  --hair: #dfe4ea; --accent: #0b5cad; --on-accent: #ffffff; --bad: #b3261e; --bad-ground: #fdf0ef; --good: #1c7a3e; }
@media (prefers-color-scheme: dark) { :root { --ground: #0f1419; --card: #182029; --text: #e9eef4; --soft: #a9b5c2;
  --line: #72808f; --hair: #2b3642; --accent: #7cbcff; --on-accent: #07182a; --bad: #ffaaa3; --bad-ground: #38201f;
  --good: #74d699; } }
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(1rem, 5vw, 4rem) 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, footer { max-width: 36rem; margin: 0 auto; overflow-wrap: anywhere; }
main { padding: clamp(1.25rem, 5vw, 2.5rem); background: var(--card); border: 1px solid var(--hair);
  border-radius: 14px; box-shadow: 0 1px 2px rgb(0 0 0 / 6%), 0 8px 24px rgb(0 0 0 / 6%); }
footer { padding: 1.25rem; color: var(--soft); font-size: .9375rem; text-align: center; }
h1 { margin: 0 0 .75rem; font-size: clamp(1.5rem, 5vw, 1.75rem); line-height: 1.2; letter-spacing: -.01em;
  text-wrap: balance; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1.125rem; }
p { margin: 0 0 1rem; }
.lead { margin-bottom: 1.5rem; color: var(--soft); font-size: 1.0625rem; }
.lead .value { color: var(--text); }
a { color: var(--accent); text-underline-offset: .15em; }
ol.next { margin: 0 0 1.25rem; padding-left: 1.5rem; }
ol.next li { margin-bottom: .5rem; padding-left: .25rem; }
ol.steps { display: flex; gap: .5rem; margin: 0 0 1.75rem; padding: 0; list-style: none; font-size: .8125rem; }
ol.steps li { flex: 1; padding-top: .5rem; border-top: 4px solid var(--hair); color: var(--soft); }
ol.steps .now { border-color: var(--accent); color: var(--text); font-weight: 600; }
ol.steps .done { border-color: var(--good); }
ol.steps .done::before { content: "\\2713\\00a0" / ""; color: var(--good); font-weight: 700; }
.field { margin-bottom: 1.25rem; }
label { display: block; margin-bottom: .375rem; font-weight: 600; }
.optional { color: var(--soft); font-weight: 400; }
input { display: block; width: 100%; min-height: 2.875rem; padding: .5rem .75rem; border: 1px solid var(--line);
  border-radius: 8px; background: var(--card); color: var(--text); font: inherit; }
.wrong { padding-left: .875rem; border-left: 4px solid var(--bad); }
.wrong input { border-color: var(--bad); }
.error { margin: 0 0 .375rem; color: var(--bad); font-weight: 600; }
.summary { margin-bottom: 1.5rem; padding: 1rem 1.25rem; border: 2px solid var(--bad); border-radius: 8px;
  background: var(--bad-ground); }
.summary h2 { margin: 0 0 .375rem; }
.summary ul { margin: 0; padding-left: 1.25rem; }
.summary a { color: var(--bad); font-weight: 600; }
button, .button { display: inline-block; min-height: 2.875rem; padding: .625rem 1.375rem; border: 0; border-radius: 8px;
  background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; text-decoration: none;
  cursor: pointer; }
button:hover, .button:hover { filter: brightness(1.08); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.summary:focus-visible { outline-color: var(--bad); }
.login { margin: 1.5rem 0 0; padding-top: 1.25rem; border-top: 1px solid var(--hair); color: var(--soft); }
@media (max-width: 30rem) { button, .button { width: 100%; text-align: center; } }
""")

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
"""What goes with every page; the only style a browser applies is the one above."""
