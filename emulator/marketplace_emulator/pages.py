"""The buyer's pages: what their forms do, and the values that the templates in templates/ show."""

import secrets
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader
from werkzeug.wrappers import Response

from marketplace_emulator.catalog import Product
from marketplace_emulator.clock import iso_seconds, to_datetime
from marketplace_emulator.errors import AdminError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.model import Entitlements

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


class Pages:
    """Renders the pages and carries out their forms."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._marketplace = marketplace
        self._templates = Environment(
            loader=PackageLoader("marketplace_emulator"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters |= {
            "count": _count,
            "iso": iso_seconds,
            "label": _label,
            "minute": _minute,
            "money": _money,
            "second": _second,
        }
        self._templates.globals |= {
            "default_account": DEFAULT_ACCOUNT,
            "integrations": _INTEGRATION,
            "lines_shown": LINES_SHOWN,
            "pricing": _PRICING,
            "states": _STATES,
            "tag_sets_shown": TAG_SETS_SHOWN,
        }

    def handle(self, method: str, path: list[str], query: dict[str, str], form: dict[str, str]) -> Response:
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
        return self._page("not_found.html", 404)

    # -- forms --------------------------------------------------------------------------------------------

    def _carry_out(self, path: list[str], form: dict[str, str]) -> Response:
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

    def _move_clock(self, by: str) -> Response:
        clock = self._marketplace.clock
        if by == "next_hour":
            clock.to_next_hour()
        else:
            clock.advance(by)
        self._marketplace.agenda.settle()
        return _see_other({"notice": f"It is now {_minute(clock.timestamp())} UTC."})

    def _subscribe(self, form: dict[str, str]) -> Response:
        marketplace = self._marketplace
        product = marketplace.registry.product(form.get("product", ""))
        account = form.get("account", "").strip()
        trial = form.get("free_trial_days", "").strip()
        purchase = marketplace.purchases.subscribe(
            product.code,
            account,
            entitlements=_entitlements(product, form) or None,
            free_trial_days=int(trial) if trial else None,
            auto_renew="auto_renew" in form,
        )
        return _see_other({"notice": f"Bought: {product.title}. Now set up your account."}, purchase.id)

    def _set_fulfilment_url(self, form: dict[str, str]) -> Response:
        url = form.get("url", "").strip()
        if urlsplit(url).scheme not in ("http", "https"):
            raise AdminError(400, "The fulfilment URL is an http address", "for example http://127.0.0.1:3000/register")
        self._marketplace.settings.update({"fulfilment_url": url})
        return _see_other({"notice": f"Buyers are now sent to {url}"})

    def _register(self, purchase_id: str) -> Response:
        """Post the token to the seller from the buyer's browser, as the marketplace's own page does."""
        marketplace = self._marketplace
        purchase = marketplace.purchases.get(purchase_id)
        url = marketplace.settings.fulfilment_url
        if not url:
            return self._page("fulfilment_url.html")
        fields = {"x-amzn-marketplace-token": marketplace.registration_token(purchase.id)}
        if purchase.free_trial_until is not None:
            fields["x-amzn-marketplace-offer-type"] = "free-trial"
        nonce = secrets.token_urlsafe(16)
        seller = urlsplit(url).netloc
        return self._page("register.html", nonce=nonce, purchase=purchase, url=url, seller=seller, fields=fields)

    def _act(self, purchase_id: str, action: str, form: dict[str, str]) -> Response:
        purchases = self._marketplace.purchases
        purchase = purchases.get(purchase_id)
        match action:
            case "change":
                purchases.amend(purchase_id, entitlements=_entitlements(purchase.product, form))
            case "auto_renew":
                purchases.amend(purchase_id, auto_renew=not purchase.auto_renew)
                state = "on" if purchase.auto_renew else "off"
                return _see_other({"notice": f"Automatic renewal is {state}."}, purchase.id)
            case "suspend" | "unsuspend":
                getattr(purchases, action)(purchase.account_id)
            case "provision" | "renew" | "cancel" | "terminate" | "expire" | "fail":
                getattr(purchases, action)(purchase_id)
            case _:
                raise AdminError(404, f"There is no action {action}")
        return _see_other({"notice": _DONE[action]}, purchase.id)

    # -- pages --------------------------------------------------------------------------------------------

    def _home(self, query: dict[str, str]) -> Response:
        marketplace = self._marketplace
        with marketplace.agenda.acting() as now:
            registry = marketplace.registry
            purchases = list(reversed(registry.purchases.values()))
            bills = [(item, marketplace.ledger.bill(item.id)) for item in purchases]
            return self._page(
                "home.html",
                now=now,
                frozen=marketplace.clock.is_frozen,
                notice=query.get("notice"),
                problem=query.get("problem"),
                products=list(registry.products.values()),
                purchases=[(item, registry.describe(item, now)) for item in purchases],
                bills=[(item, lines) for item, lines in bills if lines],
                total=sum((line.amount for _, lines in bills for line in lines), Decimal(0)),
                calls=list(marketplace.calls)[-CALLS_SHOWN:][::-1],
                messages=marketplace.outbox.notifications()[-CALLS_SHOWN:][::-1],
            )

    def _page(self, template: str, status: int = 200, nonce: str = "", **values: Any) -> Response:
        """Render a template. The page may run only the script that has this nonce, and nothing from elsewhere."""
        policy = (
            "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none';"
            f" script-src {f"'nonce-{nonce}'" if nonce else "'none'"}"
        )
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
        }
        html = self._templates.get_template(template).render(nonce=nonce, **values)
        return Response(html, status, headers, mimetype="text/html")


def _see_other(query: dict[str, str], anchor: str = "") -> Response:
    place = f"/?{urlencode(query)}{f'#{anchor}' if anchor else ''}"
    return Response(status=303, headers={"Location": place})


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


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _minute(moment: float) -> str:
    return to_datetime(moment).strftime("%Y-%m-%d %H:%M")


def _second(moment: float) -> str:
    return to_datetime(moment).strftime("%m-%d %H:%M:%S")


def _count(quantity: int | Decimal) -> str:
    return f"{quantity:,}"


def _money(amount: Decimal) -> str:
    """Dollars with at least two decimals, and as many as the amount has up to six."""
    text = f"{amount:,.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"
