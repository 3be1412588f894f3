"""The admin HTTP API under /admin. It takes and returns JSON; its errors have a hint that says what to do."""

import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from marketplace_emulator.catalog import parse_product
from marketplace_emulator.checks import arguments, checked, whole_number
from marketplace_emulator.clock import HOUR, iso_millis, to_timestamp
from marketplace_emulator.delivery import Courier, Target, parse_target
from marketplace_emulator.differences import KINDS
from marketplace_emulator.errors import AdminError
from marketplace_emulator.faults import FAULTS
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.outbox import ACTIONS
from marketplace_emulator.reports import REPORTS, month_asked_for

type Query = dict[str, str]
type Route = Callable[["Admin", list[str], Query, Any], Any]

PURCHASE_ACTIONS = {
    "provision": "issue the licence now",
    "amend": "entitlements, auto_renew, end",
    "upgrade": "the same as amend",
    "renew": "entitlements, end",
    "replace": "entitlements, end, new_license",
    "cancel": "the buyer cancels",
    "expire": "the agreement ends without renewal",
    "terminate": "AWS ends the agreement",
    "fail": "reason; before the licence is issued",
    "suspend": "suspend the buyer's account",
    "unsuspend": "lift the suspension",
    "advisory": "outcome Issued or Resolved, reason",
    "request_cancellation": "the seller asks for a cancellation",
    "answer_cancellation": "outcome Approved, Rejected, Cancelled or Validation Failed",
    "token": "lifetime; a registration token and the form the browser posts",
}


class File(NamedTuple):
    """An answer that is a file and no JSON."""

    content: bytes
    content_type: str


class Admin:
    """The admin API of one running emulator."""

    def __init__(self, marketplace: Marketplace, version: str) -> None:
        self.marketplace = marketplace
        self.version = version
        self.couriers: list[Courier] = []

    def handle(self, method: str, path: list[str], query: Query, body: bytes) -> tuple[int, Any]:
        """Return status and JSON answer of one request; `path` is what follows /admin. Every route checks what it is
        given and raises AdminError; any other exception is an error of the emulator, and the server's to answer."""
        try:
            return 200, self._route(method, path, query, _parse(body))
        except AdminError as error:
            return error.status, {"error": error.message, "hint": error.hint}

    def add_target(self, target: Target) -> None:
        """Start taking notifications to a queue."""
        self.couriers.append(Courier(self.marketplace, target))

    def clear_targets(self) -> None:
        """Stop all deliveries to queues."""
        couriers, self.couriers = self.couriers, []
        for courier in couriers:
            courier.stop()

    def _route(self, method: str, path: list[str], query: Query, data: Any) -> Any:
        name = path[0] if path else "health"
        routes = _ROUTES.get(name)
        if routes is None:
            raise AdminError(404, f"there is no /admin/{name}", f"try: {', '.join(f'/admin/{key}' for key in _ROUTES)}")
        route = routes.get(method)
        if route is None:
            raise AdminError(405, f"/admin/{name} does not take {method}", f"it takes {', '.join(routes)}")
        return route(self, path[1:], query, data)

    # -- clock, settings, health --------------------------------------------------------------------------

    def health(self, *_: Any) -> Any:
        """The version and the routes."""
        return {"status": "ok", "version": self.version, "routes": [f"/admin/{name}" for name in _ROUTES]}

    def clock(self, *_: Any) -> Any:
        """The time of the emulator."""
        clock = self.marketplace.clock
        now = clock.timestamp()
        mode = "frozen" if clock.is_frozen else "real"
        return {"now": iso_millis(now), "timestamp": now, "mode": mode, "offset_seconds": clock.offset}

    def move_clock(self, _path: list[str], _query: Query, data: Any) -> Any:
        """advance (seconds or ISO duration), set (ISO time), to "next_hour", freeze, run; force to go back."""
        clock = self.marketplace.clock
        order = checked(data, _MOVES)
        force = order.get("force", False)
        if not set(order) - {"force"}:
            raise AdminError(400, "nothing to do", 'for example {"advance": "PT1H"} or {"to": "next_hour"}')
        if order.get("freeze"):
            clock.freeze()
        if "set" in order:
            clock.set(order["set"], force=force)
        if "advance" in order:
            clock.advance(order["advance"], force=force)
        if "to" in order:
            clock.to_next_hour()
        if order.get("run"):
            clock.run()
        self.marketplace.agenda.settle()
        return self.clock()

    def settings(self, *_: Any) -> Any:
        """All settings."""
        return self.marketplace.settings.as_dict()

    def change_settings(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Change some settings."""
        with self.marketplace.agenda.lock:
            self.marketplace.settings.update(data)
        return self.settings()

    def reset(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Forget purchases, bill, notifications, faults and calls."""
        checked(data, {})
        self.marketplace.reset()
        return {"status": "reset"}

    # -- products and purchases ---------------------------------------------------------------------------

    def products(self, *_: Any) -> Any:
        """The products listed."""
        return {"products": [item.as_dict() for item in list(self.marketplace.registry.products.values())]}

    def add_product(self, _path: list[str], _query: Query, data: Any) -> Any:
        """List a product, or change the one with the same code."""
        with self.marketplace.agenda.lock:
            return self.marketplace.registry.add_product(parse_product(data)).as_dict()

    def purchases(self, path: list[str], query: Query, _data: Any) -> Any:
        """All purchases (product=, account=, state=), or one."""
        if path:
            return self._describe(path[0])
        checked(query, dict.fromkeys(_MEMBERS, str))
        registry = self.marketplace.registry
        wanted = {_MEMBERS[name]: value for name, value in query.items()}
        with self.marketplace.agenda.acting() as now:
            found = [registry.describe(purchase, now) for purchase in registry.purchases.values()]
        return {"purchases": [item for item in found if wanted.items() <= item.items()]}

    def act(self, path: list[str], _query: Query, data: Any) -> Any:
        """POST /admin/purchases buys; POST /admin/purchases/<id>/<action> does something with a purchase."""
        if not path:
            subscribe = self.marketplace.purchases.subscribe
            return self._describe(subscribe(**arguments(subscribe, data)).id)
        if len(path) != 2 or path[1] not in PURCHASE_ACTIONS:
            raise AdminError(
                404, "there is no such action", f"POST /admin/purchases/<id>/ and {', '.join(PURCHASE_ACTIONS)}"
            )
        return self._act(path[0], path[1], data)

    def _act(self, purchase_id: str, action: str, data: Any) -> Any:
        purchases = self.marketplace.purchases
        if action == "token":
            return self._token(purchase_id, checked(data, {"lifetime": float | None}))
        if action in ("suspend", "unsuspend"):
            checked(data, {})
            getattr(purchases, action)(purchases.get(purchase_id).account_id)
            return self._describe(purchase_id)
        method = getattr(purchases, "amend" if action == "upgrade" else action)
        result = method(purchase_id, **arguments(method, data, without=("purchase_id",)))
        return self._describe(result.id if action == "replace" else purchase_id)

    def _describe(self, purchase_id: str) -> dict[str, Any]:
        registry = self.marketplace.registry
        with self.marketplace.agenda.acting() as now:
            return registry.describe(registry.get(purchase_id), now)

    def _token(self, purchase_id: str, order: dict[str, Any]) -> Any:
        token = self.marketplace.registration_token(purchase_id, **order)
        purchase = self.marketplace.purchases.get(purchase_id)
        form = {"x-amzn-marketplace-token": token}
        if purchase.free_trial_until is not None:
            form["x-amzn-marketplace-offer-type"] = "free-trial"
        return {"token": token, "fulfilment_url": self.marketplace.settings.fulfilment_url, "form": form}

    def tokens(self, _path: list[str], _query: Query, data: Any) -> Any:
        """A registration token: purchase_id, lifetime."""
        order = checked(data, {"purchase_id": str, "lifetime": float | None})
        return self._token(order.pop("purchase_id", ""), order)

    def accounts(self, *_: Any) -> Any:
        """The suspended accounts."""
        return {"suspended": sorted(self.marketplace.registry.suspended)}

    def change_account(self, path: list[str], _query: Query, data: Any) -> Any:
        """POST /admin/accounts/<id>/suspend or /unsuspend."""
        checked(data, {})
        if len(path) != 2 or path[1] not in ("suspend", "unsuspend"):
            raise AdminError(404, "there is no such action", "POST /admin/accounts/<id>/suspend or /unsuspend")
        getattr(self.marketplace.purchases, path[1])(path[0])
        return self.accounts()

    # -- faults -------------------------------------------------------------------------------------------

    def faults(self, *_: Any) -> Any:
        """The planned faults, and all kinds of faults."""
        return {"planned": [item.as_dict() for item in self.marketplace.faults.planned()], "faults": FAULTS}

    def plan_faults(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Add one fault or a list of them to the plan."""
        with self.marketplace.agenda.lock:
            self.marketplace.faults.plan(data if isinstance(data, list) else [data])
        return self.faults()

    def clear_faults(self, *_: Any) -> Any:
        """Remove all planned faults."""
        with self.marketplace.agenda.lock:
            self.marketplace.faults.clear()
        return self.faults()

    # -- the bill -----------------------------------------------------------------------------------------

    def ledger(self, _path: list[str], query: Query, _data: Any) -> Any:
        """Accepted records: license=, dimension=, hour=."""
        checked(query, {"license": str, "dimension": str, "hour": str})
        hour = int(to_timestamp(query["hour"]) // HOUR) if "hour" in query else None
        with self.marketplace.agenda.lock:
            found = self.marketplace.ledger.select(
                purchase_id=self._purchase_id(query), dimension=query.get("dimension"), hour=hour
            )
            return {"records": [item.as_dict() for item in found]}

    def bill(self, _path: list[str], query: Query, _data: Any) -> Any:
        """The bill by purchase, hour and dimension: license=."""
        checked(query, {"license": str})
        with self.marketplace.agenda.lock:
            found = self.marketplace.ledger.bill(self._purchase_id(query))
        return {"lines": [item.as_dict() for item in found], "total": str(sum(item.amount for item in found))}

    def _purchase_id(self, query: Query) -> str | None:
        return self.marketplace.registry.get(query["license"]).id if "license" in query else None

    def calls(self, *_: Any) -> Any:
        """The last calls of the AWS APIs."""
        return {"calls": [item.as_dict() for item in list(self.marketplace.calls)]}

    # -- evidence: CloudTrail and reports -----------------------------------------------------------------

    def trail(self, path: list[str], query: Query, _data: Any) -> Any:
        """The files that a trail has delivered: from=, to=. GET /admin/trail/<key> is one of them."""
        checked(query, {"from": str, "to": str})
        marketplace = self.marketplace
        since, until = to_timestamp(query.get("from", 0)), to_timestamp(query.get("to"))
        with marketplace.agenda.acting() as now:
            latest = now - marketplace.settings.trail_delay_seconds
            until = latest if until is None else min(until, latest)
            found = dict(marketplace.trail.files(since=since, until=until))
        if not path:
            return {"files": [{"key": key, "bytes": len(content)} for key, content in found.items()]}
        if "/".join(path) not in found:
            raise AdminError(404, "the trail has delivered no such file", "GET /admin/trail lists them")
        return File(found["/".join(path)], "application/gzip")

    def reports(self, path: list[str], query: Query, _data: Any) -> Any:
        """The reports, and a report of a month as CSV: GET /admin/reports/<name>?month=2026-11."""
        checked(query, {"month": str})
        if not path:
            return {"reports": [f"/admin/reports/{name}" for name in REPORTS]}
        if len(path) != 1 or path[0] not in REPORTS:
            raise AdminError(404, "there is no such report", f"try: {', '.join(REPORTS)}")
        with self.marketplace.agenda.acting() as now:
            month = month_asked_for(query.get("month", iso_millis(now)[:7]))
            return File(REPORTS[path[0]](self.marketplace, month).encode(), "text/csv; charset=utf-8")

    def differences(self, *_: Any) -> Any:
        """The planted differences, and all kinds of them."""
        with self.marketplace.agenda.lock:
            planted = [item.as_dict() for item in self.marketplace.differences.planted()]
        return {"planted": planted, "kinds": KINDS}

    def plant(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Plant one difference or a list of them: kind, license, dimension, hour, record_id, where, by, to."""
        marketplace = self.marketplace
        orders = data if isinstance(data, list) else [data]
        with marketplace.agenda.lock:
            marketplace.differences.plant(orders, marketplace.ledger, marketplace.registry, marketplace.settings)
        return self.differences()

    def clear_differences(self, *_: Any) -> Any:
        """Remove all planted differences."""
        with self.marketplace.agenda.lock:
            self.marketplace.differences.clear()
        return self.differences()

    # -- notifications ------------------------------------------------------------------------------------

    def notifications(self, _path: list[str], query: Query, _data: Any) -> Any:
        """What was announced, in order: after=."""
        checked(query, {"after": str})
        found = self.marketplace.outbox.notifications(whole_number(query.get("after", "0")))
        return {"notifications": [item.as_dict() for item in found]}

    def announce(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Send anything: {"detail_type", "purchase_id"?, "detail"?} or {"action", "purchase_id", "members"?}."""
        order = checked(data, _ANNOUNCEMENT)
        registry, announcer = self.marketplace.registry, self.marketplace.announcer
        with self.marketplace.agenda.acting() as now:
            if "action" in order:
                members = {key: str(value) for key, value in order.get("members", {}).items()}
                purchase = registry.get(order.get("purchase_id", ""))
                return announcer.custom_sns(purchase, order["action"], members, now).as_dict()
            if "detail_type" not in order:
                hint = 'or an SNS message an "action" and a "purchase_id"'
                raise AdminError(400, "an event needs a detail_type", hint)
            about = registry.get(order["purchase_id"]) if order.get("purchase_id") else None
            return announcer.custom(about, order["detail_type"], order.get("detail"), now).as_dict()

    def deliveries(self, _path: list[str], query: Query, _data: Any) -> Any:
        """What the targets get: after=."""
        checked(query, {"after": str})
        found = self.marketplace.outbox.deliveries(whole_number(query.get("after", "0")))
        return {"deliveries": [item.as_dict() for item in found]}

    def delivery(self, *_: Any) -> Any:
        """The delivery rules, and all kinds of rules."""
        return {"rules": [item.as_dict() for item in self.marketplace.outbox.rules], "actions": ACTIONS}

    def change_delivery(self, path: list[str], _query: Query, data: Any) -> Any:
        """Add one rule or a list of them; POST /admin/delivery/release delivers what rules keep."""
        if path == ["release"]:
            return {"released": self.marketplace.outbox.release()}
        self.marketplace.outbox.add_rules(data if isinstance(data, list) else [data])
        return self.delivery()

    def clear_delivery(self, *_: Any) -> Any:
        """Remove all rules and deliver what they kept."""
        self.marketplace.outbox.clear_rules()
        return self.delivery()

    def targets(self, *_: Any) -> Any:
        """The queues that get notifications."""
        return {"targets": [courier.target.as_dict() for courier in self.couriers]}

    def new_target(self, _path: list[str], _query: Query, data: Any) -> Any:
        """Add a queue: queue_url, endpoint?, kinds?, after? (0 = everything announced so far too)."""
        self.add_target(parse_target(data))
        return self.targets()

    def drop_targets(self, *_: Any) -> Any:
        """Remove all queues."""
        self.clear_targets()
        return self.targets()


_MEMBERS = {"product": "product_code", "account": "account_id", "state": "state"}
_MOVES: dict[str, Any] = {
    **dict.fromkeys(("freeze", "run", "force"), bool),
    "advance": float | str,
    "set": float | str,
    "to": Literal["next_hour"],
}
_ANNOUNCEMENT: dict[str, Any] = {
    **dict.fromkeys(("detail_type", "purchase_id", "action"), str),
    **dict.fromkeys(("detail", "members"), dict[str, Any]),
}
_ROUTES: dict[str, dict[str, Route]] = {
    "health": {"GET": Admin.health},
    "clock": {"GET": Admin.clock, "POST": Admin.move_clock},
    "settings": {"GET": Admin.settings, "POST": Admin.change_settings},
    "products": {"GET": Admin.products, "POST": Admin.add_product},
    "purchases": {"GET": Admin.purchases, "POST": Admin.act},
    "tokens": {"POST": Admin.tokens},
    "accounts": {"GET": Admin.accounts, "POST": Admin.change_account},
    "faults": {"GET": Admin.faults, "POST": Admin.plan_faults, "DELETE": Admin.clear_faults},
    "ledger": {"GET": Admin.ledger},
    "bill": {"GET": Admin.bill},
    "calls": {"GET": Admin.calls},
    "trail": {"GET": Admin.trail},
    "reports": {"GET": Admin.reports},
    "differences": {"GET": Admin.differences, "POST": Admin.plant, "DELETE": Admin.clear_differences},
    "notifications": {"GET": Admin.notifications, "POST": Admin.announce},
    "deliveries": {"GET": Admin.deliveries},
    "delivery": {"GET": Admin.delivery, "POST": Admin.change_delivery, "DELETE": Admin.clear_delivery},
    "targets": {"GET": Admin.targets, "POST": Admin.new_target, "DELETE": Admin.drop_targets},
    "reset": {"POST": Admin.reset},
}


def _parse(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise AdminError(400, "the body is not JSON", "send a JSON object") from None
