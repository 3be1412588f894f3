"""Our ledger against what AWS shows: CloudTrail's event history, a trail's files, or seller reports."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.reconcile.cloudtrail import entries_of, events_under, looked_up
from marketplace.reconcile.compare import reconcile
from marketplace.reconcile.difference import Acceptance, Difference
from marketplace.reconcile.evidence import (
    Entry,
    Gap,
    Quantity,
    Span,
    UnreadableEvidenceError,
    our_entries,
    payer_of_customer,
    payer_of_license,
    period_of,
    within,
)
from marketplace.reconcile.ledger import metering_records, subscriptions_with_usage
from marketplace.reconcile.reports import our_report_payer, report_entries, report_payer, span_of
from marketplace_saas_cli import trail, walks
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.prices import Prices, price_of
from marketplace_saas_cli.session import Session

SHOWN_AFTER = 30 * MINUTE
"""CloudTrail shows a call about 15 minutes later; what we settled within this time is not missed there."""
SENT_WITHIN = DAY + 7 * HOUR
"""Usage of an hour is sent within AWS's window."""
_ROLE = "MeterUsageRole"
MAX_ACCEPTED = 10_000_000

type _Buyers = dict[str, tuple[str, str | None]]
"""By payer: the product's code, and the subscription's id; None where several have the payer."""


@dataclass(slots=True)
class Outcome:
    """What a reconciliation found. `ours` and `theirs`: the units of each day. `strangers`: records of
    buyers that are no subscriptions here, such as those of another deployment of the account; they are not compared."""

    differences: list[Difference] = field(default_factory=list)
    compared: int = 0
    ours: Counter[int] = field(default_factory=Counter)
    theirs: dict[int, Quantity] = field(default_factory=dict)
    strangers: int = 0
    gaps: list[Gap] = field(default_factory=list)

    @property
    def open(self) -> list[Difference]:
        """Those that nobody has accepted."""
        return [one for one in self.differences if one.accepted is None]

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(one.kind for one in self.open).items()))


def with_cloudtrail(
    session: Session, start: int, end: int, prices: Prices, accepted: list[Acceptance], folder: Path | None
) -> Outcome:
    """Compares the hours from `start` to before `end` with CloudTrail's event history, or with a folder of a trail's
    files. Raises RefusedError when evidence can't be read, and AwsError."""
    outcome = Outcome()
    if folder is not None and not folder.is_dir():
        raise RefusedError(f"there is no folder {folder}")
    until = min(session.now, end + SENT_WITHIN)
    if folder is None and start < session.now - trail.KEPT:
        raise RefusedError("CloudTrail's event history covers 90 days; give a copy of the trail's bucket with --trail")
    events = (
        looked_up(trail.client(session), start, until, sleep=session.sleep) if folder is None else events_under(folder)
    )
    buyers: _Buyers = {
        payer_of_license(one.license_arn)
        if one.license_arn is not None
        else payer_of_customer(one.product_code, one.customer_identifier or ""): (one.product_code, one.id)
        for one in walks.subscriptions(session)
    }
    theirs = _known(within(entries_of(events, outcome.gaps), start, end), buyers.__contains__, outcome)
    ours = our_entries(_counted(_ledger(session, start, end), outcome), settled_before=session.now - SHOWN_AFTER)
    try:
        found = reconcile(
            ours,
            theirs,
            accepted=accepted,
            senders=senders(session),
            others_until=session.stack.metering_starts_at,
            gaps=outcome.gaps,
        )
        outcome.differences = _told(found, prices, buyers)
    except UnreadableEvidenceError as error:
        raise RefusedError(str(error)) from error
    return outcome


def with_report(
    session: Session, file: Path, start: int, end: int, prices: Prices, accepted: list[Acceptance]
) -> Outcome:
    """Compares the days or months from `start` to before `end` with a seller report. Raises RefusedError and
    AwsError."""
    outcome = Outcome()
    accounts: dict[str, str | None] = {}
    payers: dict[str, str] = {}
    buyers: _Buyers = {}
    for one in walks.subscriptions(session):
        payer = report_payer(one.product_code, one.account_id or "")
        accounts[one.id] = one.account_id
        payers |= dict.fromkeys(one.agreement_ids, payer)
        buyers[payer] = (one.product_code, None if payer in buyers else one.id)
    payer_of = our_report_payer(lambda record: accounts.get(record.subscription_id))
    codes = frozenset(session.stack.product_codes)

    def is_ours(payer: str) -> bool:
        return payer in buyers or payer.partition("/")[0] in codes

    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            span: Span = span_of(lines)
            if (period_of(start, span), period_of(end, span)) != (start, end):
                raise RefusedError(
                    f"{file.name} has a row for each {span}: give --from and --to at the start of one, UTC"
                )
            lines.seek(0)
            theirs = _known(within(report_entries(lines, payers), start, end), is_ours, outcome)
            ours = our_entries(_counted(_ledger(session, start, end), outcome), payer_of=payer_of, span=span)
            found = reconcile(ours, theirs, accepted=accepted, shows_zeros=False)
            outcome.differences = _told(found, prices, buyers)
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} can't be read: {error}") from error
    except UnreadableEvidenceError as error:
        raise RefusedError(f"{file}: {error}") from error
    return outcome


def senders(session: Session) -> set[str]:
    """The roles that meter for this deployment, as CloudTrail names them."""
    if seller := session.stack.seller_role:
        return {seller}
    return {session.resources[_ROLE].physical_id}


def accepted_in(file: Path | None) -> list[Acceptance]:
    """The differences that a file accepts: JSON Lines of `id` and `reason`. Raises RefusedError that names the line."""
    if file is None or not file.exists():
        return []
    found = []
    try:
        if file.stat().st_size > MAX_ACCEPTED:
            raise RefusedError(f"{file} is larger than {MAX_ACCEPTED:,} bytes")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                found.append(Acceptance(str(entry["id"]), str(entry["reason"])))
            except (ValueError, KeyError, TypeError) as error:
                raise RefusedError(f"{file}, line {number}: it has no id and reason") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} can't be read: {error}") from error
    return found


def accept(file: Path, difference_id: str, reason: str) -> dict[str, Any]:
    """Adds an acceptance to a file. Raises RefusedError."""
    entry = {"id": difference_id, "reason": reason}
    try:
        with file.open("a", encoding="utf-8") as written:
            written.write(f"{json.dumps(entry)}\n")
    except OSError as error:
        raise RefusedError(f"{file} can't be written: {error.strerror}") from error
    return entry


def _ledger(session: Session, start: int, end: int) -> Iterator[MeteringRecord]:
    ids = subscriptions_with_usage(session.subscriptions, start)
    return metering_records(session.history, session.output.each(ids, "subscriptions"), start, end)


def _counted(records: Iterable[MeteringRecord], outcome: Outcome) -> Iterator[MeteringRecord]:
    for record in records:
        outcome.compared += 1
        outcome.ours[period_of(record.hour, "day")] += record.quantity
        yield record


def _told(found: Iterable[Difference], prices: Prices, buyers: _Buyers) -> list[Difference]:
    """The differences in the order of time, each with what it is worth."""
    told = []
    for one in found:
        product_code, subscription_id = buyers.get(one.payer) or (one.payer.partition("/")[0], None)
        price = price_of(prices, product_code, one.dimension, subscription_id)
        told.append(one if price is None else replace(one, money=price * Decimal(str(one.units))))
    return sorted(told, key=lambda one: (one.period, one.kind, one.id))


def _known(entries: Iterable[Entry], is_known: Callable[[str], bool], outcome: Outcome) -> Iterator[Entry]:
    for entry in entries:
        if is_known(entry.payer):
            day = period_of(entry.period, "day")
            outcome.theirs[day] = outcome.theirs.get(day, 0) + entry.quantity
            yield entry
        else:
            outcome.strangers += 1
