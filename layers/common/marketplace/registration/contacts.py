"""The contacts that buyers enter on the landing page: their checks, and their place in the subscriptions table.

All contacts of a subscription are in one item, each with the time at which it was entered, so personal data is in one
place and a later contact replaces no earlier one. The event that tells the seller of a contact is written in the same
transaction.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table, Update
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import ThrottledError
from marketplace.subscriptions import recheck
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.recheck_queue import Requests
from marketplace.subscriptions.seller_events import Kind, SellerEvent, outbox_item, stable_id

MAX_CONTACTS = 20
"""How many contacts of a subscription are kept. Each is told to the seller, who may write to the address; so a code
can't be used to have many strangers written to."""

_ROUNDS = 10
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_PHONE = re.compile(r"[0-9+()./ -]*")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form: its bounds, and how a browser may fill it in (HTML autofill names)."""

    name: str
    label: str
    max_length: int
    autocomplete: str
    type: str = "text"
    required: bool = False


FIELDS = (
    Field("email", "Work e-mail", 254, "email", type="email", required=True),
    Field("company", "Company", 200, "organization"),
    Field("name", "Your name", 200, "name"),
    Field("phone", "Phone", 40, "tel", type="tel"),
)
"""AWS Marketplace asks for an e-mail field (Seller Guide: SaaS product guidelines); 254 characters is the longest
address that mail can be sent to (RFC 5321)."""


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach the buyer; a field that was left empty is an empty text."""

    email: str
    company: str = ""
    name: str = ""
    phone: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """From the values of a stored item; other attributes are ignored."""
        return cls(**{field.name: values.get(field.name, "") for field in FIELDS})

    @property
    def values(self) -> dict[str, str]:
        """By field, without the empty ones."""
        return {field.name: value for field in FIELDS if (value := getattr(self, field.name))}


def checked(form: Mapping[str, str]) -> Contact | dict[str, str]:
    """The contact, or by field what is wrong, in words for the buyer. Unknown fields are ignored."""
    typed = {field.name: form.get(field.name, "").strip() for field in FIELDS}
    problems = {field.name: problem for field in FIELDS if (problem := _problem(field, typed[field.name]))}
    return problems or Contact(**typed)


def _problem(field: Field, value: str) -> str | None:
    if not value:
        return "Enter your e-mail address." if field.required else None
    if len(value) > field.max_length:
        return f"{field.label}: use {field.max_length} characters or fewer."
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        return f"{field.label}: remove line breaks and control characters."
    if field.type == "email" and not _EMAIL.fullmatch(value):
        return "Enter an e-mail address like name@example.com."
    if field.type == "tel" and not _PHONE.fullmatch(value):
        return "Enter a phone number with digits, spaces and + ( ) . / - only."
    return None


@dataclass(frozen=True, slots=True)
class EnteredContact:
    """A contact, when it was entered (seconds since the epoch), and the hash of the registration code that it was
    entered with."""

    contact: Contact
    entered_at: int
    registration: str

    @classmethod
    def all_in(cls, values: Mapping[str, Any]) -> list[Self]:
        """The contacts of a stored item, the oldest first. An item without a list is itself one contact."""
        entries = values.get("contacts") or ([values] if "email" in values else [])
        return [
            cls(
                Contact.from_values(entry),
                entry.get("entered_at") or entry.get("updated_at", 0),
                entry.get("registration", ""),
            )
            for entry in entries
        ]

    @property
    def values(self) -> dict[str, Any]:
        return {**self.contact.values, "entered_at": self.entered_at, "registration": self.registration}


class TooManyContactsError(Exception):
    """As many contacts of the subscription as are kept have been entered."""


class Contacts:
    """The contacts in the subscriptions table."""

    def __init__(self, table: Table, clock: Clock, queue: Requests) -> None:
        self._table = table
        self._clock = clock
        self._queue = queue

    def save(self, subscription_id: str, contact: Contact, code: str) -> None:
        """Stores the contact beside the earlier ones, with the event for the seller, and requests its publication.
        Repeating it adds nothing and requests the publication again.

        Raises TooManyContactsError, and AwsError when it may or may not be stored: repeat it.
        """
        registration = keys.registration(code).pk
        for _ in range(_ROUNDS):
            stored = self._stored(subscription_id)
            entered = EnteredContact.all_in(stored)
            mine = [one.contact for one in entered if one.registration == registration]
            if not mine or mine[-1] != contact:
                if len(entered) >= MAX_CONTACTS:
                    raise TooManyContactsError
                entered.append(EnteredContact(contact, epoch(self._clock()), registration))
                if not self._write(subscription_id, stored, entered):
                    continue
            self._queue.look_again(subscription_id, recheck.CONTACT_PROVIDED)
            return
        raise ThrottledError("ContactInUse", "others kept changing it at the same time")

    def read(self, subscription_id: str, *, code: str) -> Contact | None:
        """The contact that was entered last with this code. Raises AwsError."""
        registration = keys.registration(code).pk
        entered = EnteredContact.all_in(self._stored(subscription_id))
        return next((one.contact for one in reversed(entered) if one.registration == registration), None)

    def _stored(self, subscription_id: str) -> dict[str, Any]:
        return from_item(self._table.get(keys.contact(subscription_id)) or {})

    def _write(self, subscription_id: str, stored: Mapping[str, Any], entered: Sequence[EnteredContact]) -> bool:
        """Stores the contacts and the event about the last one. False when others have changed them since."""
        update = Update(
            set={"contacts": [one.values for one in entered]},
            add={"version": 1},
            remove=[
                name for name in (*(field.name for field in FIELDS), "updated_at", "registration") if name in stored
            ],
            **_unchanged(stored),
        )
        event = self._event(subscription_id, entered)
        return (
            self._table.write_together(
                [
                    self._table.update_action(keys.contact(subscription_id), update),
                    self._table.put_action(outbox_item(subscription_id, event)),
                ]
            )
            is None
        )

    def _event(self, subscription_id: str, entered: Sequence[EnteredContact]) -> SellerEvent:
        item = self._table.get(keys.subscription(subscription_id))
        subscription = None if item is None else Subscription.from_item(item)
        number, last = len(entered), entered[-1]
        detail = {
            "subscription_id": subscription_id,
            "product_code": None if subscription is None else subscription.product_code,
            "tenant_id": None if subscription is None else subscription.tenant_id,
            "contact": last.contact.values,
            "contact_number": number,
        }
        kind: Kind = "Contact Provided"
        return SellerEvent(
            kind, stable_id(kind, subscription_id, number, last.registration, last.entered_at), last.entered_at, detail
        )


def _unchanged(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The condition that the contacts are still as they were read."""
    if not stored:
        return {"condition": "attribute_not_exists(pk)"}
    if "version" not in stored:
        return {
            "condition": "attribute_not_exists(version) AND updated_at = :at",
            "given": {"at": stored["updated_at"]},
        }
    return {"condition": "version = :read", "given": {"read": stored["version"]}}
