"""Ways of breaking the product, each of which loses units or bills them twice; and what notices it: `make mutants`.

    python -m tests.faults.mutants [--schedules] [--seeds 300] [--only N ...]

Each is applied to a copy of the sources. The copy's unit tests run until one fails, those first that name the module.
Where none fails, and with `--schedules` for every mutant, its fault schedules are played until one fails. Ends with 1
if a mutant is noticed by neither.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults import story
from tests.faults.plays import run, steps_of
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.progress import tracked

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "layers" / "common" / "marketplace"
COPIED = (
    *("layers", "functions", "emulator", "tests", "tools", "conftest.py", "pyproject.toml", "template.yaml"),
    *("events", "docs"),
)
UNIT_TESTS = (
    "tests/unit/test_metering_engine.py",
    "tests/unit/test_metering_signals.py",
    "tests/unit/test_metering_record.py",
    "tests/unit/test_metering_outcomes.py",
    "tests/unit/test_recording.py",
    "tests/unit/test_overage.py",
    "tests/unit/test_contract_terms.py",
    "tests/unit/test_rerating.py",
    "tests/unit/test_void.py",
    "tests/unit/test_entitlements.py",
    "tests/unit/test_entitlement_terms.py",
    "tests/unit/test_entitlement_rules.py",
    "tests/unit/test_usage_rules.py",
    "tests/unit/test_usage_deadlines.py",
    "tests/unit/test_usage_retry.py",
    "tests/unit/test_breaker_and_rate.py",
    "tests/unit/test_metering_backlog.py",
    "tests/unit/test_errors.py",
    "tests/unit/test_moments.py",
    "tests/unit/test_tag_attribution.py",
    "tests/unit/test_migration_billing.py",
    "tests/unit/test_not_metering.py",
    "tests/unit/test_anomaly_rules.py",
    "tests/unit/test_anomaly_hold.py",
    "tests/unit/test_shadow_mode.py",
)
LIFECYCLE_TESTS = (
    "tests/unit/test_seller_events.py",
    "tests/unit/test_messages.py",
    "tests/unit/test_lifecycle_rules.py",
    "tests/unit/test_lifecycle.py",
    "tests/unit/test_not_ours.py",
    "tests/unit/test_incomplete_notifications.py",
    "tests/unit/test_json_variants.py",
)
"""For mutants of the packages `lifecycle` and `subscriptions`, instead of UNIT_TESTS."""


@dataclass(frozen=True)
class Mutant:
    """A change of one module: `old` stands there once and becomes `new`, and so do the texts of `also`."""

    fault: str
    module: str
    old: str
    new: str
    also: tuple[str, str] = ("", "")


MUTANTS = (
    Mutant(
        "sealing doesn't look at the seal it saw",
        "ledger/due_index",
        "AND sk=? AND seal=? AND",
        "AND sk=? AND product_code=? AND",
        ("self.key.sk, self.seal, self.state", "self.key.sk, self.product_code, self.state"),
    ),
    Mutant(
        "sealing doesn't look whether the record is decided meanwhile",
        "ledger/due_index",
        'AND seal=? AND "state"=?',
        "AND seal=?",
        ("self.key.sk, self.seal, self.state", "self.key.sk, self.seal"),
    ),
    Mutant(
        "an hour that is left to another meter after it was recorded is sent",
        "ledger/due_index",
        "and self.hour < starts_at",
        "and self.hour < min(0, starts_at)",
    ),
    Mutant(
        "what AWS may know already is left to another meter",
        "ledger/due_index",
        'self.state == "open" and not in_doubt(self.seal)',
        'self.state == "open" and bool(self.seal)',
    ),
    Mutant(
        "billed usage is added to an hour of another meter",
        "ledger/record",
        'if self.state != "shadow":',
        'if self.state == "never":',
    ),
    Mutant(
        "usage that leaves an hour to another meter leaves it in the index",
        "ledger/record",
        'remove = _DUE_KEYS if self.state == "shadow" else ()',
        "remove = ()",
    ),
    Mutant(
        "usage of another meter's hours is billed",
        "usage/placement",
        "shadow=own_hour < starts_at",
        "shadow=False",
    ),
    Mutant(
        "late usage of another meter's hours goes to an hour of ours",
        "usage/placement",
        "replace(period, until=until)",
        "period",
    ),
    Mutant(
        "usage of ours goes to an hour of another meter",
        "usage/placement",
        "since=max(period.since, starts_at)",
        "since=period.since",
    ),
    Mutant(
        "an outcome is written whoever holds the record",
        "ledger/record",
        'condition = "#seal = :seen_seal"',
        'condition = "#seal = :seen_seal OR attribute_exists(pk)"',
    ),
    Mutant(
        "items that DynamoDB leaves unwritten are forgotten",
        "dynamodb/table",
        'pending = answer.get("UnprocessedItems", {}).get(self.name, [])',
        "pending = []",
    ),
    Mutant(
        "a settled record stays in the index",
        "ledger/record",
        "for name, value in settled.items() if name not in _DUE_KEYS}",
        "for name, value in settled.items()}",
    ),
    Mutant(
        "only the first page of the due index is read",
        "metering/store",
        "self._table.items(condition, values, index=keys.DUE_INDEX)",
        "self._table.page(condition, values, index=keys.DUE_INDEX).items",
    ),
    Mutant(
        "usage in trouble that is refused for an unknown reason leaves the gauges until it is due",
        "metering/settlement",
        "due_at = due_time.of_next_step(due_at)",
        "pass",
    ),
    Mutant(
        "what is sent first is what became due first",
        "metering/backlog",
        "key=lambda one: (one[0], one[1].refuse_at, one[1].key)",
        "key=lambda one: (one[0], one[1].due_at, one[1].key)",
    ),
    Mutant(
        "a run keeps silent about what it doesn't take on",
        "metering/backlog",
        "            self._on_left_over(entry)\n",
        "            pass\n",
    ),
    Mutant(
        "a record that is likely to be refused is rejected unasked",
        "metering/run",
        "            parts = [[record] for record in records]\n",
        "            self._settlement.settle([(one, outcome_of_refusal(one, error)) for one in records], token)\n"
        "            return\n",
    ),
    Mutant(
        "records that are likely to be refused are never sent",
        "metering/run",
        "        self._each(self._send, batches(self._set_aside), self._breaker)\n",
        "",
    ),
    Mutant(
        "a statement that DynamoDB doesn't carry out is not tried again",
        "dynamodb/table",
        "            pending = [one for one, _ in again]\n",
        "            pending = []\n",
    ),
    Mutant(
        "every DuplicateRecord is taken for our own",
        "ledger/seal",
        "return seal != UNSEALED and not seal.startswith(_CLEAR)",
        "return True",
    ),
    Mutant(
        "every DuplicateRecord is taken for somebody else's",
        "ledger/seal",
        "return seal != UNSEALED and not seal.startswith(_CLEAR)",
        "return False",
    ),
    Mutant("the untagged rest isn't sent", "metering/wire", "    if untagged:\n", "    if untagged and False:\n"),
    Mutant(
        "products are mixed in one call",
        "ledger/due_index",
        'return ("license" if self.licensed else "legacy", self.product_code)',
        'return ("license", "any")',
    ),
    Mutant(
        "requests aren't split by size",
        "metering/wire",
        "if not requests or record.size > room or",
        "if not requests or",
    ),
    Mutant(
        "UnprocessedRecords count as metered",
        "metering/outcomes",
        'outcome = StaysDue("unprocessed", record.doubtful)',
        "outcome = Metered(None)",
    ),
    Mutant(
        "a record in neither list counts as metered",
        "metering/outcomes",
        'StaysDue("unanswered" if status is None else "unknown_status", doubtful=True)',
        'StaysDue("unknown_status", doubtful=True) if status else Metered(None)',
    ),
    Mutant(
        "CustomerNotSubscribed is final",
        "metering/outcomes",
        "outcome = Held()",
        'outcome = Rejected("CustomerNotSubscribed")',
    ),
    Mutant(
        "a lost answer leaves no doubt",
        "metering/run",
        "                        record.doubtful = True\n",
        "                        record.doubtful = False\n",
    ),
    Mutant(
        "what is left loses its doubt",
        "metering/settlement",
        "            if not record.doubtful:\n                seal = ",
        "            if True:\n                seal = ",
    ),
    Mutant(
        "an outcome ends every doubt",
        "metering/settlement",
        "return token if doubtful else cleared(token)",
        "return cleared(token)",
    ),
    Mutant(
        "a refused call rejects every record in it",
        "metering/run",
        "        if len(records) == 1:\n            self._settle_refusal(group, records[0], token, error)\n",
        "        if records:\n            for one in records:\n"
        "                self._settle_refusal(group, one, token, error)\n",
    ),
    Mutant(
        "a conflict is written down last",
        "metering/settlement",
        "        self._settle_metered(accepted, now)\n",
        "",
        (
            "        now = epoch(self.clock())\n        for record, outcome in outcomes:\n            if isinstance",
            "        now = epoch(self.clock())\n"
            "        first = [(r, o) for r, o in outcomes if isinstance(o, Metered) and not o.earlier]\n"
            "        self._settle_metered(first, now)\n"
            "        for record, outcome in outcomes:\n            if isinstance",
        ),
    ),
    Mutant(
        "a loss counts as told before it is",
        "metering/settlement",
        "            self.bus.publish([_event(decision) for decision in announced])\n",
        "            for decision in announced:\n"
        "                self.store.told(decision, self._next_step(decision))\n"
        "            self.bus.publish([_event(decision) for decision in announced])\n",
    ),
    Mutant(
        "what is left is told by an id of its own each time",
        "metering/settlement",
        "id=stable_id(decision.state, decision.key.pk, decision.key.sk, cleared(decision.seal)),",
        "id=stable_id(decision.state, decision.key.pk, decision.key.sk, str(id(decision))),",
    ),
    Mutant(
        "AccessDenied is the record's fault",
        "platform/aws_errors",
        '"AccessDeniedException": SystemicError',
        '"AccessDeniedException": RecordRefusedError',
    ),
    Mutant(
        "a 500 is the record's fault",
        "platform/aws_errors",
        '"InternalServiceErrorException": NoAnswerError',
        '"InternalServiceErrorException": RecordRefusedError',
    ),
    Mutant("the breaker never opens", "metering/breaker", "return self._failures >= self._limit", "return False"),
    Mutant(
        "a repeated id is counted again",
        "usage/booking",
        '_NEW_ID = "attribute_not_exists(pk)"',
        '_NEW_ID = "pk <> sk"',
    ),
    Mutant(
        "a sealed hour takes usage",
        "ledger/record",
        "#seal = :unsealed AND #quantity <= :room",
        "(#seal = :unsealed OR attribute_exists(#seal)) AND #quantity <= :room",
    ),
    Mutant(
        "an hour grows beyond int32",
        "ledger/record",
        "#seal = :unsealed AND #quantity <= :room",
        "#seal = :unsealed AND (#quantity <= :room OR attribute_exists(#quantity))",
    ),
    Mutant(
        "a contract's units are given out twice",
        "usage/term_counter",
        'condition, bound = "#used = :bound", self.used',
        'condition, bound = "#used >= :bound", self.used',
    ),
    Mutant(
        "a tag set that appears meanwhile is overwritten",
        "usage/booking",
        '"attribute_not_exists(pk)" if new else "attribute_exists(pk)"',
        '"attribute_not_exists(none)"',
    ),
    Mutant(
        "an id twice in a request isn't seen",
        "usage/recorder",
        "            if original != index:\n",
        "            if False:\n",
    ),
    Mutant(
        "late usage has no later hour",
        "ledger/deadlines",
        "for hour in chain(later, earlier) if month_of(hour) == month):",
        "for hour in (own,) if month_of(hour) == month):",
    ),
    Mutant(
        "a month ends 24 hours after its last hour",
        "ledger/deadlines",
        "min(hour + MAX_AGE, epoch(next_month) + MONTH_GRACE)",
        "max(hour + MAX_AGE, epoch(next_month) * 0)",
    ),
    Mutant(
        "usage from before the activation keeps its time",
        "ledger/deadlines",
        "return EpochSeconds(max(hour, activated_at))",
        "return hour",
    ),
    Mutant(
        "a closing moves no deadline",
        "ledger/rescheduling",
        "refused = EpochSeconds(min(refuse_at(record.hour), deadline))",
        "refused = record.refuse_at",
    ),
    Mutant(
        "a later closing event counts for nothing",
        "ledger/rescheduling",
        "refused = EpochSeconds(min(refuse_at(record.hour), deadline))",
        "refused = EpochSeconds(min(record.refuse_at, deadline))",
    ),
    Mutant(
        "held usage of a closing subscription is tried by its old deadline",
        "ledger/record",
        "            due_at = due_time.of_decision(now)\n",
        "            pass\n",
    ),
    Mutant(
        "usage is written off that was made due again meanwhile",
        "metering/settlement",
        'self._write(seen.then("unbillable", _with_doubt(reason, seen.seal), now), seen.seal, seen.state)',
        'self._write(seen.then("unbillable", _with_doubt(reason, seen.seal), now), seen.seal)',
    ),
    Mutant(
        "one record that AWS never answers holds up all others",
        "metering/run",
        "                    self._unanswered.append((group, pending, token))\n                    return\n",
        "",
    ),
    Mutant(
        "losses are told only while AWS works",
        "metering/run",
        "store_breaker = Breaker(self.monotonic, self.jitter)",
        "store_breaker = self._breaker",
    ),
    Mutant(
        "a repetition that comes too late is refused",
        "usage/recorder",
        "        self._recognise(request)\n",
        "",
    ),
    Mutant(
        "an id belongs to no subscription",
        "usage/record",
        "return [keys.usage_record(subscription_id, self.id) for subscription_id in self.subscriptions]",
        'return [keys.usage_record("", self.id)]',
    ),
    Mutant(
        "a record that was settled meanwhile is made due",
        "ledger/record",
        'condition = "attribute_exists(#due_shard) AND #state = :seen_state"',
        'condition = "attribute_exists(pk) OR #state = :seen_state"',
    ),
    Mutant(
        "sending refused usage again makes up a doubt",
        "ledger/record",
        'set={"state": "open", "due_shard": shard',
        'set={"state": "open", "seal": "open", "due_shard": shard',
    ),
    Mutant(
        "sending refused usage again makes billed usage due",
        "ledger/selections",
        'f"{_REFUSED.expression} AND (',
        'f"(#state <> :rejected OR {_REFUSED.expression}) AND (',
    ),
    Mutant(
        "what a run has decided is told by that run or never",
        "metering/run",
        "        self._each(self._settlement.tell_entries, batches(work[Phase.TELL]), store_breaker)\n",
        "",
    ),
    Mutant(
        "a write that the SDK has repeated is taken for another run's",
        "dynamodb/table",
        "return stored is not None and update.is_done_in(stored)",
        "return False",
    ),
    Mutant(
        "a run whose clock is ahead hides what it has decided",
        "ledger/due_time",
        "EpochSeconds(decided_at - FOUND_BY_ANY_CLOCK)",
        "EpochSeconds(decided_at)",
        ("else due_at + FOUND_BY_ANY_CLOCK", "else due_at"),
    ),
    Mutant(
        "rejected usage is forgotten when AWS's window closes",
        "ledger/due_index",
        '"write off" if self.state == "rejected" else "forget"',
        '"forget"',
    ),
    Mutant(
        "losses stay in the index for good",
        "ledger/due_index",
        'else "write off" if self.state == "rejected" else "forget"',
        'else "write off" if self.state == "rejected" else "wait"',
    ),
    Mutant(
        "what is forgotten was made due again meanwhile",
        "metering/settlement",
        "RecordChange(), seen_state=entry.state, settled=True)",
        "RecordChange(), settled=True)",
    ),
    Mutant(
        "the next step of held usage follows from a deadline that has moved",
        "ledger/due_index",
        '            "refuse_at": self.refuse_at,\n            **',
        "            **",
    ),
    Mutant(
        "the gauges count what a run does and not what stands in the index",
        "metering/run",
        "                self._stands(found, now)\n",
        "                pass\n",
    ),
    Mutant(
        "our own deadline writes usage off",
        "metering/backlog",
        "entry.refuse_at > now else Phase.SEND_LATE",
        "entry.refuse_at > now else Phase.WRITE_OFF",
    ),
    Mutant(
        "what is past its deadline is sent first",
        "metering/backlog",
        "return Phase.SEND if entry.refuse_at > now else Phase.SEND_LATE",
        "return Phase.SEND",
    ),
    Mutant(
        "a refused age is evidence for younger usage",
        "metering/likely_refusals",
        "return timestamp <= self._too_old.get(group, -1)",
        "return group in self._too_old",
    ),
    Mutant(
        "a refused age is evidence for every product",
        "metering/likely_refusals",
        "return timestamp <= self._too_old.get(group, -1)",
        "return timestamp <= max(self._too_old.values(), default=-1)",
    ),
    Mutant(
        "a time out of bounds is evidence however young it is",
        "metering/likely_refusals",
        "if refuse_at(timestamp) <= now + CLOCK_MARGIN:",
        "if timestamp:",
    ),
    Mutant(
        "a refused age is evidence of nothing",
        "metering/likely_refusals",
        "return timestamp <= self._too_old.get(group, -1)",
        "return False",
    ),
    Mutant(
        "late usage is asked about oldest first",
        "metering/wire",
        "key=lambda entry: entry.key.sk, reverse=True)",
        "key=lambda entry: entry.key.sk)",
    ),
    Mutant(
        "InvalidLicense is final",
        "metering/outcomes",
        "return Held(error.code)",
        "return Rejected(error.code)",
    ),
    Mutant(
        "a refused age promises a remedy",
        "metering/outcomes",
        "return Unbillable(error.code)",
        "return Rejected(error.code)",
    ),
    Mutant(
        "a refused tag costs the units",
        "metering/outcomes",
        "return TagsRefused(error.code)",
        "return Rejected(error.code)",
    ),
    Mutant(
        "refused tags are sent again by the next run",
        "metering/run",
        "record.tag_sets > 0 and record.tags_refused is None",
        "record.tag_sets > 0",
    ),
    Mutant(
        "a refusal after AWS's window has closed is not the last one",
        "metering/settlement",
        "return Unbillable(reason) if now >= window_closes_at(record.timestamp) else outcome",
        "return outcome",
    ),
    Mutant(
        "an hour is due however late its seal delay makes it",
        "ledger/deadlines",
        "min(hour + HOUR + seal_delay, refuse_at(hour) - 2 * SCHEDULE_INTERVAL)",
        "max(hour + HOUR + seal_delay, refuse_at(hour) * 0)",
    ),
    Mutant(
        "the running hour of a closing subscription is sealed two runs before its deadline",
        "ledger/deadlines",
        "FINAL_MARGIN = FINAL_RUN\n",
        "FINAL_MARGIN = 35 * MINUTE\n",
    ),
    Mutant(
        "the run before a closing deadline reaches what comes after it",
        "ledger/deadlines",
        "return final and refuse_at(hour)",
        "return refuse_at(hour)",
    ),
    Mutant(
        "usage is written off by one clock alone",
        "ledger/deadlines",
        "EpochSeconds(refuse_at(timestamp) + CLOCK_MARGIN)",
        "EpochSeconds(refuse_at(timestamp))",
    ),
    Mutant(
        "held usage is not tried once more at the end",
        "ledger/deadlines",
        "if left // 2 >= SENDING_MARGIN // 2 else closes",
        "if left // 2 >= SENDING_MARGIN // 2 else EpochSeconds(closes + DAY)",
    ),
    Mutant(
        "what is in doubt in one region is sent to another",
        "ledger/due_index",
        "return bool(at) and there != region and in_doubt(self.seal)",
        "return False",
    ),
    Mutant(
        "what another region has answered is never sent",
        "ledger/due_index",
        "return bool(at) and there != region and in_doubt(self.seal)",
        "return bool(at) and there != region",
    ),
    Mutant(
        "the seal names no region",
        "ledger/seal",
        'return f"{attempt}@{region}"',
        "return attempt",
    ),
    Mutant(
        "what AWS has not processed stays sealed",
        "metering/settlement",
        "seal = UNSEALED if record.was_unsealed else cleared(token)",
        "seal = cleared(token)",
    ),
    Mutant(
        "what was sealed before is opened too",
        "metering/settlement",
        "seal = UNSEALED if record.was_unsealed else cleared(token)",
        "seal = UNSEALED",
    ),
    Mutant(
        "unbillable usage can't be made due again",
        "ledger/selections",
        '_in_states(("rejected", "held", "unbillable"))',
        '_in_states(("rejected", "held"))',
    ),
    Mutant(
        "the deadline of a closing subscription ends the seller's retry",
        "usage/retry",
        "            if refuse_at(record.hour) <= now:\n",
        "            if _refuse_at(record.hour, subscription) <= now:\n",
    ),
    Mutant(
        "a later closing event leaves an ended subscription its deadline",
        "lifecycle/facts",
        'case "ended" if _may_close_again(state, at):',
        'case "ended" if False:',
    ),
    Mutant(
        "a closing event opens the final hour of a subscription that ended long ago",
        "lifecycle/facts",
        "return ran_out and at <= (state.closing_deadline or 0) + _LATER_CLOSING_WITHIN",
        "return ran_out",
    ),
    Mutant(
        "a closing event opens the final hour after AWS has said that it takes no more",
        "lifecycle/facts",
        "state.changed_at == state.closing_deadline",
        "state.closing_deadline is not None",
    ),
    Mutant(
        "usage that was refused because of an end is never to be sent again",
        "usage/placement",
        'if status == "ended" and now <',
        'if status == "failed" and now <',
    ),
    Mutant(
        "a notification waits for GetEntitlements",
        "lifecycle/lifecycle",
        "            self._queue.read_back(subscription_id, attempt=0 if activated else None)\n        if any(",
        "            self.read_back(ReadBack(subscription_id=subscription_id, attempt=0 if activated else None))\n"
        "        if any(",
    ),
    Mutant(
        "what the seller's account buys is taken for a sale",
        "lifecycle/notifications",
        "return role.group(1).lower() == _BUYING",
        "return False",
    ),
    Mutant(
        "an agreement of another product is forgotten",
        "lifecycle/lifecycle",
        "self._joins.note_other_product(notification, notification.agreement_id)",
        "pass",
    ),
    Mutant(
        "an agreement that is remembered as another product's is kept from its subscription",
        "lifecycle/joins",
        "self._store.is_of_other_product(agreement_id) and not self._store.joined(agreement_id)",
        "self._store.is_of_other_product(agreement_id)",
    ),
    Mutant(
        "an event that names another licence of the agreement is applied",
        "lifecycle/joins",
        "if notification.may_concern(subscription_id):",
        "if True:",
    ),
    Mutant(
        "what came before a licence was known is not read again after it is",
        "lifecycle/lifecycle",
        "if written is not None and not is_new:",
        "if written is not None:",
    ),
    Mutant(
        "of two spellings with different values one is taken",
        "lifecycle/members",
        """        for name in contradicted:
            del self._values[name]
""",
        "",
    ),
    Mutant(
        "an account id that is a number loses its leading zeros",
        "lifecycle/members",
        'return f"{value:012d}"',
        "return str(value)",
    ),
    Mutant(
        "a question that AWS doesn't answer ends in the dead-letter queue",
        "lifecycle/messages",
        "if question.tries >= MAX_TRIES:",
        "if question.tries >= 0:",
    ),
    Mutant(
        "no metering run is started before a closing deadline",
        "lifecycle/timers",
        "for lead in (FINAL_RUN, FINAL_RUN // 2))",
        "for lead in (-DAY, -DAY))",
        ("platform.clock import Clock,", "platform.clock import DAY, Clock,"),
    ),
    Mutant(
        "the metering run before a closing deadline starts at the deadline",
        "lifecycle/timers",
        "deadline - lead + 1 - now for lead in (FINAL_RUN, FINAL_RUN // 2)",
        "deadline - lead + 1 - now for lead in (0, 0)",
    ),
    Mutant(
        "a message that fails reaches the dead-letter queue after an hour",
        "lifecycle/sqs_batch",
        "WAITS = (10, 20, 30, 60, 120, 180, 180)",
        "WAITS = (30, 120, 600, 1800)",
    ),
    Mutant(
        "a message that was not begun is hidden as long as one that failed",
        "lifecycle/sqs_batch",
        'record["receiptHandle"], 0)',
        'record["receiptHandle"], 360)',
    ),
    Mutant(
        "one id under both names of a migrated customer counts twice",
        "usage/placement",
        "RecordName(customers.get(report.named_subscription, (report.named_subscription,)), report.id)",
        "RecordName((report.named_subscription,), report.id)",
    ),
    Mutant(
        "a record is kept under the last of its names alone",
        "usage/booking",
        "for key in one.name.keys\n",
        "for key in one.name.keys[-1:]\n",
        ("for _ in booking.name.subscriptions]", "for _ in booking.name.keys[-1:]]"),
    ),
    Mutant(
        "a record that names its subscription in another way is other usage",
        "usage/report",
        "return _digest([subscription_id, None, *self._content])",
        "return _digest([subscription_id, self.license_arn, *self._content])",
    ),
    Mutant(
        "a record that an earlier version has kept by its ARN is other usage",
        "usage/report",
        ", _digest([None, self.license_arn, *self._content])}",
        "}",
    ),
    Mutant(
        "the offset of a timestamp doesn't count",
        "platform/moments",
        'offset = f"{hours}:{minutes}" if hours else "+00:00"',
        'offset = "+00:00"',
    ),
    Mutant(
        "a timestamp without an offset is taken for UTC",
        "platform/moments",
        'rf"(?:[Zz]|([+-]{_HOUR}):?({_MINUTE}))"',
        'rf"(?:[Zz]?|([+-]{_HOUR}):?({_MINUTE}))"',
    ),
    Mutant(
        "a number in a text is taken for a timestamp",
        "platform/moments",
        "    found = _FORM.fullmatch(text)\n",
        "    if text.isdigit():\n        return datetime.fromtimestamp(int(text[:10]), UTC)\n"
        "    found = _FORM.fullmatch(text)\n",
    ),
    Mutant(
        "a blank tag reaches AWS",
        "usage/report",
        "not isinstance(text, str) or not text.strip()",
        "not isinstance(text, str) or not text",
    ),
    Mutant(
        "a tag that AWS reserves reaches it",
        "usage/report",
        "_RESERVED.match(key) or _RESERVED.match(text)",
        "_RESERVED.match(text)",
    ),
    Mutant(
        "allocations that are behind their record are sent",
        "metering/store",
        "tagged is None or (len(found) == record.tag_sets and allocated == tagged)",
        "tagged is None or len(found) == record.tag_sets",
    ),
    Mutant(
        "a record whose allocations stay behind is sent without them",
        "metering/store",
        "        raise IncompleteAllocationsError\n",
        "        return []\n",
    ),
    Mutant(
        "a record waits for the tagged usage that found no room",
        "usage/booking",
        "if tags in tagging.accepted),",
        "if tags),",
    ),
    Mutant(
        "a licence with usage of quantity 0 is moved",
        "ledger/selections",
        "#records <> :nothing OR #quantity <> :nothing",
        "#quantity <> :nothing",
    ),
    Mutant(
        "usage is charged by what was granted before",
        "usage/booking",
        "        if self._grants is None:\n",
        "        if self._grants is None or parts:\n",
    ),
    Mutant(
        "units are given back out of an hour that was sealed meanwhile",
        "ledger/record",
        '"#seal = :unsealed AND (#quantity > :taken OR #records > :leaving)"',
        '"(#seal = :unsealed OR attribute_exists(#seal)) AND (#quantity > :taken OR #records > :leaving)"',
        (
            '"#seal = :unsealed AND #quantity = :taken AND #records = :leaving"',
            '"(#seal = :unsealed OR attribute_exists(#seal)) AND #quantity = :taken AND #records = :leaving"',
        ),
    ),
    Mutant(
        "an hour of which all is given back is sent as a zero",
        "usage/taking_back",
        "if stored.quantity == units and",
        "if stored.quantity < units and",
    ),
    Mutant(
        "a correction is listed at every reading",
        "usage/rerating",
        'values["quantity"] - values["included"] - values.get("correction_due", 0)',
        'values["quantity"] - values["included"]',
        ("and not self.record.values.get", "or not self.record.values.get"),
    ),
    Mutant(
        "usage that was charged by AWS's own word is given back",
        "usage/rerating",
        "            if record.at > since:\n",
        "            if record.at > 0:\n",
        ('where="#latest > :since"', 'where="#latest > :since OR attribute_exists(#latest)"'),
    ),
    Mutant(
        "what was given back stays allocated to its tags",
        "usage/taking_back",
        "        if one.tags:\n",
        "        if one.tags and not one.units:\n",
    ),
    Mutant(
        "units that are given back can be used again",
        "usage/rerating",
        '        add={"used": units},\n',
        '        add={"used": 0},\n',
    ),
    Mutant(
        "a void is counted again at every repetition",
        "usage/void",
        "                if stored.is_voided:\n",
        "                if stored.is_voided and not stored.values:\n",
        ('"attribute_exists(pk) AND attribute_not_exists(#voided_at)"', '"attribute_exists(pk)"'),
    ),
    Mutant(
        "a sealed hour loses what is voided",
        "usage/void",
        "            if hour.seal != UNSEALED:\n",
        "            if hour.seal == str(hour):\n",
    ),
    Mutant(
        "a voided record stays in its hour",
        "usage/void",
        "            writes += taken_out(self._table, hour, [stored.taken])\n",
        "            writes += taken_out(self._table, hour, [])\n",
    ),
    Mutant(
        "what a contract includes stays used after a void",
        "usage/void",
        'add={"used": -units}',
        'add={"used": 0 * units}',
    ),
    Mutant(
        "the day still includes what was voided",
        "usage/void",
        "-stored.included)",
        "0)",
    ),
    Mutant(
        "what was charged because of a voided record stays charged",
        "usage/void",
        "                self._rerate(owner, 0, as_charged=True)\n",
        "                pass\n",
    ),
    Mutant(
        "a voided record is given back again",
        "usage/rerating",
        '        if "voided_at" in values:\n            return 0\n',
        "",
        ('"attribute_not_exists(#voided_at)"', '"#included = :was"'),
    ),
    Mutant(
        "a void gives back what an upgrade includes",
        "usage/rerating",
        'min(term.limit, record.values["term_limit"]) if as_charged else term.limit',
        "term.limit",
    ),
    Mutant(
        "a voided report is answered as recorded",
        "usage/results",
        '    if "voided_at" in stored:\n        return voided(stored)\n',
        "",
    ),
    Mutant(
        "usage is charged by a counter that was given units back",
        "usage/term_counter",
        "bool(self.taken or (self.exhausted and self.term.limit))",
        "bool(self.taken)",
    ),
    Mutant(
        "the only tag set of an hour can't be replaced",
        "ledger/record",
        'unchanged = f"attribute_not_exists(#tag_sets) OR {unchanged}"',
        'unchanged = "attribute_not_exists(#tag_sets)"',
    ),
    Mutant(
        "a re-rating that was interrupted is forgotten",
        "entitlements/store",
        "        return before.rerating\n",
        "        return None\n",
    ),
    Mutant(
        "usage counts against the newest term, whenever it was",
        "entitlements/terms",
        "for term in reversed(self.terms) if term.starts_at <= moment)",
        "for term in reversed(self.terms) if term.starts_at <= max(moment, self.terms[-1].starts_at))",
    ),
    Mutant(
        "entitlements that are old are not read back",
        "usage/contract_terms",
        "if side.synced_at is None or age > max_age or side.history",
        "if side.synced_at is None or side.history",
        ("if self.closing or side.age(now) <= max_age]", "if self.closing or side.synced_at is not None]"),
    ),
    Mutant(
        "the end of a term is not asked about",
        "usage/contract_terms",
        " or side.history.ended_since(side.synced_at, now):",
        ":",
    ),
    Mutant(
        "an old reading that can't be renewed is believed",
        "usage/contract_terms",
        "if self.closing or side.age(now) <= max_age]",
        "if self.closing or side.age(now) >= 0]",
    ),
    Mutant(
        "after its end a term goes on at once",
        "entitlements/terms",
        'return "awaited" if ended and awaited else "held"',
        'return "held"',
    ),
    Mutant(
        "an empty answer means that nothing is included",
        "entitlements/terms",
        'return "over" if ended and not awaited else "awaited"',
        'return "over"',
    ),
    Mutant(
        "an upgrade that moves the end gives all units again",
        "entitlements/terms",
        "now >= ends_at - RENEWAL_LEAD:",
        "now >= ends_at - 1000 * RENEWAL_LEAD:",
    ),
    Mutant(
        "a renewal goes on using up the old term",
        "entitlements/terms",
        "now >= ends_at - RENEWAL_LEAD:",
        "now >= ends_at + 1000 * RENEWAL_LEAD:",
    ),
    Mutant(
        "a moved end names another counter",
        "usage/overage",
        "return keys.included(self.owner, self.dimension, self.first_end, self.counted_from)",
        "return keys.included(self.owner, self.dimension, self.ends_at, self.counted_from)",
    ),
    Mutant(
        "two terms with one end share a counter",
        "entitlements/terms",
        "counted_from=starts_at if again else None",
        "counted_from=None",
    ),
    Mutant(
        "of grants side by side only one counts",
        "entitlements/rules",
        "value=sum(int(row.value) for row in numbers)",
        "value=max(int(row.value) for row in numbers)",
    ),
    Mutant(
        "the two terms of an hour are taken for one",
        "usage/booking",
        "            key = booking.term.counter\n",
        "            key = next(one.term.counter for one in job.bookings if one.term is not None)\n",
    ),
    Mutant(
        "a subscription is read back several times for a request",
        "usage/contract_terms",
        "        if to_read:\n",
        "        for _ in range(2):\n",
    ),
    Mutant(
        "readings of a request go on however long they take",
        "entitlements/entitlements",
        "            if self._monotonic() >= until:\n",
        "            if self._monotonic() < 0:\n",
    ),
    Mutant(
        "a contract that closes before anything was read includes nothing",
        "usage/contract_terms",
        "(self.closing or self.awaits(side, moment, now))",
        "(not self.closing and self.awaits(side, moment, now))",
    ),
    Mutant(
        "what an ended term granted unseen is taken for what was seen of it",
        "usage/contract_terms",
        "known = self.closing or side.history.is_known_to_its_end(term, max_age)",
        "known = True",
    ),
    Mutant(
        "what is known to be included waits for what is not",
        "usage/recorder",
        'outcome.obstacle in {"full", "not_known"} and len(chunk) > 1',
        'outcome.obstacle == "full" and len(chunk) > 1',
    ),
    Mutant(
        "a term is not read before its end",
        "lifecycle/lifecycle",
        "        following = next_reading_at(granted, now)\n",
        "        following = None\n",
    ),
    Mutant(
        "a renewal is not read after the end of the term before it",
        "entitlements/terms",
        "for at in (end - LAST_READING_LEAD, end + RENEWAL_READING_AFTER)",
        "for at in (end - LAST_READING_LEAD,)",
    ),
    Mutant(
        "a reading that waits for its moment is made at once",
        "lifecycle/lifecycle",
        "        if request.at is not None and now < request.at:\n",
        "        if request.at is not None and request.at < 0:\n",
    ),
    Mutant(
        "a run before a closing deadline that dies has no other after it",
        "lifecycle/timers",
        "        if 0 < second <= recheck.MAX_DELAY_SECONDS:\n",
        "        if second < 0:\n",
    ),
    Mutant(
        "a refusal after a retry has the id of the one before",
        "metering/settlement",
        "stable_id(decision.state, decision.key.pk, decision.key.sk, cleared(decision.seal))",
        "stable_id(decision.state, decision.key.pk, decision.key.sk)",
    ),
    Mutant(
        "the window of a record closes by its hour, not by its Timestamp",
        "metering/settlement",
        "            if seen is not None and seen.closes_at <= now:\n",
        "            if seen is not None:\n",
    ),
    Mutant(
        "a deployment that does not meter records usage",
        "usage/recorder",
        "            elif not self.metering_enabled:\n",
        "            elif False:\n",
    ),
    Mutant(
        "a deployment that does not meter sends what it recorded before",
        "metering/run",
        "            if phase in _SENDING and not self.metering_enabled:\n",
        "            if phase in _SENDING and not self.region:\n",
    ),
    Mutant(
        "hours of a time without metering get their zeros later",
        "metering/heartbeat",
        "        if mark is None or mark.filled_to < running:\n",
        "        if mark is None:\n",
    ),
    Mutant(
        "unusual usage is sent unapproved",
        "metering/approval",
        "        return self.usual.oddity(record, read)\n",
        "        return None\n",
    ),
    Mutant(
        "what was approved is judged again",
        "metering/approval",
        "or record.approval is not None or",
        "or",
    ),
    Mutant(
        "usage that is refused while a run takes it is sent",
        "metering/approval",
        'return record.state != "awaiting_approval" or self.releases(record.approval)',
        "return True",
    ),
    Mutant(
        "what nobody decided is refused whatever the deployment says",
        "metering/approval",
        '(approval != "refused" and not self.refuses)',
        '(approval != "refused" and self.refuses)',
    ),
    Mutant(
        "what only its deadline has released is usual from then on",
        "metering/approval",
        'if one.approval in {None, "approved"}',
        'if one.approval != "refused"',
    ),
    Mutant(
        "unusual usage of a closing subscription waits beyond its deadline",
        "ledger/deadlines",
        "min(refuse_at(hour) - APPROVAL_MARGIN, refused - SENDING_MARGIN)",
        "refuse_at(hour) - APPROVAL_MARGIN",
    ),
    Mutant(
        "usage that awaits approval waits until AWS takes it no more",
        "ledger/deadlines",
        "min(refuse_at(hour) - APPROVAL_MARGIN, refused - SENDING_MARGIN)",
        "refused",
    ),
    Mutant(
        "a run refuses what is approved at this moment",
        "metering/settlement",
        "one.seal, one.state, one.approval)",
        "one.seal, one.state)",
    ),
    Mutant(
        "usage is sent although its release could not be told",
        "metering/settlement",
        'if entry.state != "awaiting_approval" or entry.key in self.announced:',
        'if entry.state != "awaiting_approval" or entry.key not in self.settled:',
    ),
    Mutant(
        "usage whose release can't be told is never sent",
        "metering/settlement",
        "return entry.key not in self.settled and entry.refuse_at - now < SENDING_MARGIN + SCHEDULE_INTERVAL",
        "return False",
    ),
    Mutant(
        "usage is refused that is being sent",
        "usage/approval",
        "and not in_doubt(record.seal):",
        "and record.seal:",
    ),
    Mutant(
        "a decision that meets the telling is forgotten",
        "usage/approval",
        "for _ in range(_TRIES):",
        "for _ in range(1):",
    ),
    Mutant(
        "a decision about everything undoes what was decided before",
        "usage/approval",
        'undecided = record.approval in {"awaited", request.wanted}',
        "undecided = True",
        ('is_open = self.named or record.approval == "awaited"', "is_open = True"),
    ),
    Mutant(
        "refused usage can be approved when AWS takes it no more",
        "usage/approval",
        ' and self.wanted == "approved" and refuse_at(record.hour) > self.now:',
        ' and self.wanted == "approved":',
    ),
    Mutant(
        "the seller's retry sends what the seller has refused",
        "ledger/selections",
        "(attribute_not_exists(#approval) OR #approval <> :refused)",
        "(attribute_not_exists(#approval) OR #state <> :refused)",
    ),
    Mutant(
        "a deadline that moves takes a decision back",
        "ledger/record",
        """        if self.approval is not None:\n            condition += " AND""",
        """        if self.approval == "":\n            condition += " AND""",
    ),
    Mutant(
        "a dimension is judged in its first day",
        "metering/anomaly",
        "if hour < usual.since + LEARNED_FOR or not usual.greatest:",
        "if not usual.greatest:",
    ),
    Mutant(
        "usage of nothing is unusual",
        "metering/anomaly",
        "    if not quantity:\n",
        "    if quantity < 0:\n",
    ),
    Mutant(
        "what is usual and was left unread counts as a new dimension",
        "metering/usual_usage",
        "usual = others.pop(_key(record.key), None)",
        "others.pop(_key(record.key), None)",
    ),
    Mutant(
        "of two runs the smaller hour becomes the usual one",
        "metering/usual_usage",
        'f"attribute_not_exists(#{day}) OR #{day} <= :{day}"',
        'f"attribute_not_exists(#{day}) OR #{day} <> :{day}"',
    ),
    Mutant(
        "usage waits until what is usual can be stored",
        "metering/run",
        "        except AwsError as error:\n            # What is usual",
        "        except KeyError as error:\n            # What is usual",
        (
            "            self.report.count_error(error.code)\n        return sent",
            "            raise error\n        return sent",
        ),
    ),
)


def applied(mutant: Mutant, sources: Path) -> None:
    module = sources / f"{mutant.module}.py"
    text = module.read_text()
    for old, new in ((mutant.old, mutant.new), mutant.also):
        if old and text.count(old) != 1:
            raise ValueError(f"{mutant.fault}: its text stands {text.count(old)} times in {module.name}")
        text = text.replace(old, new) if old else text
    module.write_text(text)


def first_failure(seeds: int) -> str:
    """The first seed that fails, or else the first call of the story, of every third, at which a crash does harm."""
    for seed in range(seeds):
        try:
            run(seed, steps_of(seed), MemoryDynamoDB)
        except Exception:
            return f"seed {seed}"
    for world in story.WORLDS.values():
        point = -1
        try:
            for point in story.points(story.played(world))[::EVERY]:
                story.played(world, crash_at=point)
        except Exception:
            return "the story" if point < 0 else f"the story, dying at call {point}"
    return ""


def noticed_by(mutant: Mutant, seeds: int, *, always_play: bool) -> tuple[str, str]:
    """The first unit test and the first schedule that fail; empty where none does, or where no schedule was played."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        applied(mutant, copy / SOURCES.relative_to(ROOT))
        by_test = next(filter(None, (_failing_test(files, copy) for files in _tests_of(mutant) if files)), "")
        if by_test and not always_play:
            return by_test, ""
        seed = _said([sys.executable, "-m", "tests.faults.mutants", "--seek", str(seeds)], copy)
    return by_test, seed if seed == _HANGS else seed.strip()


def _failing_test(files: list[str], folder: Path) -> str:
    """The first test of these files that fails; empty when none does."""
    options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    said = _said([sys.executable, "-m", "pytest", *options, *files], folder)
    failed = re.search(r"^(?:FAILED|ERROR) \S*?(?:::(\w+))?(?:\[.*)?(?: - .*)?$", said, re.MULTILINE)
    return said if said == _HANGS else str(failed[1] or "collection") if failed else ""


def _tests_of(mutant: Mutant) -> tuple[list[str], list[str]]:
    """The files of unit tests that name the mutant's module, which are likely to notice, and the others."""
    files = LIFECYCLE_TESTS if mutant.module.startswith(("lifecycle/", "subscriptions/")) else UNIT_TESTS
    module = f"marketplace.{mutant.module.replace('/', '.')} "
    near = [name for name in files if module in (ROOT / name).read_text()]
    return near, [name for name in files if name not in near]


EVERY = 3
"""Of the story's calls, so many stand for one: a mutant that only one of them would show is left to the unit tests."""
_HANGS = "never ends"
_CPU_SECONDS = 1200
"""Of processor time, which doesn't pass faster on a busy machine."""
_PATIENCE = 3600.0
"""Seconds, for what waits for itself and takes no processor time."""


def _said(command: list[str], folder: Path) -> str:
    paths = os.pathsep.join(str(folder / part) for part in ("", "layers/common", "emulator"))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    limited = ["sh", "-c", f'ulimit -t {_CPU_SECONDS} && exec "$@"', "sh", *command]
    try:
        done = subprocess.run(
            limited, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return _HANGS
    return _HANGS if done.returncode in {-signal.SIGXCPU, -signal.SIGKILL} else done.stdout


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m tests.faults.mutants", description=(__doc__ or "").splitlines()[0]
    )
    options.add_argument("--schedules", action="store_true", help="play schedules though a unit test has failed")
    options.add_argument("--seeds", type=int, default=300)
    options.add_argument("--only", type=int, nargs="*", help="mutants by number, from 1")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--seek", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.seek is not None:
        os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        print(first_failure(given.seek))
        return 0
    chosen = [MUTANTS[number - 1] for number in given.only] if given.only else list(MUTANTS)
    survivors = 0
    print(f"| the product is broken so that | noticed by | by the schedules ({given.seeds} seeds, the story) |")
    print("|---|---|---|", flush=True)
    with ThreadPoolExecutor(given.workers) as pool:
        results = pool.map(lambda mutant: noticed_by(mutant, given.seeds, always_play=given.schedules), chosen)
        answered = zip(chosen, results, strict=True)
        for mutant, (by_test, by_seed) in tracked(answered, "mutants", len(chosen)):
            survivors += not (by_seed or by_test)
            print(f"| {mutant.fault} | {f'`{by_test}`' if by_test else '-'} | {by_seed or '-'} |", flush=True)
    print(f"\n{len(chosen)} mutants, {survivors} unnoticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
