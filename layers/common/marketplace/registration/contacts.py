"""The contact that a buyer enters on the landing page: its checks, and its place in the subscriptions table."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table
from marketplace.platform.clock import Clock, epoch

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


class Contacts:
    """The contacts in the subscriptions table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def save(self, subscription_id: str, contact: Contact, code: str) -> None:
        """Stores the contact in place of an earlier one, with the hash of the registration code that it was entered
        with. Raises AwsError."""
        stamp = {"updated_at": epoch(self._clock()), "registration": keys.registration(code).pk}
        item = to_item({**keys.contact(subscription_id)._asdict(), **contact.values, **stamp})
        self._table.put(item)

    def read(self, subscription_id: str, *, code: str | None = None) -> Contact | None:
        """The stored contact; with `code`, only if it was entered with that code. Raises AwsError."""
        item = self._table.get(keys.contact(subscription_id))
        if item is None:
            return None
        values = from_item(item)
        if code is not None and values.get("registration") != keys.registration(code).pk:
            return None
        return Contact.from_values(values)
