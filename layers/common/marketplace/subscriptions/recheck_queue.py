"""Sends messages to the notification queue that have a subscription rechecked or reconciled."""

import json
from typing import TYPE_CHECKING, Any

from marketplace.platform.aws_errors import classified_errors
from marketplace.subscriptions.recheck import (
    LOOK_AGAIN,
    MAX_DELAY_SECONDS,
    RECONCILE,
    REQUEST,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class Requests:
    """The notification queue, for its senders within the application."""

    def __init__(self, sqs_client: "SQSClient", queue_url: str) -> None:
        self._sqs = sqs_client
        self._queue_url = queue_url

    def look_again(
        self,
        subscription_id: str,
        reason: str,
        *,
        since: int | None = None,
        agreement_id: str | None = None,
        delay_seconds: int = 0,
        attempt: int = 0,
    ) -> None:
        """Requests a recheck of the subscription: waiting events are joined, entitlements read back, held usage
        released if it may be, an overdue end or start written, unpublished events published. Requesting it twice is
        harmless.

        reason: one of the constants of marketplace.subscriptions.recheck. since: with NOT_SUBSCRIBED, when the refused
        attempt was sent (seconds since the epoch). agreement_id: with REGISTERED, the agreement that ResolveCustomer
        named. delay_seconds: how long the message waits, 15 minutes at most. attempt: how many requests came before
        this one, in a series.

        Raises AwsError when SQS didn't take the message.
        """
        message: dict[str, Any] = {REQUEST: LOOK_AGAIN, "subscription_id": subscription_id, "reason": reason}
        if since is not None:
            message["since"] = since
        if agreement_id is not None:
            message["agreement_id"] = agreement_id
        if attempt:
            message["attempt"] = attempt
        self._send(message, delay_seconds)

    def reconcile(self, subscription_id: str, *, delay_seconds: int = 0) -> None:
        """Has one subscription compared with the agreement API. Raises AwsError when SQS didn't take the message."""
        self._send({REQUEST: RECONCILE, "subscription_id": subscription_id}, delay_seconds)

    def reconcile_all(self, status: str, *, after: str | None = None, delay_seconds: int = 0) -> None:
        """Has the subscriptions of a status compared with the agreement API, those after the id `after`, and then those
        of the next status.

        Raises AwsError when SQS didn't take the message.
        """
        where = {"status": status, **({} if after is None else {"after": after})}
        self._send({REQUEST: RECONCILE, **where}, delay_seconds)

    def _send(self, message: dict[str, Any], delay_seconds: int) -> None:
        with classified_errors():
            self._sqs.send_message(
                QueueUrl=self._queue_url,
                MessageBody=json.dumps(message, separators=(",", ":")),
                DelaySeconds=max(0, min(delay_seconds, MAX_DELAY_SECONDS)),
            )
