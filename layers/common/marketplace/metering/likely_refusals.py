"""Records that AWS will probably refuse, because it has just refused another one for a cause that they share.

They are sent all the same, but after all others: isolating ten thousand records of a dimension that isn't published
yet takes more calls than a run has, and good records must not wait for that.
"""

from marketplace.dynamodb.keys import Key, hour_and_dimension
from marketplace.ledger.record import Group

type _Cause = tuple[str, ...]


class LikelyRefusals:
    """The causes of refusals that one run has met and several records may share. Several threads may use it."""

    def __init__(self) -> None:
        self._causes: set[_Cause] = set()

    def learn(self, code: str, group: Group, key: Key) -> None:
        """AWS refused the record with this code when it stood alone in a call."""
        cause = _cause(code, group, key)
        if cause is not None:
            self._causes.add(cause)

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
