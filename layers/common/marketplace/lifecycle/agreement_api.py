"""Reads AWS Marketplace's agreement API, which says what notifications may have failed to say.

Source: botocore model of marketplace-agreement: SearchAgreements, GetAgreementEntitlements, GetAgreementTerms. Whether
a seller's role may call them is the account's decision; a refusal is an AwsError with code AccessDeniedException.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from marketplace.platform.clock import epoch
from marketplace.platform.errors import AwsError, RefusedError, SystemicError
from marketplace.platform.pages import pages

if TYPE_CHECKING:
    from mypy_boto3_marketplace_agreement import AgreementServiceClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One agreement of a licence; times in seconds since the epoch. `initial_id`: the first agreement of the chain of
    renewals and replacements that it belongs to. `account_id`: the buyer's."""

    id: str
    status: str
    starts_at: int
    updated_at: int
    initial_id: str | None = None
    free_trial_ends_at: int | None = None
    account_id: str | None = None

    @classmethod
    def from_answer(cls, summary: Mapping[str, Any]) -> Self:
        return cls(
            id=summary["agreementId"],
            status=summary.get("status", ""),
            starts_at=_seconds(summary.get("startTime")) or 0,
            updated_at=_seconds(summary.get("lastUpdateTime")) or _seconds(summary.get("acceptanceTime")) or 0,
            initial_id=summary.get("initialAgreementId"),
            free_trial_ends_at=_seconds(summary.get("freeTrialEndTime")),
            account_id=(summary.get("acceptor") or {}).get("accountId"),
        )


@dataclass(frozen=True, slots=True)
class Provisioning:
    """How far a licence is provisioned under an agreement: the model's status and reason code."""

    license_arn: str | None
    status: str
    reason: str


class Agreements(Protocol):
    """Asks AWS about agreements. Every method raises AwsError."""

    def of_license(self, license_arn: str) -> list[Agreement]: ...

    def provisioning(self, agreement_id: str) -> list[Provisioning]: ...

    def has_free_trial(self, agreement_id: str) -> bool: ...


type LicenseFinder = Callable[[str], list[str]]
"""Returns the licence ARNs of an agreement, as far as AWS says."""


def license_finder(agreements: Agreements) -> LicenseFinder:
    """A LicenseFinder that asks the agreement API, and finds none when the role may not. Raises AwsError when AWS gave
    no answer."""

    def find(agreement_id: str) -> list[str]:
        try:
            return [found.license_arn for found in agreements.provisioning(agreement_id) if found.license_arn]
        except (RefusedError, SystemicError):
            return []

    return find


def terms_finder(agreements: "MarketplaceAgreements") -> Callable[[str], frozenset[str]]:
    """Finds the kinds of an agreement's accepted terms, none when AWS gave no answer or refused one."""

    def find(agreement_id: str) -> frozenset[str]:
        try:
            return agreements.terms(agreement_id)
        except AwsError:
            return frozenset()

    return find


class MarketplaceAgreements:
    """The agreement API, as the proposer of the agreements."""

    def __init__(self, client: "AgreementServiceClient") -> None:
        self._client: Any = client

    def of_license(self, license_arn: str) -> list[Agreement]:
        """All agreements of a licence, whatever their status."""
        filters = {
            "PartyType": "Proposer",
            "AgreementType": "PurchaseAgreement",
            "LicenseArn": license_arn,
        }
        given = [{"name": name, "values": [value]} for name, value in filters.items()]
        found = pages(self._client.search_agreements, "nextToken", catalog="AWSMarketplace", filters=given)
        return [Agreement.from_answer(summary) for page in found for summary in page.get("agreementViewSummaries", ())]

    def provisioning(self, agreement_id: str) -> list[Provisioning]:
        """The licences of an agreement; an agreement that is still being set up may have none yet."""
        found = pages(self._client.get_agreement_entitlements, "nextToken", agreementId=agreement_id)
        return [
            Provisioning(entry.get("licenseArn"), entry.get("status", ""), entry.get("statusReasonCode", ""))
            for page in found
            for entry in page.get("agreementEntitlements", ())
        ]

    def has_free_trial(self, agreement_id: str) -> bool:
        """Whether a free trial is among the accepted terms."""
        return "freeTrialPricingTerm" in self.terms(agreement_id)

    def terms(self, agreement_id: str) -> frozenset[str]:
        """The kinds of the accepted terms, as the model names them: each is a union with one member."""
        found = pages(self._client.get_agreement_terms, "nextToken", agreementId=agreement_id)
        return frozenset(kind for page in found for term in page.get("acceptedTerms", ()) for kind in term)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else epoch(moment)
