"""The seller's API as API Gateway calls it: what it answers, that its answers fit the document, and nothing in logs."""

import base64
import json
from io import StringIO
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from functions.seller_api import app
from marketplace.dynamodb import keys
from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.platform import errors
from marketplace.platform.clock import epoch, utc_now
from marketplace.platform.errors import NoAnswerError
from marketplace.seller_api.routes import ROUTES, SellerRoutes
from marketplace_emulator import Purchase
from tests.support.deployed import Deployed, http_event, sample
from tools import openapi
from tools.openapi_document import Error

SOMEONE = "sub-" + "a" * 26
CLAIM = "POST /registrations/{code}/claim"
ENTITLEMENTS = "GET /subscriptions/{subscription_id}/entitlements"
USAGE = "GET /subscriptions/{subscription_id}/usage"
SUBSCRIPTION = "GET /subscriptions/{subscription_id}"
VOID = "POST /usage/void"
RETRY = "POST /subscriptions/{subscription_id}/usage/retry"
APPROVAL = "POST /subscriptions/{subscription_id}/usage/approval"
SHOW_CODE = "GET /registrations/{code}"
CLAIM_BY_ID = "POST /subscriptions/{subscription_id}/claim"
RELEASE = "POST /subscriptions/{subscription_id}/claim/release"
TRANSFER = "POST /subscriptions/{subscription_id}/claim/transfer"
CLAIMS = "GET /subscriptions/{subscription_id}/claims"
VALID_BODIES: dict[str, dict[str, Any]] = {
    CLAIM: {"tenant_id": "acme"},
    CLAIM_BY_ID: {"tenant_id": "acme"},
    RELEASE: {"tenant_id": "acme", "claim_revision": 1, "reason": "why"},
    TRANSFER: {"tenant_id": "acme", "to_tenant_id": "globex", "claim_revision": 1, "reason": "why"},
    "POST /usage": {"records": [{}]},
    VOID: {"records": [{}]},
    APPROVAL: {"decision": "approve"},
}


def call(deployment: Deployed, route: str, body: Any = None, **given: Any) -> tuple[int, Any]:
    """Status and content; a good answer fits the model that the document promises."""
    query = given.pop("query", {})
    event = http_event(
        route,
        query=query if isinstance(query, str) else urlencode(query),
        body=None if body is None else body if isinstance(body, str) else json.dumps(body),
        **given,
    )
    answer = deployment.seller(event)
    content = json.loads(answer["body"])
    assert answer["headers"]["content-type"] == "application/json"
    if answer["statusCode"] == 200:
        fits(route, content)
    else:
        Error.model_validate(content)
    return answer["statusCode"], content


def fits(route: str, content: Any) -> None:
    (operation,) = [known.operation for known in ROUTES if known.key == route]
    promised = openapi.WORDS[operation].answer
    models: tuple[type[BaseModel], ...] = promised if isinstance(promised, tuple) else (promised,)
    if len(models) > 1:
        models = tuple(model for model in models if set(content) <= set(model.model_fields))
    models[0].model_validate(content, strict=True)


def claim(deployment: Deployed, code: str, tenant_id: str = "acme", **more: Any) -> tuple[int, Any]:
    body = {"tenant_id": tenant_id, **more}
    return call(deployment, CLAIM, body, path={"code": code})


def activated(deployment: Deployed, purchase: Purchase | None = None) -> str:
    """A claimed and active subscription's id."""
    status, content = claim(deployment, deployment.code(purchase))
    assert status == 200
    subscription_id: str = content["subscription_id"]
    deployment.dynamodb.update_item(
        TableName=deployment.tables.subscriptions,
        Key=keys.subscription(subscription_id).item(),
        UpdateExpression="SET #status = :active, activated_at = :now",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":active": {"S": "active"}, ":now": {"N": str(epoch(utc_now()) - 7200)}},
    )
    return subscription_id


def with_seats(deployment: Deployed) -> dict[str, str]:
    """The path parameters of an active subscription that is entitled to 25 seats."""
    purchase = deployment.marketplace.purchases.subscribe(entitlements={"seats": 25}, provision=True)
    return {"subscription_id": activated(deployment, purchase)}


def error(answer: tuple[int, Any]) -> tuple[int, str]:
    status, content = answer
    assert content["error"]["message"]
    return status, content["error"]["code"]


# Claiming


def test_a_claim_answers_with_the_subscription_and_its_contact(deployment: Deployed) -> None:
    code = deployment.code()
    form = urlencode({"email": "jo@buyer.example", "company": "Example"})
    deployment.buyer(http_event("POST /register/{code}", path={"code": code}, body=form))

    status, content = claim(deployment, code)

    assert status == 200
    assert content["tenant_id"] == "acme"
    assert content["status"] == "pending"
    assert content["access"] is False
    assert content["account_id"] == "111122223333"
    assert content["contact"] == {"email": "jo@buyer.example", "company": "Example"}
    assert {message["reason"] for message in deployment.messages()} == {"registered", "contact_provided", "claimed"}


def test_claims_that_are_refused_say_why(deployment: Deployed) -> None:
    code = deployment.code()
    other = deployment.code(deployment.marketplace.purchases.subscribe("ca2payasyougoproduct00000"))
    assert claim(deployment, code)[0] == 200

    assert error(claim(deployment, "unknown-code-abcdefghijkl")) == (404, "registration_unknown")
    assert error(claim(deployment, code, "globex")) == (409, "claimed_by_another_tenant")
    status, content = claim(deployment, other, "globex")
    assert (status, content["error"]["code"]) == (409, "account_linked_to_another_tenant")
    assert content["error"]["tenants"] == ["acme"]
    assert claim(deployment, other, "globex", share_account=True)[0] == 200
    assert claim(deployment, code)[0] == 200


# Undoing claims

OPERATOR = "arn:aws:sts::222233334444:assumed-role/support/jo"


def as_operator(deployment: Deployed, route: str, subscription_id: str, **body: Any) -> tuple[int, Any]:
    """A request that the operator has signed."""
    event = http_event(route, path={"subscription_id": subscription_id}, body=json.dumps(body))
    event["requestContext"]["authorizer"] = {"iam": {"userArn": OPERATOR}}
    answer = deployment.seller(event)
    content = json.loads(answer["body"])
    if answer["statusCode"] == 200:
        fits(route, content)
    return answer["statusCode"], content


def test_a_code_shows_what_it_would_claim_and_claims_nothing(deployment: Deployed) -> None:
    code = deployment.code()

    status, content = call(deployment, SHOW_CODE, path={"code": code})

    assert (status, content["tenant_id"], content["claim_revision"]) == (200, None, 0)
    assert (content["account_id"], content["product_code"]) == ("111122223333", "ca1contractandconsumption")
    assert error(call(deployment, SHOW_CODE, path={"code": "unknown-code-abcdefghijkl"})) == (
        404,
        "registration_unknown",
    )


def test_a_claim_is_released_transferred_and_made_again_with_all_of_it_on_record(deployment: Deployed) -> None:
    code = deployment.code()
    _, claimed = claim(deployment, code)
    one = claimed["subscription_id"]
    assert claimed["claim_revision"] == 1

    moved = as_operator(
        deployment, TRANSFER, one, tenant_id="acme", to_tenant_id="globex", claim_revision=1, reason="merged"
    )
    assert (moved[0], moved[1]["tenant_id"], moved[1]["claim_revision"]) == (200, "globex", 2)
    released = as_operator(deployment, RELEASE, one, tenant_id="globex", claim_revision=2, reason="ticket 4711")
    assert (released[0], released[1]["tenant_id"], released[1]["claimed_at"]) == (200, None, None)
    assert error(claim(deployment, code)) == (404, "registration_unknown")
    assert error(call(deployment, SHOW_CODE, path={"code": code})) == (404, "registration_unknown")
    again = as_operator(deployment, CLAIM_BY_ID, one, tenant_id="acme", claim_revision=3)
    assert (again[0], again[1]["tenant_id"]) == (200, "acme")

    status, listed = call(deployment, CLAIMS, path={"subscription_id": one}, query={"limit": 3})
    assert status == 200
    assert [(change["action"], change["tenant_id"], change["reason"]) for change in listed["changes"]] == [
        ("claimed", "acme", None),
        ("released", None, "ticket 4711"),
        ("transferred", "globex", "merged"),
    ]
    assert {change["caller"] for change in listed["changes"]} == {OPERATOR}
    _, rest = call(deployment, CLAIMS, path={"subscription_id": one}, query={"cursor": listed["cursor"]})
    assert [(change["via"], change["claim_revision"]) for change in rest["changes"]] == [("registration", 1)]
    for outcome in ("ClaimTransferred", "ClaimReleased", "SubscriptionClaimed", "ClaimsListed"):
        assert f'"message":"{outcome}"' in deployment.logged
    assert OPERATOR not in deployment.logged
    assert "ticket 4711" not in deployment.logged


def test_the_same_release_repeated_is_answered_the_same(deployment: Deployed) -> None:
    one = claim(deployment, deployment.code())[1]["subscription_id"]
    release = {"tenant_id": "acme", "claim_revision": 1, "reason": "ticket 4711"}

    answers = [as_operator(deployment, RELEASE, one, **release) for _ in range(3)]

    assert answers[0][0] == 200
    assert answers == [answers[0]] * 3


def test_a_release_of_a_claim_that_has_changed_says_how_it_is(deployment: Deployed) -> None:
    one = claim(deployment, deployment.code())[1]["subscription_id"]

    for named in ({"tenant_id": "globex", "claim_revision": 1}, {"tenant_id": "acme", "claim_revision": 0}):
        status, content = as_operator(deployment, RELEASE, one, reason="why", **named)
        assert (status, content["error"]["code"]) == (409, "claim_changed")
        assert (content["error"]["tenant_id"], content["error"]["claim_revision"]) == ("acme", 1)


def test_a_claim_by_id_is_refused_as_a_claim_by_code_is(deployment: Deployed) -> None:
    first = claim(deployment, deployment.code())[1]["subscription_id"]
    deployment.code(deployment.marketplace.purchases.subscribe("ca2payasyougoproduct00000"))
    _, listed = call(deployment, "GET /subscriptions", query={"status": "pending"})
    (second,) = {one["subscription_id"] for one in listed["subscriptions"]} - {first}

    assert error(as_operator(deployment, CLAIM_BY_ID, first, tenant_id="globex")) == (409, "claimed_by_another_tenant")
    assert error(as_operator(deployment, CLAIM_BY_ID, second, tenant_id="globex")) == (
        409,
        "account_linked_to_another_tenant",
    )
    assert as_operator(deployment, CLAIM_BY_ID, second, tenant_id="globex", share_account=True)[0] == 200


def test_a_claim_that_was_never_made_has_an_empty_trail(deployment: Deployed) -> None:
    deployment.code()
    _, listed = call(deployment, "GET /subscriptions", query={"status": "pending"})

    status, content = call(deployment, CLAIMS, path={"subscription_id": listed["subscriptions"][0]["subscription_id"]})

    assert (status, content["changes"], content["cursor"]) == (200, [], None)


def test_every_contact_is_shown_with_its_time(deployment: Deployed) -> None:
    code = deployment.code()
    for email in ("jo@buyer.example", "kim@buyer.example"):
        form = urlencode({"email": email})
        deployment.buyer(http_event("POST /register/{code}", path={"code": code}, body=form))

    _, content = call(deployment, SHOW_CODE, path={"code": code})

    assert content["contact"] == {"email": "kim@buyer.example"}
    assert [one["email"] for one in content["contacts"]] == ["jo@buyer.example", "kim@buyer.example"]
    assert all(one["entered_at"].endswith("Z") for one in content["contacts"])


# Subscriptions


def test_subscriptions_are_found_by_tenant_account_and_status(deployment: Deployed) -> None:
    subscription_id = activated(deployment)

    for query in ({"tenant_id": "acme"}, {"account_id": "111122223333"}, {"status": "active"}):
        status, content = call(deployment, "GET /subscriptions", query=query)
        assert status == 200
        assert [one["subscription_id"] for one in content["subscriptions"]] == [subscription_id]
        assert content["subscriptions"][0]["access"] is True
        assert content["cursor"] is None
        assert "contact" not in content["subscriptions"][0]


def test_a_listing_goes_on_where_it_stopped(deployment: Deployed) -> None:
    ids = {activated(deployment, deployment.marketplace.purchases.subscribe(provision=True)) for _ in range(3)}
    seen: list[str] = []
    query: dict[str, Any] = {"tenant_id": "acme", "limit": 2}
    while True:
        _, content = call(deployment, "GET /subscriptions", query=query)
        seen += [one["subscription_id"] for one in content["subscriptions"]]
        if content["cursor"] is None:
            break
        query["cursor"] = content["cursor"]

    assert sorted(seen) == sorted(ids)
    assert error(call(deployment, "GET /subscriptions", query={"status": "active", "cursor": query["cursor"]})) == (
        400,
        "invalid_cursor",
    )


def test_a_subscription_is_shown_with_entitlements(deployment: Deployed) -> None:
    path = with_seats(deployment)
    (purchase,) = deployment.marketplace.purchases.all()
    call(deployment, ENTITLEMENTS, path=path)

    status, content = call(deployment, SUBSCRIPTION, path=path)

    assert status == 200
    assert content["access"] is True
    assert content["license_arn"] == purchase.license_arn
    assert [(one["dimension"], one["value"]) for one in content["entitlements"]] == [("seats", 25)]
    assert content["contact"] is None


def test_what_is_not_there_is_not_found(deployment: Deployed) -> None:
    for route in [known.key for known in ROUTES if "{subscription_id}" in known.key]:
        for subscription_id in (SOMEONE, "sub-", "x", "", "SUB#x", "../..", "ö"):
            path = {"subscription_id": subscription_id, "record_id": "r1"}

            query = {"month": "2026-11"} if route == STATEMENT else {}
            status, code = error(call(deployment, route, VALID_BODIES.get(route, {}), path=path, query=query))

            assert status == 404
            assert code in {"subscription_not_found", "usage_record_not_found"}


# Entitlements


def test_access_to_a_dimension_is_decided(deployment: Deployed) -> None:
    path = with_seats(deployment)

    def check(**query: Any) -> tuple[bool, str]:
        status, content = call(deployment, ENTITLEMENTS, path=path, query=query)
        assert status == 200
        return content["allowed"], content["reason"]

    assert check(dimension="seats") == (True, "entitled")
    assert check(dimension="seats", quantity=25) == (True, "entitled")
    assert check(dimension="seats", quantity=26) == (False, "quantity_exceeded")
    assert check(dimension="elsewhere")[0] is False


def test_entitlements_are_listed_with_how_old_they_are(deployment: Deployed) -> None:
    path = with_seats(deployment)

    _, fresh = call(deployment, ENTITLEMENTS, path=path)
    assert fresh["stale"] is False
    assert fresh["entitlements"][0]["value_type"] == "integer"

    deployment.dynamodb.update_item(
        TableName=deployment.tables.subscriptions,
        Key=keys.subscription(path["subscription_id"]).item(),
        UpdateExpression="SET entitlements_synced_at = :old",
        ExpressionAttributeValues={":old": {"N": str(epoch(utc_now()) - 3600)}},
    )
    deployment.marketplace.faults.plan([{"fault": "throttle", "operation": "GetEntitlements", "times": None}])
    _, stale = call(deployment, ENTITLEMENTS, path=path)
    assert stale["stale"] is True
    assert stale["entitlements"] == fresh["entitlements"]


def test_a_subscription_that_vanishes_meanwhile_is_not_found(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription_id = activated(deployment)

    def vanish(_: Any, subscription: Any) -> list[Any]:
        deployment.dynamodb.delete_item(
            TableName=deployment.tables.subscriptions, Key=keys.subscription(subscription.id).item()
        )
        raise NoAnswerError("ReadTimeoutError")

    monkeypatch.setattr(MarketplaceEntitlements, "entitlements", vanish)

    answer = call(deployment, ENTITLEMENTS, path={"subscription_id": subscription_id})

    assert error(answer) == (404, "subscription_not_found")


# Usage


def test_usage_is_recorded_listed_and_proven(deployment: Deployed) -> None:
    subscription_id = activated(deployment)
    path = {"subscription_id": subscription_id}
    ids = ["2026/11/22#1?x=100%", "plain", "a%2Fb"]
    records = [
        {"id": one, "subscription_id": subscription_id, "dimension": "api_calls", "quantity": 5, "tags": {"team": "a"}}
        for one in ids
    ]

    status, content = call(deployment, "POST /usage", {"records": [*records, records[0], {"id": "bad"}, 7]})
    assert status == 200
    assert [result["status"] for result in content["results"]] == ["recorded"] * 3 + ["duplicate"] + ["rejected"] * 2
    assert [result["id"] for result in content["results"]] == [*ids, ids[0], "bad", None]

    _, listed = call(deployment, USAGE, path=path)
    (metering_record,) = listed["metering_records"]
    assert metering_record["quantity"] == 15
    assert listed["cursor"] is None

    route = "GET /subscriptions/{subscription_id}/usage/{record_id+}"
    for one in ids:
        for as_sent in (one, quote(one, safe="")):
            status, proof = call(deployment, route, path={**path, "record_id": as_sent})
            assert (status, proof["record"]["id"]) == (200, one)
            assert proof["metering_record"]["quantity"] == 15
    for unknown in ("other", "", "x" * 200, "ö"):
        assert error(call(deployment, route, path={**path, "record_id": unknown})) == (404, "usage_record_not_found")


def test_validating_writes_nothing(deployment: Deployed) -> None:
    subscription_id = activated(deployment)
    record = {"id": "r1", "subscription_id": subscription_id, "dimension": "api_calls", "quantity": 5}

    status, content = call(deployment, "POST /usage", {"records": [record]}, query={"validate": "true"})

    assert (status, content["results"][0]["status"]) == (200, "recorded")
    _, listed = call(deployment, USAGE, path={"subscription_id": subscription_id})
    assert listed["metering_records"] == []


def test_a_plus_that_is_not_percent_encoded_in_a_query_is_explained(deployment: Deployed) -> None:
    route, path = "GET /subscriptions/{subscription_id}/usage", {"subscription_id": activated(deployment)}
    answer = call(deployment, route, path=path, query="from=2026-11-22T10:00:00+05:30")
    assert error(answer) == (400, "invalid_parameter")
    assert answer[1]["error"]["message"] == (
        "from: the + of the UTC offset arrived as a space: write %2B in place of + in a query, or use Z"
    )
    for written in ("2026-11-22T10:00:00%2B05:30", "2026-11-22T10:00:00-05:30", "2026-11-22T10:00:00Z"):
        assert call(deployment, route, path=path, query=f"from={written}")[0] == 200


def test_refused_usage_is_made_due_again(deployment: Deployed) -> None:
    subscription_id = activated(deployment)
    path = {"subscription_id": subscription_id}
    for dimension in ("api_calls", "users"):
        record = {"id": dimension, "subscription_id": subscription_id, "dimension": dimension, "quantity": 5}
        call(deployment, "POST /usage", {"records": [record]})
    refuse(deployment)

    status, content = call(deployment, RETRY, {"dimension": "users"}, path=path)

    assert status == 200
    assert [(one["dimension"], one["state"]) for one in content["due_again"]] == [("users", "open")]
    assert (content["subscription_id"], content["too_late"], content["more"]) == (subscription_id, [], False)
    _, listed = call(deployment, USAGE, path=path)
    assert {one["dimension"]: one["state"] for one in listed["metering_records"]} == {
        "api_calls": "rejected",
        "users": "open",
    }
    assert "UsageRetried" in deployment.logged


@pytest.mark.parametrize(("decision", "approval"), [("approve", "approved"), ("refuse", "refused")])
@pytest.mark.parametrize("named", [(), ("dimension",), ("hour",), ("dimension", "hour")])
def test_unusual_usage_is_decided_about(
    deployment: Deployed, decision: str, approval: str, named: tuple[str, ...]
) -> None:
    path = {"subscription_id": activated(deployment)}
    record = {"id": "r1", "subscription_id": path["subscription_id"], "dimension": "users", "quantity": 5}
    call(deployment, "POST /usage", {"records": [record]})
    hold(deployment)
    (held,) = call(deployment, USAGE, path=path)[1]["metering_records"]
    body = {"decision": decision, **{name: held[name].replace(":00:00Z", ":59:30Z") for name in named}}

    for _ in range(2):
        status, content = call(deployment, APPROVAL, body, path=path)

        assert status == 200
        (decided,) = content["decided"]
        assert (decided["state"], decided["approval"]) == ("awaiting_approval", approval)
        assert (content["undecided"], content["more"]) == ([], False)
    (listed,) = call(deployment, USAGE, path=path)[1]["metering_records"]
    assert listed["approval"] == approval
    assert "UsageDecided" in deployment.logged


def hold(deployment: Deployed) -> None:
    """Every metering record as a run leaves it that holds it, and has told so."""
    for item in deployment.dynamodb.scan(TableName=deployment.tables.usage)["Items"]:
        if "seal" in item:
            held = {"state": {"S": "awaiting_approval"}, "approval": {"S": "awaited"}, "seal": {"S": "clear-token"}}
            later = {"due_at": {"N": str(-int(item["refuse_at"]["N"]))}, "reason": {"S": "far_above_usual"}}
            deployment.dynamodb.put_item(TableName=deployment.tables.usage, Item={**item, **held, **later})


def refuse(deployment: Deployed) -> None:
    """Every metering record as a run leaves it that AWS refused it to."""
    for item in deployment.dynamodb.scan(TableName=deployment.tables.usage)["Items"]:
        if "seal" in item:
            refused = {**item, "state": {"S": "rejected"}, "seal": {"S": "clear-token"}, "reason": {"S": "Invalid"}}
            del refused["due_shard"], refused["due_at"]
            deployment.dynamodb.put_item(TableName=deployment.tables.usage, Item=refused)


# What is refused before anything is done

FROM, TO = "2026-11-22T14:00:00Z", "2026-11-22T15:00:00Z"
TOO_MANY = "&".join(f"p{number}=1" for number in range(30))
OTHER_DIGITS = quote("１１１１２２２２３３３３")  # noqa: RUF001 - digits of another script
BODIES: dict[str, tuple[str, ...]] = {
    CLAIM: (
        *("", "{", "[]", "{}", '{"tenant_id": 7}', '{"tenant_id": "a", "x": 1}', '{"tenant_id": NaN}', "\ud800"),
        *('{"tenant_id": "\\ud800"}', '{"tenant_id": "a", "share_account": "yes"}', "[" * 10_000),
    ),
    "POST /usage": (
        *("", "null", "[]", "{}", '{"records": []}', '{"records": 1}', '{"records": {}}', '{"records": [], "x": 1}'),
        *('{"records": [1], "x": 1}', '{"a":' * 500, json.dumps({"records": [{}] * 501})),
    ),
    CLAIM_BY_ID: (
        *("", "[]", "{}", '{"tenant_id": " a"}', '{"tenant_id": "a", "claim_revision": -1}'),
        *(
            '{"tenant_id": "a", "reason": ""}',
            '{"tenant_id": "a", "claim_revision": "0"}',
            '{"tenant_id": "a", "x": 1}',
        ),
    ),
    RELEASE: (
        *("", "{}", '{"tenant_id": "a", "claim_revision": 1}', '{"tenant_id": "a", "reason": "why"}'),
        *('{"claim_revision": 1, "reason": "why"}', '{"tenant_id": "a", "claim_revision": 1.5, "reason": "why"}'),
        *('{"tenant_id": "a", "claim_revision": true, "reason": "why"}', '{"reason": "%s"}' % ("x" * 600)),
        '{"tenant_id": "a", "claim_revision": 1, "reason": "why", "to_tenant_id": "b"}',
    ),
    TRANSFER: (
        '{"tenant_id": "a", "claim_revision": 1, "reason": "why"}',
        '{"tenant_id": "a", "to_tenant_id": "a", "claim_revision": 1, "reason": "why"}',
        '{"tenant_id": "a", "to_tenant_id": "", "claim_revision": 1, "reason": "why"}',
        '{"tenant_id": "a", "to_tenant_id": "b", "claim_revision": 1, "reason": "why", "share_account": 1}',
    ),
    VOID: (
        *("", "null", "[]", "{}", '{"records": []}', '{"records": {}}', '{"records": [{}], "reason": "x"}'),
        *('{"records": [NaN]}', json.dumps({"records": [{}] * 101})),
    ),
    APPROVAL: (
        *("", "[]", "{}", '{"decision": "approved"}', '{"decision": null}', '{"decision": "approve", "all": true}'),
        *('{"decision": "approve", "dimension": ""}', '{"decision": "refuse", "hour": "2026-11-22"}'),
        *('{"decision": "refuse", "hour": 1795356300}', '{"decision": "refuse", "hour": "9999-12-31T23:59:59Z"}'),
        '{"decision": "refuse", "dimension": "%s"}' % ("ö" * 128),
    ),
    RETRY: ("", "[]", '{"dimension": ""}', '{"dimension": 1}', '{"hour": 1}', '{"dimension": "%s"}' % ("ö" * 128)),
}
STATEMENT = "GET /subscriptions/{subscription_id}/statement"
QUERIES: dict[str, tuple[str, ...]] = {
    CLAIMS: ("limit=0", "limit=101", "cursor=", "order=asc", "limit=5&limit=6"),
    SHOW_CODE: ("tenant_id=a",),
    "GET /subscriptions": (
        *("", "tenant_id=a&status=active", "tenantid=a", "status=a&status=b", "status=gone", "limit=5", "account_id=1"),
        *("%ff=1", TOO_MANY, f"account_id={OTHER_DIGITS}", "tenant_id=a&limit=101", "status=cancelled", "tenant_id="),
    ),
    ENTITLEMENTS: (
        *("quantity=1", "dimension=", "dimension=d&quantity=x", "dimension=d&x=1", "dimension=d&quantity=-1"),
        *("dimension=d&quantity=1.5", f"dimension={quote('租' * 86)}"),
    ),
    VOID: ("validate=true", "subscription_id=a"),
    "POST /usage": ("validate=yes", "dry_run=true", "validate_only=true", "validate=true&validate=true"),
    USAGE: (
        *("from=2026-11-22", "from=1795356300", "from=2026-11-22T14:00:00", f"from={FROM[:-1]}+00:00"),
        *("from=1999-11-22T14:00:00Z", "to=9999-12-31T23:59:59Z", f"from={TO}&to={FROM}", f"from={FROM}&to={FROM}"),
        *("limit=0", "limit=501", f"start={FROM}", "cursor="),
    ),
}
ANYWHERE = {"subscription_id": SOMEONE, "code": "x" * 32}


@pytest.mark.parametrize("route", BODIES)
def test_a_body_that_says_something_else_is_refused(deployment: Deployed, route: str) -> None:
    for body in BODIES[route]:
        assert error(call(deployment, route, body, path=ANYWHERE)) == (400, "invalid_body"), body[:100]


@pytest.mark.parametrize("route", QUERIES)
def test_a_question_that_is_not_clear_is_refused(deployment: Deployed, route: str) -> None:
    body: Any = {"records": [{}]} if route in ("POST /usage", VOID) else None
    for query in QUERIES[route]:
        answer = call(deployment, route, body, path=ANYWHERE, query=query)

        assert error(answer) == (400, "invalid_parameter"), query


def test_more_than_500_records_are_refused_in_words(deployment: Deployed) -> None:
    _, content = call(deployment, "POST /usage", {"records": [{}] * 501})

    assert "500" in content["error"]["message"]


@pytest.mark.parametrize(("route", "limit"), [(CLAIM, 16_384), ("POST /usage", 2_097_152), (VOID, 262_144)])
def test_a_body_beyond_measure_is_refused(deployment: Deployed, route: str, limit: int) -> None:
    assert error(call(deployment, route, "x" * (limit + 1))) == (413, "request_too_large")


def test_a_listing_of_usage_takes_its_own_cursors_only(deployment: Deployed) -> None:
    cursor = base64.urlsafe_b64encode(b'["SUB#x","HOUR#"]').decode()

    assert error(call(deployment, USAGE, path=ANYWHERE, query={"cursor": cursor})) == (400, "invalid_cursor")


# All routes


def test_an_unknown_route_is_not_found(deployment: Deployed) -> None:
    assert error(call(deployment, "DELETE /subscriptions")) == (404, "route_not_found")
    assert error(call(deployment, "$default")) == (404, "route_not_found")


SAMPLES = (
    *("claim", "subscriptions_list", "subscription_get", "entitlements_get", "entitlements_check"),
    *("usage_post", "usage_validate", "usage_get", "usage_proof", "usage_retry", "usage_approval"),
    *("registration_get", "claim_subscription", "claim_release", "claim_transfer", "claims_list"),
)


def test_every_sample_event_is_understood(deployment: Deployed) -> None:
    for name in SAMPLES:
        answer = deployment.seller(sample(name))

        assert answer["statusCode"] in {200, 404}, name
        assert json.loads(answer["body"])


class Down:
    """A use case while AWS gives no answer."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize("route", [known.key for known in ROUTES])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("ThrottledError", 503, "busy"),
        ("NoAnswerError", 503, "unavailable"),
        ("SystemicError", 503, "unavailable"),
        ("RefusedError", 500, "internal_error"),
    ],
)
def test_an_outage_is_told_from_a_fault(
    monkeypatch: pytest.MonkeyPatch, route: str, fault: str, status: int, code: str
) -> None:
    down: Any = Down(getattr(errors, fault)("Code", "a message with 111122223333"))
    monkeypatch.setattr(
        app, "routes", lambda: SellerRoutes(down, down, down, down, down, down, down, down, down, down, utc_now, 900)
    )
    log = StringIO()
    monkeypatch.setattr(app.logger.registered_handler, "stream", log)
    body = VALID_BODIES.get(route, {})
    query = {"GET /subscriptions": {"status": "active"}, STATEMENT: {"month": "2026-11"}}.get(route, {})
    path = {"code": "x" * 32, "subscription_id": SOMEONE, "record_id": "r1"}
    event = http_event(route, path=path, query=urlencode(query), body=json.dumps(body))

    answer = app.handle(event)

    assert answer["statusCode"] == status
    assert json.loads(answer["body"])["error"]["code"] == code
    assert ("retry-after" in answer["headers"]) == (status == 503)
    assert f"{fault} Code" in log.getvalue()
    assert "111122223333" not in log.getvalue() + answer["body"]


def test_a_fault_of_our_own_is_logged_by_its_place_alone(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("acme 111122223333")

    monkeypatch.setattr(SellerRoutes, "answer", broken)

    status, content = call(deployment, "GET /subscriptions")

    assert (status, content["error"]["code"]) == (500, "internal_error")
    assert "RuntimeError at broken:" in deployment.logged
    assert "111122223333" not in deployment.logged


def test_a_line_of_the_log_says_which_route_it_was_and_what_became_of_the_records(deployment: Deployed) -> None:
    records = [{"id": f"r-{number}", "subscription_id": "none", "dimension": "x", "quantity": 1} for number in (1, 2)]
    call(deployment, "POST /usage", {"records": records})
    call(deployment, "GET /subscriptions", query={"status": "active"})

    lines = [json.loads(line) for line in deployment.logged.splitlines()]
    logged = [(line["message"], line["route"], line.get("counts")) for line in lines if "route" in line]
    assert logged[-2:] == [
        ("UsageReported", "POST /usage", {"ReportRejected": 2}),
        ("SubscriptionsListed", "GET /subscriptions", None),
    ]


def test_neither_code_nor_account_nor_contact_is_logged(
    deployment: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    code = deployment.code()
    form = urlencode({"email": "jo@buyer.example"})
    deployment.buyer(http_event("POST /register/{code}", path={"code": code}, body=form))
    _, content = claim(deployment, code)
    path = {"subscription_id": content["subscription_id"]}
    call(deployment, "GET /subscriptions", query={"account_id": "111122223333"})
    call(deployment, SUBSCRIPTION, path=path)
    call(deployment, ENTITLEMENTS, path=path)
    record = {"id": "r-secret", **path, "dimension": "api_calls", "quantity": 5}
    call(deployment, "POST /usage", {"records": [record]})
    claim(deployment, code, "globex-tenant")

    printed = capsys.readouterr()
    text = deployment.logged + printed.out + printed.err
    assert '"message":"RegistrationClaimed"' in text
    assert '"ReportPostponed":[1.0]' in text
    for secret in (code, "111122223333", "jo@buyer", "license:l-", "agmt-", "r-secret", "globex-tenant"):
        assert secret not in text, secret


@pytest.mark.parametrize(
    "route", ["GET /jo@buyer.example", "GET /subscriptions/111122223333", "license:l-1", ["GET /subscriptions"], None]
)
def test_what_is_no_route_is_not_logged(deployment: Deployed, route: Any) -> None:
    """An event can hold anything in the place of the route, if it does not come from API Gateway."""
    assert deployment.seller({"routeKey": route})["statusCode"] == 404
    assert json.loads(deployment.logged.splitlines()[-1])["message"] == "RouteNotFound"
    assert "route" not in json.loads(deployment.logged.splitlines()[-1])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("r1") | ANY_JSON,
        "subscription_id": st.just(SOMEONE) | ANY_JSON,
        "license_arn": st.just("arn:aws:license-manager::294406891311:license:l-1") | ANY_JSON,
        "dimension": st.just("api_calls") | ANY_JSON,
        "quantity": st.just(1) | ANY_JSON,
        "timestamp": st.datetimes().map(str) | ANY_JSON,
        "tags": st.dictionaries(st.text(), st.text(), max_size=6) | ANY_JSON,
    },
)
BODY = (
    st.none()
    | st.text()
    | ANY_JSON.map(json.dumps)
    | st.fixed_dictionaries({"records": st.lists(RECORD | ANY_JSON, max_size=5)}).map(json.dumps)
    | st.fixed_dictionaries(
        {"tenant_id": ANY_JSON | st.just("acme")},
        optional={
            "to_tenant_id": ANY_JSON | st.just("globex"),
            "claim_revision": ANY_JSON | st.integers(-1, 2),
            "reason": ANY_JSON | st.just("why"),
        },
    ).map(json.dumps)
)
PARAMETER = st.sampled_from(
    ["tenant_id", "account_id", "status", "limit", "cursor", "dimension", "quantity", "from", "to", "validate", "x"]
)
VALUE = st.sampled_from(["active", "1", "true", "2026-11-22T14:00:00Z", "d"]) | st.text()
ANY_EVENT = st.fixed_dictionaries(
    {"routeKey": st.sampled_from([known.key for known in ROUTES]) | st.text()},
    optional={
        "pathParameters": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "subscription_id": st.just(SOMEONE) | st.text(),
                "record_id": st.text(),
                "code": st.text() | st.just("x" * 32),
            },
        ),
        "rawQueryString": st.text() | st.dictionaries(PARAMETER, VALUE, max_size=3).map(urlencode),
        "headers": st.dictionaries(st.text(), st.text(), max_size=2),
        "body": BODY,
        "isBase64Encoded": st.booleans(),
    },
)


@pytest.mark.slow
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=ANY_EVENT)
def test_no_request_is_answered_with_a_fault(deployment: Deployed, event: dict[str, Any]) -> None:
    answer = deployment.seller(event)

    assert answer["statusCode"] < 500, (event, deployment.logged.splitlines()[-1])
    json.dumps(answer)


def test_a_sleeping_deployment_wakes_with_its_settings(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGE_TABLE")

    assert error(call(deployment, "GET /subscriptions")) == (500, "internal_error")
