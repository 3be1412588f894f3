"""What the console's forms do. Each is answered with 303 to the page where the result shows; a refused form finds there
what was typed."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from werkzeug import Response

from local.console.api import Api, ApiError, path_of
from local.console.seller import System
from local.console.words import of_decision, of_outcome, of_rejection
from local.deployment import queue_arn
from marketplace_emulator.clock import HOUR, parse_time
from marketplace_emulator.errors import BadRequestError
from marketplace_emulator.ledger import lines
from marketplace_emulator.views import local_path, minute, see_other

MAX_QUANTITY = 2_147_483_647
TOLD = 3

type Form = dict[str, str]


class Forms:
    """Carries out the forms."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._of_subscription = {"usage": self._report, "retry": self._retry, "approval": self._decide}

    def carry_out(self, path: list[str], form: Form) -> Response | None:
        """Carry out the form with this path; None if there is none. Raises ApiError."""
        match path:
            case ["subscriptions", subscription_id, action] if action in self._of_subscription:
                return self._of_subscription[action](subscription_id, form)
            case ["subscriptions", subscription_id, "claim", *change] if change in ([], ["release"], ["transfer"]):
                return self._change_claim(subscription_id, change, form)
            case ["queues", name, "redrive"]:
                return self._redrive(name)
            case ["sign-up"]:
                return self._sign_up(form)
            case ["clock"]:
                return self._move_clock(form)
        return None

    @property
    def _api(self) -> Api:
        return Api(self._system.api_url)

    def _sign_up(self, form: Form) -> Response:
        """What a buyer does who comes with a registration code."""
        code, tenant = form.get("registration", "").strip(), form.get("tenant_id", "").strip()
        claim = {"tenant_id": tenant, "share_account": "share_account" in form}
        try:
            claimed = self._api.post(f"/registrations/{quote(code, safe='')}/claim", claim)
        except ApiError as error:
            typed = {"registration": code, "tenant_id": tenant, "share_account": form.get("share_account", "")}
            return see_other("/sign-up", problem=str(error), **typed)
        return see_other(path_of(claimed["subscription_id"]), notice=f"{tenant} now has this subscription.")

    def _change_claim(self, subscription_id: str, change: list[str], form: Form) -> Response:
        """Claim, release or transfer, as a seller's back office does."""
        here = f"{path_of(subscription_id)}/tenant"
        given = {name: value.strip() for name, value in form.items() if value.strip()}
        asked: dict[str, Any] = dict(given)
        if asked.get("claim_revision", "").isdecimal():
            asked["claim_revision"] = int(asked["claim_revision"])
        if "share_account" in asked:
            asked["share_account"] = True
        try:
            changed = self._api.post("/".join([path_of(subscription_id), "claim", *change]), asked)
        except ApiError as error:
            at = "".join(change) or "claim"
            typed = {name: given.get(name, "") for name in ("tenant_id", "to_tenant_id", "reason", "share_account")}
            return see_other(here, at, problem=str(error), at=at, **typed)
        owner = changed["tenant_id"]
        return see_other(here, notice=f"{owner} now has this subscription." if owner else "Nobody has it now.")

    def _report(self, subscription_id: str, form: Form) -> Response:
        """Report one usage record; its id is new unless the form names one, so that a repetition can be tried."""
        given = {name: value.strip() for name, value in form.items()}
        here = path_of(subscription_id)
        record, problems = self._record(subscription_id, given)
        if not problems:
            try:
                (result,) = self._api.post("/usage", {"records": [record]})["results"]
            except ApiError as error:
                problems = [str(error)]
            else:
                if result["status"] in ("recorded", "duplicate"):
                    return see_other(here, "proof", notice=of_outcome(result, record), record=record["id"], at="proof")
                problems = [of_rejection(result)]
        typed = {name: given.get(name, "") for name in ("dimension", "quantity", "tags", "timestamp", "id")}
        return see_other(here, "report", problem=" ".join(problems), at="report", **typed)

    def _record(self, subscription_id: str, given: Form) -> tuple[dict[str, Any], list[str]]:
        """The usage record that a form describes, and everything that is wrong with it."""
        problems = []
        quantity = given.get("quantity", "").replace(",", "")
        if not (quantity.isascii() and quantity.isdigit() and len(quantity) < 11 and int(quantity) <= MAX_QUANTITY):
            problems.append(f"The quantity is a whole number from 0 to {MAX_QUANTITY:,}.")
        if not given.get("dimension"):
            problems.append("Choose a dimension.")
        record: dict[str, Any] = {
            "id": given.get("id") or f"console-{self._system.clock.now():%Y%m%dT%H%M%S%f}",
            "subscription_id": subscription_id,
            "dimension": given.get("dimension", ""),
            "quantity": int(quantity) if not problems else 0,
        }
        if not (record["id"].isascii() and record["id"].isprintable() and " " not in record["id"]):
            problems.append("The id of a record has no spaces, and no other than ASCII characters.")
        elif len(record["id"]) > 128:
            problems.append("The id of a record has at most 128 characters.")
        if given.get("timestamp"):
            try:
                moment = datetime.fromtimestamp(parse_time(given["timestamp"].replace("Z", "+00:00")), UTC)
                record["timestamp"] = moment.isoformat()
            except (ValueError, OverflowError, OSError):
                problems.append("The time has a date, an hour and minutes, such as 2026-11-22 14:00.")
        pairs = [pair.partition("=") for pair in given.get("tags", "").split(",") if pair.strip()]
        if any(not sign or not name.strip() or not value.strip() for name, sign, value in pairs):
            problems.append("Each tag is a name and a value, such as team=search; commas stand between them.")
        elif pairs:
            record["tags"] = {name.strip(): value.strip() for name, _, value in pairs}
        return record, problems

    def _retry(self, subscription_id: str, _form: Form) -> Response:
        here = path_of(subscription_id)
        retried = self._api.post(f"{here}/usage/retry", {})
        due, late = len(retried["due_again"]), len(retried["too_late"])
        said = f"{due} refused {'hour is' if due == 1 else 'hours are'} sent to AWS Marketplace again."
        return see_other(here, "usage", notice=said + (f" {late} came too late." if late else ""), at="usage")

    def _decide(self, subscription_id: str, form: Form) -> Response:
        """Approve or refuse unusual usage of one hour."""
        here = path_of(subscription_id)
        asked = {name: form.get(name, "") for name in ("decision", "dimension", "hour")}
        period = {name: form[name] for name in ("from", "to") if form.get(name)}
        try:
            made = self._api.post(f"{here}/usage/approval", asked)
        except ApiError as error:
            return see_other(here, "usage", problem=str(error), at="usage", **period)
        notice, problem = of_decision(asked["decision"], made)
        return see_other(here, "usage", notice=notice, problem=problem, at="usage", **period)

    def _redrive(self, name: str) -> Response | None:
        if name not in {queue.name for queue in self._system.deployment.queues}:
            return None
        sqs = self._system.aws.client("sqs")
        try:
            sqs.start_message_move_task(SourceArn=queue_arn(name))
            (task,) = sqs.list_message_move_tasks(SourceArn=queue_arn(name), MaxResults=1)["Results"]
        except sqs.exceptions.ClientError as error:
            return see_other("/queues", problem=str(error.response["Error"].get("Message", error)))
        moved = task["ApproximateNumberOfMessagesMoved"]
        messages = "1 message goes" if moved == 1 else f"{moved} messages go"
        if task["Status"] != "COMPLETED":
            return see_other(
                "/queues", problem=f"{messages} back; for the next one it is not known from which queue it came."
            )
        return see_other("/queues", notice=f"{messages} back to the queue from which they came, to be handled again.")

    def _move_clock(self, form: Form) -> Response:
        clock, by = self._system.clock, form.get("by", "")
        ledger = self._system.marketplace.ledger
        before = len(ledger.records)
        try:
            match by.partition(" "):
                case ["next_hour", _, _]:
                    clock.to_next_hour()
                case ["freeze", _, _]:
                    clock.freeze()
                case ["run", _, _]:
                    clock.run()
                case ["until", _, moment]:
                    clock.set(max(parse_time(moment.replace("Z", "+00:00")), clock.timestamp()))
                case _:
                    clock.advance(float(by) if by.replace(".", "", 1).isdecimal() else by)
        except (BadRequestError, ValueError) as error:
            return see_other(local_path(form.get("back", "/")), problem=str(error))
        notice = f"It is now {minute(clock.timestamp())} UTC{' and stands still' if by == 'freeze' else ''}."
        new = [record for record in ledger.records[before:] if record.quantity]
        if new:
            notice += f" Metered: {_told(lines(new))}."
        elif by.startswith("until"):
            notice += " No usage was due to be metered."
        return see_other(local_path(form.get("back", "/")), notice=notice)


def _told(metered: list[Any]) -> str:
    """What was metered, the first of it by name."""
    said = [f"{line.quantity:,} {line.dimension} of {minute(line.hour * HOUR)[11:]}" for line in metered[:TOLD]]
    return ", ".join(said) + (f" and {len(metered) - TOLD} more" if len(metered) > TOLD else "")
