"""Whether a buyer comes with a free trial, asked when they register, so that the seller's sign-up can be a trial's.

Source: botocore model of marketplace-agreement, DescribeAgreement: `freeTrialSummary` is present only when the
agreement includes a free trial, and says when it ends. GetAgreementTerms names the trial's duration only.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.clock import epoch
from marketplace.platform.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_marketplace_agreement import AgreementServiceClient


@dataclass(frozen=True, slots=True)
class FreeTrial:
    """What AWS says of an agreement's free trial. `ends_at`: seconds since the epoch."""

    has_trial: bool
    ends_at: int | None


class FreeTrials(Protocol):
    """Asks AWS Marketplace about the free trial of an agreement. None when AWS does not say."""

    def of_agreement(self, agreement_id: str) -> FreeTrial | None: ...


class MarketplaceFreeTrials:
    """DescribeAgreement. A buyer waits, and a registration is worth more than this answer: whatever is in its way, the
    registration goes on, and the daily reconciliation asks again."""

    def __init__(self, client: "AgreementServiceClient") -> None:
        self._client = client

    def of_agreement(self, agreement_id: str) -> FreeTrial | None:
        try:
            with classified_errors():
                agreement: dict[str, Any] = dict(self._client.describe_agreement(agreementId=agreement_id))
        except AwsError:
            return None
        if "agreementId" not in agreement:
            return None  # the SDK makes an empty answer of a body that it can't read
        summary = agreement.get("freeTrialSummary")
        ends_at = None if summary is None else summary.get("trialEndTime")
        return FreeTrial(summary is not None, None if ends_at is None else epoch(ends_at))
