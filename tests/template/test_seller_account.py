"""The two halves of a product that another account published: template.yaml, and docs/seller-account.yaml there."""

from typing import Any

from local.template_yaml import read
from tests.support.translated import of_type, statements
from tests.template.test_permissions import CALLING_AWS_MARKETPLACE
from tools import template

SELLER: dict[str, Any] = read(template.ROOT / "docs" / "seller-account.yaml")
RESOURCES: dict[str, Any] = {name: body["Properties"] for name, body in SELLER["Resources"].items()}


def test_the_sellers_role_may_do_exactly_what_the_functions_do_themselves_without_it() -> None:
    (granted,) = RESOURCES["SellerRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    own = {action for role in CALLING_AWS_MARKETPLACE for one in statements(role) for action in one["Action"]}
    assert set(granted["Action"]) == {action for action in own if action.startswith("aws-marketplace:")}


def test_the_sellers_role_trusts_the_functions_roles_with_the_external_id_and_nobody_else() -> None:
    (trusted,) = RESOURCES["SellerRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Condition"]["StringEquals"] == {"sts:ExternalId": {"Ref": "ExternalId"}}
    names = [one["Fn::Sub"].rpartition("/")[2] for one in trusted["Condition"]["ArnLike"]["aws:PrincipalArn"]]
    assert names == [f"${{DeploymentStackName}}-{role}-*" for role in CALLING_AWS_MARKETPLACE]
    assert not any("RoleName" in of_type("AWS::IAM::Role")[role] for role in CALLING_AWS_MARKETPLACE)


def test_the_deployments_bus_takes_from_the_seller_what_the_seller_forwards() -> None:
    policy = of_type("AWS::Events::EventBusPolicy")["SellerEventsPolicy"]
    (source,) = RESOURCES["ForwardedEvents"]["EventPattern"]["source"]
    assert policy["Statement"]["Condition"] == {"StringEquals": {"events:source": source}}
    assert of_type("AWS::Events::Rule")["AgreementEventsRule"]["EventPattern"]["source"] == [source]
    account = policy["Statement"]["Principal"]["AWS"]["Fn::Sub"][1]["Account"]
    assert account == {"Fn::Select": [4, {"Fn::Split": [":", {"Ref": "SellerRoleArn"}]}]}
    (target,) = RESOURCES["ForwardedEvents"]["Targets"]
    assert target["Arn"]["Fn::Sub"].endswith("${DeploymentAccountId}:event-bus/default")


def test_a_role_for_the_seller_is_off_by_default_and_not_for_legacy_products() -> None:
    declared = template.load()
    assert declared["Parameters"]["SellerRoleArn"]["Default"] == ""
    assert declared["Conditions"]["HasSellerRole"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "SellerRoleArn"}, ""]}]}
    for name, body in declared["Resources"].items():
        if "SellerRole" in name or name == "SellerEventsPolicy":
            assert body["Condition"] == "HasSellerRole", name
    assert all("sts:AssumeRole" not in one["Action"] for role in CALLING_AWS_MARKETPLACE for one in statements(role))
    _, legacy = declared["Rules"]["SellerRoleIsWhole"]["Assertions"]
    assert {"Fn::Equals": [{"Ref": "SellerRoleArn"}, ""]} in legacy["Assert"]["Fn::Or"]
