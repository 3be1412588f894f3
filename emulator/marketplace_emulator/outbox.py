"""Outgoing notifications: the log of what was announced, and the deliveries made of it.

The log holds every notification once, in order. Deliveries are what the targets get: one per notification
unless a rule delays, repeats, reorders, holds or drops it. EventBridge and SNS both deliver at least once
and in no guaranteed order, so a real seller sees what each rule does.
"""

import random
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, get_args

from marketplace_emulator.agenda import Agenda
from marketplace_emulator.checks import arguments
from marketplace_emulator.clock import iso_millis
from marketplace_emulator.errors import AdminError, BadRequestError

Kind = Literal["eventbridge", "sns"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ACTIONS = {
    "delay": "deliver `seconds` later, by the settable clock",
    "repeat": "deliver `times` more copies of the same message",
    "drop": "never deliver",
    "hold": "keep until released",
    "reorder": "collect `window` notifications, then deliver them shuffled by `seed`",
    "after_registration": "keep until the buyer's token was resolved",
    "before_registration": "keep until the buyer is sent to register, and deliver just before that",
}


@dataclass(slots=True)
class Notification:
    """One announced message: an EventBridge event or an SNS envelope."""

    seq: int
    kind: str
    name: str
    body: dict[str, Any]
    purchase_id: str
    emitted_at: float

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/notifications`."""
        return asdict(self) | {"emitted_at": iso_millis(self.emitted_at)}


@dataclass(slots=True)
class Delivery:
    """One copy of a notification, ready for the targets."""

    seq: int
    notification: Notification

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/deliveries`."""
        return {**self.notification.as_dict(), "seq": self.seq, "notification_seq": self.notification.seq}


@dataclass(slots=True)
class Rule:
    """What to do with notifications whose name matches `match`, at most `limit` times."""

    do: str
    match: str = "*"
    seconds: float = 0
    times: int = 1
    window: int = 2
    seed: int = 0
    limit: int | None = None
    waiting: list[Notification] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/delivery`."""
        shown: dict[str, Any] = {"do": self.do, "match": self.match, "limit": self.limit}
        names = {"delay": ("seconds",), "repeat": ("times",), "reorder": ("window", "seed")}.get(self.do, ())
        return shown | {name: getattr(self, name) for name in names} | {"waiting": len(self.waiting)}


def _parse_rule(data: Any) -> Rule:
    """Return a rule from its JSON form. Raises BadRequestError."""
    hint = f"do is one of {', '.join(ACTIONS)}; match is a pattern such as 'License Updated*'"
    given = arguments(Rule, data, without=("waiting",))
    if given.get("do") not in ACTIONS:
        raise BadRequestError("a delivery rule needs a known `do`", hint)
    if any(isinstance(value, int | float) and value < 0 for value in given.values()):
        raise BadRequestError("the numbers of a delivery rule begin at 0", hint)
    return Rule(**given)


class Outbox:
    """The log of notifications and their deliveries. `Agenda.changed` is notified of every new delivery."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.log: list[Notification] = []
        self._delivered: list[Delivery] = []
        self.rules: list[Rule] = []
        self._registered: set[str] = set()
        self._sent_to_register: set[str] = set()

    def notifications(self, after: int = 0) -> list[Notification]:
        """Return what was announced, in order, without the first `after`."""
        with self._agenda.acting():
            return self.log[after:]

    def deliveries(self, after: int = 0) -> list[Delivery]:
        """Return what the targets get, in order, without the first `after`."""
        with self._agenda.acting():
            return self._delivered[after:]

    @property
    def announced(self) -> int:
        """How many messages were announced and delivered: a number that grows with each."""
        return len(self.log) + len(self._delivered)

    def deliver_again(self, seq: int) -> Notification:
        """Deliver one more copy of a notification, past all rules. Raises AdminError (404)."""
        with self._agenda.acting():
            if not 1 <= seq <= len(self.log):
                raise AdminError(404, f"there is no message {seq}", "GET /admin/notifications lists them")
            self._deliver(self.log[seq - 1])
            return self.log[seq - 1]

    def emit(self, kind: str, name: str, body: dict[str, Any], purchase_id: str, at: float) -> Notification:
        """Announce a message, apply the delivery rules, and return the notification."""
        notification = Notification(len(self.log) + 1, kind, name, body, purchase_id, at)
        self.log.append(notification)
        self._pass_on(notification, 0)
        return notification

    def registered(self, purchase_id: str) -> None:
        """Deliver what waited until the buyer's token was resolved."""
        self._registered.add(purchase_id)
        self._release_for("after_registration", purchase_id)

    def sent_to_register(self, purchase_id: str) -> None:
        """Deliver what must arrive just before the buyer is sent to the seller."""
        self._sent_to_register.add(purchase_id)
        self._release_for("before_registration", purchase_id)

    def add_rules(self, rules: list[dict[str, Any]]) -> None:
        """Add rules to the end of the chain, for example `[{"do": "repeat", "match": "License*", "times": 1}]`.

        Every notification passes the rules in order. Raises AdminError if a rule does not parse.
        """
        parsed = [_parse_rule(item) for item in rules]
        with self._agenda.acting():
            self.rules.extend(parsed)

    def clear_rules(self) -> None:
        """Remove all rules and deliver what they kept, in the order it was announced."""
        with self._agenda.acting():
            kept = sorted((item for rule in self.rules for item in rule.waiting), key=lambda item: item.seq)
            self.rules = []
            for notification in kept:
                self._deliver(notification)

    def release(self) -> int:
        """Deliver everything that rules keep and return its number. The rules stay."""
        released = 0
        with self._agenda.acting():
            for index, rule in enumerate(self.rules):
                waiting, rule.waiting = rule.waiting, []
                if rule.do == "reorder":
                    self._shuffle(rule, waiting)
                for notification in waiting:
                    self._pass_on(notification, index + 1)
                released += len(waiting)
        return released

    def _release_for(self, action: str, purchase_id: str) -> None:
        for index, rule in enumerate(self.rules):
            if rule.do != action:
                continue
            free = [item for item in rule.waiting if item.purchase_id == purchase_id]
            rule.waiting = [item for item in rule.waiting if item.purchase_id != purchase_id]
            for notification in free:
                self._pass_on(notification, index + 1)

    def _pass_on(self, notification: Notification, first_rule: int) -> None:
        for index in range(first_rule, len(self.rules)):
            rule = self.rules[index]
            if rule.limit == 0 or not fnmatchcase(notification.name, rule.match):
                continue
            if rule.limit is not None:
                rule.limit -= 1
            if self._apply(rule, index, notification):
                return
        self._deliver(notification)

    def _pass_on_later(self, notification: Notification, first_rule: int, _moment: float) -> None:
        self._pass_on(notification, first_rule)

    def _apply(self, rule: Rule, index: int, notification: Notification) -> bool:
        """Return whether the rule has taken the notification out of the chain."""
        match rule.do:
            case "drop":
                return True
            case "repeat":
                for _ in range(rule.times):
                    self._pass_on(notification, index + 1)
                return False
            case "delay":
                self._agenda.at(
                    notification.emitted_at + rule.seconds, partial(self._pass_on_later, notification, index + 1)
                )
                return True
            case "after_registration" if notification.purchase_id in self._registered:
                return False
            case "before_registration" if notification.purchase_id in self._sent_to_register:
                return False
        rule.waiting.append(notification)
        if rule.do == "reorder" and len(rule.waiting) >= rule.window:
            waiting, rule.waiting = rule.waiting, []
            self._shuffle(rule, waiting)
            for item in waiting:
                self._pass_on(item, index + 1)
        return True

    @staticmethod
    def _shuffle(rule: Rule, waiting: list[Notification]) -> None:
        random.Random(rule.seed).shuffle(waiting)  # noqa: S311  a repeatable order, not a secret

    def _deliver(self, notification: Notification) -> None:
        with self._agenda.lock:
            self._delivered.append(Delivery(len(self._delivered) + 1, notification))
            self._agenda.changed.notify_all()
