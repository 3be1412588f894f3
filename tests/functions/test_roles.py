"""What the roles grant is what the functions use: the four functions play a seller's days together, each under its own
role, and in the end no grant is left over.

A grant that only a rare event uses needs that event in one of the stories. Every other test of this folder runs under
the roles too (conftest.py), so a call that a role does not allow fails wherever it is made.
"""

from contextlib import suppress
from typing import Any

import pytest

from tests.support import roles as roles_module
from tests.support.roles import FUNCTIONS, Grant, Roles, granted, needed, used_by_lambda
from tests.support.seller_days import PAY_AS_YOU_GO, STORIES, Seller


@pytest.mark.slow
def test_every_grant_is_used_and_no_other_is_needed(seller: Seller, roles: Roles) -> None:
    for story in STORIES:
        story(seller)
    used = {function: roles.used[function] | used_by_lambda(function) for function in FUNCTIONS}
    assert {(name, *grant) for name in FUNCTIONS for grant in granted(name) - used[name]} == set()
    assert {(name, *grant) for name in FUNCTIONS for grant in used[name] - granted(name)} == set()


# -- the judge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "given", "grants"),
    [
        ("dynamodb", "GetItem", {"TableName": "t"}, {("dynamodb:GetItem", "t")}),
        ("dynamodb", "Query", {"TableName": "t", "IndexName": "i"}, {("dynamodb:Query", "t/index/i")}),
        (
            "dynamodb",
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"Put": {"TableName": "t"}},
                    {"Update": {"TableName": "t"}},
                    {"Delete": {"TableName": "u"}},
                    {"ConditionCheck": {"TableName": "u"}},
                ]
            },
            {
                *(("dynamodb:PutItem", "t"), ("dynamodb:UpdateItem", "t")),
                *(("dynamodb:DeleteItem", "u"), ("dynamodb:ConditionCheckItem", "u")),
            },
        ),
        (
            "dynamodb",
            "BatchExecuteStatement",
            {"Statements": [{"Statement": 'UPDATE "t" SET a=? WHERE pk=?'}, {"Statement": 'DELETE FROM "t"'}]},
            {("dynamodb:PartiQLUpdate", "t"), ("dynamodb:PartiQLDelete", "t")},
        ),
        (
            "dynamodb",
            "BatchGetItem",
            {"RequestItems": {"t": {}, "u": {}}},
            {("dynamodb:BatchGetItem", n) for n in "tu"},
        ),
        ("sqs", "SendMessage", {"QueueUrl": "q"}, {("sqs:SendMessage", "q")}),
        ("s3", "PutObject", {"Bucket": "b", "Key": "usage/a/b"}, {("s3:PutObject", "b/usage/*")}),
        ("events", "PutEvents", {"Entries": [{"EventBusName": "b"}]}, {("events:PutEvents", "b")}),
        ("marketplace-agreement", "DescribeAgreement", {}, {("aws-marketplace:DescribeAgreement", "*")}),
    ],
)
def test_iam_asks_for_the_actions_behind_a_call(
    service: str, operation: str, given: dict[str, Any], grants: set[Grant]
) -> None:
    assert needed(service, operation, given) == grants


@pytest.mark.parametrize(
    "call", [("dynamodb", "TransactGetItems"), ("sqs", "SendMessageBatch"), ("s3", "DeleteObject")]
)
def test_a_call_that_nobody_has_looked_up_is_not_let_through(call: tuple[str, str]) -> None:
    with pytest.raises(AssertionError, match="nobody has looked up"):
        needed(*call, {})


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        ("ResolveCustomerFunction", ("aws-marketplace:ResolveCustomer", "*")),
        ("ResolveCustomerFunction", ("dynamodb:PutItem", "SubscriptionsTable")),
        ("EntitlementCheckFunction", ("dynamodb:Query", "SubscriptionsTable/index/waiting")),
        ("SellerApiFunction", ("sqs:SendMessage", "NotificationQueue")),
        ("MeterUsageFunction", ("dynamodb:Query", "UsageTable/index/due")),
    ],
)
@pytest.mark.filterwarnings("ignore:No application metrics to publish")
def test_a_call_that_a_role_does_not_allow_is_refused_as_aws_does(
    seller: Seller, roles: Roles, monkeypatch: pytest.MonkeyPatch, function: str, missing: Grant
) -> None:
    """Also where the function makes do without an answer: the fixture fails a test with a refusal that it forgets."""
    monkeypatch.setattr(
        roles_module,
        "granted",
        lambda name, options: granted(name, options) - ({missing} if name == function else set()),
    )
    with suppress(Exception):
        seller.signs_up(seller.purchases.subscribe(PAY_AS_YOU_GO, provision=True))
    assert set(roles.refused) == {(function, missing)}
    roles.refused.clear()
