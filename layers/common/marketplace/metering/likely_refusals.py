"""Records that AWS will refuse, because it has just refused another one for a cause that they share.

Where the cause makes it likely, they are sent all the same, but after everybody else: finding ten thousand records of a
dimension that isn't published yet takes more calls than a run has, and no good record shall wait for that. Age makes it
certain: what is older than a record that AWS called too old is too old itself, and needs no call.
"""

from marketplace.dynamodb.keys import Key, hour_and_dimension
from marketplace.ledger.deadlines import CLOCK_MARGIN, refuse_at
from marketplace.ledger.record import Group
from marketplace.platform.clock import EpochSeconds

type _Cause = tuple[str, ...]


class LikelyRefusals:
    """The causes of refusals that one run has met and several records may share. Several threads may use it."""

    def __init__(self) -> None:
        self._causes: set[_Cause] = set()
        self._too_old: dict[Group, EpochSeconds] = {}

    def learn(self, code: str, group: Group, key: Key) -> None:
        """AWS refused the record with this code when it stood alone in a call."""
        cause = _cause(code, group, key)
        if cause is not None:
            self._causes.add(cause)

    def learn_age(self, group: Group, timestamp: EpochSeconds, now: EpochSeconds) -> None:
        """AWS answered TimestampOutOfBounds for the record when it stood alone in a call. Far from the end of AWS's
        window that speaks of something else than age, and of no other record."""
        if refuse_at(timestamp) <= now + CLOCK_MARGIN:
            self._too_old[group] = max(timestamp, self._too_old.get(group, timestamp))

    def is_too_old(self, group: Group, timestamp: EpochSeconds) -> bool:
        """Whether AWS has called a record of the group too old that is no older than this Timestamp."""
        return timestamp <= self._too_old.get(group, -1)

    def covers(self, group: Group, key: Key) -> bool:
        """Whether the record has such a cause too."""
        return bool(self._causes) and not self._causes.isdisjoint(
            {_of_dimension(group, key), _of_subscription(key), group}
        )


def _cause(code: str, group: Group, key: Key) -> _Cause | None:
    """What the code speaks of (botocore model, the errors of BatchMeterUsage); None for what is the record's own: its
    time, tags and allocations."""
    match code:
        case "InvalidUsageDimensionException":
            return _of_dimension(group, key)
        case "InvalidLicenseException" | "InvalidCustomerIdentifierException":
            return _of_subscription(key)
        case "InvalidProductCodeException":
            return group
        case _:
            return None


def _of_dimension(group: Group, key: Key) -> _Cause:
    return (*group, hour_and_dimension(key.sk)[1])


def _of_subscription(key: Key) -> _Cause:
    return (key.pk,)
