"""`queue`: the application's queues, and the messages that could not be handled."""

from typing import Annotated, Any, Literal

import typer

from marketplace_saas_cli.context import session_of
from marketplace_saas_cli.dead_letters import MAX_SHOWN, described, received, released
from marketplace_saas_cli.exits import FINE, TROUBLE, NoAnswerError, RefusedError
from marketplace_saas_cli.output import counted, table
from marketplace_saas_cli.session import Session

APP = typer.Typer(help="The queues, and the messages that could not be handled.", no_args_is_help=True)

QUEUES = {
    "notification": "NotificationQueueUrl",
    "read-back": "ReadBackQueueUrl",
    "dead-letter": "DeadLetterQueueUrl",
}
_COUNTS = {
    "waiting": "ApproximateNumberOfMessages",
    "in_work": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
MOVED_WITHIN = 300
"""Seconds for which a redrive is followed."""


@APP.command("list")
def list_(context: typer.Context) -> None:
    """How many messages each queue holds."""
    session = session_of(context)
    rows = depths(session)
    session.output.show({"queues": rows}, table(rows, "queue", "waiting", "in_work", "delayed"))
    raise typer.Exit(TROUBLE if any(row["waiting"] for row in rows if row["queue"] == "dead-letter") else FINE)


def depths(session: Session) -> list[dict[str, Any]]:
    """How many messages each queue holds. Raises what boto3 raises."""
    return [{"queue": name, **_depth(session, session.stack.outputs[output])} for name, output in QUEUES.items()]


def _depth(session: Session, url: str) -> dict[str, int]:
    found = session.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS.values()))["Attributes"]
    return {name: int(found[attribute]) for name, attribute in _COUNTS.items()}


@APP.command()
def show(context: typer.Context) -> None:
    """The messages of the dead-letter queue, and what handling them now would bring."""
    session = session_of(context)
    rows = _looked_at(session)
    session.output.show({"messages": rows}, _table(rows), *_cut(rows))
    raise typer.Exit(TROUBLE if rows else FINE)


@APP.command()
def redrive(
    context: typer.Context,
    to: Annotated[
        Literal["notification", "read-back"], typer.Option(help="where they are handled; read-back: fewer at once")
    ] = "notification",
) -> None:
    """Moves the messages of the dead-letter queue back, once their cause is mended."""
    session = session_of(context)
    rows = _looked_at(session)
    if not rows:
        session.output.show({"changed": False, "messages": []}, "the dead-letter queue is empty")
        return
    session.output.confirm({"messages": rows, "to": to}, _table(rows), *_cut(rows), question=f"Move them to {to}?")
    source, target = (_arn(session, session.stack.outputs[QUEUES[name]]) for name in ("dead-letter", to))
    session.sqs.start_message_move_task(SourceArn=source, DestinationArn=target)
    for waited in range(MOVED_WITHIN):
        task = session.sqs.list_message_move_tasks(SourceArn=source)["Results"][0]
        if task["Status"] == "COMPLETED":
            count = task["ApproximateNumberOfMessagesMoved"]
            session.output.show(
                {"changed": True, "moved": count, "to": to}, f"moved to {to}: {counted(count, 'message')}"
            )
            return
        if task["Status"] not in {"RUNNING", "CANCELLING"}:
            raise NoAnswerError(f"the move ended {task['Status']}: {task.get('FailureReason', 'no reason given')}")
        if waited == 0:
            session.output.note("moving")
        session.sleep(1)
    session.output.note("it is still moving; `queue list` shows how far it is")


@APP.command()
def delete(context: typer.Context, message_id: Annotated[str, typer.Argument(help="as `queue show` lists it")]) -> None:
    """Deletes one message of the dead-letter queue that can never be handled."""
    session = session_of(context)
    letters = received(session)
    try:
        letter = next((one for one in letters if one.message.message_id == message_id), None)
        if letter is None:
            raise RefusedError(f"the dead-letter queue shows no message {message_id}")
        row = described(session, letter)
        session.output.confirm({"message": row}, _table([row]), letter.message.body, question="Delete it for good?")
        session.sqs.delete_message(QueueUrl=session.stack.outputs["DeadLetterQueueUrl"], ReceiptHandle=letter.receipt)
        letters.remove(letter)
    finally:
        released(session, letters)
    session.output.show({"changed": True, "deleted": message_id}, "deleted")


def _looked_at(session: Session) -> list[dict[str, Any]]:
    letters = received(session)
    try:
        return [described(session, letter) for letter in letters]
    finally:
        released(session, letters)


def _table(rows: list[dict[str, Any]]) -> Any:
    return table(rows, "sent_at", "title", "subscription_id", "effect", "message_id")


def _cut(rows: list[dict[str, Any]]) -> list[str]:
    return [f"these are the first {MAX_SHOWN:,}"] if len(rows) >= MAX_SHOWN else []


def _arn(session: Session, url: str) -> str:
    arn: str = session.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn
