"""Whether a buyer comes with a free trial. AWS is asked when the seller's application opens or claims the registration,
so that its sign-up can be a trial's.

Source: botocore model of marketplace-agreement, DescribeAgreement: `freeTrialSummary` is present only when the
agreement includes a free trial, and says when it ends. GetAgreementTerms names the trial's duration only.
"""

from typing import TYPE_CHECKING, Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item
from marketplace.dynamodb.table import Table, Update
from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.free_trial import free_trial_values
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.reader import as_read

if TYPE_CHECKING:
    from mypy_boto3_marketplace_agreement import AgreementServiceClient


class FreeTrials:
    """The use case, with DescribeAgreement. Its caller waits, and a claim is worth more than this answer: whatever is
    in its way, the claim goes on, and the daily reconciliation asks again."""

    def __init__(self, client: "AgreementServiceClient", table: Table, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def look_up(self, subscription_id: str) -> None:
        """Stores what AWS says about the free trial of the subscription's last agreement, unless that is known."""
        try:
            self._look_up(subscription_id)
        except AwsError:
            return

    def _look_up(self, subscription_id: str) -> None:
        item = self._table.get(keys.subscription(subscription_id))
        if item is None:
            return
        values = from_item(item)
        subscription = Subscription.from_values(values)
        agreement_id = next(reversed(subscription.agreement_ids), None)
        if agreement_id is None or values.get("free_trial_agreement_id") == agreement_id:
            return
        with classified_errors():
            agreement: dict[str, Any] = dict(self._client.describe_agreement(agreementId=agreement_id))
        if "agreementId" not in agreement:
            return  # the SDK makes an empty answer of a body that it can't read
        summary = agreement.get("freeTrialSummary")
        ends_at = None if summary is None else summary.get("trialEndTime")
        found = free_trial_values(
            agreement_id,
            has_trial=summary is not None,
            ends_at=None if ends_at is None else epoch(ends_at),
            now=epoch(self._clock()),
        )
        # Another writer in between is no loss: the reconciliation writes it.
        self._table.update_if(
            keys.subscription(subscription_id), Update(set=found, add={"version": 1}, **as_read(subscription))
        )
