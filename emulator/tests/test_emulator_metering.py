"""BatchMeterUsage: whole-call refusals and per-record statuses.

Sources: BatchMeterUsage API reference and botocore model; Seller Guide "metering-for-usage" for tags.
"""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

PAYG, CONTRACT, LEGACY = "ca2payasyougoproduct00000", "ca1contractandconsumption", "legacysubscriptionproduct"
HOUR = 3600
ALLOCATIONS = "InvalidUsageAllocationsException"


def test_an_accepted_record_is_answered_success_with_a_metering_record_id(emulator, metering):
    purchase = emulator.buy()
    record = emulator.record(purchase, 10) | {"Timestamp": emulator.clock.now()}
    answer = metering.batch_meter_usage(UsageRecords=[record])
    assert answer["UnprocessedRecords"] == []
    (result,) = answer["Results"]
    assert result["Status"] == "Success"
    assert result["UsageRecord"]["LicenseArn"] == purchase.license_arn
    (billed,) = emulator.m.ledger.records
    assert result["MeteringRecordId"] == billed.id
    assert (billed.quantity, billed.hour_start, billed.account_id) == (10, "2026-11-22T12:00:00Z", "111122223333")


def test_a_legacy_record_is_sent_with_product_code_and_customer_identifier(emulator, metering):
    purchase = emulator.buy(LEGACY)
    record = emulator.record(purchase, 3) | {"Timestamp": emulator.clock.now()}
    answer = metering.batch_meter_usage(ProductCode=LEGACY, UsageRecords=[record])
    assert [item["Status"] for item in answer["Results"]] == ["Success"]


def test_a_call_without_records_does_nothing(emulator):
    assert emulator.send() == {"Results": [], "UnprocessedRecords": []}


def allocation(quantity, **tags):
    found = {"AllocatedUsageQuantity": quantity}
    if tags:
        found["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return found


# -- whole-call refusals: nothing is metered ------------------------------------------------------------------


def refused(emulator, good, bad, **request):
    """The error of a call with a good and a bad record, which must not have metered the good one."""
    before = len(emulator.m.ledger.records)
    answer = emulator.send(good, bad, **request)
    assert len(emulator.m.ledger.records) == before
    return answer


def times(record):
    """The record as boto3 sends it."""
    return record | {"Timestamp": datetime.fromtimestamp(record["Timestamp"], UTC)}


def test_at_most_25_records(emulator, metering):
    record = times(emulator.record(emulator.buy()))
    with pytest.raises(ClientError, match="ValidationException"):
        metering.batch_meter_usage(UsageRecords=[record] * 26)
    assert emulator.m.ledger.records == []


def test_less_than_one_megabyte(emulator):
    purchase = emulator.buy()
    tags = [{"Key": f"k{n}", "Value": "v" * 200} for n in range(5)]
    allocations = [
        {"AllocatedUsageQuantity": 1, "Tags": [*tags[:4], {"Key": "k4", "Value": f"{n}"}]} for n in range(1100)
    ]
    record = emulator.record(purchase, 1100, UsageAllocations=allocations)
    assert refused(emulator, emulator.record(purchase), record) == "ValidationException"


TIME, LICENCE = "TimestampOutOfBoundsException", "InvalidLicenseException"
DIMENSION, CUSTOMER = "InvalidUsageDimensionException", "InvalidCustomerIdentifierException"


@pytest.mark.parametrize(
    ("product", "change", "code"),
    [
        pytest.param(PAYG, lambda good: {"Timestamp": good["Timestamp"] + 1}, TIME, id="future"),
        pytest.param(PAYG, lambda good: {"Timestamp": good["Timestamp"] - 24 * HOUR}, TIME, id="24 hours old"),
        pytest.param(PAYG, lambda good: {"Timestamp": good["Timestamp"] - 24 * HOUR + 1}, LICENCE, id="not active yet"),
        pytest.param(LEGACY, lambda good: {"Timestamp": good["Timestamp"] - 23 * HOUR - 1}, TIME, id="not bought yet"),
        pytest.param(CONTRACT, lambda _: {"Dimension": "API_CALLS"}, DIMENSION, id="upper case"),
        pytest.param(CONTRACT, lambda _: {"Dimension": "Api_calls"}, DIMENSION, id="mixed case"),
        pytest.param(CONTRACT, lambda _: {"Dimension": "unknown"}, DIMENSION, id="unknown dimension"),
        pytest.param(CONTRACT, lambda _: {"Dimension": "seats"}, DIMENSION, id="not metered"),
        pytest.param(
            PAYG, lambda good: {"LicenseArn": good["LicenseArn"][:-4] + "0000"}, LICENCE, id="unknown licence"
        ),
        pytest.param(PAYG, lambda _: {"CustomerAWSAccountId": "999999999999"}, LICENCE, id="another account's licence"),
        pytest.param(LEGACY, lambda _: {"CustomerIdentifier": "NEVERISSUED"}, CUSTOMER, id="never issued"),
        pytest.param(PAYG, lambda _: {"UsageAllocations": [allocation(2)]}, ALLOCATIONS, id="another sum"),
    ],
)
def test_a_record_that_does_not_fit_refuses_the_call_as_boto3_knows_it(emulator, metering, product, change, code):
    purchase = emulator.buy(product)
    emulator.clock.advance(23 * HOUR)
    good = emulator.record(purchase)
    bad, request = good | change(good), {"ProductCode": LEGACY} if purchase.is_legacy else {}
    assert refused(emulator, good, bad, **request) == code
    with pytest.raises(getattr(metering.exceptions, code)):
        metering.batch_meter_usage(UsageRecords=[times(bad)], **request)
    assert emulator.statuses(good, **request) == ["Success"]


def test_less_than_24_hours_old_is_taken(emulator):
    purchase = emulator.buy()
    emulator.clock.advance(24 * HOUR)
    assert emulator.statuses(emulator.record(purchase, Timestamp=purchase.provisioned_at + 1)) == ["Success"]


def test_last_month_is_taken_until_0600_utc_on_the_first(emulator):
    emulator.clock.set("2026-11-30T20:00:00Z")
    purchase = emulator.buy()
    november, december = "2026-11-30T23:00:00+00:00", "2026-12-01T00:00:00+00:00"
    old = emulator.record(purchase) | {"Timestamp": datetime.fromisoformat(november).timestamp()}
    new = emulator.record(purchase) | {"Timestamp": datetime.fromisoformat(december).timestamp()}
    emulator.clock.set("2026-12-01T05:59:59Z")
    assert emulator.statuses(old) == ["Success"]
    emulator.clock.set("2026-12-01T06:00:00Z")
    assert refused(emulator, new, old) == "TimestampOutOfBoundsException"
    assert emulator.statuses(new) == ["Success"]


def test_two_products_in_one_call_are_refused(emulator):
    one, other = emulator.record(emulator.buy(PAYG)), emulator.record(emulator.buy(CONTRACT))
    assert refused(emulator, one, other) == "InvalidLicenseException"


def test_a_licence_is_matched_by_its_trailing_id(emulator):
    purchase = emulator.buy()
    other_form = f"arn:aws:license-manager:us-east-1:123456789012:license/{purchase.license_id}"
    assert emulator.statuses(emulator.record(purchase, LicenseArn=other_form)) == ["Success"]
    without_arn = f"aws:license-manager:us-east-1:123456789012:{purchase.license_id}"
    assert emulator.send(emulator.record(purchase, LicenseArn=without_arn)) == "InvalidLicenseException"


def test_an_unknown_product_code_is_refused(emulator, metering):
    record = times(emulator.record(emulator.buy(LEGACY)))
    with pytest.raises(metering.exceptions.InvalidProductCodeException):
        metering.batch_meter_usage(ProductCode="unknown", UsageRecords=[record])


def test_a_licence_product_takes_no_product_code(emulator):
    purchase = emulator.buy(PAYG)
    record = emulator.record(purchase)
    del record["LicenseArn"]
    assert emulator.send(record, ProductCode=PAYG) == "InvalidProductCodeException"


def test_a_request_has_a_product_code_or_licences_never_both_or_none(emulator):
    purchase = emulator.buy(LEGACY)
    legacy = emulator.record(purchase)
    assert emulator.send(legacy) == "ValidationException"
    with_license = legacy | {"LicenseArn": purchase.license_arn}
    assert emulator.send(with_license, ProductCode=LEGACY) == "ValidationException"


def test_an_unknown_identifier_can_be_a_status_instead(emulator):
    emulator.m.settings.update({"unknown_customer": "status"})
    good = emulator.record(emulator.buy(LEGACY))
    bad = good | {"CustomerIdentifier": "NEVERISSUED"}
    assert emulator.statuses(good, bad, ProductCode=LEGACY) == ["Success", "CustomerNotSubscribed"]


def test_new_integrations_take_no_customer_identifier(emulator):
    record = emulator.record(emulator.buy())
    del record["CustomerAWSAccountId"]
    assert emulator.send(record | {"CustomerIdentifier": "X01EXAMPLEX"}) == "InvalidCustomerIdentifierException"


def test_identifier_and_account_exclude_each_other(emulator):
    record = emulator.record(emulator.buy(LEGACY)) | {"CustomerAWSAccountId": "111122223333"}
    assert emulator.send(record, ProductCode=LEGACY) == "ValidationException"


def test_a_legacy_record_may_name_the_account(emulator):
    purchase = emulator.buy(LEGACY)
    record = emulator.record(purchase, 4)
    del record["CustomerIdentifier"]
    by_account = record | {"CustomerAWSAccountId": "111122223333"}
    assert emulator.statuses(by_account, ProductCode=LEGACY) == ["Success"]
    assert emulator.statuses(emulator.record(purchase, 5), ProductCode=LEGACY) == ["DuplicateRecord"]


@pytest.mark.parametrize(
    "change",
    [
        {"Timestamp": "2026-11-22T12:00:00Z"},
        {"Timestamp": True},
        {"Dimension": 5},
        {"Quantity": 1.5},
        {"Quantity": "1"},
        {"Quantity": True},
        {"LicenseArn": ["x"]},
        {"CustomerAWSAccountId": 111122223333},
        {"UsageAllocations": {}},
        {"UsageAllocations": ["x"]},
        {"QuantityAsDecimal": 1.5, "Quantity": None},
    ],
)
def test_a_member_of_the_wrong_type_is_a_serialization_error(emulator, change):
    assert emulator.send(emulator.record(emulator.buy()) | change) == "SerializationException"


@pytest.mark.parametrize(
    "change",
    [
        {"Timestamp": None},
        {"Dimension": None},
        {"Dimension": ""},
        {"Dimension": "d" * 256},
        {"Quantity": -1},
        {"Quantity": 2_147_483_648},
        {"CustomerAWSAccountId": "not digits"},
        {"UsageAllocations": []},
        {"UsageAllocations": [{"Tags": [{"Key": "a", "Value": "b"}]}]},
        {"QuantityAsDecimal": "1.5"},
        {"QuantityAsDecimal": "01", "Quantity": None},
        {"QuantityAsDecimal": "1.1234567", "Quantity": None},
    ],
)
def test_a_member_outside_the_model_is_a_validation_error(emulator, change):
    assert emulator.send(emulator.record(emulator.buy()) | change) == "ValidationException"


@pytest.mark.parametrize(
    ("change", "quantity"), [({"Quantity": None}, 0), ({"Quantity": 2_147_483_647}, 2_147_483_647)]
)
def test_a_quantity_left_out_is_zero_and_the_largest_is_taken(emulator, change, quantity):
    assert emulator.statuses(emulator.record(emulator.buy()) | change) == ["Success"]
    assert emulator.m.ledger.records[0].quantity == quantity


def test_of_several_offences_the_documented_order_decides(emulator):
    purchase = emulator.buy()
    good = emulator.record(purchase)
    future = good | {"Timestamp": emulator.clock.timestamp() + 60}
    dimension = good | {"Dimension": "nope"}
    licence = good | {"LicenseArn": "arn:aws:license-manager::1:license:l-0"}
    tags = good | {"UsageAllocations": [{"AllocatedUsageQuantity": 1, "Tags": [{"Key": "!", "Value": "v"}]}]}
    total = good | {"UsageAllocations": [{"AllocatedUsageQuantity": 2}]}
    assert emulator.send(total, tags, future, dimension, licence) == "InvalidLicenseException"
    assert emulator.send(total, tags, future, dimension) == "InvalidUsageDimensionException"
    assert emulator.send(total, tags, future) == "TimestampOutOfBoundsException"
    assert emulator.send(total, tags) == "InvalidTagException"
    assert emulator.send(total) == "InvalidUsageAllocationsException"


# -- allocations and tags -----------------------------------------------------------------------------------


def test_allocations_are_billed_with_their_tags(emulator):
    record = emulator.record(emulator.buy(), 10, UsageAllocations=[allocation(7, user="john", team="a"), allocation(3)])
    assert emulator.statuses(record) == ["Success"]
    assert emulator.m.ledger.records[0].allocations == (((), 3), ((("team", "a"), ("user", "john")), 7))


@pytest.mark.parametrize(
    "allocations",
    [
        [allocation(5, a="1", b="2"), allocation(5, b="2", a="1")],
        [allocation(5), allocation(5)],
    ],
)
def test_no_tag_set_appears_twice_in_whatever_order(emulator, allocations):
    record = emulator.record(emulator.buy(), 10, UsageAllocations=allocations)
    assert emulator.send(record) == "InvalidUsageAllocationsException"


def test_at_most_2500_allocations(emulator):
    purchase = emulator.buy()
    many = [allocation(1, n=str(n)) for n in range(2501)]
    record = emulator.record(purchase, 2501, UsageAllocations=many)
    assert emulator.send(record) == "InvalidUsageAllocationsException"
    assert emulator.statuses(record | {"Quantity": 2500, "UsageAllocations": many[1:]}) == ["Success"]


@pytest.mark.parametrize(
    "tags",
    [
        {f"k{n}": "v" for n in range(6)},
        {"k" * 101: "v"},
        {"k": "v" * 257},
        {"k": ""},
        {"": "v"},
        {"k": "semi;colon"},
        {"k*": "v"},
        {"k": "é"},
        {"k": "line\n"},
        [("a", "1"), ("a", "2")],
    ],
)
def test_bad_tags_are_refused(emulator, tags):
    pairs = tags if isinstance(tags, list) else tags.items()
    parts = [{"AllocatedUsageQuantity": 1, "Tags": [{"Key": key, "Value": value} for key, value in pairs]}]
    assert emulator.send(emulator.record(emulator.buy(), 1, UsageAllocations=parts)) == "InvalidTagException"


def test_every_allowed_character_is_allowed(emulator):
    allowed = "abzABZ019+ -=._:/@"
    record = emulator.record(emulator.buy(), 1, UsageAllocations=[allocation(1, **{allowed: allowed})])
    assert emulator.statuses(record) == ["Success"]


def test_five_tag_keys_in_a_whole_record_or_in_each_allocation(emulator):
    parts = [allocation(1, **{f"k{n}": "v"}) for n in range(6)]
    record = emulator.record(emulator.buy(), 6, UsageAllocations=parts)
    assert emulator.send(record) == "InvalidTagException"
    emulator.m.settings.update({"tag_limit": "allocation"})
    assert emulator.statuses(record) == ["Success"]


def test_fractions_are_sent_as_decimals(emulator):
    purchase = emulator.buy()
    record = emulator.record(purchase, QuantityAsDecimal="17.42")
    del record["Quantity"]
    split = [{"AllocatedUsageQuantityAsDecimal": "17.02", "Tags": [{"Key": "a", "Value": "b"}]}]
    split += [{"AllocatedUsageQuantityAsDecimal": "0.40"}]
    assert emulator.statuses(record | {"UsageAllocations": split}) == ["Success"]
    assert str(emulator.m.ledger.records[0].quantity) == "17.42"
    mixed = record | {"UsageAllocations": [{"AllocatedUsageQuantity": 17}]}
    assert emulator.send(mixed) == "InvalidUsageAllocationsException"


# -- per-record statuses ------------------------------------------------------------------------------------


def test_usage_before_the_licence_is_issued_is_not_subscribed_and_can_succeed_later(emulator):
    pending = emulator.m.purchases.subscribe(PAYG)
    active = emulator.buy(PAYG)
    records = [emulator.record(pending), emulator.record(active)]
    assert emulator.statuses(*records) == ["CustomerNotSubscribed", "Success"]
    emulator.clock.advance(61)
    assert emulator.statuses(emulator.record(pending)) == ["Success"]


def test_usage_of_a_pending_licence_can_refuse_the_call_instead(emulator):
    emulator.m.settings.update({"pending_license": "invalid_license"})
    assert emulator.send(emulator.record(emulator.m.purchases.subscribe(PAYG))) == "InvalidLicenseException"


def test_a_dimension_that_is_published_later_is_metered_from_then_on(emulator):
    purchase = emulator.buy()
    record = emulator.record(purchase, Dimension="published_later")
    assert emulator.send(record) == "InvalidUsageDimensionException"
    product = purchase.product.as_dict()
    dimensions = [*product["dimensions"], {"key": "published_later", "type": "usage"}]
    emulator.m.registry.add_product(product | {"dimensions": dimensions})
    assert emulator.statuses(record) == ["Success"]


def test_a_product_that_moves_to_licences_keeps_its_legacy_customers(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.registry.add_product(purchase.product.as_dict() | {"integration": "license"})
    assert purchase.is_legacy
    assert not emulator.m.purchases.subscribe(LEGACY).is_legacy


def test_a_suspended_account_is_not_subscribed(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.suspend(purchase.account_id)
    assert emulator.statuses(emulator.record(purchase)) == ["CustomerNotSubscribed"]
    emulator.m.purchases.unsuspend(purchase.account_id)
    assert emulator.statuses(emulator.record(purchase)) == ["Success"]


def test_a_known_buyer_of_another_product_is_not_subscribed(emulator):
    purchase = emulator.buy(LEGACY)
    emulator.m.registry.add_product(
        emulator.m.registry.product("legacysubscriptionproduct").as_dict() | {"code": "anotherlegacyproduct"}
    )
    record = emulator.record(purchase)
    assert emulator.statuses(record, ProductCode="anotherlegacyproduct") == ["CustomerNotSubscribed"]


@pytest.mark.parametrize(
    ("reading", "open_for"),
    [("after_later", 31 + 3600), ("after_ended", 3600), ("until_deprovisioned", 31)],
)
def test_final_usage_is_taken_in_the_closing_window(emulator, reading, open_for):
    """Seller Guide "saas-eventbridge-integration": the editions disagree on what opens the last hour."""
    emulator.m.settings.update({"closing_window": reading})
    purchase = emulator.buy(CONTRACT)
    record = emulator.record(purchase, 5, "users")
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(open_for - 1)
    assert emulator.statuses(record) == ["Success"]
    emulator.clock.advance(1)
    assert emulator.statuses(record | {"Dimension": "api_calls"}) == ["CustomerNotSubscribed"]
    assert emulator.m.purchases.state(purchase.id) == "ended"


def test_legacy_usage_is_taken_until_unsubscribe_success(emulator):
    purchase = emulator.buy(LEGACY)
    record = emulator.record(purchase)
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(3599)
    assert emulator.statuses(record, ProductCode=LEGACY) == ["Success"]
    emulator.clock.advance(1)
    assert emulator.statuses(record | {"Dimension": "users"}, ProductCode=LEGACY) == ["CustomerNotSubscribed"]


def test_usage_after_the_end_can_count_as_outside_the_licence(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(60)
    record = emulator.record(purchase)
    emulator.m.settings.update({"usage_after_end": "invalid_license"})
    assert emulator.send(record) == "InvalidLicenseException"
    emulator.m.settings.update({"usage_after_end": "accept"})
    assert emulator.statuses(record) == ["Success"]


def test_a_free_trial_is_metered_and_priced_at_zero(emulator):
    """Seller Guide "saas-free-trials"."""
    purchase = emulator.buy(PAYG, free_trial_days=7)
    emulator.send(emulator.record(purchase, 100))
    assert emulator.m.ledger.bill()[0].amount == 0
    emulator.clock.advance("P7D")
    emulator.send(emulator.record(purchase, 100))
    assert emulator.m.ledger.bill()[1].amount == 100 * purchase.product.dimensions["api_calls"].price > 0
