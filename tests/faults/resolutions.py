"""Conflicts in a fault schedule: another sender meters an hour, and a person resolves it with what AWS has of it."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from marketplace.commands.refusal import CommandRefusedError
from marketplace.dynamodb.keys import OUTBOX_PREFIX, subscription_id_of
from marketplace.platform.clock import HOUR, EpochSeconds, iso
from marketplace.subscriptions.seller_events import SellerEvent, from_outbox
from tests.support.in_process import client
from tests.support.world import World

type Place = tuple[str, str, int]
"""A subscription, a dimension and an hour."""

CARRYING = "conflict-"
"""What the ids of usage records begin with that carry missing units."""


class Resolutions:
    """Who else meters in a world, what people do about its conflicts, and what is wrong with what became of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.contested: set[Place] = set()
        "The hours that another sender has tried to meter."
        self.foreign: set[str] = set()
        "Which entries of AWS's ledger are another sender's."
        self.unanswered: set[Place] = set()
        "What was asked for and got no answer: a person asks for it again."
        self.refused: dict[Place, str] = {}
        "What was not resolved, or not carried, when it was last asked for, and why."

    def meter(self, record: dict[str, Any], place: Place) -> None:
        """Another sender meters. A fault that was meant for the product may strike it."""
        ledger = self._world.marketplace.ledger
        before = len(ledger.records)
        with contextlib.suppress(Exception):
            client("meteringmarketplace", self._world.marketplace).batch_meter_usage(UsageRecords=[record])
        self.foreign |= {entry.id for entry in ledger.records[before:]}
        self.contested.add(place)

    def at_aws(self, place: Place) -> int:
        """What AWS bills of an hour, as CloudTrail shows it."""
        return sum(
            int(entry.quantity)
            for entry in self._world.marketplace.ledger.records
            if (self._world.subscription_id_of(entry), entry.dimension, entry.hour * HOUR) == place
        )

    def resolve(self, place: Place, caller: str) -> None:
        """The command `resolve`, with what CloudTrail shows. Raises AwsError."""
        self.unanswered.add(place)
        conflicts = self._world.conflicts()
        try:
            record = conflicts.find(place[0], EpochSeconds(place[2]), place[1])
            conflicts.resolve(conflicts.plan(record, self.at_aws(place)), caller)
        except CommandRefusedError as error:
            self.refused[place] = str(error)
        else:
            self.refused.pop(place, None)
        self.unanswered.discard(place)

    def unpublished(self) -> list[SellerEvent]:
        """What of resolutions stands in an outbox."""
        items = self._world._all_items(self._world.tables.subscriptions)
        events = [from_outbox(item) for item in items if item["sk"]["S"].startswith(OUTBOX_PREFIX)]
        return [event for event in events if event.kind == "Conflict Resolved"]

    def told(self) -> dict[tuple[str, str, str], list[SellerEvent]]:
        """What the seller has heard of resolutions, or is about to hear, by subscription, dimension and hour."""
        found: dict[tuple[str, str, str], list[SellerEvent]] = defaultdict(list)
        for event in [*self._world.bus.events, *self.unpublished()]:
            if event.kind == "Conflict Resolved":
                detail = event.detail
                found[detail["subscription_id"], detail["dimension"], detail["hour"]].append(event)
        return found

    def carried(self, records: Mapping[Any, Any], hours: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
        """The usage records that carry missing units, and what is wrong: each resolved hour has AWS's number, was told
        once, and has its missing units in one record of another hour, or was refused."""
        told, found, wrong = self.told(), {}, []
        for hour in hours.values():
            if hour["state"] != "conflict" or "aws_quantity" not in hour:
                continue
            place = subscription_id_of(hour["pk"]), hour["dimension"], hour["hour"]
            events = told.pop((place[0], place[1], iso(place[2])), [])
            wrong += self._wrong_event(place, hour, events)
            missing = max(0, hour["quantity"] - self.at_aws(place))
            name = (place[0], events[0].detail["record_id"] if events else None)
            if missing and name in records:
                found[name] = records[name]
                wrong += _wrong_record(place, hour, records[name], missing)
            elif "carried_to" in hour or (missing and place not in self.refused):
                wrong.append(f"{missing} units of {place} are lost: {hour}")
        wrong += [f"{stray} was told as resolved and is not" for stray in told]
        strays = {name for name in records if name[1].startswith(CARRYING)} - found.keys()
        return found, [*wrong, *(f"{name} carries units of no conflict" for name in strays)]

    def _wrong_event(self, place: Place, hour: Mapping[str, Any], events: list[SellerEvent]) -> list[str]:
        aws = self.at_aws(place)
        wrong = [] if hour["aws_quantity"] == aws else [f"AWS bills {aws} of {place}: {hour}"]
        if len({event.id for event in events}) != 1:
            return [*wrong, f"the resolution of {place} was told as {events}"]
        missing, excess = max(0, hour["quantity"] - aws), max(0, aws - hour["quantity"])
        for event in events:
            shown = [event.detail[name] for name in ("aws_quantity", "missing", "excess")]
            if shown != [aws, missing, excess] or (event.detail["record_id"] is None) != (missing == 0):
                wrong.append(f"{place} was told wrongly: {event}")
        return wrong


def _wrong_record(place: Place, hour: Mapping[str, Any], record: Mapping[str, Any], missing: int) -> list[str]:
    """What is wrong with the usage record that carries an hour's missing units: they count against no contract."""
    as_it_should = (
        record["quantity"] == missing
        and record["dimension"] == place[1]
        and record["hour"] == hour.get("carried_to") != place[2]
        and not {"included", "tags", "voided_at"} & {name for name, value in record.items() if value}
    )
    return [] if as_it_should else [f"{missing} units of {place} are carried wrongly: {hour}, {record}"]
