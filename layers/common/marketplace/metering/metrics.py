"""The metrics of a metering run; docs/operations.md names their alarms."""

from marketplace.metering.report import MeteringReport

METRIC_OF_OUTCOME = {
    "metered": "UsageMetered",
    "metered_earlier": "UsageMeteredEarlier",
    "held": "UsageHeld",
    "rejected": "UsageRejected",
    "conflict": "UsageConflict",
    "unbillable": "UsageUnbillable",
    "unprocessed": "UsageUnprocessed",
    "unanswered": "UsageUnanswered",
    "unknown_status": "UsageUnknownStatus",
    "unknown_refusal": "UsageUnknownRefusal",
    "metered_unwritten": "UsageMeteredUnwritten",
}
"""Every outcome that a run counts, and its metric."""


def counts_of(report: MeteringReport) -> dict[str, int]:
    """The metrics of the unit Count by name, zeros included: an alarm on missing data needs a value from every run."""
    return {
        **{metric: report.records[outcome] for outcome, metric in METRIC_OF_OUTCOME.items()},
        "MeteringCalls": report.calls,
        "MeteringErrors": report.errors.total(),
        "UnitsAtRisk": report.units_at_risk,
        "BreakerOpened": int(report.breaker_opened),
        "UsageUnreadable": len(report.unreadable),
    }


def seconds_of(report: MeteringReport) -> dict[str, int]:
    """The metrics of the unit Seconds by name."""
    return {"OldestUnsettledAgeSeconds": report.oldest_unsettled_seconds}
