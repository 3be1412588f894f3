"""Planned faults: what is answered instead of carrying out a call, or after carrying it out."""

import random
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from marketplace_emulator.checks import checked
from marketplace_emulator.errors import AdminError, ServiceError
from marketplace_emulator.wire import OPERATIONS

WHOLE_CALL = {
    "throttle": "ThrottlingException before the call is carried out",
    "internal_error": "InternalServiceErrorException (500) before the call is carried out",
    "internal_error_after": "the call is carried out, then answered 500",
    "unavailable": "503 with an HTML body, as a load balancer sends it",
    "drop_before": "the connection closes, the call is not carried out",
    "drop_after": "the call is carried out, then the connection closes",
    "truncate": "the call is carried out, then the connection closes in the middle of the answer",
    "timeout_before": "no answer for `seconds`, the call is not carried out",
    "timeout_after": "the call is carried out, no answer for `seconds`",
    "slow": "the call is carried out and answered after `seconds`",
    "disabled_api": "DisabledApiException",
    "access_denied": "AccessDeniedException",
    "expired_token_credentials": "ExpiredTokenException for the caller's credentials",
    "unrecognized_credentials": "UnrecognizedClientException",
    "malformed": "200 with a body that is not JSON; the call is carried out",
}
PER_RECORD = {
    "unprocessed": "the records at `indexes` are listed in UnprocessedRecords and not metered",
    "unprocessed_after": "the records at `indexes` are metered, yet listed in UnprocessedRecords",
    "omit": "the records at `indexes` are in neither list and not metered",
    "omit_after": "the records at `indexes` are metered, yet in neither list",
    "unknown_status": "the records at `indexes` get a Status outside the model and are not metered",
    "not_subscribed": "the records at `indexes` get CustomerNotSubscribed and are not metered",
    "duplicate": "the records at `indexes` get DuplicateRecord and are not metered",
}
FAULTS = WHOLE_CALL | PER_RECORD
AFTERWARDS = frozenset({"internal_error_after", "drop_after", "truncate", "timeout_after", "slow", "malformed"})


@dataclass(slots=True)
class Fault:
    """A planned fault. It applies to `times` calls of `operation` after `skip` others, to each with `probability`."""

    fault: str
    operation: str = "*"
    times: int | None = 1
    skip: int = 0
    region: str | None = None
    seconds: float | None = None
    indexes: tuple[int, ...] | None = None
    probability: float = 1.0
    seed: int | None = None
    hits: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def applies(self, operation: str, region: str) -> bool:
        """Return whether the fault applies to this call, and count the call."""
        if self.operation not in ("*", operation) or self.region not in (None, region):
            return False
        if self.fault in PER_RECORD and operation != "BatchMeterUsage":
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.probability < 1 and self.dice.random() >= self.probability:
            return False
        self.hits += 1
        if self.times is not None:
            self.times -= 1
        return True

    def strikes(self, index: int) -> bool:
        """Return whether a per-record fault applies to the record at `index`. Without `indexes` it applies to all."""
        return self.fault in PER_RECORD and (self.indexes is None or index in self.indexes)

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/faults`."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.repr}


class Faults:
    """The planned faults. The first one that applies to a call takes effect."""

    def __init__(self) -> None:
        self._plan: list[Fault] = []

    def plan(self, items: list[dict[str, Any]]) -> list[Fault]:
        """Add faults to the plan, for example `[{"operation": "BatchMeterUsage", "fault": "throttle", "times": 2}]`.

        Per-record faults take `indexes`, or are written `{"unprocessed": [0, 2]}`. `times: None` lasts until cleared.
        """
        parsed = [_parse(item) for item in items]
        self._plan.extend(parsed)
        return parsed

    def clear(self) -> None:
        """Remove all planned faults."""
        self._plan.clear()

    def planned(self) -> list[Fault]:
        """Return the faults that can still apply."""
        return list(self._plan)

    def next(self, operation: str, region: str) -> Fault | None:
        """Return the fault that applies to this call, or None."""
        for index, fault in enumerate(self._plan):
            if fault.applies(operation, region):
                if fault.times == 0:
                    del self._plan[index]
                return fault
        return None


def refusal(fault: Fault, operation: str) -> ServiceError | None:
    """Return the error that a fault answers instead of the result; None for faults that answer no error."""
    match fault.fault:
        case "throttle":
            return throttled(operation)
        case "internal_error" | "internal_error_after":
            code = "InternalServiceErrorException" if _in_old_services(operation) else "InternalServerException"
            return ServiceError(code, "Something went wrong inside the service.", 500)
        case "access_denied":
            return denied(operation)
    known = _ERRORS.get(fault.fault)
    return ServiceError(*known) if known else None


_ERRORS = {
    "disabled_api": ("DisabledApiException", "This API is switched off here.", 400),
    "expired_token_credentials": (
        "ExpiredTokenException",
        "The security token included in the request is expired",
        403,
    ),
    "unrecognized_credentials": (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        403,
    ),
}


def _in_old_services(operation: str) -> bool:
    return operation in ("ResolveCustomer", "BatchMeterUsage", "GetEntitlements", "LookupEvents")


def throttled(operation: str) -> ServiceError:
    """429 for the agreement service, 400 for the others, as their models say."""
    return ServiceError("ThrottlingException", "Rate exceeded", 400 if _in_old_services(operation) else 429)


def denied(operation: str) -> ServiceError:
    """403 for the agreement service as its model says, 400 for the others."""
    return ServiceError(
        "AccessDeniedException",
        f"User is not authorized to perform: aws-marketplace:{operation}",
        400 if _in_old_services(operation) else 403,
    )


_MEMBERS: dict[str, Any] = {
    **{name: hint for name, hint in get_type_hints(Fault).items() if name not in ("hits", "dice")},
    "indexes": list[int] | None,
}


def _parse(data: Any) -> Fault:
    hint = f"faults are: {', '.join(FAULTS)}"
    if not isinstance(data, dict):
        raise AdminError(400, "a fault is a JSON object", hint)
    members = dict(data)
    nested = members.get("fault")
    if isinstance(nested, dict):
        del members["fault"]
        members.update(nested)
    for name in PER_RECORD:
        if name in members:
            members["fault"], members["indexes"] = name, members.pop(name)
    if not isinstance(members.get("fault"), str) or members["fault"] not in FAULTS:
        raise AdminError(400, f"{members.get('fault')!r} is no fault", hint)
    checked(members, _MEMBERS)
    operation = members.get("operation", "*")
    if operation not in ("*", *OPERATIONS):
        raise AdminError(400, f"there is no operation {operation!r}", f"operations are: *, {', '.join(OPERATIONS)}")
    indexes = members.get("indexes")
    members["indexes"] = None if indexes is None else tuple(indexes)
    members["dice"] = random.Random(members.get("seed"))  # noqa: S311  repeatable faults, not secrets
    return Fault(**members)
