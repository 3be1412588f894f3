"""The metrics of a metering run; docs/operations.md names their alarms."""

from marketplace.metering.report import MeteringReport

METRIC_OF_OUTCOME = {
    "metered": "UsageMetered",
    "metered_earlier": "UsageMeteredEarlier",
    "held": "UsageHeld",
    "rejected": "UsageRejected",
    "conflict": "UsageConflict",
    "unbillable": "UsageUnbillable",
    "awaiting_approval": "UsageAwaitingApproval",
    "shadow": "UsageInShadow",
    "unprocessed": "UsageUnprocessed",
    "unanswered": "UsageUnanswered",
    "unknown_status": "UsageUnknownStatus",
    "unknown_refusal": "UsageUnknownRefusal",
    "tags_refused": "TagsRefused",
    "metered_unwritten": "UsageMeteredUnwritten",
}
"""Every outcome that a run counts, and its metric."""

GAUGE_OF_STATE = {
    "held": "Held",
    "rejected": "Rejected",
    "conflict": "Conflict",
    "unbillable": "Unbillable",
    "awaiting_approval": "AwaitingApproval",
    "in_doubt": "InDoubt",
    "not_metered": "NotMetered",
    "open": "Waiting",
}
"""What stands in the index, and the end of the names of its two metrics: units and records."""

RISK_OF_HOURS = {1: "UnitsAtRiskWithin1Hour", 3: "UnitsAtRiskWithin3Hours", 6: "UnitsAtRisk"}


def counts_of(report: MeteringReport) -> dict[str, int]:
    """The metrics of the unit Count by name, zeros included: an alarm on missing data needs a value from every run."""
    return {
        **{metric: report.records[outcome] for outcome, metric in METRIC_OF_OUTCOME.items()},
        "MeteredUnits": report.units["metered"] + report.units["metered_earlier"],
        "MeteringCalls": report.calls,
        "MeteringErrors": report.errors.total(),
        **{f"Units{name}": report.standing_units[state] for state, name in GAUGE_OF_STATE.items()},
        **{f"Records{name}": report.standing_records[state] for state, name in GAUGE_OF_STATE.items()},
        **{name: report.units_at_risk[hours] for hours, name in RISK_OF_HOURS.items()},
        "UsageInOtherRegion": report.in_other_region,
        "BreakerOpened": int(report.breaker_opened),
        "UsageUnreadable": len(report.unreadable),
    }


def seconds_of(report: MeteringReport) -> dict[str, int]:
    """The metrics of the unit Seconds by name."""
    return {"OldestUnsettledAgeSeconds": report.oldest_unsettled_seconds}
