"""Writing together: refusals are answers, other writers are waited out, anything else is an error."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from marketplace.dynamodb.transactions import Refusal, write_together
from marketplace.platform.errors import InvalidParameterError, NoAnswerError, RefusedError, ThrottledError


class Scripted:
    """A DynamoDB client whose transactions end as scripted, the last word for good."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.calls = 0

    def transact_write_items(self, **_: Any) -> None:
        self.calls += 1
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome is not None:
            raise outcome


def cancelled(*codes: str, item: dict[str, Any] | None = None) -> ClientError:
    reasons: list[dict[str, Any]] = [{"Code": code} for code in codes]
    if item:
        reasons[-1]["Item"] = item
    response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    response["ResponseMetadata"] = {"HTTPStatusCode": 400}
    return ClientError(response, "TransactWriteItems")


def write(client: Scripted, waited: list[float] | None = None) -> Refusal | None:
    sleep = (waited if waited is not None else []).append
    return write_together(client, [{}, {}], sleep, lambda: 1.0)  # type: ignore[arg-type]


def test_another_writer_is_waited_out_longer_each_time() -> None:
    waited: list[float] = []

    outcome = write(
        Scripted(cancelled("TransactionConflict", "None"), cancelled("None", "ThrottlingError"), None), waited
    )

    assert outcome is None
    assert waited == [0.04, 0.08]


def test_a_refusal_beside_a_conflict_is_a_refusal() -> None:
    assert write(Scripted(cancelled("TransactionConflict", "ConditionalCheckFailed"))) == Refusal(1, {})


def test_others_who_stay_in_the_way_are_a_throttle() -> None:
    client = Scripted(cancelled("TransactionConflict", "None"))

    with pytest.raises(ThrottledError):
        write(client)
    assert client.calls == 5


def test_a_request_that_is_wrong_in_itself_is_not_repeated() -> None:
    client = Scripted(cancelled("ValidationError", "None"))

    with pytest.raises(RefusedError):
        write(client)
    assert client.calls == 1


def test_no_answer_is_no_outcome() -> None:
    with pytest.raises(NoAnswerError):
        write(Scripted(ConnectTimeoutError(endpoint_url="https://dynamodb")))
    malformed: Any = {"Error": {"Code": "ValidationException"}}
    with pytest.raises(InvalidParameterError):
        write(Scripted(ClientError(malformed, "TransactWriteItems")))
