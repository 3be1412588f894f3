"""The bill of a month, from requests that are counted here and AWS's list prices. docs/cost.md quotes the output.

python -m bench.cost
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.priced_dynamodb import PricedDynamoDB
from marketplace.metering.metrics import counts_of, seconds_of
from marketplace.metering.report import MeteringReport
from marketplace.platform.clock import DAY, HOUR
from marketplace.subscriptions.waiting import WaitingItems
from tests.support.lifecycle_world import LICENSED, LifecycleWorld
from tests.support.tables import create_tables
from tests.support.world import World
from tools import template

GB = 1024**3
DAYS, HOURS = 30, 30 * 24
DIMENSIONS = ("api_calls", "storage_gb_hours", "users")
SAMPLE = 50
"""Licences that are counted; the bill of more is in proportion."""
RECORDS_PER_REQUEST = 500
RUNS = 96 * DAYS
"""Of metering, and of the gauges of what waits: one each 15 minutes."""

PRICES = {
    "DynamoDB write request units, million": 0.625,
    "DynamoDB read request units, million": 0.125,
    "DynamoDB storage, GB-month": 0.25,
    "DynamoDB point-in-time recovery, GB-month": 0.20,
    "Lambda requests, million": 0.20,
    "Lambda arm64, million GB-seconds": 13.3334,
    "HTTP API requests, million": 1.00,
    "SQS requests, million": 0.40,
    "CloudWatch logs, GB": 0.50,
    "CloudWatch metrics, each": 0.30,
    "CloudWatch alarms, each": 0.10,
}
"""us-east-1, first tier, in dollars; docs/cost.md says where each is from."""

SECONDS = {"idle run": 0.5, "gauges": 0.1, "request of 500": 0.6, "request of 1": 0.05, "question": 0.5}
"""Assumed durations: rounded up from docs/performance.md, which measured CPU time on another machine."""
RECORDS_PER_SECOND = 250
"""Ten calls of BatchMeterUsage a second with 25 records each: AWS's quota paces a run."""
LOG_BYTES = {"run": 2500, "request": 1000, "message": 900}
"""Assumed: the function's lines, Lambda's own three and the access log."""
IDLE_POLLS = 3 * 5 * 3 * 60 * 24 * DAYS
"""Assumed: five pollers wait on each of three queues, with a long poll of 20 seconds each."""
METRICS_OF_USE = 16
"""Assumed: counters of the other functions and of routes that have a value in the month."""


@dataclass(frozen=True)
class Counted:
    """Request units of what happens, counted on the real use cases; sizes in bytes, as storage is billed."""

    units: Mapping[str, Mapping[str, float]]
    usage_record: float
    metering_record: float


def counted() -> Counted:
    """Plays an hour of SAMPLE licences, and what happens without usage."""
    memory = PricedDynamoDB()
    world = World(memory, create_tables(memory.client))
    units: dict[str, Mapping[str, float]] = {}

    def measure(what: str, per: int, begun: Mapping[str, float]) -> None:
        units[what] = {kind: (memory.units[kind] - begun.get(kind, 0)) / per for kind in ("write", "read")}

    def now() -> Mapping[str, float]:
        return dict(memory.units)

    begun = now()
    world.meter()
    measure("idle metering run", 1, begun)
    begun = now()
    for kind in ("registration", "account", "agreement", "unassigned"):
        WaitingItems(world.table(world.tables.subscriptions)).oldest(kind)
    measure("gauges of what waits", 1, begun)
    buyers = [world.subscribe(f"{n:012d}", "ca1contractandconsumption") for n in range(SAMPLE)]
    records = [world.usage(buyer, 7, dimension=one) for buyer in buyers for one in DIMENSIONS]
    begun = now()
    for start in range(0, len(records), RECORDS_PER_REQUEST):
        assert all(
            one["status"] == "recorded" for one in world.report_all(records[start : start + RECORDS_PER_REQUEST])
        )
    measure("record in a request of 500", len(records), begun)
    world.to_due()
    begun = now()
    assert world.meter().records["metered"] == len(records)
    measure("metering record, sent and settled", len(records), begun)
    sizes = [memory.stored_bytes(world.tables.usage, kind) for kind in ("RECORD#", "HOUR#")]
    begun = now()
    for buyer in buyers:
        world.report_all([world.usage(buyer, 7)])
    measure("record in a request of its own", len(buyers), begun)
    units["question to AWS, daily for each licence"] = _question()
    return Counted(units, *sizes)


def _question() -> Mapping[str, float]:
    memory = PricedDynamoDB()
    world = LifecycleWorld(memory, create_tables(memory.client))
    world.receive("eventbridge_purchase_agreement_created", "eventbridge_license_updated")
    world.answer()
    begun = dict(memory.units)
    world.read_back(LICENSED)
    return {kind: memory.units[kind] - begun.get(kind, 0) for kind in ("write", "read")}


def bill(found: Counted, licences: int) -> dict[str, float]:
    """Dollars of a month in which every licence has a record an hour in each dimension, by what AWS bills."""
    records = licences * len(DIMENSIONS) * HOURS
    requests = -(-licences * len(DIMENSIONS) // RECORDS_PER_REQUEST) * HOURS
    questions = licences * DAYS
    happened = {
        "idle metering run": RUNS,
        "gauges of what waits": RUNS,
        "record in a request of 500": records,
        "metering record, sent and settled": records,
        "question to AWS, daily for each licence": questions,
    }
    write, read = (
        sum(found.units[what][kind] * times for what, times in happened.items()) for kind in ("write", "read")
    )
    metering_seconds = RUNS * SECONDS["idle run"] + records / RECORDS_PER_SECOND
    gb_seconds = metering_seconds + requests * SECONDS["request of 500"]
    gb_seconds += (questions * SECONDS["question"] + RUNS * SECONDS["gauges"]) / 2
    logged = RUNS * LOG_BYTES["run"] + requests * LOG_BYTES["request"] + (questions + RUNS) * LOG_BYTES["message"]
    stored = records * (found.usage_record + found.metering_record) / 2 / GB
    metrics = (
        len(counts_of(MeteringReport()))
        + len(seconds_of(MeteringReport()))
        + len(GAUGES)
        + (METRICS_OF_USE if licences else 0)
    )
    return {
        "DynamoDB writes": write / 1e6 * PRICES["DynamoDB write request units, million"],
        "DynamoDB reads": read / 1e6 * PRICES["DynamoDB read request units, million"],
        "DynamoDB storage and recovery, first month": stored * _kept(),
        "Lambda": (2 * RUNS + requests + questions) / 1e6 * PRICES["Lambda requests, million"]
        + gb_seconds / 1e6 * PRICES["Lambda arm64, million GB-seconds"],
        "HTTP API": requests / 1e6 * PRICES["HTTP API requests, million"],
        "SQS": (IDLE_POLLS + 3 * (questions + RUNS)) / 1e6 * PRICES["SQS requests, million"],
        "CloudWatch logs": logged / GB * PRICES["CloudWatch logs, GB"],
        "CloudWatch metrics": metrics * PRICES["CloudWatch metrics, each"],
        "CloudWatch alarms": alarms() * PRICES["CloudWatch alarms, each"],
    }


GAUGES = ("registration", "account", "agreement", "unassigned")


def _kept() -> float:
    return PRICES["DynamoDB storage, GB-month"] + PRICES["DynamoDB point-in-time recovery, GB-month"]


def storage_after(found: Counted, licences: int, days: int) -> float:
    """Dollars a month for what is stored by then: usage records of 400 days at most, every metering record."""
    a_day = licences * len(DIMENSIONS) * 24
    return a_day * (min(days, 400) * found.usage_record + days * found.metering_record) / GB * _kept()


def alarms() -> int:
    """Alarms that every stack has."""
    return sum("Condition" not in body for body in template.resources("AWS::CloudWatch::Alarm").values())


def text() -> str:
    """The tables of docs/cost.md."""
    found = counted()
    lines = ["| what happens | write units | read units |", "|---|---|---|"]
    lines += [f"| {what} | {units['write']:.2f} | {units['read']:.2f} |" for what, units in found.units.items()]
    lines += [
        "",
        f"A usage record is stored in {found.usage_record:.0f} bytes, a metering record in "
        f"{found.metering_record:.0f}.",
        "",
    ]
    bills = {licences: bill(found, licences) for licences in (0, 1_000, 100_000)}
    lines += ["| a month, in dollars | idle | 1,000 licences | 100,000 licences |", "|---|---|---|---|"]
    lines += [f"| {line} | {' | '.join(f'{one[line]:,.2f}' for one in bills.values())} |" for line in bills[0]]
    lines += [f"| **together** | {' | '.join(f'**{sum(one.values()):,.2f}**' for one in bills.values())} |"]
    later = (f"{storage_after(found, licences, 400):,.2f}" for licences in bills)
    lines += [f"| storage and recovery alone, after 400 days | {' | '.join(later)} |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    assert HOURS * HOUR == DAYS * DAY
    print(text(), end="")
