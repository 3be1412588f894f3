"""Values for the template's parameters that decide what is billed: any that template.yaml admits."""

import random
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from marketplace.platform.clock import DAY, HOUR, MINUTE, EpochSeconds, epoch, hour_of, iso
from tools.template import load

REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")

NOT_DRAWN = {
    "ProductCodes": "every product of the emulator is the seller's",
    "LegacyProductCodes": "topics to follow; the emulator delivers what they would",
    "LegacyContractProductCodes": "likewise",
    "MeteringEnabled": "the schedules compare what is billed; one that meters nothing: tests/unit/test_not_metering.py",
    "MeteringReservedConcurrency": "the schedules let any number of runs overlap",
    "SignUpUrl": "a page",
    "LoginUrl": "a page",
    "SupportContact": "a page",
    "SellerName": "a page",
    "SellerLogoUrl": "a page",
    "SellerColor": "a page",
    "ProductTitles": "a page",
    "Runtime": "the Python",
    "Architecture": "the processor",
    "LogRetentionDays": "logs",
    "Stage": "the name of the metrics",
    "AlarmEmail": "where alarms go",
    "AlarmTopicArn": "where alarms go",
    "SellerRoleArn": "whose credentials calls carry: tests/unit/test_seller_role.py",
    "SellerRoleExternalId": "likewise",
    "OperatorRoleArn": "who may send to the queues",
    "ApiRequestsPerSecond": "a limit of the HTTP API: what it refuses was never recorded",
    "ApiBurst": "likewise",
    "DomainName": "an address",
    "BuyersDomainName": "an address",
    "CertificateArn": "an address",
    "HostedZoneId": "an address",
    "BuyersFront": "what stands before the buyers' pages: tests/functions/test_buyers_front.py",
    "BuyersFrontSecret": "likewise",
    "BuyerRequestsPerFiveMinutes": "likewise",
    "CustomerManagedKey": "how the tables are encrypted",
    "PermissionsBoundaryArn": "what the roles may do at most",
    "EventArchiveDays": "a copy of the seller's events",
    "BackupDays": "copies of the tables",
    "SnapStart": "how an environment starts: tests/functions/test_snapshot.py",
    "DeploymentPreference": "how a version is taken over: two versions overlap as two runs do",
    "ArchiveAfterMonths": "where old usage is read: tests/unit/test_usage_archive.py",
    "ArchiveLockDays": "who may delete what is archived",
    "UsageReconciliation": "it reads what was metered and writes only what it found",
}
"""Parameters that the schedules don't vary, and why no unit depends on them."""


APART = {"AnomalyHoldFactor", "AnomalyHoldAtDeadline", "MeteringStartsAt"}
"""Drawn apart, by Parameters.holding and Parameters.starting."""


@dataclass(frozen=True)
class Parameters:
    """One deployment's values, the template's defaults unless given. Times are in the unit that the name says."""

    SealDelayMinutes: int = 10
    MeteringCallsPerSecond: int = 1000
    MeteringRegion: str = REGIONS[0]
    HeartbeatDimension: str = ""
    OverageDimensions: str = ""
    UsageRecordTtlDays: int = 400
    EntitlementMaxAgeMinutes: int = 15
    EntitlementStaleLimitMinutes: int = 1440
    AnomalyHoldFactor: int = 0
    AnomalyHoldAtDeadline: str = "Send"
    MeteringStartsAt: str = ""

    def holding(self, dice: random.Random, *, refuses: bool) -> "Parameters":
        """These with a hold, in half of the worlds; `refuses`: perhaps one that refuses what nobody has approved."""
        declared = load()["Parameters"]
        most = int(declared["AnomalyHoldFactor"]["MaxValue"])
        any_of = min(most, 2 * _between(dice, declared["AnomalyHoldFactor"]))  # half of the time the end of its range
        factor = dice.choice((0, 0, 0, 1, 3, any_of))
        at_deadline = dice.choice(declared["AnomalyHoldAtDeadline"]["AllowedValues"] if refuses else ["Send"])
        return replace(self, AnomalyHoldFactor=factor, AnomalyHoldAtDeadline=at_deadline)

    def starting(self, dice: random.Random, now: int) -> "Parameters":
        """These with a first hour that is metered, in a quarter of the worlds; it comes within two days of this
        moment."""
        hour = iso(hour_of(now) + HOUR * dice.randint(-3, 48))
        assert re.search(load()["Parameters"]["MeteringStartsAt"]["AllowedPattern"], hour), hour
        return replace(self, MeteringStartsAt=dice.choice(("", "", "", hour)))

    @property
    def starts_at(self) -> EpochSeconds:
        return epoch(datetime.fromisoformat(self.MeteringStartsAt)) if self.MeteringStartsAt else EpochSeconds(0)

    @property
    def seal_delay(self) -> int:
        return self.SealDelayMinutes * MINUTE

    @property
    def max_age(self) -> int:
        return self.EntitlementMaxAgeMinutes * MINUTE

    @property
    def stale_limit(self) -> int:
        return self.EntitlementStaleLimitMinutes * MINUTE

    @property
    def ttl(self) -> int:
        return self.UsageRecordTtlDays * DAY

    @classmethod
    def drawn(cls, dice: random.Random, *, heartbeat: str, overage: str) -> "Parameters":
        """Any values; half of the numbers are the default or at an end of their range. The texts are given, or empty
        where that is allowed."""
        texts = {
            "HeartbeatDimension": dice.choice(("", heartbeat)),
            "OverageDimensions": dice.choice(("", overage, overage)),
        }
        values: dict[str, Any] = {"MeteringRegion": REGIONS[0]}
        for name in cls.__dataclass_fields__:
            declared = load()["Parameters"][name]
            if name in APART:
                continue
            if declared["Type"] == "Number":
                ends = (declared["MinValue"], declared["MaxValue"], declared["Default"], declared["Default"])
                values[name] = int(dice.choice((*ends, *(_between(dice, declared) for _ in ends))))
            else:
                values[name] = texts.get(name, values.get(name))
                assert re.search(declared["AllowedPattern"], values[name]), name
        return cls(**values)


def _between(dice: random.Random, declared: dict[str, Any]) -> int:
    return dice.randint(int(declared["MinValue"]), int(declared["MaxValue"]))
