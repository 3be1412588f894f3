"""DynamoDB's time to live, which moto takes a setting for and does not do."""

from collections.abc import Mapping
from typing import Any

from moto.backends import get_backend

from local.deployment import ACCOUNT, REGION


def remove_expired(attributes: Mapping[str, str], now: float) -> int:
    """Remove the items of these tables (each with the attribute that says until when an item lives) whose time has
    ended, and answer how many. The caller holds the lock on moto."""
    tables, removed = get_backend("dynamodb")[ACCOUNT][REGION].tables, 0
    for name, attribute in attributes.items():
        table: Any = tables.get(name)  # sam local has its tables elsewhere
        expired = [] if table is None else [one for one in table.all_items() if _ends_at(one, attribute) < now]
        for item in expired:
            table.delete_item(item.hash_key, item.range_key)
        removed += len(expired)
    return removed


def _ends_at(item: Any, attribute: str) -> float:
    """An attribute of another type than Number is no time (DynamoDB Developer Guide, "Using time to live")."""
    value = item.attrs.get(attribute)
    return float(value.value) if value is not None and value.type == "N" else float("inf")
