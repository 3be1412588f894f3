"""What moto holds of a deployment, taken out and put back: the items of its tables and the messages of its queues."""

from typing import Any, Literal

from moto.backends import get_backend

from local.deployment import ACCOUNT, REGION

_MESSAGES = ("_messages", "_pending_messages", "deleted_messages")


def taken() -> dict[str, Any]:
    """Everything, as objects of moto's that must not be changed. The caller holds the lock on moto."""
    return {
        "tables": {name: table.items for name, table in _of("dynamodb").tables.items()},
        "queues": {
            name: {part: getattr(queue, part) for part in _MESSAGES} for name, queue in _of("sqs").queues.items()
        },
    }


def put_back(state: dict[str, Any]) -> None:
    """Fill the tables and queues that there are. The caller holds the lock on moto."""
    for name, items in state["tables"].items():
        if name in _of("dynamodb").tables:
            _of("dynamodb").tables[name].items = items
    for name, parts in state["queues"].items():
        if name in _of("sqs").queues:
            for part, value in parts.items():
                setattr(_of("sqs").queues[name], part, value)


def _of(service: Literal["dynamodb", "sqs"]) -> Any:
    return get_backend(service)[ACCOUNT][REGION]
