"""Records the calls to AWS that the use cases make, and makes some of them fail."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ReadTimeoutError

from tests.support.memory_dynamodb import aws_error
from tests.support.observed_client import ObservedClient

type Failure = Callable[[], BaseException | None]
"""What happens at a call: an error to raise, or something done on the side and None."""


class CrashError(BaseException):
    """The process ends here: no `except Exception` catches it."""


def throttled() -> BaseException:
    return aws_error("ProvisionedThroughputExceededException", "Any")


def no_answer() -> BaseException:
    return ReadTimeoutError(endpoint_url="https://aws.invalid")


def conflicting(members: int = 2) -> BaseException:
    """A transaction that met another one on its last member."""
    reasons = [{"Code": "None"}] * (members - 1) + [{"Code": "TransactionConflict", "Message": "conflict"}]
    return aws_error("TransactionCanceledException", "TransactWriteItems", members={"CancellationReasons": reasons})


@dataclass
class _Trouble:
    name: str
    when: str
    failure: Failure
    times: int | None
    skip: int


@dataclass
class Calls:
    """Its `wrap` is what a World takes. `made` lists every call that began, as (method, arguments). `judge` may return
    an error for a call, which then fails with it."""

    made: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    judge: Callable[[str, dict[str, Any]], BaseException | None] | None = None
    _trouble: list[_Trouble] = field(default_factory=list)

    def wrap(self, client: Any) -> Any:
        return ObservedClient(client, before=self._before, after=self._after)

    def fail(
        self, name: str, failure: Failure = throttled, *, when: str = "before", times: int | None = 1, skip: int = 0
    ) -> None:
        """Has `times` calls of the method fail (None: all), before they act or after, once `skip` have passed."""
        self._trouble.append(_Trouble(name, when, failure, times, skip))

    def heal(self) -> None:
        self._trouble.clear()

    def forget(self) -> None:
        self.made.clear()

    def count(self) -> Counter[str]:
        return Counter(name for name, _ in self.made)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [arguments for made, arguments in self.made if made == name]

    def sent(self) -> list[list[dict[str, Any]]]:
        """The UsageRecords of each BatchMeterUsage."""
        return [arguments["UsageRecords"] for arguments in self.of("batch_meter_usage")]

    def _before(self, name: str, arguments: dict[str, Any]) -> None:
        self.made.append((name, copy.deepcopy(arguments)))
        if self.judge is not None and (error := self.judge(name, arguments)) is not None:
            raise error
        self._strike(name, "before")

    def _after(self, name: str, _: dict[str, Any]) -> None:
        self._strike(name, "after")

    def _strike(self, name: str, when: str) -> None:
        for trouble in list(self._trouble):
            if (trouble.name, trouble.when) != (name, when):
                continue
            if trouble.skip:
                trouble.skip -= 1
                continue
            if trouble.times is not None:
                trouble.times -= 1
                if not trouble.times:
                    self._trouble.remove(trouble)
            if (error := trouble.failure()) is not None:
                raise error
