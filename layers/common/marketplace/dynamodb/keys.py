"""Every key of both tables, as functions. No other module writes a key by hand.

A component that comes from outside (dimension, record id, tenant id) is percent-encoded, so no value can hold the
delimiter `#` and two different values never give one key.
"""

import hashlib
from typing import NamedTuple
from urllib.parse import quote, unquote

from marketplace.platform.clock import iso

DUE_INDEX = "due"
DUE_SHARDS = 16
ACCOUNT_INDEX = "by_account"
STATUS_INDEX = "by_status"
WAITING_INDEX = "waiting"


class Key(NamedTuple):
    """The primary key of an item."""

    pk: str
    sk: str

    def item(self) -> dict[str, dict[str, str]]:
        """The key in DynamoDB's attribute-value form."""
        return {"pk": {"S": self.pk}, "sk": {"S": self.sk}}


def encoded(component: str) -> str:
    """A component made safe to stand between delimiters; `decoded` undoes it."""
    return quote(component, safe="")


def decoded(component: str) -> str:
    return unquote(component)


def subscription_pk(subscription_id: str) -> str:
    return f"SUB#{subscription_id}"


def subscription_id_of(pk: str) -> str:
    return pk.removeprefix("SUB#")


# Subscriptions table


def subscription(subscription_id: str) -> Key:
    return Key(subscription_pk(subscription_id), "SUBSCRIPTION")


ENTITLEMENT_PREFIX = "ENTITLEMENT#"
EVENT_PREFIX = "EVENT#"
OUTBOX_PREFIX = "OUTBOX#"


def entitlement(subscription_id: str, dimension: str) -> Key:
    return Key(subscription_pk(subscription_id), ENTITLEMENT_PREFIX + encoded(dimension))


def contact(subscription_id: str) -> Key:
    return Key(subscription_pk(subscription_id), "CONTACT")


CLAIM_PREFIX = "CLAIM#"


def claim_change(subscription_id: str, revision: int) -> Key:
    """One change of a subscription's claim; they are numbered from 1 on, so the keys sort as the numbers do."""
    return Key(subscription_pk(subscription_id), f"{CLAIM_PREFIX}{revision:08d}")


def event(subscription_id: str, time: str, event_id: str) -> Key:
    """A notification in the inbox of a subscription; `time` is ISO 8601 in UTC, so the keys sort by event time."""
    return Key(subscription_pk(subscription_id), f"{EVENT_PREFIX}{time}#{encoded(event_id)}")


def outbox(subscription_id: str, event_id: str) -> Key:
    """An event for the seller that is decided but not known to be published yet."""
    return Key(subscription_pk(subscription_id), OUTBOX_PREFIX + encoded(event_id))


def overage_correction(subscription_id: str, event_id: str) -> Key:
    """Units that were charged although a contract includes them, and that a person has to correct."""
    return Key(subscription_pk(subscription_id), f"OVERAGE#{encoded(event_id)}")


def reconciliation() -> Key:
    """When all subscriptions were last compared with AWS Marketplace."""
    return Key("RECONCILIATION", "LAST")


def agreement_pk(agreement_id: str) -> str:
    return f"AGREEMENT#{encoded(agreement_id)}"


def agreement_id_of(pk: str) -> str | None:
    """The agreement of a partition, None of one that is no agreement's."""
    return decoded(pk.removeprefix("AGREEMENT#")) if pk.startswith("AGREEMENT#") else None


def agreement_subscription(agreement_id: str, subscription_id: str) -> Key:
    """The join: this agreement belongs to this subscription."""
    return Key(agreement_pk(agreement_id), f"SUB#{subscription_id}")


def other_product(agreement_id: str) -> Key:
    """Whether the agreement is known to be of a product that is not sold here."""
    return Key(agreement_pk(agreement_id), "OTHER_PRODUCT")


def agreement_event(agreement_id: str, time: str, event_id: str) -> Key:
    """A notification that waits for the join."""
    return Key(agreement_pk(agreement_id), f"{EVENT_PREFIX}{time}#{encoded(event_id)}")


def agreement_waiting(agreement_id: str) -> Key:
    """That events of the agreement wait for the join."""
    return Key(agreement_pk(agreement_id), "WAITING")


def unassigned_event(time: str, event_id: str) -> Key:
    """A notification that names no agreement, licence or customer; kept by day, so it can be counted and read."""
    return Key(f"UNASSIGNED#{time[:10]}", f"{EVENT_PREFIX}{time}#{encoded(event_id)}")


def registration(code: str) -> Key:
    """A one-time registration code; only its hash is stored."""
    return Key(f"REGISTRATION#{hashlib.sha256(code.encode()).hexdigest()}", "REGISTRATION")


def tenant_pk(tenant_id: str) -> str:
    return f"TENANT#{encoded(tenant_id)}"


def tenant_subscription(tenant_id: str, subscription_id: str) -> Key:
    return Key(tenant_pk(tenant_id), f"SUB#{subscription_id}")


def account_tenants(account: str) -> Key:
    """The tenants that a buyer's AWS account (or legacy customer identifier) is linked to."""
    return Key(f"ACCOUNT#{encoded(account)}", "TENANTS")


def product(product_code: str) -> Key:
    """What is known of a product as a whole."""
    return Key(f"PRODUCT#{encoded(product_code)}", "ENTITLEMENTS")


# Usage table

HOUR_PREFIX = "HOUR#"
RECORD_PREFIX = "RECORD#"
INCLUDED_PREFIX = "INCLUDED#"
TAGS_MARK = "#TAGS#"


def usage_record(subscription_id: str, record_id: str) -> Key:
    return Key(subscription_pk(subscription_id), RECORD_PREFIX + encoded(record_id))


def included_prefix(dimension: str) -> str:
    return f"{INCLUDED_PREFIX}{encoded(dimension)}#"


def included(subscription_id: str, dimension: str, first_end: int | None, counted_from: int | None = None) -> Key:
    """How much of what a contract includes was used in the term that was first read with this end; `counted_from`
    tells apart terms that were read with the same one."""
    end = "-" if first_end is None else iso(first_end)
    since = "" if counted_from is None else f"#{iso(counted_from)}"
    return Key(subscription_pk(subscription_id), included_prefix(dimension) + end + since)


DAY_PREFIX = "DAY#"
STATEMENT_PREFIX = "STATEMENT#"


def day_of(hour: int) -> str:
    """The day (UTC) of an hour, as keys name it."""
    return iso(hour)[:10]


def day_prefix(day: str) -> str:
    """What the sort keys of a day's included units start with; days sort in time order."""
    return f"{DAY_PREFIX}{day}"


def included_day(subscription_id: str, hour: int, dimension: str, tags_digest: str | None) -> Key:
    """How much of a day's usage of one tag set a contract includes."""
    sk = f"{day_prefix(day_of(hour))}#{encoded(dimension)}"
    return Key(subscription_pk(subscription_id), sk if tags_digest is None else f"{sk}#{tags_digest}")


def frozen_day(subscription_id: str, day: str) -> Key:
    """That a day of a statement is frozen, and where its content is."""
    return Key(subscription_pk(subscription_id), STATEMENT_PREFIX + day)


def frozen_part(subscription_id: str, day: str, digest: str, number: int) -> Key:
    """A part of a frozen day's content, by the content's digest."""
    return Key(subscription_pk(subscription_id), f"FROZEN#{day}#{digest}#{number:04d}")


def charged_prefix(dimension: str) -> str:
    return f"CHARGED#{encoded(dimension)}#"


def charged(subscription_id: str, dimension: str, hour: int, first_record: str) -> Key:
    """Which usage records one transaction charged for beyond a contract; `first_record` is one of them."""
    digest = hashlib.sha256(first_record.encode()).hexdigest()[:32]
    return Key(subscription_pk(subscription_id), f"{charged_prefix(dimension)}{iso(hour)[:13]}#{digest}")


def hour_prefix(hour: int) -> str:
    """What the sort key of everything of one hour starts with; hours sort in time order."""
    return HOUR_PREFIX + iso(hour)[:13]


def metering_record(subscription_id: str, hour: int, dimension: str) -> Key:
    return Key(subscription_pk(subscription_id), f"{hour_prefix(hour)}#{encoded(dimension)}")


CORRECTION_PREFIX = "CORRECTION#"


def corrections_prefix(hour: int, dimension: str) -> str:
    """What the sort keys of the corrections of a metering record start with."""
    return f"{CORRECTION_PREFIX}{iso(hour)[:13]}#{encoded(dimension)}#"


def correction(subscription_id: str, hour: int, dimension: str, digest: str) -> Key:
    """Units of a metering record for which the buyer gets money back; the digest is of what is corrected."""
    return Key(subscription_pk(subscription_id), corrections_prefix(hour, dimension) + digest)


CHANGE_PREFIX = "CHANGE#"


def usage_change(subscription_id: str, at: int, digest: str) -> Key:
    """What somebody has changed about a subscription's usage; changes sort in time order."""
    return Key(subscription_pk(subscription_id), f"{CHANGE_PREFIX}{iso(at)}#{digest}")


def hour_and_dimension(metering_record_sk: str) -> tuple[str, str]:
    """What the sort key of a metering record says: the hour in ISO 8601, and the dimension."""
    _, hour, dimension = metering_record_sk.split("#", 2)
    return f"{hour}:00:00Z", decoded(dimension)


def allocation_prefix(metering_record_sk: str) -> str:
    return metering_record_sk + TAGS_MARK


def allocation(subscription_id: str, hour: int, dimension: str, tags_digest: str) -> Key:
    key = metering_record(subscription_id, hour, dimension)
    return Key(key.pk, allocation_prefix(key.sk) + tags_digest)


def is_allocation(sk: str) -> bool:
    return TAGS_MARK in sk


def due_shard(subscription_id: str) -> str:
    """Which of the 16 partitions of the `due` index a subscription's work stands in."""
    return f"{int(hashlib.sha256(subscription_id.encode()).hexdigest()[:8], 16) % DUE_SHARDS:02d}"


def all_due_shards() -> list[str]:
    return [f"{shard:02d}" for shard in range(DUE_SHARDS)]


USUAL_PREFIX = "USUAL#"


def usual_usage(subscription_id: str, dimension: str) -> Key:
    """What is usual usage of a dimension of a subscription."""
    return Key(subscription_pk(subscription_id), USUAL_PREFIX + encoded(dimension))


def activity(shard: str) -> Key:
    """In which hours usage of the subscriptions of a shard was found."""
    return Key("ACTIVITY", shard)


def heartbeat_mark(product_code: str) -> Key:
    """How far the hours without usage have been filled with zero records."""
    return Key("HEARTBEAT", encoded(product_code) or "ALL")


RECONCILIATION = "RECONCILIATION"


def reconciliation_state() -> Key:
    """How far the scheduled reconciliation has come."""
    return Key(RECONCILIATION, "STATE")


LAST_DIFFERENCE = "DIFFERENCE#~"
"""Comes after the sort keys of all differences."""


def difference_prefix(day: int) -> str:
    """What the sort keys of the differences of a day start with; they sort in time order."""
    return f"DIFFERENCE#{iso(day)[:10]}#"


def difference(day: int, difference_id: str) -> Key:
    """A difference between our ledger and what AWS shows of a day."""
    return Key(RECONCILIATION, difference_prefix(day) + difference_id)


ARCHIVE = "ARCHIVE"


def archive_mark(subscription_id: str) -> Key:
    """Which months of a subscription are in the archive."""
    return Key(ARCHIVE, subscription_pk(subscription_id))


def archive_state() -> Key:
    """Up to which month all subscriptions are archived."""
    return Key(ARCHIVE, "STATE")
