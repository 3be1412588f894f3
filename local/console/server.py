"""The console: the seller's own application, as small as it can be, on nothing but the documented seller API.

It signs buyers up, reports usage, shows where the usage went and what a buyer may use. It also shows what was put on
the seller's event bus, and moves the emulator's clock.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from werkzeug import Request, Response

from local.aws import LocalAws
from local.clock import StackClock
from local.console import pages
from local.console.api import Api, ApiError
from local.deployment import Deployment
from local.server import Server
from marketplace_emulator import Marketplace

EVENTS_SHOWN = 15

type Form = Mapping[str, str]


class System(Protocol):
    """What the console uses of the stack that it belongs to."""

    api_url: str
    marketplace_url: str
    aws: LocalAws
    clock: StackClock
    deployment: Deployment
    marketplace: Marketplace

    def next_tick(self, after: float) -> float | None:
        """When a schedule fires next after a moment, in seconds since the epoch."""


class Console(Server):
    """The console's server."""

    def __init__(self, host: str, port: int, system: System) -> None:
        self._system = system
        super().__init__(host, port, self._answer)

    def _answer(self, request: Request) -> Response:
        """The page for a request; a form is carried out, then answered with 303 to where the result shows."""
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin not in (None, "null") and urlsplit(origin).netloc != request.host:
            return Response("the request comes from another site", 403)
        path = [unquote(part) for part in urlsplit(request.environ["REQUEST_URI"]).path.split("/") if part]
        try:
            page = self._post(path, request.form) if request.method == "POST" else self._get(path, request.args)
        except ApiError as error:
            return self._page("message.html", 400, title="That did not work", text=str(error))
        return page or self._page("message.html", 404, title="Not found", text="There is no such page here.")

    def _get(self, path: list[str], query: Form) -> Response | None:
        match path:
            case []:
                return self._home(query)
            case ["subscriptions", subscription_id]:
                return self._subscription(subscription_id, query)
            case ["sign-up"]:
                return self._sign_up_page(query)
            case ["events.json"]:
                return pages.as_json({"events": self._events()})
        return None

    def _post(self, path: list[str], form: Form) -> Response | None:
        match path:
            case ["sign-up"]:
                return self._sign_up(form)
            case ["subscriptions", subscription_id, "usage"]:
                return self._report(subscription_id, form)
            case ["subscriptions", subscription_id, "claim", *change]:
                return self._change_claim(subscription_id, change, form)
            case ["clock"]:
                return self._move_clock(form)
        return None

    @property
    def _api(self) -> Api:
        return Api(self._system.api_url)

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page with the bar that every page has: the time, and when the running hour will be metered."""
        clock = self._system.clock
        now = clock.timestamp()
        bar = {
            "now": now,
            "frozen": clock.is_frozen,
            "metered_at": self._metered_at(now),
            "marketplace_url": self._system.marketplace_url,
        }
        return pages.render(template, status, **{"bar": bar, "back": "/", "query": {}, **values})

    def _metered_at(self, now: float) -> float | None:
        """When the hour that is running will be metered."""
        delay = int(self._system.deployment.parameters.get("SealDelayMinutes", 0)) * 60
        return self._system.next_tick((now // 3600 + 1) * 3600 + delay - 1)

    def _home(self, query: Form) -> Response:
        return self._page(
            "home.html",
            subscriptions=self._api.subscriptions(),
            events=self._events()[-EVENTS_SHOWN:][::-1],
            titles=self._titles(),
            query=query,
        )

    def _subscription(self, subscription_id: str, query: Form) -> Response:
        path = _path(subscription_id)
        subscription = self._api.get(path)
        decision = proof = None
        if query.get("check"):
            quantity = {"quantity": query["of"]} if query.get("of") else {}
            decision = self._api.get(f"{path}/entitlements", dimension=query["check"], **quantity)
        problem = query.get("problem", "")
        if query.get("record"):
            try:
                proof = self._api.get(f"{path}/usage/{quote(quote(query['record'], safe=''), safe='')}")
            except ApiError as error:
                problem = str(error)
        product = self._system.marketplace.registry.products.get(str(subscription["product_code"]))
        return self._page(
            "subscription.html",
            back=path,
            one=subscription,
            title=self._titles().get(str(subscription["product_code"]), ""),
            usage=self._api.get(f"{path}/usage")["metering_records"][::-1],
            changes=self._api.get(f"{path}/claims")["changes"],
            dimensions=[one.key for one in product.usage_dimensions()] if product else [],
            query={**query, "problem": problem},
            decision=decision,
            proof=proof,
        )

    def _sign_up_page(self, query: Form) -> Response:
        """The page that names what is about to be claimed, before anything is."""
        found, code, problem = None, query.get("registration", ""), query.get("problem", "")
        if code:
            try:
                found = self._api.get(f"/registrations/{quote(code, safe='')}")
            except ApiError as error:
                problem = str(error)
        return self._page("sign_up.html", query={**query, "problem": problem}, found=found, titles=self._titles())

    def _change_claim(self, subscription_id: str, change: list[str], form: Form) -> Response | None:
        """Claim, release or transfer, as a seller's back office does."""
        if change not in ([], ["release"], ["transfer"]):
            return None
        path = _path(subscription_id)
        asked: dict[str, Any] = {name: value.strip() for name, value in form.items() if value.strip()}
        if asked.get("claim_revision", "").isdigit():
            asked["claim_revision"] = int(asked["claim_revision"])
        if "share_account" in asked:
            asked["share_account"] = True
        try:
            changed = self._api.post("/".join([path, "claim", *change]), asked)
        except ApiError as error:
            return _see_other(path, problem=str(error))
        owner = changed["tenant_id"]
        return _see_other(path, notice=f"{owner} now owns this subscription." if owner else "Nobody owns it now.")

    def _sign_up(self, form: Form) -> Response:
        code, tenant = form.get("registration", "").strip(), form.get("tenant_id", "").strip()
        try:
            claim = {"tenant_id": tenant, "share_account": "share_account" in form}
            claimed = self._api.post(f"/registrations/{quote(code, safe='')}/claim", claim)
        except ApiError as error:
            return _see_other("/sign-up", registration=code, problem=str(error))
        return _see_other(
            f"/subscriptions/{claimed['subscription_id']}", notice=f"{tenant} now owns this subscription."
        )

    def _report(self, subscription_id: str, form: Form) -> Response:
        """Report one usage record; its id is new unless the form names one, so that a repetition can be tried."""
        given = {name: value.strip() for name, value in form.items()}
        quantity = given.get("quantity", "")
        record: dict[str, Any] = {
            "id": given.get("id") or f"console-{self._system.clock.now():%Y%m%dT%H%M%S%f}",
            "subscription_id": subscription_id,
            "dimension": form.get("dimension", ""),
            "quantity": int(quantity) if quantity.isdigit() else quantity,
        }
        if given.get("timestamp"):
            record["timestamp"] = given["timestamp"]
        pairs = (pair.partition("=") for pair in given.get("tags", "").split(",") if pair.strip())
        if tags := {name.strip(): value.strip() for name, _, value in pairs}:
            record["tags"] = tags
        back = _path(subscription_id)
        try:
            (result,) = self._api.post("/usage", {"records": [record]})["results"]
        except ApiError as error:
            return _see_other(back, problem=str(error))
        if result["status"] in ("recorded", "duplicate"):
            return _see_other(back, notice=pages.outcome(result, record), record=record["id"])
        reason = result.get("message") or result.get("reason")
        return _see_other(back, problem=f"{result['status'].capitalize()}: {reason}")

    def _move_clock(self, form: Form) -> Response:
        clock, by = self._system.clock, form.get("by", "")
        if by == "next_hour":
            clock.to_next_hour()
        elif by == "metered":
            moment = self._metered_at(clock.timestamp())
            if moment is not None:
                clock.set(moment)
        elif by.isdigit():
            clock.advance(int(by))
        back = form.get("back", "/")
        return _see_other(back if back.startswith("/") and not back.startswith("//") else "/")

    def _titles(self) -> dict[str, str]:
        return {product.code: product.title for product in self._system.marketplace.registry.products.values()}

    def _events(self) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in asdict(one).items() if name != "seq"} for one in self._system.aws.events
        ]


def _path(subscription_id: str) -> str:
    """Where a subscription is found, in the API and here."""
    return f"/subscriptions/{quote(subscription_id, safe='')}"


def _see_other(path: str, **query: str) -> Response:
    return Response(status=303, headers={"location": f"{path}?{urlencode(query)}" if query else path})
