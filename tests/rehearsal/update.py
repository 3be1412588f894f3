"""What CloudFormation would do to a stack that exists: which resources an update replaces or removes, and whether API
Gateway takes the change of the routes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.rehearsal import schemas
from tests.rehearsal.resolver import Stack

STATEFUL = frozenset(
    {
        "AWS::DynamoDB::Table",
        "AWS::S3::Bucket",
        # What keeps others out of a bucket that stays.
        "AWS::S3::BucketPolicy",
        "AWS::SQS::Queue",
        "AWS::Logs::LogGroup",
        "AWS::Events::EventBus",
        "AWS::Events::Archive",
        "AWS::KMS::Key",
        "AWS::Backup::BackupVault",
        "AWS::SNS::Topic",
        # Its id is in the fulfilment URL that the listing holds.
        "AWS::ApiGatewayV2::Api",
        # Its domain name is where buyers are sent.
        "AWS::CloudFront::Distribution",
    }
)
"""Types whose replacement loses data, or an address that others hold."""


@dataclass(frozen=True)
class Lost:
    """A resource that an update takes away: replaced, for these properties, or removed."""

    name: str
    kind: str
    properties: tuple[str, ...] = ()

    def __str__(self) -> str:
        how = f"is replaced for {', '.join(self.properties)}" if self.properties else "is removed"
        return f"{self.name} ({self.kind}) {how}"


def lost(old: Stack, new: Stack) -> list[Lost]:
    """The stateful resources that an update from one stack to the other replaces or removes."""
    found = (_lost(name, old, new) for name, before in old.resources.items() if before.kind in STATEFUL)
    return [one for one in found if one]


def replaced(name: str, old: Stack, new: Stack) -> bool:
    """Whether an update makes another resource in the place of this one, or none."""
    return _lost(name, old, new) is not None


def changed(name: str, old: Stack, new: Stack) -> bool:
    """Whether an update changes a resource: its properties, or what another resource has in their place."""
    before, after = (one.resources[name].properties for one in (old, new))
    return before != after or any(replaced(other, old, new) for other in _named([before], old))


def _lost(name: str, old: Stack, new: Stack) -> Lost | None:
    before = old.resources[name]
    if name not in new.resources:
        return Lost(name, before.kind)
    after = new.resources[name]
    if after.kind != before.kind:
        return Lost(name, before.kind, ("Type",))
    was, becomes = (schemas.values_that_replace(before.kind, one.properties) for one in (before, after))
    changed = tuple(
        path.removeprefix("/properties/")
        for path in was
        if was[path] != becomes[path] or any(replaced(other, old, new) for other in _named(was[path], old))
    )
    return Lost(name, before.kind, changed) if changed else None


def _named(values: list[Any], stack: Stack) -> set[str]:
    """The resources of which values hold what AWS alone knows."""
    return {name for name in re.findall(r"<<(\w+)", json.dumps(values)) if name in stack.resources}


def index_faults(old: Stack, new: Stack) -> list[str]:
    """The tables whose indexes CloudFormation does not change so: it adds one or removes one in an update, never both,
    and changes none ("AWS::DynamoDB::Table", GlobalSecondaryIndexes)."""
    found = []
    before, after = (stack.of("AWS::DynamoDB::Table") for stack in (old, new))
    for name in before.keys() & after.keys():
        was, becomes = (_indexes(tables[name]) for tables in (before, after))
        changed = [index for index in was if index in becomes and was[index] != becomes[index]]
        found += [f"{name}: the index {index} changes" for index in changed]
        other = sorted(was.keys() ^ becomes.keys())
        if len(other) > 1:
            found.append(f"{name}: the indexes {', '.join(other)} come or go in one update")
    return found


def _indexes(table: Mapping[str, Any]) -> dict[str, Any]:
    return {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", ())}


# -- routes and their settings ----------------------------------------------------------------------------


def routes(api: Mapping[str, Any]) -> set[str]:
    """The keys of an HTTP API's routes."""
    return {
        "$default" if path == "$default" else f"{method.upper()} {path}"
        for path, methods in api["Body"]["paths"].items()
        for method in methods
    }


def stage_faults(stack: Stack) -> list[str]:
    """The settings of routes that the API does not have: API Gateway refuses the stage for each of them."""
    return [
        f"{name} has settings for {key}, which is no route of the API"
        for name, stage in stack.of("AWS::ApiGatewayV2::Stage").items()
        for key in sorted(set(stage.get("RouteSettings", {})) - _routes_of(stage, stack))
    ]


def route_faults(old: Stack, new: Stack) -> list[str]:
    """Why API Gateway would refuse an update of the stages.

    The API gets its new routes first. Then the stage is updated, whose settings are added to those that it has: a
    setting stays until DeleteRouteSettings removes it, which CloudFormation does not call, and one whose route is gone
    has the update refused ("Unable to find Route by key"). So a route that has settings can't be renamed or removed in
    one update.

    Source: github.com/aws/serverless-application-model/issues/1939, github.com/serverless/serverless/pull/8590.
    """
    before = old.of("AWS::ApiGatewayV2::Stage")
    return stage_faults(new) + [
        f"{name} keeps settings for {key}, which is no route of the API any more"
        for name, stage in new.of("AWS::ApiGatewayV2::Stage").items()
        if name in before and not replaced(name, old, new)
        for key in sorted(set(before[name].get("RouteSettings", {})) - _routes_of(stage, new))
    ]


def _routes_of(stage: Mapping[str, Any], stack: Stack) -> set[str]:
    return routes(stack.resources[stage["ApiId"].strip("<>")].properties)
