"""BatchMeterUsage as metering needs it: one attempt, and what became of each record in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from marketplace.ledger.record import Group
from marketplace.metering.outcomes import Answer
from marketplace.metering.wire import Sendable, result_key
from marketplace.platform.aws_errors import classified_errors

if TYPE_CHECKING:
    from mypy_boto3_meteringmarketplace import MarketplaceMeteringClient


class MeteringApi:
    """The account's BatchMeterUsage in one region, and always that one: AWS removes duplicates within a region only
    (metering skill), so the same record sent to another region is billed again."""

    def __init__(self, client: "MarketplaceMeteringClient") -> None:
        self._client = client

    def send(self, group: Group, records: Sequence[Sendable]) -> Answer:
        """Sends records of one group once.

        Raises AwsError: RefusedError when AWS refused the whole call for its content, else
        UnavailableError, of which only NoAnswerError leaves open whether the records were taken.
        """
        integration, product_code = group
        request: dict[str, Any] = {"UsageRecords": [record.wire for record in records]}
        if integration == "legacy":
            request["ProductCode"] = product_code
        with classified_errors():
            answer = cast("Any", self._client.batch_meter_usage(**request))
        return Answer(
            statuses={
                result_key(result["UsageRecord"]): (str(result.get("Status")), result.get("MeteringRecordId"))
                for result in answer.get("Results", [])
            },
            unprocessed=frozenset(result_key(record) for record in answer.get("UnprocessedRecords", [])),
        )
