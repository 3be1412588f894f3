"""The sender's side of the notification queue: messages that have a subscription looked at again."""

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
    """The sender's side of the queue."""

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
        """Has the subscription looked at: waiting events joined, entitlements read back, held usage released when it
        may be, an overdue end or start written down, unpublished events published. Asking twice is harmless.

        reason: one of this module's words. since: with NOT_SUBSCRIBED, when the refused attempt was sent (seconds
        since the epoch). agreement_id: with REGISTERED, the agreement that ResolveCustomer named. delay_seconds: how
        long the message waits; cut to what SQS holds back. attempt: how often this was asked before, for requests that
        repeat themselves.

        Raises AwsError when the queue didn't take it.
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
        """Has one subscription compared with the agreement API. Raises AwsError when the queue didn't take it."""
        self._send({REQUEST: RECONCILE, "subscription_id": subscription_id}, delay_seconds)

    def reconcile_all(self, status: str, *, after: str | None = None, delay_seconds: int = 0) -> None:
        """Has the subscriptions of a status compared, those after the id `after`, and those of the next status then.

        Raises AwsError when the queue didn't take it.
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
