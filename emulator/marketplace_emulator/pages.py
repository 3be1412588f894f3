"""The buyer's pages: buy, set up an account, change, cancel, move the clock, read the bill. No outside assets."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit

from marketplace_emulator.catalog import Dimension, Product
from marketplace_emulator.clock import HOUR, iso_seconds, to_datetime
from marketplace_emulator.errors import AdminError
from marketplace_emulator.ledger import Line, TagSet, lines, plain
from marketplace_emulator.marketplace import Call, Marketplace
from marketplace_emulator.outbox import Notification
from marketplace_emulator.purchases import Entitlements, Purchase, purchase_dict
from marketplace_emulator.style import CSS

LINES_SHOWN = 48
TAG_SETS_SHOWN = 6
CALLS_SHOWN = 12
DEFAULT_ACCOUNT = "111122223333"

_PRICING = {
    "subscription": "Pay as you go",
    "contract": "Contract",
    "contract_with_consumption": "Contract with consumption",
}
_INTEGRATION = {"license": "Concurrent Agreements", "legacy": "customer identifiers"}
_STATES = {
    "scheduled": ("wait", "Starts later"),
    "pending": ("wait", "Licence on its way"),
    "active": ("good", "Active"),
    "closing": ("wait", "Ended, final usage"),
    "ended": ("", "Ended"),
    "failed": ("bad", "Payment failed"),
}
_DONE = {
    "provision": "The licence has been issued.",
    "change": "The contract was changed. The licence follows in a moment of the clock.",
    "renew": "Renewed under a new agreement; the licence stays.",
    "cancel": "Cancelled. Usage is still taken for one hour.",
    "terminate": "Terminated by AWS. Usage is still taken for one hour.",
    "expire": "The agreement has expired. Usage is still taken for one hour.",
    "fail": "The payment failed; there will be no licence.",
    "suspend": "The buyer's account is suspended.",
    "unsuspend": "The suspension is lifted.",
}


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
        """Answer a page request; a form is carried out, then answered with 303 to the page it came from."""
        if method == "GET" and not path:
            return self._home(query)
        if method == "POST" and path[:1] == ["ui"]:
            try:
                return self._carry_out(path[1:], form)
            except AdminError as error:
                problem = f"{error.message}. {error.hint}" if error.hint else error.message
                return _see_other({"problem": problem})
            except ValueError as error:
                return _see_other({"problem": str(error)})
        return _page(404, "Not found", _NOT_FOUND)

    # -- forms --------------------------------------------------------------------------------------------

    def _carry_out(self, path: list[str], form: dict[str, str]) -> Page:
        match path:
            case ["clock"]:
                return self._move_clock(form.get("by", ""))
            case ["subscribe"]:
                return self._subscribe(form)
            case ["fulfilment-url"]:
                return self._set_fulfilment_url(form)
            case ["purchases", purchase_id, "register"]:
                return self._register(purchase_id)
            case ["purchases", purchase_id, action]:
                return self._act(purchase_id, action, form)
        raise AdminError(404, "There is no such action")

    def _move_clock(self, by: str) -> Page:
        clock = self._marketplace.clock
        if by == "next_hour":
            clock.to_next_hour()
        else:
            clock.advance(by)
        self._marketplace.settle()
        return _see_other({"notice": f"It is now {_when(clock.timestamp())} UTC."})

    def _subscribe(self, form: dict[str, str]) -> Page:
        marketplace = self._marketplace
        product = marketplace.registry.product(form.get("product", ""))
        account = form.get("account", "").strip()
        trial = form.get("free_trial_days", "").strip()
        purchase = marketplace.subscribe(
            product.code,
            account,
            entitlements=_entitlements(product, form) or None,
            free_trial_days=int(trial) if trial else None,
            auto_renew="auto_renew" in form,
        )
        return _see_other({"notice": f"Bought: {product.title}. Now set up your account."}, purchase.id)

    def _set_fulfilment_url(self, form: dict[str, str]) -> Page:
        url = form.get("url", "").strip()
        if urlsplit(url).scheme not in ("http", "https"):
            raise AdminError(400, "The fulfilment URL is an http address", "for example http://127.0.0.1:3000/register")
        self._marketplace.settings.update({"fulfilment_url": url})
        return _see_other({"notice": f"Buyers are now sent to {url}"})

    def _register(self, purchase_id: str) -> Page:
        """Post the token to the seller from the buyer's browser, as the marketplace's own page does."""
        marketplace = self._marketplace
        purchase = marketplace.purchase(purchase_id)
        url = marketplace.settings.fulfilment_url
        if not url:
            return _page(200, "Fulfilment URL", _NO_FULFILMENT_URL)
        fields = {"x-amzn-marketplace-token": marketplace.registration_token(purchase.id)}
        if purchase.free_trial_until is not None:
            fields["x-amzn-marketplace-offer-type"] = "free-trial"
        return _setup_page(purchase, url, fields)

    def _act(self, purchase_id: str, action: str, form: dict[str, str]) -> Page:
        marketplace = self._marketplace
        purchase = marketplace.purchase(purchase_id)
        match action:
            case "change":
                marketplace.amend(purchase_id, entitlements=_entitlements(purchase.product, form))
            case "auto_renew":
                marketplace.amend(purchase_id, auto_renew=not purchase.auto_renew)
                state = "on" if purchase.auto_renew else "off"
                return _see_other({"notice": f"Automatic renewal is {state}."}, purchase.id)
            case "suspend" | "unsuspend":
                getattr(marketplace, action)(purchase.account_id)
            case "provision" | "renew" | "cancel" | "terminate" | "expire" | "fail":
                getattr(marketplace, action)(purchase_id)
            case _:
                raise AdminError(404, f"There is no action {action}")
        return _see_other({"notice": _DONE[action]}, purchase.id)

    # -- the home page ------------------------------------------------------------------------------------

    def _home(self, query: dict[str, str]) -> Page:
        marketplace = self._marketplace
        marketplace.settle()
        with marketplace.lock:
            now = marketplace.clock.timestamp()
            purchases = list(reversed(marketplace.registry.purchases.values()))
            shown = [(item, purchase_dict(marketplace.registry, item, now)) for item in purchases]
            bills = [(item, lines(marketplace.bill_book.of_purchase(item.id))) for item in purchases]
            calls = marketplace.calls()[-CALLS_SHOWN:][::-1]
            events = marketplace.outbox.log[-CALLS_SHOWN:][::-1]
            products = marketplace.products()
        body = "".join(
            (
                _bar(now, marketplace.clock.is_frozen),
                '<main><div class="wrap">',
                _notices(query),
                _products_section(products),
                _purchases_section(shown),
                _bill_section([(item, found) for item, found in bills if found]),
                f'<div class="two">{_calls_section(calls)}{_events_section(events)}</div>',
                "</div></main>",
            )
        )
        return _page(200, "AWS Marketplace emulator", body)


# -- sections -----------------------------------------------------------------------------------------------


def _bar(now: float, frozen: bool) -> str:
    steps = (("next_hour", "Next hour"), (str(HOUR), "+1 hour"), (str(24 * HOUR), "+1 day"))
    buttons = "".join(f'<button class="small" name="by" value="{value}">{text}</button>' for value, text in steps)
    mode = "stands still" if frozen else "running"
    return (
        '<header class="bar"><div class="wrap">'
        '<a class="brand" href="/">AWS Marketplace <span>emulator</span></a>'
        f'<div class="clock"><div><time datetime="{iso_seconds(now)}">{_when(now)} UTC</time>'
        f"<small>{mode}</small></div>"
        f'<form method="post" action="/ui/clock" aria-label="Move the clock">{buttons}</form></div>'
        "</div></header>"
    )


def _notices(query: dict[str, str]) -> str:
    found = ""
    if query.get("notice"):
        found += f'<p class="notice" role="status">{escape(query["notice"])}</p>'
    if query.get("problem"):
        found += f'<p class="notice problem" role="alert">{escape(query["problem"])}</p>'
    return found


def _products_section(products: list[Product]) -> str:
    cards = "".join(_product_card(item) for item in products)
    return (
        '<section id="products"><div class="head"><h2>Products</h2>'
        '<p class="lead">What the seller lists.</p></div>'
        f'<div class="grid">{cards}</div></section>'
    )


def _product_card(product: Product) -> str:
    prices = "".join(
        f"<li><span>{escape(item.key)}</span><span>{_money(item.price)} per {escape(item.unit)}</span></li>"
        for item in product.dimensions.values()
    )
    contract = ""
    if product.has_contract:
        contract = '<label class="check"><input type="checkbox" name="auto_renew" checked> Renew automatically</label>'
    inputs = "".join(_entitlement_input(item) for item in product.entitlement_dimensions())
    return (
        '<article class="card product">'
        f"<div><h3>{escape(product.title)}</h3>"
        f'<p class="kind">{_PRICING[product.pricing]}, {_INTEGRATION[product.integration]}</p></div>'
        f'<ul class="prices">{prices}</ul>'
        '<form class="fields" method="post" action="/ui/subscribe">'
        f'<input type="hidden" name="product" value="{escape(product.code)}">'
        '<label>Buyer\'s AWS account<input type="text" name="account" inputmode="numeric" pattern="[0-9]{12}"'
        f' maxlength="12" required value="{DEFAULT_ACCOUNT}"></label>'
        f'<div class="pair">{inputs}<label>Free trial, days<input type="number" name="free_trial_days"'
        ' min="7" max="90" placeholder="none"></label></div>'
        f'{contract}<button class="primary">Subscribe</button></form></article>'
    )


def _entitlement_input(dimension: Dimension, value: Any = None) -> str:
    name = f'name="entitlement.{escape(dimension.key)}"'
    label = escape(dimension.key.replace("_", " ").capitalize())
    if dimension.value_type == "boolean":
        off = "" if value in (None, True) else " selected"
        field_html = f'<select {name}><option value="true">yes</option><option value="false"{off}>no</option></select>'
    elif dimension.value_type == "string":
        field_html = f'<input type="text" {name} value="{escape(str(value or "standard"))}">'
    else:
        step = "any" if dimension.value_type == "double" else "1"
        shown = escape(str(value if value is not None else 10))
        field_html = f'<input type="number" {name} min="0" step="{step}" required value="{shown}">'
    return f"<label>{label}{field_html}</label>"


def _purchases_section(purchases: list[tuple[Purchase, dict[str, Any]]]) -> str:
    if purchases:
        body = f'<div class="stack">{"".join(_purchase_card(item, shown) for item, shown in purchases)}</div>'
    else:
        body = '<p class="empty">Nothing bought yet. Subscribe to a product above.</p>'
    return (
        '<section id="purchases"><div class="head"><h2>Your purchases</h2>'
        f'<p class="lead">Newest first.</p></div>{body}</section>'
    )


def _purchase_card(purchase: Purchase, shown: dict[str, Any]) -> str:
    kind, text = _STATES[shown["state"]]
    pills = f'<span class="pill {kind}">{text}</span>'
    if shown["suspended"]:
        pills += ' <span class="pill bad">Account suspended</span>'
    if purchase.free_trial_until is not None and shown["state"] == "active":
        pills += ' <span class="pill">Free trial</span>'
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(purchase, shown))
    return (
        f'<article class="card purchase" id="{escape(purchase.id)}"><div class="top"><div>'
        f"<h3>{escape(purchase.product.title)}</h3>"
        f'<p class="kind">{_PRICING[purchase.product.pricing]}, account {escape(purchase.account_id)}</p></div>'
        f"<div>{pills}</div></div>"
        f'<dl class="facts">{facts}</dl>{_ids(purchase)}{_actions(purchase, shown)}</article>'
    )


def _facts(purchase: Purchase, shown: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in sorted(shown["entitlements"].items()):
        yield escape(key.replace("_", " ").capitalize()), escape(str(value))
    if purchase.provisioned_at is not None:
        yield "Active since", _when(purchase.provisioned_at)
    if purchase.ended_at is not None:
        yield "Ended", _when(purchase.ended_at)
    elif purchase.agreement.ends_at is not None:
        yield ("Renews" if purchase.auto_renew else "Ends"), _when(purchase.agreement.ends_at)
    yield "Account set up", _when(purchase.registered_at) if purchase.registered_at is not None else "not yet"


def _ids(purchase: Purchase) -> str:
    kind, value = ("licence", purchase.license_id)
    if purchase.is_legacy:
        kind, value = ("customer", purchase.customer_identifier)
    return (
        f'<p class="ids"><span>{kind} <code>{escape(value)}</code></span>'
        f"<span>agreement <code>{escape(purchase.agreement_id)}</code></span></p>"
    )


def _actions(purchase: Purchase, shown: dict[str, Any]) -> str:
    state = shown["state"]
    if state in ("ended", "failed"):
        return ""
    if state == "closing":
        closes = shown["metering_closes_at"].replace("T", " ")[:16]
        return f'<p class="more">Final usage is taken until {closes} UTC.</p>'
    primary = "" if purchase.registered_at is not None else "primary"
    buttons = [_button(purchase, "register", "Set up your account", primary)]
    if state == "active":
        if purchase.product.has_contract:
            buttons.append(_button(purchase, "renew", "Renew now"))
    else:
        buttons.append(_button(purchase, "provision", "Issue the licence now"))
    buttons.append(_button(purchase, "cancel", "Cancel", "danger"))
    return f'<div class="actions">{"".join(buttons)}</div>{_further(purchase, shown)}'


def _further(purchase: Purchase, shown: dict[str, Any]) -> str:
    change = ""
    dimensions = purchase.product.entitlement_dimensions()
    if dimensions:
        agreed = shown["agreed_entitlements"]
        inputs = "".join(_entitlement_input(item, agreed.get(item.key)) for item in dimensions)
        change = (
            f'<form class="change" method="post" action="/ui/purchases/{escape(purchase.id)}/change">'
            f"{inputs}<button>Change the contract</button></form>"
        )
    buttons = []
    if purchase.product.has_contract:
        buttons.append(_button(purchase, "auto_renew", f"Turn renewal {'off' if purchase.auto_renew else 'on'}"))
        buttons.append(_button(purchase, "expire", "Let it expire"))
    if shown["state"] != "active":
        buttons.append(_button(purchase, "fail", "Let the payment fail"))
    action, text = ("unsuspend", "Lift the suspension") if shown["suspended"] else ("suspend", "Suspend the account")
    buttons.append(_button(purchase, action, text))
    buttons.append(_button(purchase, "terminate", "Terminate as AWS", "danger"))
    return (
        "<details><summary>Change the contract, or let something happen</summary>"
        f'<div class="inner">{change}<div class="actions">{"".join(buttons)}</div></div></details>'
        if change
        else "<details><summary>Let something happen</summary>"
        f'<div class="inner"><div class="actions">{"".join(buttons)}</div></div></details>'
    )


def _button(purchase: Purchase, action: str, text: str, kind: str = "") -> str:
    return (
        f'<form method="post" action="/ui/purchases/{escape(purchase.id)}/{action}">'
        f'<button class="{kind}">{text}</button></form>'
    )


def _bill_section(bills: list[tuple[Purchase, list[Line]]]) -> str:
    total = sum((line.amount for _, found in bills for line in found), Decimal(0))
    lead = f"{_money(total)} of usage so far." if bills else "What AWS charges for usage."
    body = "".join(_bill(item, found) for item, found in bills)
    if not bills:
        body = '<p class="empty">No usage yet. It appears here once the seller has reported it to AWS.</p>'
    return f'<section id="bill"><div class="head"><h2>The bill</h2><p class="lead">{lead}</p></div>{body}</section>'


def _bill(purchase: Purchase, found: list[Line]) -> str:
    newest = found[-LINES_SHOWN:][::-1]
    rows = "".join(_bill_row(line) for line in newest)
    total = sum((line.amount for line in found), Decimal(0))
    name = purchase.customer_identifier if purchase.is_legacy else purchase.license_id
    older = len(found) - len(newest)
    more = f'<p class="more">{older} older lines are in <a href="/admin/bill">/admin/bill</a>.</p>' if older else ""
    return (
        f'<div class="bill"><div class="head"><h3>{escape(purchase.product.title)}</h3>'
        f"<span>account {escape(purchase.account_id)}, <code>{escape(name)}</code></span></div>"
        '<div class="table"><table><thead><tr><th>Hour (UTC)</th><th>Dimension</th><th class="num">Quantity</th>'
        f'<th>Tags</th><th class="num">Amount</th></tr></thead><tbody>{rows}</tbody>'
        f'<tfoot><tr><td colspan="4">Total</td><td class="num">{_money(total)}</td></tr></tfoot>'
        f"</table></div>{more}</div>"
    )


def _bill_row(line: Line) -> str:
    twice = ' class="twice"' if line.records > 1 else ""
    warning = ' <span class="pill bad">billed twice</span>' if line.records > 1 else ""
    tags = _tags(line.tag_sets)
    return (
        f'<tr{twice}><td class="when">{_when(line.hour * HOUR)}</td>'
        f'<td class="what">{escape(line.dimension)}{warning}</td>'
        f'<td class="num quantity">{_count(line.quantity)}</td>'
        f'<td class="{"wide" if tags else "none"}">{tags}</td>'
        f'<td class="num">{_money(line.amount)}</td></tr>'
    )


def _tags(tag_sets: dict[TagSet, Any]) -> str:
    if not tag_sets:
        return ""
    shown = []
    for tags, quantity in list(tag_sets.items())[:TAG_SETS_SHOWN]:
        names = "".join(f'<span class="tag">{escape(key)}: {escape(value)}</span>' for key, value in tags)
        shown.append(f"<div>{names or '<span class=tag>untagged</span>'}<b>{_count(quantity)}</b></div>")
    if len(tag_sets) > TAG_SETS_SHOWN:
        shown.append(f"<div>and {len(tag_sets) - TAG_SETS_SHOWN} more</div>")
    return f'<div class="tags">{"".join(shown)}</div>'


def _calls_section(calls: list[Call]) -> str:
    rows = "".join(_call_row(call) for call in calls)
    body = '<p class="empty">The seller has not called AWS Marketplace yet.</p>'
    if rows:
        body = (
            '<div class="table"><table><thead><tr><th>Time (UTC)</th><th>Call</th><th>Answer</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    return f'<section id="calls"><div class="head"><h2>Recent calls</h2></div>{body}</section>'


def _call_row(call: Call) -> str:
    records = f", {call.records} records" if call.records > 1 else ""
    kind, place = ("outcome", "") if call.outcome == "ok" else ("outcome bad", "wide")
    return (
        f'<tr><td class="when">{_when(call.at, seconds=True)}</td>'
        f'<td class="what">{escape(call.operation)}{records}</td>'
        f'<td class="{place}"><span class="{kind}">{escape(call.outcome.removesuffix("Exception"))}</span></td></tr>'
    )


def _events_section(events: list[Notification]) -> str:
    rows = "".join(
        f'<tr><td class="when">{_when(item.emitted_at, seconds=True)}</td>'
        f'<td class="what">{escape(item.name)}</td>'
        f"<td>{'EventBridge' if item.kind == 'eventbridge' else 'SNS'}</td></tr>"
        for item in events
    )
    body = '<p class="empty">No messages to the seller yet.</p>'
    if rows:
        body = (
            '<div class="table"><table><thead><tr><th>Time (UTC)</th><th>Message</th><th>Sent as</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    return f'<section id="messages"><div class="head"><h2>Messages to the seller</h2></div>{body}</section>'


# -- pages and small parts ----------------------------------------------------------------------------------

_NOT_FOUND = (
    '<div class="setup"><div class="card"><h2>There is no such page</h2>'
    '<p class="lead">The store is at <a href="/">the start page</a>, the admin API at'
    ' <a href="/admin">/admin</a>.</p></div></div>'
)
_NO_FULFILMENT_URL = (
    '<div class="setup"><div class="card"><h2>Where does the seller register buyers?</h2>'
    '<p class="lead">The fulfilment URL is not set. It is the address of the seller that takes the'
    " registration token.</p>"
    '<form class="fields" method="post" action="/ui/fulfilment-url"><label>Fulfilment URL'
    '<input type="url" name="url" required placeholder="http://127.0.0.1:3000/register"></label>'
    '<button class="primary">Save</button></form><p><a href="/">Back to the store</a></p></div></div>'
)


def _setup_page(purchase: Purchase, url: str, fields: dict[str, str]) -> Page:
    nonce = secrets.token_urlsafe(16)
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )
    body = (
        f'<div class="setup"><div class="card"><h2>Setting up {escape(purchase.product.title)}</h2>'
        f'<p class="lead">You are being taken to the seller at {escape(urlsplit(url).netloc)}.</p>'
        f'<form id="go" method="post" action="{escape(url)}">{hidden}<button class="primary">Continue</button></form>'
        f'</div></div><script nonce="{nonce}">document.getElementById("go").submit()</script>'
    )
    return _page(200, "Set up your account", body, nonce)


def _page(status: int, title: str, body: str, nonce: str = "") -> Page:
    script = f"'nonce-{nonce}'" if nonce else "'none'"
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{CSS}</style></head>'
        f"<body>{body}</body></html>"
    )
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
        f" frame-ancestors 'none'; script-src {script}"
    )
    return Page(status, html, {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


def _see_other(query: dict[str, str], anchor: str = "") -> Page:
    place = f"/?{urlencode(query)}{f'#{anchor}' if anchor else ''}"
    return Page(303, "", {"Location": place})


def _entitlements(product: Product, form: dict[str, str]) -> Entitlements:
    found: Entitlements = {}
    for dimension in product.entitlement_dimensions():
        text = form.get(f"entitlement.{dimension.key}")
        if text is None:
            continue
        match dimension.value_type:
            case "integer":
                found[dimension.key] = int(text)
            case "double":
                found[dimension.key] = float(text)
            case "boolean":
                found[dimension.key] = text == "true"
            case "string":
                found[dimension.key] = text
    return found


def _when(moment: float, *, seconds: bool = False) -> str:
    return to_datetime(moment).strftime("%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def _count(quantity: int | Decimal) -> str:
    return f"{plain(quantity):,}" if isinstance(quantity, int) else f"{quantity:,}"


def _money(amount: Decimal) -> str:
    """Dollars with at least two decimals, and as many as the amount has up to six."""
    text = f"{amount:,.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"
