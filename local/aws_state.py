"""What moto holds of a deployment, taken out and put back: the items of its tables, the messages of its queues, and the
objects of its buckets."""

from typing import Any, Literal

from moto.backends import get_backend

from local.deployment import ACCOUNT, REGION, Bucket

_MESSAGES = ("_messages", "_pending_messages", "deleted_messages")


def taken() -> dict[str, Any]:
    """Everything, as objects of moto's that must not be changed. The caller holds the lock on moto."""
    return {
        "tables": {name: table.items for name, table in _of("dynamodb").tables.items()},
        "queues": {
            name: {part: getattr(queue, part) for part in _MESSAGES} for name, queue in _of("sqs").queues.items()
        },
        "buckets": {
            name: {key: found.value for key, found in bucket.keys.items()} for name, bucket in _buckets().items()
        },
    }


def put_back(state: dict[str, Any]) -> None:
    """Fill the tables and queues that there are, and all buckets: those of an option that was switched off stay, as in
    AWS. Of an object the last version is kept. The caller holds the lock on moto."""
    for name, items in state["tables"].items():
        if name in _of("dynamodb").tables:
            _of("dynamodb").tables[name].items = items
    for name, parts in state["queues"].items():
        if name in _of("sqs").queues:
            for part, value in parts.items():
                setattr(_of("sqs").queues[name], part, value)
    for name, objects in state["buckets"].items():
        if name not in _buckets():
            make_bucket(Bucket(name))
        for key, content in objects.items():
            _s3().put_object(name, key, content)


def make_bucket(bucket: Bucket) -> None:
    """Make a bucket. The caller holds the lock on moto."""
    _s3().create_bucket(bucket.name, REGION)
    if bucket.versioned:
        _s3().put_bucket_versioning(bucket.name, "Enabled")


def _of(service: Literal["dynamodb", "sqs"]) -> Any:
    return get_backend(service)[ACCOUNT][REGION]


def _s3() -> Any:
    return get_backend("s3")[ACCOUNT]["aws"]


def _buckets() -> dict[str, Any]:
    buckets: dict[str, Any] = _s3().buckets
    return buckets
