"""Corrects usage that AWS Marketplace has accepted: a billing adjustment for the invoice of its month, which is shown
first and requested with --write. The same command again follows the request to its end.

Name the usage record that was reported wrong, with --record, or --hour, --dimension, --units and a --reference of your
own. From a shell with credentials for both tables and for the agreement API:

    python -m marketplace.commands.correct --table TABLE --usage-table TABLE --subscription ID --record ID --price 0.25
"""

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation

from marketplace.commands.activation import add_seller_role, given_seller_role
from marketplace.commands.shell import CommandRefusedError, in_sentences
from marketplace.corrections.adjustments import REASONS, CorrectionRefusedError, Corrections, Preview, Wanted
from marketplace.corrections.billing_api import BillingApi
from marketplace.dynamodb.table import Table
from marketplace.ledger.correction import Correction
from marketplace.platform import clients
from marketplace.platform.clock import EpochSeconds, epoch, hour_of, iso, utc_now
from marketplace.platform.moments import moment_of
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import SubscriptionReader


def main(arguments: Sequence[str], show: Callable[[str], object] = sys.stdout.write) -> int:
    """The command in the module's docstring. Returns the exit status: 2 when the correction can't be made or AWS did
    not answer, 1 when AWS has refused it, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m marketplace.commands.correct", description=__doc__)
    parser.add_argument("--table", required=True, help="the subscriptions table")
    parser.add_argument("--usage-table", required=True, help="the usage table")
    parser.add_argument("--subscription", required=True, help="the id of the subscription")
    parser.add_argument("--record", help="the id of the usage record that was reported wrong")
    parser.add_argument("--hour", type=_hour, help="the hour, such as 2026-11-23T10:00:00Z")
    parser.add_argument("--dimension", help="the dimension of the hour")
    parser.add_argument("--units", type=int, help="how many units too many were metered; all of a record's by default")
    parser.add_argument("--reference", help="a name of your own, which tells corrections of one hour apart")
    parser.add_argument("--price", required=True, type=_price, help="of one unit, in the currency of the invoice")
    parser.add_argument("--agreement", help="the agreement, where several have an invoice for the month")
    parser.add_argument("--reason", choices=REASONS, default=REASONS[0])
    parser.add_argument("--description", help="what the buyer is told, up to 500 characters")
    parser.add_argument("--write", action="store_true", help="request it")
    add_seller_role(parser)
    given = parser.parse_args(arguments)
    return in_sentences(lambda: _run(given, show), show)


def _run(given: argparse.Namespace, show: Callable[[str], object]) -> int:
    dynamodb = clients.dynamodb()
    subscription = _subscription(SubscriptionReader(Table(dynamodb, given.table)), given.subscription)
    billing = BillingApi(clients.agreement(given_seller_role(given)))
    corrections = Corrections(Table(dynamodb, given.usage_table), billing, utc_now)
    wanted = Wanted(
        price=given.price,
        record_id=given.record,
        hour=given.hour,
        dimension=given.dimension,
        units=given.units,
        reference=given.reference,
        agreement_id=given.agreement,
        reason=given.reason,
        description=given.description,
    )
    try:
        found = corrections.preview(subscription, wanted, getpass.getuser())
        show(shown(found))
        if not given.write:
            show("nothing is requested without --write\n")
            return 0
        made = corrections.request(found) if isinstance(found, Preview) else corrections.follow(found)
    except CorrectionRefusedError as error:
        raise CommandRefusedError(str(error)) from error
    show(f"{made.state}{'' if made.request_id is None else f': {made.request_id}'}\n")
    if made.message:
        show(f"{made.message}\n")
    return 1 if made.state == "refused" else 0


def shown(found: Preview | Correction) -> str:
    """What would be requested, or what was."""
    correction = found.correction if isinstance(found, Preview) else found
    text = (
        f"{correction.dimension} at {iso(correction.hour)}: {correction.units} units at {correction.price} are "
        f"{correction.amount} {correction.currency}, for invoice {correction.invoice_id} of agreement "
        f"{correction.agreement_id}, as {correction.reason}\n"
    )
    if isinstance(found, Preview):
        invoice = found.invoice
        left = f"{invoice.left} {invoice.currency} of the invoice are left"
        return f"{text}{found.hour.quantity} units were metered; {left}\n"
    return f"{text}it is {correction.state} since {iso(correction.ended_at or correction.prepared_at)}\n"


def _subscription(reader: SubscriptionReader, subscription_id: str) -> Subscription:
    found = reader.get_many([subscription_id]).get(subscription_id)
    if found is None:
        raise CommandRefusedError(f"there is no subscription {subscription_id} in this table")
    return found


def _hour(text: str) -> EpochSeconds:
    return hour_of(epoch(moment_of(text)))


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise ValueError("a price is a decimal number") from None
    if not price.is_finite():
        raise ValueError("a price is a decimal number")
    return price


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
