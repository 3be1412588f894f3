"""The console: the seller's own application, as small as it can be, using nothing but the documented seller API.

It signs buyers up, reports usage, shows where the usage went and what a buyer may use; beside that it shows what was
put on the seller's event bus and moves the emulator's clock.
"""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from local.console import pages
from local.console.pages import Page
from local.web import RequestHandler, Server

if TYPE_CHECKING:
    from local.stack import Stack

STATUSES = ("active", "pending", "closing", "ended", "failed")
TIMEOUT = 35
EVENTS_SHOWN = 15

type Form = Mapping[str, str]


class ApiError(Exception):
    """The API refused; the message is what it said."""


class Api:
    """The seller API, as an application calls it (unsigned: on one machine nobody checks)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)

    def get(self, path: str, **query: str) -> Any:
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, body)

    def subscriptions(self) -> list[dict[str, Any]]:
        """All of them, the active ones first."""
        return [one for status in STATUSES for one in self.get("/subscriptions", status=status)["subscriptions"]]

    def _call(self, method: str, path: str, body: Any) -> Any:
        connection = HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            raise ApiError(f"The API gave no answer ({type(error).__name__}).") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(_said(answer, response.status))
        return answer


def _said(answer: Any, status: int) -> str:
    problem = answer.get("error", answer) if isinstance(answer, dict) else {}
    if isinstance(problem, dict):
        return str(problem.get("message") or problem.get("code") or f"The API answered {status}.")
    return str(answer.get("message") or problem)


class Console(Server):
    """The console's server."""

    def __init__(self, host: str, port: int, stack: "Stack") -> None:
        super().__init__(host, port, _Handler, self)
        self._stack = stack

    @property
    def api(self) -> Api:
        return Api(self._stack.api_url)

    def answer(self, method: str, path: list[str], query: Form, form: Form) -> Page:
        """The page for a request; a form is carried out, then answered with 303 to where it shows."""
        try:
            page = self._post(path, form) if method == "POST" else self._get(path, query)
        except ApiError as error:
            return pages.message(self._bar(), "That did not work", str(error))
        return page or pages.message(self._bar(), "Not found", "There is no such page here.", 404)

    def _get(self, path: list[str], query: Form) -> Page | None:
        match path:
            case []:
                return self._home(query)
            case ["subscriptions", subscription_id]:
                return self._subscription(subscription_id, query)
            case ["sign-up"]:
                return pages.sign_up(self._bar(), query.get("registration", ""), query.get("problem", ""))
            case ["events.json"]:
                return pages.as_json({"events": [self._event(event) for event in self._stack.aws.events]})
        return None

    def _post(self, path: list[str], form: Form) -> Page | None:
        match path:
            case ["sign-up"]:
                return self._sign_up(form)
            case ["subscriptions", subscription_id, "usage"]:
                return self._report(subscription_id, form)
            case ["clock"]:
                return self._move_clock(form)
        return None

    def _bar(self) -> pages.Bar:
        now = self._stack.clock.timestamp()
        return pages.Bar(now, self._metered_at(now), self._stack.marketplace_url, self._stack.clock.is_frozen)

    def _metered_at(self, now: float) -> float | None:
        """When the hour that is running will be metered."""
        delay = int(self._stack.deployment.parameters.get("SealDelayMinutes", 0)) * 60
        return self._stack.next_tick((now // 3600 + 1) * 3600 + delay - 1)

    def _home(self, query: Form) -> Page:
        events = [self._event(event) for event in self._stack.aws.events[-EVENTS_SHOWN:][::-1]]
        return pages.home(self._bar(), self.api.subscriptions(), events, self._titles(), query)

    def _subscription(self, subscription_id: str, query: Form) -> Page:
        path = f"/subscriptions/{quote(subscription_id, safe='')}"
        subscription = self.api.get(path)
        decision = proof = None
        if query.get("check"):
            asked = {"dimension": query["check"]}
            decision = self.api.get(
                f"{path}/entitlements", **asked, **({"quantity": query["of"]} if query.get("of") else {})
            )
        problem = query.get("problem", "")
        if query.get("record"):
            try:
                proof = self.api.get(f"{path}/usage/{quote(quote(query['record'], safe=''), safe='')}")
            except ApiError as error:
                problem = str(error)
        usage = self.api.get(f"{path}/usage")["metering_records"][::-1]
        product = self._stack.marketplace.registry.products.get(str(subscription["product_code"]))
        dimensions = [one.key for one in product.usage_dimensions()] if product else []
        return pages.subscription(
            self._bar(),
            subscription,
            usage,
            dimensions,
            title=self._titles().get(str(subscription["product_code"]), ""),
            query={**query, "problem": problem},
            decision=decision,
            proof=proof,
        )

    def _sign_up(self, form: Form) -> Page:
        code, tenant = form.get("registration", "").strip(), form.get("tenant_id", "").strip()
        try:
            claim = {"tenant_id": tenant, "share_account": "share_account" in form}
            claimed = self.api.post(f"/registrations/{quote(code, safe='')}/claim", claim)
        except ApiError as error:
            return pages.see_other(f"/sign-up?{urlencode({'registration': code, 'problem': str(error)})}")
        notice = urlencode({"notice": f"{tenant} now owns this subscription."})
        return pages.see_other(f"/subscriptions/{claimed['subscription_id']}?{notice}")

    def _report(self, subscription_id: str, form: Form) -> Page:
        """One usage record; its id is new unless the form names one, so that a repetition can be tried."""
        record: dict[str, Any] = {
            "id": form.get("id", "").strip() or f"console-{self._stack.clock.now():%Y%m%dT%H%M%S%f}",
            "subscription_id": subscription_id,
            "dimension": form.get("dimension", ""),
            "quantity": int(form["quantity"]) if form.get("quantity", "").isdigit() else form.get("quantity", ""),
        }
        if form.get("timestamp", "").strip():
            record["timestamp"] = form["timestamp"].strip()
        pairs = (pair.partition("=") for pair in form.get("tags", "").split(",") if pair.strip())
        tags = {name.strip(): value.strip() for name, _, value in pairs}
        if tags:
            record["tags"] = tags
        back = f"/subscriptions/{quote(subscription_id, safe='')}"
        try:
            (result,) = self.api.post("/usage", {"records": [record]})["results"]
        except ApiError as error:
            return pages.see_other(f"{back}?{urlencode({'problem': str(error)})}")
        if result["status"] in ("recorded", "duplicate"):
            told = {"notice": pages.told(result, record), "record": record["id"]}
        else:
            told = {"problem": f"{result['status'].capitalize()}: {result.get('message') or result.get('reason')}"}
        return pages.see_other(f"{back}?{urlencode(told)}")

    def _move_clock(self, form: Form) -> Page:
        clock, by = self._stack.clock, form.get("by", "")
        match by:
            case "next_hour":
                clock.to_next_hour()
            case "metered":
                moment = self._metered_at(clock.timestamp())
                if moment is not None:
                    clock.set(moment)
            case _ if by.isdigit():
                clock.advance(int(by))
        back = form.get("back", "/")
        return pages.see_other(back if back.startswith("/") and not back.startswith("//") else "/")

    def _titles(self) -> dict[str, str]:
        return {product.code: product.title for product in self._stack.marketplace.registry.products.values()}

    @staticmethod
    def _event(event: Any) -> dict[str, Any]:
        return {
            "at": event.at,
            "bus": event.bus,
            "source": event.source,
            "detail_type": event.detail_type,
            "detail": event.detail,
        }


class _Handler(RequestHandler):
    def _serve(self) -> None:
        console: Console = self.application
        body = self.read_body()
        if body is None:
            return
        url = urlsplit(self.path)
        path = [unquote(part) for part in url.path.split("/") if part]
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        form = {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
        origin = self.headers.get("Origin")
        if self.command == "POST" and origin not in (None, "null") and urlsplit(origin).netloc != self.headers["Host"]:
            page = pages.plain(403, "the request comes from another site")
        else:
            page = console.answer(self.command, path, query, form)
        self.send(page.status, list(page.headers.items()), page.content.encode())

    do_GET = do_POST = do_HEAD = _serve  # noqa: N815 - http.server's names
