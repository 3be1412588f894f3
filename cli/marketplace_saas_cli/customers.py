"""Customers whom AWS says nothing of by itself: activated on an operator's word, or taken over from a file."""

from collections import Counter
from pathlib import Path

from marketplace.commands.activation import Activation, asked
from marketplace.commands.customer_file import Customer, CustomerFileError, customers_of
from marketplace.commands.import_customers import SECONDS_BETWEEN_QUESTIONS, Found, Import
from marketplace.commands.refusal import CommandRefusedError
from marketplace.lifecycle.store import SubscriptionStore
from marketplace_saas_cli.exits import FINE, TROUBLE, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.session import Session

MAX_BYTES = 20_000_000


def activated(session: Session, subscription_id: str, reason: str) -> int:
    """Shows what AWS grants the customer, and activates them once that is confirmed. Raises RefusedError."""
    activation = Activation(SubscriptionStore(session.subscriptions), session.clock, session.queue)
    subscription = activation.check(subscription_id).subscription
    answer = asked(session.entitlement_source, subscription, session.now)
    if answer.refusal is not None:
        raise RefusedError(f"AWS does not know this customer of this product ({answer.refusal})")
    known = f"{subscription.id}: {subscription.status}, product {subscription.product_code}; {answer}"
    session.output.confirm(
        {"subscription_id": subscription.id, "status": subscription.status, "aws": str(answer), "reason": reason},
        known,
        f"it is active from now on: {reason}",
    )
    changed = activation.write(subscription.id, reason)
    session.output.show(
        {"changed": changed, "subscription_id": subscription.id, "status": "active"},
        "activated" if changed else "it is active already",
    )
    return FINE


def imported(session: Session, file: str, *, activate: bool, reason: str | None) -> int:
    """Shows what is known of each customer of the file, and imports them once that is confirmed. Returns the exit
    status: TROUBLE when customers were left out. Raises RefusedError."""
    if activate != (reason is not None):
        raise RefusedError("--activate needs --reason, and --reason needs --activate")
    if reason is not None and not reason.strip():
        raise RefusedError("--reason must not be blank")
    customers = _read(file, session.stack.product_codes)
    use_case = Import(SubscriptionStore(session.subscriptions), session.entitlement_source, session.clock)
    looked = []
    for customer in session.output.each(customers, "asking AWS", len(customers)):
        looked.append(use_case.look(customer))
        session.sleep(SECONDS_BETWEEN_QUESTIONS)
    rows = [_row(found) for found in looked]
    left_out = sum(found.answer.refusal is not None for found in looked)
    preview = {"customers": rows, "left_out": left_out}
    verb = "import and activate" if activate else "import"
    session.output.confirm(
        preview,
        table(rows, "line", "subscription_id", "known", "aws"),
        f"to {verb}: {counted(len(looked) - left_out, 'customer')}; left out: {left_out}",
    )
    activation = Activation(SubscriptionStore(session.subscriptions), session.clock, session.queue)
    counts: Counter[str] = Counter({"left_out": left_out})
    for found in session.output.each([one for one in looked if one.answer.refusal is None], "importing"):
        use_case.write(found, session.queue)
        counts["imported" if found.status is None else "known"] += 1
        if reason is not None:
            counts["activated"] += _activate(session, activation, found.customer, reason.strip())
    summary = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items()) if count)
    session.output.show({"changed": True, **counts}, f"{counted(len(looked), 'customer')}: {summary}")
    return TROUBLE if left_out else FINE


def _row(found: Found) -> dict[str, object]:
    return {
        "line": found.customer.line,
        "subscription_id": found.customer.subscription.id,
        "known": found.status or "new",
        "aws": str(found.answer),
    }


def _activate(session: Session, activation: Activation, customer: Customer, reason: str) -> bool:
    try:
        return activation.write(customer.identity.subscription_id, reason)
    except CommandRefusedError as refusal:
        session.output.note(f"line {customer.line}: not activated: {refusal}")
        return False


def _read(file: str, product_codes: tuple[str, ...]) -> list[Customer]:
    try:
        path = Path(file)
        if path.stat().st_size > MAX_BYTES:
            raise RefusedError(f"{file} is larger than {MAX_BYTES:,} bytes; split it")
        return customers_of(path.read_bytes(), product_codes)
    except OSError as error:
        raise RefusedError(f"the file can't be read: {error}") from error
    except CustomerFileError as error:
        raise RefusedError(f"nothing is imported from {file}:\n{error}") from error
