"""The emulator's pages: which page shows what. What their forms do is in forms.py, how they look in templates/."""

import secrets
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from threading import Event
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from werkzeug.wrappers import Response

from marketplace_emulator import statement
from marketplace_emulator.clock import HOUR
from marketplace_emulator.errors import AdminError
from marketplace_emulator.faults import FAULTS
from marketplace_emulator.forms import Forms
from marketplace_emulator.live import changes
from marketplace_emulator.marketplace import Call, Marketplace
from marketplace_emulator.model import Purchase
from marketplace_emulator.outbox import ACTIONS
from marketplace_emulator.story import story_of
from marketplace_emulator.views import Frame, Link, environment, minute, paged, respond, sentences
from marketplace_emulator.wire import OPERATIONS

TAG_SETS_SHOWN = 6
LINES_ON_PAGE = 48
PURCHASES_ON_PAGE = 10
DEFAULT_ACCOUNT = "111122223333"

_LINKS = (("/", "Store"), ("/bill", "Bill"), ("/calls", "Calls"), ("/messages", "Messages"), ("/faults", "Faults"))
_PRICING = {
    "subscription": "Pay as you go",
    "contract": "Contract",
    "contract_with_consumption": "Contract with consumption",
}
_INTEGRATION = {"license": "Concurrent Agreements", "legacy": "customer identifiers"}
_STATES = {
    "scheduled": ("wait", "Starts later"),
    "pending": ("wait", "Activation on its way"),
    "active": ("good", "Active"),
    "closing": ("wait", "Ended, final usage"),
    "ended": ("", "Ended"),
    "failed": ("bad", "Payment failed"),
}

type Query = dict[str, str]


class Pages:
    """Answers page requests. `stopping` ends the streams of changes."""

    def __init__(self, marketplace: Marketplace, stopping: Event) -> None:
        self._marketplace = marketplace
        self._stopping = stopping
        self._forms = Forms(marketplace)
        self._lists: dict[str, Callable[[Query], Response]] = {
            "": self._home,
            "bill": self._bill,
            "bill.csv": self._bill_as_csv,
            "calls": self._calls,
            "messages": self._messages,
            "faults": self._faults,
        }
        self._items: dict[str, Callable[[str, Query], Response]] = {
            "purchases": self._purchase,
            "calls": self._call,
            "messages": self._message,
        }
        self._templates = environment()
        self._templates.globals |= {
            "default_account": DEFAULT_ACCOUNT,
            "integrations": _INTEGRATION,
            "pricing": _PRICING,
            "states": _STATES,
            "tag_sets_shown": TAG_SETS_SHOWN,
        }

    def handle(self, method: str, path: list[str], query: Query, form: dict[str, str]) -> Response:
        """Answer a page request; a form is carried out, then answered with 303 to where the result shows."""
        if method == "POST" and path[:1] == ["ui"]:
            if path[1:2] == ["purchases"] and path[3:] == ["register"]:
                return self._or_not_found(lambda: self._register(path[2]))
            return self._forms.carry_out(path[1:], form)
        if method != "GET":
            return self._not_found()
        if path == ["changes"]:
            return changes(self._marketplace.version, query.get("since", ""), self._stopping)
        return self._or_not_found(lambda: self._show(path, query))

    def _or_not_found(self, page: Callable[[], Response]) -> Response:
        try:
            return page()
        except AdminError as error:
            return self._not_found(sentences(error.message))

    def _show(self, path: list[str], query: Query) -> Response:
        match path:
            case [] | [_] if (page := self._lists.get("".join(path))) is not None:
                return page(query)
            case [name, item] if name in self._items:
                return self._items[name](item, query)
        return self._not_found()

    def _home(self, query: Query) -> Response:
        with self._marketplace.agenda.acting() as now:
            registry = self._marketplace.registry
            purchases = paged(list(reversed(registry.purchases.values())), query.get("page"), PURCHASES_ON_PAGE)
            return self._page(
                "home.html",
                "/",
                query,
                products=list(registry.products.values()),
                purchases=purchases,
                state_of={one.id: registry.state(one, now) for one in purchases.items},
            )

    def _purchase(self, purchase_id: str, query: Query) -> Response:
        marketplace = self._marketplace
        with marketplace.agenda.acting() as now:
            purchase = marketplace.registry.get(purchase_id)
            records = marketplace.ledger.of_purchase(purchase.id)
            calls = [call for call in marketplace.calls if concerns(call, purchase)]
            messages = [one for one in marketplace.outbox.log if one.purchase_id == purchase.id]
            console = marketplace.seller.console_url
            return self._page(
                "purchase.html",
                f"/purchases/{purchase.id}",
                query,
                purchase=purchase,
                shown=marketplace.registry.describe(purchase, now),
                lines=paged(marketplace.ledger.bill(purchase.id)[::-1], query.get("page"), LINES_ON_PAGE),
                months=statement.by_month(records),
                calls=calls[::-1][:10],
                messages=messages[::-1][:10],
                application=f"{console}/purchases/{purchase.id}" if console and purchase.registered_at else "",
                about=purchase,
            )

    def _bill(self, query: Query) -> Response:
        with self._marketplace.agenda.acting() as now:
            months = statement.months(self._marketplace)
            month = query.get("month") or (months[0] if months else statement.month_of(now))
            found = statement.charges(self._marketplace, month)
            total = sum((one.contract + one.usage for one in found), Decimal(0))
            shown = paged(found, query.get("page"))
            return self._page("bill.html", "/bill", query, months=months, month=month, total=total, charges=shown)

    def _bill_as_csv(self, query: Query) -> Response:
        with self._marketplace.agenda.acting() as now:
            month = query.get("month") or statement.month_of(now)
            text = statement.as_csv(statement.charges(self._marketplace, month), month)
        name = f"bill-{month}.csv" if month.replace("-", "").isalnum() and month.isascii() else "bill.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
        return Response(text, headers=headers, content_type="text/csv; charset=utf-8")

    def _calls(self, query: Query) -> Response:
        with self._marketplace.agenda.lock:
            kept = list(self._marketplace.calls)[::-1]
        wanted = query.get("operation", "")
        found = [call for call in kept if wanted in ("", call.operation)]
        counts = Counter(call.operation for call in kept)
        shown = paged(found, query.get("page"))
        return self._page("calls.html", "/calls", query, calls=shown, counts=counts, operation=wanted)

    def _call(self, seq: str, query: Query) -> Response:
        with self._marketplace.agenda.lock:
            call = next((call for call in self._marketplace.calls if str(call.seq) == seq), None)
        if call is None:
            raise AdminError(404, "this call is not kept: only the last 1,000 are")
        return self._page("call.html", "/calls", query, call=call)

    def _messages(self, query: Query) -> Response:
        found = self._marketplace.outbox.notifications()[::-1]
        return self._page("messages.html", "/messages", query, messages=paged(found, query.get("page")))

    def _message(self, seq: str, query: Query) -> Response:
        log = self._marketplace.outbox.notifications()
        message = next((message for message in log if str(message.seq) == seq), None)
        if message is None:
            raise AdminError(404, "there is no such message")
        return self._page("message.html", "/messages", query, message=message)

    def _faults(self, query: Query) -> Response:
        with self._marketplace.agenda.lock:
            return self._page(
                "faults.html",
                "/faults",
                query,
                planned=self._marketplace.faults.planned(),
                rules=list(self._marketplace.outbox.rules),
                faults=FAULTS,
                operations=OPERATIONS,
                actions=ACTIONS,
            )

    def _register(self, purchase_id: str) -> Response:
        """Post the token to the seller from the buyer's browser, as the marketplace's own page does."""
        marketplace = self._marketplace
        purchase = marketplace.purchases.get(purchase_id)
        url = marketplace.settings.fulfilment_url
        if not url:
            return self._page("fulfilment_url.html", "/", {}, purchase=purchase, about=purchase)
        fields = {"x-amzn-marketplace-token": marketplace.registration_token(purchase.id)}
        if purchase.free_trial_until is not None:
            fields["x-amzn-marketplace-offer-type"] = "free-trial"
        nonce = secrets.token_urlsafe(16)
        return self._page(
            "register.html",
            "/",
            {},
            nonce=nonce,
            # The seller's answer leads to a page of the seller's choice, and a browser asks this policy about it too.
            form_action="*",
            purchase=purchase,
            about=purchase,
            url=url,
            seller=urlsplit(url).netloc,
            fields=fields,
        )

    def _not_found(self, text: str = "") -> Response:
        return self._page("not_found.html", "/", {}, status=404, text=text)

    def _page(
        self,
        template: str,
        path: str,
        query: Query,
        *,
        status: int = 200,
        nonce: str = "",
        form_action: str = "'self'",
        about: Purchase | None = None,
        **values: Any,
    ) -> Response:
        """A page with the bar and the story: of the purchase `about`, otherwise of the newest one."""
        marketplace = self._marketplace
        with marketplace.agenda.acting() as now:
            newest = next(reversed(marketplace.registry.purchases.values()), None)
            console = marketplace.seller.console_url
            frame = Frame(
                site="marketplace",
                links=[Link(url, text, url == path) for url, text in _LINKS],
                other=Link(f"{console}/", "Your application") if console else None,
                now=now,
                frozen=marketplace.clock.is_frozen,
                clock_action="/ui/clock",
                clock_buttons=clock_buttons(now, frozen=marketplace.clock.is_frozen),
                back=f"{path}?{urlencode(kept)}" if (kept := _kept(query)) else path,
                version=marketplace.version(),
                story=story_of(marketplace, about or newest),
            )
            content = self._templates.get_template(template).render(
                frame=frame, query=query, nonce=nonce, page_query=kept, path=path, **values
            )
        return respond(content, status, nonce=nonce, form_action=form_action)


def clock_buttons(now: float, *, frozen: bool) -> list[tuple[str, str]]:
    """The buttons that move any clock here, and let it run or stand still."""
    next_hour = minute((now // HOUR + 1) * HOUR)[11:]
    run = ("run", "Let it run") if frozen else ("freeze", "Stop it")
    return [("next_hour", f"To {next_hour}"), ("PT1H", "+1 hour"), ("P1D", "+1 day"), run]


def concerns(call: Call, purchase: Purchase) -> bool:
    """Whether a call names a purchase; what ResolveCustomer names is in its answer."""
    text = call.answer if call.operation == "ResolveCustomer" else call.body
    names = (purchase.license_id,) if not purchase.is_legacy else (purchase.customer_identifier, purchase.license_id)
    return any(name.encode() in text or quote(name).encode() in text for name in names if name)


def _kept(query: Query) -> dict[str, str]:
    """What of a query says which part of a list is shown."""
    return {name: query[name] for name in ("month", "operation", "page") if name in query}
