"""BatchMeterUsage: which errors refuse the whole call, what each record is answered, and what is billed.

Sources: BatchMeterUsage API reference and its botocore model unless a rule names another.

A call is refused for the first of these that any record breaks, in this order, whatever the record's place:
request shape, product code, licence and customer, dimension, timestamp, activation, tags, allocations. Within
one of them the first record to break it is named. A refused call meters nothing. Otherwise every record is
answered for itself, in order, so that of two records with one key in one call the first wins.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from marketplace_emulator.clock import DAY, HOUR, iso_millis
from marketplace_emulator.errors import ServiceError, serialization, validation
from marketplace_emulator.ids import license_id
from marketplace_emulator.ledger import Key, Ledger, MeteringRecord, Quantity, TagSet
from marketplace_emulator.model import Purchase
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings

MAX_RECORDS = 25
MAX_ALLOCATIONS = 2500
MAX_TAGS = 5
MAX_QUANTITY = 2_147_483_647
GRACE = 6 * HOUR

Status = Literal["Success", "CustomerNotSubscribed", "DuplicateRecord"]

_DECIMAL = re.compile(r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?\Z")
_TAG_TEXT = re.compile(r"^[a-zA-Z0-9+ \-=._:/@]+\Z")
_ACCOUNT = re.compile(r"^[0-9]+\Z")
_PRODUCT_CODE = re.compile(r"^[-a-zA-Z0-9/=:_.@]*\Z")

_invalid_license = partial(ServiceError, "InvalidLicenseException")
_out_of_bounds = partial(ServiceError, "TimestampOutOfBoundsException")
_invalid_tag = partial(ServiceError, "InvalidTagException")
_invalid_allocations = partial(ServiceError, "InvalidUsageAllocationsException")


@dataclass(slots=True)
class UsageRecord:
    """One record of a request whose shape is right."""

    raw: dict[str, Any]
    timestamp: float
    dimension: str
    quantity: Quantity
    account: str | None
    customer: str | None
    license_arn: str | None
    allocations: list[Any] | None
    tag_sets: tuple[tuple[TagSet, Quantity], ...] = ()
    purchase: Purchase | None = None


class Meter:
    """Checks metering records and adds accepted ones to the ledger."""

    def __init__(self, *, settings: Settings, registry: Registry, ledger: Ledger, new_id: Callable[[], str]) -> None:
        self._settings = settings
        self._registry = registry
        self._ledger = ledger
        self._new_id = new_id

    def check(self, request: dict[str, Any], size: int, now: float) -> list[UsageRecord]:
        """Return the records of a call. Raises ServiceError if the whole call is refused."""
        product_code, records = self._parse(request, size)
        if product_code is None:
            self._find_licenses(records)
        else:
            self._find_customers(product_code, records)
        self._check_dimensions(product_code, records)
        self._check_timestamps(records, now)
        self._check_activation(records, now)
        for record in records:
            if record.allocations is not None:
                self._check_tags(record)
        for record in records:
            if record.allocations is not None:
                _check_allocations(record)
        return records

    def book(self, record: UsageRecord, region: str, now: float) -> tuple[Status, MeteringRecord | None]:
        """Return the status of one record of a checked call; bill the record if it is accepted."""
        purchase = record.purchase
        if purchase is None or not self._is_open(purchase, now):
            return "CustomerNotSubscribed", None
        hour = int(record.timestamp // HOUR)
        licensed = record.license_arn is not None
        customer = purchase.license_id if licensed else _legacy_customer(purchase)
        integration = "license" if licensed else "legacy"
        key: Key = (region, integration, customer, record.dimension, hour)
        known = self._ledger.find(key)
        if known is not None:
            identical = known.quantity == record.quantity and known.allocations == record.tag_sets
            if identical and self._settings.identical_resend == "success":
                return "Success", known
            return "DuplicateRecord", None
        accepted = MeteringRecord(
            id=self._new_id(),
            seq=len(self._ledger.records) + 1,
            region=region,
            integration=integration,
            customer=customer,
            purchase_id=purchase.id,
            license_arn=purchase.license_arn if licensed else "",
            customer_identifier=purchase.customer_identifier,
            account_id=purchase.account_id,
            product_code=purchase.product.code,
            dimension=record.dimension,
            timestamp=record.timestamp,
            hour=hour,
            quantity=record.quantity,
            allocations=record.tag_sets,
            unit_price=purchase.unit_price(record.dimension, record.timestamp),
            received_at=now,
        )
        self._ledger.add(accepted)
        return "Success", accepted

    # -- the shape of the request -------------------------------------------------------------------------

    def _parse(self, request: dict[str, Any], size: int) -> tuple[str | None, list[UsageRecord]]:
        if size >= self._settings.max_request_bytes:
            raise validation(f"The request of {size} bytes is not less than 1 MB")
        product_code = request.get("ProductCode")
        if product_code is not None:
            if not isinstance(product_code, str):
                raise serialization("ProductCode is not a string")
            if len(product_code) > 255 or not _PRODUCT_CODE.match(product_code):
                raise validation("ProductCode does not fit its pattern")
        records = request.get("UsageRecords")
        if records is None:
            raise validation("UsageRecords is required")
        if not isinstance(records, list):
            raise serialization("UsageRecords is not a list")
        if len(records) > MAX_RECORDS:
            raise validation(f"UsageRecords has {len(records)} members; at most {MAX_RECORDS} are allowed")
        parsed = [_parse_record(record, index) for index, record in enumerate(records)]
        for index, record in enumerate(parsed):
            if record.license_arn is None and product_code is None:
                raise validation(f"UsageRecords[{index}] has no LicenseArn, and the request has no ProductCode")
            if record.license_arn is not None and product_code is not None:
                raise validation(
                    f"UsageRecords[{index}] has a LicenseArn, and the request has a ProductCode; send one of them"
                )
            if record.customer is not None and record.account is not None:
                raise validation(
                    f"UsageRecords[{index}]: CustomerIdentifier and CustomerAWSAccountId exclude each other"
                )
        return product_code, parsed

    # -- who is metered -----------------------------------------------------------------------------------

    def _find_licenses(self, records: list[UsageRecord]) -> None:
        """Each licence must be one of the seller's, match the buyer, and all be of one product."""
        product_code = None
        for index, record in enumerate(records):
            arn = record.license_arn or ""
            purchase = self._registry.by_license.get(license_id(arn) or "")
            if purchase is None:
                raise _invalid_license(f"UsageRecords[{index}]: no licence {arn}")
            if product_code is None:
                product_code = purchase.product.code
            elif product_code != purchase.product.code:
                raise _invalid_license(f"UsageRecords[{index}]: a request is for only one product")
            if record.customer is not None and not purchase.is_legacy:
                raise ServiceError(
                    "InvalidCustomerIdentifierException",
                    f"UsageRecords[{index}]: CustomerIdentifier is not supported with a LicenseArn",
                )
            expected = purchase.account_id if record.customer is None else purchase.customer_identifier
            if (record.account if record.customer is None else record.customer) != expected:
                raise _invalid_license(f"UsageRecords[{index}]: the licence does not match the customer")
            record.purchase = purchase

    def _find_customers(self, product_code: str, records: list[UsageRecord]) -> None:
        """ProductCode integrations. An identifier that was never issued refuses the call; see `unknown_customer`."""
        product = self._registry.products.get(product_code)
        refused = product is not None and product.integration == "license"
        if product is None or (refused and self._settings.product_code_on_license_products == "refuse"):
            reason = "LicenseArn is required for it" if refused else "it is not a product of this seller"
            raise ServiceError("InvalidProductCodeException", f"ProductCode {product_code}: {reason}")
        for index, record in enumerate(records):
            if record.customer is not None:
                record.purchase = self._registry.by_customer.get((product_code, record.customer))
                known = record.customer in self._registry.known_customers
                if not known and self._settings.unknown_customer == "exception":
                    raise ServiceError(
                        "InvalidCustomerIdentifierException",
                        f"UsageRecords[{index}]: there is no customer {record.customer}",
                    )
            elif record.account is not None:
                record.purchase = self._registry.by_account.get((product_code, record.account))
            else:
                raise validation(f"UsageRecords[{index}] has neither CustomerIdentifier nor CustomerAWSAccountId")

    def _is_open(self, purchase: Purchase, now: float) -> bool:
        """Whether usage of this purchase is taken now: provisioned, not suspended, at most one hour after its end."""
        if purchase.provisioned_at is None or purchase.account_id in self._registry.suspended:
            return False
        return purchase.ended_at is None or now < self._registry.metering_closes_at(purchase)

    # -- what refuses the whole call ----------------------------------------------------------------------

    def _check_dimensions(self, product_code: str | None, records: list[UsageRecord]) -> None:
        """Case-sensitive, and only dimensions that are metered."""
        for index, record in enumerate(records):
            product = record.purchase.product if record.purchase else self._registry.products[product_code or ""]
            dimension = product.dimensions.get(record.dimension)
            if dimension is None or dimension.type != "usage":
                raise ServiceError(
                    "InvalidUsageDimensionException",
                    f"UsageRecords[{index}]: {record.dimension!r} is not a usage dimension of {product.code}",
                )

    def _check_timestamps(self, records: list[UsageRecord], now: float) -> None:
        """Not in the future, younger than 24 hours, and last month's only before 06:00 UTC on the 1st."""
        month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month_start = month.timestamp()
        oldest = now - DAY
        earliest = month_start if now >= month_start + GRACE else 0.0
        latest = now + self._settings.future_tolerance_seconds
        for index, record in enumerate(records):
            moment = record.timestamp
            if moment > latest:
                reason = "it lies in the future"
            elif moment <= oldest:
                reason = "it is 24 hours old or older"
            elif moment < earliest:
                reason = "the grace period for last month ended at 06:00 UTC on the 1st"
            else:
                continue
            raise _out_of_bounds(f"UsageRecords[{index}]: Timestamp {moment}: {reason}")

    def _check_activation(self, records: list[UsageRecord], now: float) -> None:
        """InvalidLicense: usage outside the licence's activation period; without a licence, a wrong Timestamp."""
        for index, record in enumerate(records):
            purchase = record.purchase
            if purchase is None:
                continue
            begin = purchase.provisioned_at
            if begin is None:
                if self._settings.pending_license == "invalid_license" and record.license_arn:
                    raise _invalid_license(f"UsageRecords[{index}]: the licence is not active yet")
                continue
            if record.timestamp < begin:
                text = f"UsageRecords[{index}]: Timestamp {record.timestamp} is before {begin} ({iso_millis(begin)})"
                if record.license_arn:
                    raise _invalid_license(f"{text}, when the licence was activated")
                if purchase.id not in self._registry.resubscribed:
                    raise _out_of_bounds(f"{text}, the start of the subscription")
            ended = purchase.ended_at
            strict = self._settings.usage_after_end == "invalid_license"
            if strict and record.license_arn and ended is not None and ended < record.timestamp <= now:
                raise _invalid_license(f"UsageRecords[{index}]: usage after the agreement ended")

    def _check_tags(self, record: UsageRecord) -> None:
        """1 to 5 tags an allocation, keys 1-100 and values 1-256 of `a-zA-Z0-9+ -=._:/@`; see `tag_limit`.

        Source: Seller Guide "metering-for-usage" for the characters and for five tags in all.
        """
        keys: set[str] = set()
        tag_sets: list[tuple[TagSet, Quantity]] = []
        for allocation in record.allocations or []:
            tags = allocation.get("Tags")
            tag_set = _tag_set(tags) if tags is not None else ()
            keys.update(key for key, _ in tag_set)
            tag_sets.append((tag_set, _allocated(allocation)))
        if len(keys) > MAX_TAGS and self._settings.tag_limit == "record":
            raise _invalid_tag(f"a record has at most {MAX_TAGS} different tag keys, not {len(keys)}")
        record.tag_sets = tuple(sorted(tag_sets))


def _parse_record(data: Any, index: int) -> UsageRecord:
    where = f"UsageRecords[{index}]"
    if not isinstance(data, dict):
        raise serialization(f"{where} is not an object")
    timestamp = data.get("Timestamp")
    if timestamp is None:
        raise validation(f"{where}.Timestamp is required")
    if not isinstance(timestamp, int | float) or isinstance(timestamp, bool):
        raise serialization(f"{where}.Timestamp is not a number of seconds")
    dimension = _text(data, "Dimension", where)
    if dimension is None:
        raise validation(f"{where}.Dimension is required")
    if not 1 <= len(dimension) <= 255:
        raise validation(f"{where}.Dimension has 1 to 255 characters")
    account = _text(data, "CustomerAWSAccountId", where)
    if account is not None and (len(account) > 255 or not _ACCOUNT.match(account)):
        raise validation(f"{where}.CustomerAWSAccountId does not fit its pattern")
    customer = _text(data, "CustomerIdentifier", where)
    if customer is not None and len(customer) > 255:
        raise validation(f"{where}.CustomerIdentifier has at most 255 characters")
    allocations = data.get("UsageAllocations")
    if allocations is not None:
        _check_list(allocations, f"{where}.UsageAllocations")
    return UsageRecord(
        raw=data,
        timestamp=timestamp,
        dimension=dimension,
        quantity=_quantity(data, "Quantity", "QuantityAsDecimal", where, 0),
        account=account,
        customer=customer or None,
        license_arn=_text(data, "LicenseArn", where),
        allocations=allocations,
    )


def _text(data: dict[str, Any], name: str, where: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise serialization(f"{where}.{name} is not a string")
    return value


def _check_list(value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise serialization(f"{where} is not a list")
    if not value:
        raise validation(f"{where} has at least 1 member")
    if not all(isinstance(item, dict) for item in value):
        raise serialization(f"{where} holds something that is not an object")


def _quantity(data: dict[str, Any], whole: str, decimal: str, where: str, default: int | None) -> Quantity:
    number, text = data.get(whole), data.get(decimal)
    if number is not None and text is not None:
        raise validation(f"{where}: {whole} and {decimal} exclude each other")
    if text is not None:
        if not isinstance(text, str):
            raise serialization(f"{where}.{decimal} is not a string")
        if len(text) > 17 or not _DECIMAL.match(text):
            raise validation(f"{where}.{decimal} does not fit its pattern")
        return Decimal(text)
    if number is None:
        if default is None:
            raise validation(f"{where} needs {whole} or {decimal}")
        return default
    if not isinstance(number, int) or isinstance(number, bool):
        raise serialization(f"{where}.{whole} is not a whole number")
    if not 0 <= number <= MAX_QUANTITY:
        raise validation(f"{where}.{whole} is not between 0 and {MAX_QUANTITY}")
    return number


def _allocated(allocation: dict[str, Any]) -> Quantity:
    return _quantity(allocation, "AllocatedUsageQuantity", "AllocatedUsageQuantityAsDecimal", "UsageAllocation", None)


def _tag_set(tags: Any) -> TagSet:
    _check_list(tags, "Tags")
    if len(tags) > MAX_TAGS:
        raise _invalid_tag(f"an allocation has at most {MAX_TAGS} tags, not {len(tags)}")
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("Key"), tag.get("Value")
        if not isinstance(key, str) or not isinstance(value, str):
            raise _invalid_tag("a tag has a Key and a Value")
        if len(key) > 100 or not _TAG_TEXT.match(key):
            raise _invalid_tag(f"the tag key {key!r} has 1 to 100 of a-zA-Z0-9+ -=._:/@")
        if len(value) > 256 or not _TAG_TEXT.match(value):
            raise _invalid_tag(f"the tag value {value!r} has 1 to 256 of a-zA-Z0-9+ -=._:/@")
        if key in found:
            raise _invalid_tag(f"the tag key {key!r} appears twice in one allocation")
        found[key] = value
    return tuple(sorted(found.items()))


def _check_allocations(record: UsageRecord) -> None:
    """At most 2500, no tag set twice whatever the order of its tags, one kind of quantity, sum = quantity."""
    allocations = record.tag_sets
    if len(allocations) > MAX_ALLOCATIONS:
        raise _invalid_allocations(f"a record has at most {MAX_ALLOCATIONS} allocations")
    if len({tags for tags, _ in allocations}) != len(allocations):
        raise _invalid_allocations("two allocations have the same set of tags")
    kind = type(record.quantity)
    if any(type(quantity) is not kind for _, quantity in allocations):
        raise _invalid_allocations("allocations and record use different kinds of quantity")
    total = sum(quantity for _, quantity in allocations)
    if total != record.quantity:
        raise _invalid_allocations(f"the allocations add up to {total}, not to {record.quantity}")


def _legacy_customer(purchase: Purchase) -> str:
    return f"{purchase.product.code}/{purchase.customer_identifier or purchase.account_id}"
