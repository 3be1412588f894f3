"""Sends messages to the application's own queues: rechecks, questions to AWS Marketplace, metering runs."""

import json
from typing import TYPE_CHECKING, Any

from marketplace.platform.aws_errors import classified_errors
from marketplace.subscriptions.recheck import (
    FIND_LICENSES,
    LOOK_AGAIN,
    MAX_DELAY_SECONDS,
    METERING_RUN,
    READ_BACK,
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
    ) -> None:
        """Requests a recheck of the subscription: waiting events are joined, held usage released if it may be, an
        overdue end or start written, unpublished events published, entitlements read back. Requesting it twice is
        harmless.

        reason: one of the constants of marketplace.subscriptions.recheck. since: with NOT_SUBSCRIBED, when the refused
        attempt was sent (seconds since the epoch). agreement_id: with REGISTERED, the agreement that ResolveCustomer
        named. delay_seconds: how long the message waits, 15 minutes at most.

        Raises AwsError when SQS didn't take the message.
        """
        about = {"subscription_id": subscription_id, "reason": reason, "since": since, "agreement_id": agreement_id}
        self._send(self._queue_url, LOOK_AGAIN, about, delay_seconds)

    def _send(self, queue_url: str, request: str, about: dict[str, Any], delay_seconds: int) -> None:
        named = {name: value for name, value in about.items() if value is not None}
        with classified_errors():
            self._sqs.send_message(
                QueueUrl=queue_url,
                MessageBody=json.dumps({REQUEST: request, **named}, separators=(",", ":")),
                DelaySeconds=max(0, min(delay_seconds, MAX_DELAY_SECONDS)),
            )


class LifecycleRequests(Requests):
    """All queues of the application, for the lifecycle. Every method raises AwsError when SQS didn't take the message.
    `delay_seconds`: how long the message waits, 15 minutes at most."""

    def __init__(
        self, sqs_client: "SQSClient", queue_url: str, *, read_back_queue_url: str, metering_queue_url: str
    ) -> None:
        super().__init__(sqs_client, queue_url)
        self._read_back_queue_url = read_back_queue_url
        self._metering_queue_url = metering_queue_url

    def read_back(
        self, subscription_id: str, *, attempt: int | None = None, at: int | None = None, delay_seconds: int = 0
    ) -> None:
        """Has the entitlements of a subscription read from AWS. attempt: how many readings came before this one because
        AWS listed none; None when none have to be there. at: not before this moment (seconds since the epoch)."""
        self._ask(READ_BACK, {"subscription_id": subscription_id, "attempt": attempt, "at": at}, delay_seconds)

    def find_licenses(self, agreement_id: str, *, last: bool = False, delay_seconds: int = 0) -> None:
        """Has AWS asked for the licences of an agreement that has ended, and what waits for it applied to them. last:
        whether a person has to look if AWS names none."""
        self._ask(FIND_LICENSES, {"agreement_id": agreement_id, "last": last or None}, delay_seconds)

    def reconcile(self, subscription_id: str, *, delay_seconds: int = 0) -> None:
        """Has one subscription compared with the agreement API, and its entitlements read back."""
        self._ask(RECONCILE, {"subscription_id": subscription_id}, delay_seconds)

    def reconcile_all(self, status: str, *, after: str | None = None, delay_seconds: int = 0) -> None:
        """Has the subscriptions of a status reconciled, those after the id `after`, and then those of the next
        status."""
        self._ask(RECONCILE, {"status": status, "after": after}, delay_seconds)

    def postpone(self, body: str, *, tries: int, delay_seconds: int) -> None:
        """Sends a request of the read-back queue again, as a new message. tries: how often it has been postponed
        now."""
        content = json.loads(body)
        self._ask(content.pop(REQUEST), {**content, "tries": tries}, delay_seconds)

    def metering_run(self, subscription_id: str, deadline: int, *, delay_seconds: int) -> None:
        """Starts a metering run, before a subscription's closing deadline (seconds since the epoch)."""
        about = {"subscription_id": subscription_id, "deadline": deadline}
        self._send(self._metering_queue_url, METERING_RUN, about, delay_seconds)

    def _ask(self, request: str, about: dict[str, Any], delay_seconds: int = 0) -> None:
        self._send(self._read_back_queue_url, request, about, delay_seconds)
