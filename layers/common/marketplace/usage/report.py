"""One usage record as the seller's application reports it: what is valid, and what two reports are compared by."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from marketplace.ledger.record import MAX_QUANTITY
from marketplace.platform.moments import Moment
from marketplace.subscriptions.identity import SUBSCRIPTION_ID, LicenseIdentity
from marketplace.usage.record import MAX_TAGS, Rejection, tag_set

FUTURE_TOLERANCE = 5 * 60
"""How far a reporter's clock may be ahead of ours."""

_TAG_TEXT = re.compile(r"[A-Za-z0-9+ \-=._:/@]+")
_TAG_CHARACTERS = "a-z A-Z 0-9 + space - = . _ : / @"
_RESERVED = re.compile("aws:", re.IGNORECASE | re.ASCII)
"""Billing and Cost Management User Guide, user-defined tag restrictions: keys and values with this prefix are AWS's."""
_COMPLAINTS = 20
"""So many faults of one record are told at most."""
_MAX_TAG_KEY = 100
_MAX_TAG_VALUE = 256


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _valid_tags(value: object) -> object:
    if value is None:
        return value
    if not isinstance(value, dict):
        raise ValueError("must be an object of tag keys and values")
    if len(value) > MAX_TAGS:
        raise ValueError(f"at most {MAX_TAGS} tags are allowed")
    for key, text in value.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError("every value must be a text that isn't empty or blank; leave the tag out instead")
        if not isinstance(key, str) or not key.strip():
            raise ValueError("a key must not be blank")
        if len(key) > _MAX_TAG_KEY or not _TAG_TEXT.fullmatch(key):
            raise ValueError(f"a key must be 1-{_MAX_TAG_KEY} characters of {_TAG_CHARACTERS}")
        if len(text) > _MAX_TAG_VALUE or not _TAG_TEXT.fullmatch(text):
            raise ValueError(f"a value must be 1-{_MAX_TAG_VALUE} characters of {_TAG_CHARACTERS}")
        if _RESERVED.match(key) or _RESERVED.match(text):
            raise ValueError("no key and no value may begin with aws:, in capital or small letters; AWS reserves it")
    return value


class NamedRecord(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """A usage record by its name: the seller's own `id`, and exactly one of `subscription_id` and `license_arn`."""

    id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$", strict=True)]
    subscription_id: Annotated[str, Field(pattern=SUBSCRIPTION_ID.pattern, strict=True)] | None = None
    license_arn: (
        Annotated[str, Field(min_length=1, max_length=2048, strict=True), AfterValidator(_not_blank)] | None
    ) = None

    @model_validator(mode="after")
    def _one_subscription(self) -> Self:
        if (self.subscription_id is None) == (self.license_arn is None):
            raise ValueError("give either subscription_id or license_arn")
        return self

    @property
    def named_subscription(self) -> str:
        """The id of the subscription that the report names, by its id or by an ARN of its licence in any form."""
        if self.license_arn is not None:
            return LicenseIdentity(self.license_arn).subscription_id
        return self.subscription_id or ""


class UsageReport(NamedRecord, frozen=True, extra="forbid", defer_build=True):
    """One usage record as the seller's application reports it.

    `id` is the seller's own and makes repeating safe. Exactly one of `subscription_id` and `license_arn` is given.
    Without `timestamp` the usage is of the moment it arrives.
    """

    dimension: Annotated[str, Field(min_length=1, max_length=255, strict=True)]
    quantity: Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY)]
    timestamp: Moment | None = None
    tags: Annotated[dict[str, str] | None, BeforeValidator(_valid_tags)] = None

    def has_content_of(self, other: Self) -> bool:
        """Whether both report the same usage, with tags in any order; whose usage it is does not count. A report
        without a timestamp stays without one, so repeating it later is still a repetition."""
        return self._content == other._content

    def digest_for(self, subscription_id: str) -> str:
        """What a usage record that is kept under this subscription holds of its content."""
        return _digest([subscription_id, None, *self._content])

    def is_kept_as(self, digest: str, subscription_id: str) -> bool:
        """Whether a usage record that is kept under this subscription with this digest has the same content. The digest
        of a report that named its licence was over the ARN as given in earlier versions."""
        return digest in {self.digest_for(subscription_id), _digest([None, self.license_arn, *self._content])}

    @property
    def _content(self) -> list[object]:
        timestamp = None if self.timestamp is None else self.timestamp.isoformat()
        return [self.dimension, self.quantity, timestamp, tag_set(self.tags)]


def _digest(content: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def parsed(raw: object) -> UsageReport | Rejection:
    """A report from parsed JSON, or a Rejection that names the field; raises nothing."""
    report = valid(UsageReport, raw)
    if isinstance(report, UsageReport) and len(report.dimension.encode()) > 255:
        return Rejection("invalid_dimension", "dimension: at most 255 bytes in UTF-8 are allowed")
    return report


def valid[M: NamedRecord](model: type[M], raw: object) -> M | Rejection:
    """Parsed JSON as this model, or a Rejection that names the field; raises nothing."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        complaints: dict[str, str] = {}
        for one in error.errors(include_url=False, include_context=False, include_input=False)[:_COMPLAINTS]:
            complaints.setdefault(str(one["loc"][0]) if one["loc"] else "record", one["msg"])
        said = (f"{field}: {text.removeprefix('Value error, ')}" for field, text in complaints.items())
        return Rejection(f"invalid_{next(iter(complaints))}", "; ".join(said))
