"""The template's alarms, worked out over the metrics that the functions really emit, as CloudWatch does it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from operator import gt, lt
from typing import Any

import pytest

from tests.support.translated import of_type

STAGE = "prod"
NAMESPACE = "MarketplaceSaaS"
DIMENSIONS = {NAMESPACE: ("service",), "AWS/WAFV2": ("WebACL", "Rule")}
QUARTER = 900


@dataclass(frozen=True, slots=True)
class Emitted:
    """One value of a metric, with the service that it is of, or the values of the other dimensions that it has."""

    service: str
    name: str
    value: float


def emitted(output: str) -> list[Emitted]:
    """The metrics in what a function has printed, which CloudWatch reads in the embedded metric format."""
    found: list[Emitted] = []
    for line in output.splitlines():
        content = json.loads(line)
        if "_aws" not in content:
            continue  # a line of the log
        (directive,) = content["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == NAMESPACE
        assert directive["Dimensions"] == [["service"]]
        names = [metric["Name"] for metric in directive["Metrics"]]
        found += [Emitted(content["service"], name, value) for name in names for value in _values(content[name])]
    return found


def _values(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]


def under_its_own_name(monkeypatch: pytest.MonkeyPatch, metrics: Any, function: str) -> None:
    """Has a function emit its metrics as the template has it do, in the stage STAGE."""
    variables = of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"]
    monkeypatch.setattr(metrics.provider, "service", of_stage(variables["POWERTOOLS_SERVICE_NAME"]))
    monkeypatch.setattr(metrics.provider, "namespace", variables["POWERTOOLS_METRICS_NAMESPACE"])


def of_stage(value: Any) -> str:
    """A text of the template in the stage STAGE."""
    text = value["Fn::Sub"] if isinstance(value, dict) else value
    return str(text).replace("${Stage}", STAGE)


def is_raised(name: str, periods: Sequence[Iterable[Emitted]]) -> bool:
    """Whether the alarm is in ALARM after these periods of its metric, the last one just ended. Before them there was
    no data."""
    return state_after(name, periods) == "ALARM"


def is_told(name: str, periods: Sequence[Iterable[Emitted]]) -> bool:
    """Whether somebody is notified at the end of these periods, or was before and has not been told of an end since."""
    alarm, states = of_type("AWS::CloudWatch::Alarm")[name], [*states_during(name, periods)]
    told = {"ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
    return len(set(states)) > 1 and told.get(states[-1], "") in alarm


def state_after(name: str, periods: Sequence[Iterable[Emitted]]) -> str:
    return [*states_during(name, periods)][-1]


def states_during(name: str, periods: Sequence[Iterable[Emitted]]) -> Iterator[str]:
    """The states of a new alarm, and after each period (CloudWatch User Guide, "Alarm evaluation" and "Configuring how
    CloudWatch alarms treat missing data")."""
    alarm = of_type("AWS::CloudWatch::Alarm")[name]
    assert tuple(one["Name"] for one in alarm["Dimensions"]) == DIMENSIONS[alarm["Namespace"]]
    assert alarm["Statistic"] in {"Sum", "Maximum"}
    compare = {"GreaterThanThreshold": gt, "LessThanThreshold": lt}[alarm["ComparisonOperator"]]
    count, threshold = int(alarm["EvaluationPeriods"]), float(alarm["Threshold"])
    needed, missing = int(alarm.get("DatapointsToAlarm", count)), alarm["TreatMissingData"]
    state = "INSUFFICIENT_DATA"
    yield state
    points: list[bool | None] = [None] * count
    for period in periods:
        found = [one.value for one in period if (one.service, one.name) == _metric(alarm)]
        value = sum(found) if alarm["Statistic"] == "Sum" else max(found, default=0.0)
        points = [*points[1:], compare(value, threshold) if found else None]
        if any(point is not None for point in points) or missing in {"breaching", "notBreaching"}:
            breaching = [missing == "breaching" if point is None else point for point in points]
            state = "ALARM" if sum(breaching) >= needed else "OK"
        elif missing == "missing":
            state = "INSUFFICIENT_DATA"
        yield state


def _metric(alarm: dict[str, Any]) -> tuple[str, str]:
    return "/".join(of_stage(dimension["Value"]) for dimension in alarm["Dimensions"]), alarm["MetricName"]


def in_periods_of(name: str, quarters: Sequence[list[Emitted]]) -> list[list[Emitted]]:
    """Quarters of an hour as periods of the alarm: several together, or each for itself where the period is shorter."""
    width = max(1, int(of_type("AWS::CloudWatch::Alarm")[name]["Period"]) // QUARTER)
    return [[one for quarter in batch for one in quarter] for batch in batched(quarters, width, strict=False)]
