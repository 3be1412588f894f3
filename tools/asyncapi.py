"""The AsyncAPI 3.0 document of the events on the seller's bus, made from their kinds, schemas and samples.

python -m tools.asyncapi > docs/asyncapi.json
"""

import json
import sys
from typing import Any

from marketplace.subscriptions.seller_events import KINDS, SCHEMA_VERSION, SOURCE
from tools.openapi_document import INFO
from tools.template import ROOT

DOCUMENTED = ROOT / "docs" / "events"
_DESCRIPTION = """
What Marketplace SaaS tells a seller's application through EventBridge, at least once and in no promised order.
`detail.id` stays the same when an event is published again.

**Versions.** `detail.schema_version` is the version of the schema of `detail`. Members are added without notice: ignore
those that you do not know. A change that would break a consumer is published as another detail-type with the next
version, beside the old one, for at least twelve months.
""".strip()


def file_name(kind: str) -> str:
    """How the files of a detail-type are called, without their extension."""
    return kind.lower().replace(" ", "_")


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of the detail of a kind of event."""
    return _read(f"{file_name(kind)}.schema.json")


def document() -> dict[str, Any]:
    """The whole document as plain JSON values."""
    names = {kind: kind.replace(" ", "") for kind in KINDS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Marketplace SaaS events",
            "version": f"{SCHEMA_VERSION}.0.0",
            "description": _DESCRIPTION,
            **INFO,
        },
        "defaultContentType": "application/json",
        "channels": {
            "sellerBus": {
                "address": "{busName}",
                "description": "The EventBridge bus of the deployment",
                "parameters": {"busName": {"description": "The stack's output EventBusName"}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names.values()},
            }
        },
        "operations": {
            "publish": {
                "action": "send",
                "channel": {"$ref": "#/channels/sellerBus"},
                "summary": "Tell the seller's application what has happened",
                "messages": [{"$ref": f"#/channels/sellerBus/messages/{name}"} for name in names.values()],
            }
        },
        "components": {
            "messages": {name: _message(kind, name) for kind, name in names.items()},
            "schemas": {name: _open(schema_of(kind)) for kind, name in names.items()},
        },
    }


def _message(kind: str, name: str) -> dict[str, Any]:
    envelope = {
        "source": {"const": SOURCE},
        "detail-type": {"const": kind},
        "id": {"type": "string", "description": "EventBridge's own id; another one when the event is repeated"},
        "time": {"type": "string", "format": "date-time"},
        "detail": {"$ref": f"#/components/schemas/{name}"},
    }
    return {
        "name": kind,
        "title": kind,
        "summary": schema_of(kind)["description"],
        "payload": {"type": "object", "required": list(envelope), "properties": envelope},
        "examples": [{"payload": _read(f"{file_name(kind)}.json")}],
    }


def _open(schema: Any) -> Any:
    """The schema, which says no longer that there are no other members: some may be added later."""
    match schema:
        case dict():
            return {
                name: _open(value)
                for name, value in schema.items()
                if (name, value) != ("additionalProperties", False) and name != "$schema"
            }
        case list():
            return [_open(value) for value in schema]
    return schema


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DOCUMENTED / name).read_text())
    return content


def as_text() -> str:
    """The document as docs/asyncapi.json holds it."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
