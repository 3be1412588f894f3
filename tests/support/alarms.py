"""The template's alarms, worked out over the metrics that the functions really emit, as CloudWatch does it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.translated import of_type

STAGE = "prod"
NAMESPACE = "MarketplaceSaaS"


@dataclass(frozen=True, slots=True)
class Emitted:
    """One value of a metric, with the service that it is of."""

    service: str
    name: str
    value: float


def emitted(output: str) -> list[Emitted]:
    """The metrics in what a function has printed, which CloudWatch reads in the embedded metric format."""
    found: list[Emitted] = []
    for line in output.splitlines():
        content = json.loads(line)
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
    alarm = of_type("AWS::CloudWatch::Alarm")[name]
    (dimension,) = alarm["Dimensions"]
    assert (alarm["Namespace"], dimension["Name"]) == (NAMESPACE, "service")
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    service = of_stage(dimension["Value"])
    points = [
        [one.value for one in period if (one.service, one.name) == (service, alarm["MetricName"])] for period in periods
    ][-alarm["EvaluationPeriods"] :]
    totals = [sum(values) if alarm["Statistic"] == "Sum" else max(values) for values in points if values]
    assert alarm["Statistic"] in {"Sum", "Maximum"}
    threshold, needed = float(alarm["Threshold"]), int(alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]))
    return sum(total > threshold for total in totals) >= needed
