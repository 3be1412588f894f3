"""Usage that was charged although the contract includes it, as AWS was heard to say later: given back, or listed.

A late renewal or upgrade raises what a term includes after usage was charged beyond it. While the metering record of
the charged usage is unsealed, the units are taken out of it and counted against the term, in one transaction with the
usage records' new split. Once it is sealed, AWS may have it: the units are counted against the term all the same, and
an event "Overage Correction Due" names them, in one transaction with a mark on the usage records, so that each unit is
named once.

Only usage of times after AWS was last asked is concerned: until then its answer was what usage was split by. So a buyer
who upgrades after having exceeded the contract for days gets no more back than the last minutes.

Each transaction requires that its usage records have the split that it was computed from, that the counter has room,
and that the metering record is unsealed, or for a correction that the records were not named yet. So it can be repeated
at any time and beside any other writer. Usage that was included stays where it was counted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.keys import Key
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write
from marketplace.dynamodb.update import Update
from marketplace.entitlements.store import EntitlementStore, unchanged
from marketplace.ledger.record import MeteringRecord
from marketplace.ledger.seal import UNSEALED
from marketplace.platform.clock import Clock, EpochSeconds, epoch, iso
from marketplace.platform.errors import ThrottledError
from marketplace.platform.settings import OverageDimensions
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader
from marketplace.subscriptions.seller_events import SellerEvent, outbox_item, stable_id
from marketplace.subscriptions.waiting import waits
from marketplace.usage.contract_terms import ContractTerms
from marketplace.usage.included_days import included_of_days
from marketplace.usage.overage import Term, counted_in
from marketplace.usage.record import RecordName, TagSet, tag_set
from marketplace.usage.taking_back import Taken, taken_out
from marketplace.usage.term_counter import used_of

_AT_ONCE = 16
"""Usage records of one transaction, which has 100 actions: each takes at most five (itself under both names of a
migrated customer, its allocation, its counter, the day's included units); the metering record and what is granted take
the rest."""
_ATTEMPTS = 10
_NOT_VOIDED = "attribute_not_exists(#voided_at)"


class _AsStored:
    """Entitlements as they were read back last: AWS was asked a moment ago."""

    max_age = 2**62

    def read_back(self, _subscription_ids: Collection[str]) -> Mapping[str, int]:
        return {}


@dataclass(frozen=True, slots=True)
class _Charged:
    """A usage record of which something was charged, as stored under the first of its keys."""

    name: RecordName
    values: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return self.name.keys[0]

    @property
    def overage(self) -> int:
        """Units that are charged and were not named as a correction yet."""
        values = self.values
        if "voided_at" in values:
            return 0
        return int(values["quantity"] - values["included"] - values.get("correction_due", 0))

    @property
    def at(self) -> EpochSeconds:
        return EpochSeconds(self.values["at"])

    def order(self) -> tuple[EpochSeconds, Key]:
        """The units that were used first are given back first."""
        return self.at, self.key

    @property
    def billed_to(self) -> str:
        named: str = self.values.get("billed_to") or keys.subscription_id_of(self.key.pk)
        return named

    @property
    def hour(self) -> Key:
        return keys.metering_record(self.billed_to, self.values["hour"], self.values["dimension"])

    @property
    def tags(self) -> TagSet:
        return () if self.values.get("untagged") else tag_set(self.values.get("tags"))


@dataclass(frozen=True, slots=True)
class _Due:
    """Units of a record that its term includes."""

    record: _Charged
    term: Term
    units: int

    @property
    def whole(self) -> bool:
        return self.units == self.record.overage and not self.record.values.get("correction_due")


class Rerating:
    """Compares what was charged with what is stored of the entitlements. The events stand in the outbox of the
    subscription, for the caller to publish."""

    def __init__(self, usage: Table, subscriptions: Table, overage_dimensions: OverageDimensions, clock: Clock) -> None:
        self._usage = usage
        self._subscriptions = subscriptions
        self._reader = SubscriptionReader(subscriptions)
        self._terms = ContractTerms(EntitlementStore(subscriptions), _AsStored(), overage_dimensions)
        self._mapping = overage_dimensions
        self._clock = clock

    def __call__(self, subscription_id: str, since: int, *, as_charged: bool = False) -> None:
        """Gives back, or lists, what was charged of the subscription's contract for usage of times after `since`
        (seconds since the epoch; the last three days at most) and is included. `as_charged`: no usage is given more
        than what the term included when it was charged; so only what a void has freed is given. Raises AwsError: what
        is left is for the repetition."""
        if not self._mapping:
            return
        known = dict(self._reader.get_many([subscription_id]))
        subscription = known.get(subscription_id)
        if subscription is None:
            return
        others = [other for other in (subscription.migrated_to, subscription.migrated_from) if other]
        known |= self._reader.get_many(others) if others else {}
        owner = subscription.migrated_from or subscription.id
        for product, dimension in self._mapping:
            if product == subscription.product_code:
                for records in self._by_hour(owner, dimension, since):
                    for start in range(0, len(records), _AT_ONCE):
                        self._settle(records[start : start + _AT_ONCE], subscription, known, as_charged)

    def _by_hour(self, owner: str, dimension: str, since: int) -> list[list[RecordName]]:
        """The usage records that were charged, of one metering record each, in the order of the hours."""
        span = {"pk": keys.subscription_pk(owner), "prefix": keys.charged_prefix(dimension), "since": since}
        lists = self._usage.items("pk = :pk AND begins_with(sk, :prefix)", span, where="#latest > :since")
        charged = (row for item in lists for row in from_item(item)["charged"])
        names = [RecordName(tuple(subscriptions), record_id) for record_id, *subscriptions in charged]
        hours: dict[Key, list[_Charged]] = {}
        for record in self._read(names):
            if record.at > since:
                hours.setdefault(record.hour, []).append(record)
        return [[record.name for record in sorted(found, key=_Charged.order)] for found in hours.values()]

    def _read(self, names: Sequence[RecordName]) -> list[_Charged]:
        found = self._usage.get_many(name.keys[0] for name in names)
        return [_Charged(name, from_item(found[name.keys[0]])) for name in names if name.keys[0] in found]

    def _settle(
        self,
        records: Sequence[RecordName],
        subscription: Subscription,
        known: Mapping[str, Subscription],
        as_charged: bool,
    ) -> None:
        """Gives back what is due of records of one metering record, or lists it."""
        for _ in range(_ATTEMPTS):
            due = self._due(self._read(records), subscription, known, as_charged)
            if not due:
                return
            hour = due[0].record.hour
            item = self._usage.get(hour)
            stored = None if item is None else MeteringRecord.from_item(item)
            is_open = stored is not None and stored.seal == UNSEALED
            if stored is not None and is_open:
                writes = self._given_back(due, stored)
            else:
                writes = self._listed(due, subscription)
            attribute = "included" if is_open else "correction"
            writes += [self._usage.update_action(*change) for change in _days(due, attribute)]
            if self._usage.write_together([*writes, *self._counted(due), *self._checked(due)]) is None:
                return
        raise ThrottledError("UsageInUse", "others kept changing the same usage")

    def _due(
        self,
        records: Iterable[_Charged],
        subscription: Subscription,
        known: Mapping[str, Subscription],
        as_charged: bool,
    ) -> list[_Due]:
        now = epoch(self._clock())
        charged = [record for record in records if record.overage > 0]
        dimensions = {record.values["dimension"] for record in charged}
        moments = {record.at for record in charged}
        wanted = [(subscription, dimension, moment) for dimension in dimensions for moment in moments]
        terms = self._terms.find(wanted, known, now)
        of: list[tuple[_Charged, Term]] = []
        for record in charged:
            term = terms.get((subscription.id, record.values["dimension"], record.at))
            if isinstance(term, Term) and term.limit:
                of.append((record, term))
        used = self._used({term for _, term in of})
        due: list[_Due] = []
        for record, term in of:
            limit = min(term.limit, record.values["term_limit"]) if as_charged else term.limit
            units = min(record.overage, max(0, limit - used[term.counter]))
            used[term.counter] += units
            if units:
                due.append(_Due(record, term, units))
        return due

    def _used(self, terms: Collection[Term]) -> dict[Key, int]:
        found = self._usage.get_many(term.counter for term in terms)
        return {term.counter: used_of(found.get(term.counter, {})) for term in terms}

    def _counted(self, due: Sequence[_Due]) -> list[Write]:
        taken: dict[Key, tuple[Term, int]] = {}
        for one in due:
            term, units = taken.get(one.term.counter, (one.term, 0))
            taken[term.counter] = (term, units + one.units)
        return [self._usage.update_action(key, _use(term, units)) for key, (term, units) in taken.items()]

    def _checked(self, due: Sequence[_Due]) -> list[Write]:
        """What is granted is what the units were computed from."""
        grants = {grant for one in due for grant in one.term.grants}
        return [self._subscriptions.check_action(key, *unchanged(revision)) for key, revision in grants]

    def _given_back(self, due: Sequence[_Due], stored: MeteringRecord) -> list[Write]:
        records = [self._usage.update_action(key, _included(one)) for one in due for key in one.record.name.keys]
        taken = [
            Taken(one.units, one.record.tags, one.whole, bool(one.record.values.get("untagged"))) for one in due
        ]  # fmt: skip
        return [*records, *taken_out(self._usage, stored, taken)]

    def _listed(self, due: Sequence[_Due], subscription: Subscription) -> list[Write]:
        first = due[0].record
        names = sorted(one.record.values["record_id"] for one in due)
        units = sum(one.units for one in due)
        before = sum(one.record.values.get("correction_due", 0) for one in due)
        detail = {
            "subscription_id": first.billed_to,
            "tenant_id": subscription.tenant_id,
            "dimension": first.values["dimension"],
            "hour": iso(first.values["hour"]),
            "quantity": units,
            "included_dimension": due[0].term.included_dimension,
            "record_ids": names,
        }
        event_id = stable_id("Overage Correction Due", first.hour.pk, first.hour.sk, before, *names)
        event = SellerEvent("Overage Correction Due", event_id, epoch(self._clock()), detail)
        return [
            *(self._usage.update_action(key, _named(one)) for one in due for key in one.record.name.keys),
            self._subscriptions.put_action(outbox_item(subscription.id, event)),
            self._subscriptions.put_action(_waiting_for_a_person(subscription.id, event)),
        ]


def _waiting_for_a_person(subscription_id: str, event: SellerEvent) -> Item:
    """The correction as an item that waits until somebody says that it is made."""
    place = keys.overage_correction(subscription_id, event.id)
    return to_item({**place._asdict(), **event.detail, **waits("correction", event.time)})


def _days(due: Sequence[_Due], attribute: str) -> list[tuple[Key, Update]]:
    """What the statements of the day say of these units."""
    found = ((one.record, one.units) for one in due)
    shares = (
        (record.billed_to, record.values["hour"], record.values["dimension"], tag_set(record.values.get("tags")), units)
        for record, units in found
    )
    return included_of_days(shares, attribute)


def _use(term: Term, units: int) -> Update:
    values = {"dimension": term.dimension, "included_dimension": term.included_dimension, "limit": term.limit}
    return Update(
        set=values if term.ends_at is None else {**values, "term_end": term.ends_at},
        add={"used": units},
        condition="attribute_not_exists(#used) OR #used <= :room",
        given={"room": term.limit - units},
    )


def _included(due: _Due) -> Update:
    """The record's new split, once its units are taken out of the metering record."""
    was = due.record.values["included"]
    values = {
        "included": was + due.units,
        "counted": counted_in(due.term, due.units, due.record.values.get("counted", ())),
        "included_dimension": due.term.included_dimension,
        "term_limit": due.term.limit,
        "term_end": due.term.ends_at,
    }
    return Update(set=values, condition=f"#included = :was AND {_NOT_VOIDED}", given={"was": was})


def _named(due: _Due) -> Update:
    """The record with units that the seller has to correct."""
    was, named = due.record.values["included"], due.record.values.get("correction_due")
    condition = "attribute_not_exists(#correction_due)" if named is None else "#correction_due = :named"
    return Update(
        set={"correction_due": (named or 0) + due.units},
        condition=f"#included = :was AND {condition} AND {_NOT_VOIDED}",
        given={"was": was} | ({} if named is None else {"named": named}),
    )
