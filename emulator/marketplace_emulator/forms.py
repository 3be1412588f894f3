"""What the forms of the pages do. Each is answered with 303 to the page where the result shows, with a notice or a
problem in its query; a refused form also finds there what was typed."""

from collections.abc import Callable
from urllib.parse import urlsplit

from werkzeug.wrappers import Response

from marketplace_emulator.catalog import Product
from marketplace_emulator.errors import AdminError
from marketplace_emulator.marketplace import Marketplace
from marketplace_emulator.model import Entitlements
from marketplace_emulator.views import local_path, minute, see_other, sentences

type Form = dict[str, str]

_DONE = {
    "provision": "The subscription is active now.",
    "change": "The contract was changed. The buyer gets what it grants after a moment of the clock.",
    "renew": "Renewed under a new agreement; the licence stays.",
    "cancel": "Cancelled. Usage is still taken for one hour.",
    "terminate": "Terminated by AWS. Usage is still taken for one hour.",
    "expire": "The agreement has expired. Usage is still taken for one hour.",
    "fail": "The payment failed; the subscription will not become active.",
    "suspend": "The buyer's account is suspended.",
    "unsuspend": "The suspension is lifted.",
}


class Forms:
    """Carries out the forms."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._marketplace = marketplace
        self._by_path: dict[str, Callable[[Form], Response]] = {
            "clock": self._move_clock,
            "subscribe": self._subscribe,
            "fulfilment-url": self._set_fulfilment_url,
            "faults": self._plan_fault,
            "faults/clear": self._clear_faults,
            "delivery": self._add_rule,
            "delivery/clear": self._clear_rules,
            "delivery/release": self._release,
        }

    def carry_out(self, path: list[str], form: Form) -> Response:
        """Carry out the form with this path below /ui."""
        try:
            return self._carry_out(path, form)
        except AdminError as error:
            problem = sentences(error.message, error.hint)
        except ValueError as error:
            problem = sentences(str(error))
        place, anchor = _place_of(path, form)
        typed = {name: value for name, value in form.items() if name not in _OWN}
        return see_other(place, anchor, **{**typed, "problem": problem, "at": anchor})

    def _carry_out(self, path: list[str], form: Form) -> Response:
        match path:
            case ["purchases", purchase_id, action]:
                return self._act(purchase_id, action, form)
            case ["messages", seq, "again"] if seq.isdecimal():
                message = self._marketplace.outbox.deliver_again(int(seq))
                return see_other(f"/messages/{seq}", notice=f"{message.name} was delivered once more.")
        carry_out = self._by_path.get("/".join(path))
        if carry_out is None:
            raise AdminError(404, "There is no such action")
        return carry_out(form)

    def _move_clock(self, form: Form) -> Response:
        clock, by = self._marketplace.clock, form.get("by", "")
        match by:
            case "next_hour":
                clock.to_next_hour()
            case "freeze":
                clock.freeze()
            case "run":
                clock.run()
            case _:
                clock.advance(by)
        self._marketplace.agenda.settle()
        standing = " and stands still" if clock.is_frozen and by == "freeze" else ""
        notice = f"It is now {minute(clock.timestamp())} UTC{standing}."
        return see_other(local_path(form.get("back", "/")), notice=notice)

    def _subscribe(self, form: Form) -> Response:
        marketplace = self._marketplace
        product = marketplace.registry.product(form.get("product", ""))
        trial = form.get("free_trial_days", "").strip()
        purchase = marketplace.purchases.subscribe(
            product.code,
            form.get("account", "").replace(" ", "").replace("-", ""),
            entitlements=_entitlements(product, form) or None,
            free_trial_days=_whole(trial, "The free trial", "days, 7 to 90") if trial else None,
            auto_renew="auto_renew" in form,
        )
        return see_other(
            f"/purchases/{purchase.id}", notice=f"You bought {product.title}. Now set up your account with the seller."
        )

    def _set_fulfilment_url(self, form: Form) -> Response:
        url = form.get("url", "").strip()
        if urlsplit(url).scheme not in ("http", "https"):
            raise AdminError(400, "The fulfilment URL is an http address", "for example http://127.0.0.1:3000/register")
        self._marketplace.settings.update({"fulfilment_url": url})
        place = f"/purchases/{form['purchase']}" if form.get("purchase") else "/"
        return see_other(place, notice=f"Buyers are now sent to {url}")

    def _act(self, purchase_id: str, action: str, form: Form) -> Response:
        purchases = self._marketplace.purchases
        purchase = purchases.get(purchase_id)
        here = f"/purchases/{purchase.id}"
        match action:
            case "change":
                purchases.amend(purchase_id, entitlements=_entitlements(purchase.product, form))
            case "auto_renew":
                purchases.amend(purchase_id, auto_renew=not purchase.auto_renew)
                return see_other(here, notice=f"Automatic renewal is {'on' if purchase.auto_renew else 'off'}.")
            case "suspend" | "unsuspend":
                getattr(purchases, action)(purchase.account_id)
            case "provision" | "renew" | "cancel" | "terminate" | "expire" | "fail":
                getattr(purchases, action)(purchase_id)
            case _:
                raise AdminError(404, f"There is no action {action}")
        return see_other(here, notice=_DONE[action])

    def _plan_fault(self, form: Form) -> Response:
        times = form.get("times", "").strip()
        fault = {
            "fault": form.get("fault", ""),
            "operation": form.get("operation", "*"),
            "times": _whole(times, "The number of calls", "1 or more") if times else None,
        }
        with self._marketplace.agenda.lock:
            (planned,) = self._marketplace.faults.plan([fault])
        return see_other("/faults", notice=f"Planned: {planned.fault.replace('_', ' ')}.")

    def _clear_faults(self, _form: Form) -> Response:
        with self._marketplace.agenda.lock:
            self._marketplace.faults.clear()
        return see_other("/faults", notice="No fault is planned any more.")

    def _add_rule(self, form: Form) -> Response:
        rule: dict[str, object] = {"do": form.get("do", ""), "match": form.get("match", "").strip() or "*"}
        if rule["do"] == "delay":
            rule["seconds"] = _whole(form.get("seconds", "") or "60", "The delay", "seconds")
        self._marketplace.outbox.add_rules([rule])
        return see_other(
            "/faults", "rules", notice=f"Messages that fit {rule['match']} now follow the rule.", at="rules"
        )

    def _clear_rules(self, _form: Form) -> Response:
        self._marketplace.outbox.clear_rules()
        return see_other(
            "/faults", "rules", notice="There is no rule any more; what rules kept was delivered.", at="rules"
        )

    def _release(self, _form: Form) -> Response:
        notice = f"{self._marketplace.outbox.release()} messages were released."
        return see_other("/faults", "rules", notice=notice, at="rules")


_OWN = frozenset({"by", "back", "notice", "problem", "at", "page"})
"""Names that are no field of a form that keeps what was typed."""


def _place_of(path: list[str], form: Form) -> tuple[str, str]:
    """The page of a form and its anchor there."""
    place, anchor = "/", ""
    match path:
        case ["clock"]:
            place = local_path(form.get("back", "/")).partition("?")[0]
        case ["subscribe"] if form.get("product"):
            anchor = f"product-{form['product']}"
        case ["purchases", purchase_id, action]:
            place, anchor = f"/purchases/{purchase_id}", "change" if action == "change" else ""
        case ["faults" | "delivery", *_]:
            place, anchor = "/faults", "rules" if path[0] == "delivery" else ""
    return place, anchor


def _whole(text: str, what: str, hint: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise AdminError(400, f"{what} is a whole number: {hint}")
    return int(text)


def _entitlements(product: Product, form: Form) -> Entitlements:
    found: Entitlements = {}
    for dimension in product.entitlement_dimensions():
        text = form.get(f"entitlement.{dimension.key}")
        if text is None:
            continue
        match dimension.value_type:
            case "integer":
                found[dimension.key] = _whole(text.strip(), f"How many {dimension.key}", "0 or more")
            case "double":
                found[dimension.key] = _number(text.strip(), dimension.key)
            case "boolean":
                found[dimension.key] = text == "true"
            case "string":
                found[dimension.key] = text
    return found


def _number(text: str, key: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AdminError(400, f"How much {key} is a number: 0 or more") from None
