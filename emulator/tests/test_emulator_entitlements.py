"""GetEntitlements. Source: GetEntitlements API reference and botocore model."""

from datetime import UTC, datetime

import pytest

from marketplace_emulator.catalog import parse_product

CONTRACT, LEGACY = "ca1contractandconsumption", "legacycontractproduct0000"
GET = "AWSMPEntitlementService.GetEntitlements"


def legacy_contract(emulator):
    return emulator.m.registry.add_product(
        {
            "code": LEGACY,
            "integration": "legacy",
            "pricing": "contract",
            "dimensions": [{"key": "seats", "type": "entitlement"}],
        }
    )


def found(emulator, **request):
    return emulator.call(GET, **{"ProductCode": CONTRACT, **request}).json()["Entitlements"]


def test_an_entitlement_names_account_licence_value_and_expiry(emulator, entitlement):
    purchase = emulator.buy(CONTRACT, entitlements={"seats": 25}, end="2027-11-22T00:00:00Z")
    (item,) = entitlement.get_entitlements(ProductCode=CONTRACT, Filter={"LICENSE_ARN": [purchase.license_arn]})[
        "Entitlements"
    ]
    assert item == {
        "ProductCode": CONTRACT,
        "Dimension": "seats",
        "CustomerAWSAccountId": "111122223333",
        "LicenseArn": purchase.license_arn,
        "Value": {"IntegerValue": 25},
        "ExpirationDate": datetime(2027, 11, 22, tzinfo=UTC),
    }


def test_a_legacy_entitlement_names_the_customer_identifier(emulator):
    legacy_contract(emulator)
    purchase = emulator.buy(LEGACY)
    request = {"ProductCode": LEGACY, "Filter": {"CUSTOMER_IDENTIFIER": [purchase.customer_identifier]}}
    (item,) = found(emulator, **request)
    assert item["CustomerIdentifier"] == purchase.customer_identifier
    assert "LicenseArn" not in item
    assert found(emulator, ProductCode=LEGACY, Filter={"CUSTOMER_IDENTIFIER": ["X"]}) == []


def test_exactly_one_value_of_the_right_type_is_set(emulator, entitlement):
    kinds = {"integer": 5, "double": 2.5, "boolean": True, "string": "gold"}
    emulator.m.registry.add_product(
        parse_product(
            {
                "code": "everykind",
                "pricing": "contract",
                "dimensions": [{"key": key, "type": "entitlement", "value_type": key} for key in kinds],
            }
        )
    )
    emulator.buy("everykind", entitlements=kinds)
    values = {
        item["Dimension"]: item["Value"]
        for item in entitlement.get_entitlements(ProductCode="everykind")["Entitlements"]
    }
    assert values == {
        "integer": {"IntegerValue": 5},
        "double": {"DoubleValue": 2.5},
        "boolean": {"BooleanValue": True},
        "string": {"StringValue": "gold"},
    }


def test_filter_values_are_unioned_and_filters_intersected(emulator):
    accounts = ["111111111111", "222222222222", "333333333333"]
    one, two, three = (emulator.buy(CONTRACT, item) for item in accounts)

    def accounts_for(**filters):
        return [item["CustomerAWSAccountId"] for item in found(emulator, Filter=filters)]

    assert accounts_for(CUSTOMER_AWS_ACCOUNT_ID=accounts[:2]) == accounts[:2]
    assert set(accounts_for(LICENSE_ARN=[one.license_arn, three.license_arn])) == {accounts[0], accounts[2]}
    assert accounts_for(LICENSE_ARN=[two.license_arn], CUSTOMER_AWS_ACCOUNT_ID=accounts) == [accounts[1]]
    assert accounts_for(LICENSE_ARN=[two.license_arn], CUSTOMER_AWS_ACCOUNT_ID=accounts[:1]) == []
    assert accounts_for(DIMENSION=["seats"]) == accounts
    assert accounts_for(DIMENSION=["Seats"]) == []


def test_two_licences_of_one_account_have_their_own_entitlements(emulator):
    emulator.buy(CONTRACT, entitlements={"seats": 5})
    emulator.buy(CONTRACT, entitlements={"seats": 7})
    values = [item["Value"]["IntegerValue"] for item in found(emulator)]
    assert sorted(values) == [5, 7]


def test_identifier_and_account_filters_exclude_each_other(entitlement):
    with pytest.raises(entitlement.exceptions.InvalidParameterException):
        entitlement.get_entitlements(
            ProductCode=CONTRACT, Filter={"CUSTOMER_IDENTIFIER": ["a"], "CUSTOMER_AWS_ACCOUNT_ID": ["b"]}
        )


@pytest.mark.parametrize(
    "request_",
    [
        {"ProductCode": None},
        {"ProductCode": ""},
        {"ProductCode": "unknown"},
        {"MaxResults": 0},
        {"MaxResults": 26},
        {"NextToken": "nonsense"},
        {"Filter": {"DIMENSION": []}},
        {"Filter": {"SIZE": ["x"]}},
    ],
)
def test_a_wrong_parameter_is_refused(emulator, request_):
    answer = emulator.call(GET, **{"ProductCode": CONTRACT, **request_})
    assert (answer.status, answer.error) == (400, "InvalidParameterException")


@pytest.mark.parametrize(
    "request_", [{"ProductCode": 1}, {"MaxResults": "5"}, {"Filter": []}, {"Filter": {"DIMENSION": "x"}}]
)
def test_a_parameter_of_the_wrong_type_is_refused(emulator, request_):
    assert emulator.call(GET, **{"ProductCode": CONTRACT, **request_}).error == "SerializationException"


@pytest.mark.parametrize("empty_pages", [0, 1, 2])
def test_pages_hold_at_most_max_results_and_may_be_empty_with_a_token(emulator, entitlement, empty_pages):
    emulator.m.settings.update({"empty_pages": empty_pages})
    for number in range(7):
        emulator.buy(CONTRACT, f"11111111111{number}")
    pages = list(entitlement.get_paginator("get_entitlements").paginate(ProductCode=CONTRACT, MaxResults=3))
    sizes = [len(page["Entitlements"]) for page in pages]
    full = [size for size in sizes if size]
    assert full == [3, 3, 1]
    assert len(sizes) == 3 * (1 + empty_pages)
    assert all("NextToken" in page for page in pages[:-1])
    assert "NextToken" not in pages[-1]


def test_a_token_belongs_to_its_request(emulator):
    for number in range(2):
        emulator.buy(CONTRACT, f"11111111111{number}")
    token = emulator.call(GET, ProductCode=CONTRACT, MaxResults=1).json()["NextToken"]
    other = emulator.call(GET, ProductCode=CONTRACT, MaxResults=1, NextToken=token, Filter={"DIMENSION": ["seats"]})
    assert other.error == "InvalidParameterException"


def test_right_after_the_purchase_there_is_nothing(emulator):
    emulator.m.settings.update({"entitlement_delay_seconds": 30})
    emulator.m.purchases.subscribe(CONTRACT)
    assert found(emulator) == []
    emulator.clock.advance(61)
    assert found(emulator) == []
    emulator.clock.advance(30)
    assert len(found(emulator)) == 1


def test_an_upgrade_shows_once_the_licence_is_updated(emulator):
    purchase = emulator.buy(CONTRACT, entitlements={"seats": 5})
    emulator.m.purchases.amend(purchase.id, entitlements={"seats": 9})
    assert found(emulator)[0]["Value"] == {"IntegerValue": 5}
    emulator.clock.advance(61)
    assert found(emulator)[0]["Value"] == {"IntegerValue": 9}


def test_an_ended_contract_has_no_entitlements(emulator):
    purchase = emulator.buy(CONTRACT)
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(31)
    assert found(emulator) == []


def test_late_entitlements_do_not_outlive_the_licence(emulator):
    emulator.m.settings.update({"entitlement_delay_seconds": 7200})
    purchase = emulator.buy(CONTRACT)
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance("PT3H")
    assert found(emulator) == []


def test_a_renewing_contract_has_an_expiration_date_too(emulator):
    purchase = emulator.buy(CONTRACT, auto_renew=True, end="2026-12-22T12:00:00Z")
    first = found(emulator)[0]["ExpirationDate"]
    emulator.clock.set("2026-12-22T12:05:00Z")
    (item,) = found(emulator)
    assert item["LicenseArn"] == purchase.license_arn
    assert item["ExpirationDate"] > first


def test_pay_as_you_go_has_no_entitlements(emulator):
    emulator.buy("ca2payasyougoproduct00000")
    assert found(emulator, ProductCode="ca2payasyougoproduct00000") == []
