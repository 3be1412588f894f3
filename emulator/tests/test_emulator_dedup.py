"""De-duplication by hour and the bill. Sources: BatchMeterUsage API reference, Seller Guide "metering-for-usage"."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace_emulator import Clock, Marketplace
from marketplace_emulator.clock import HOUR, to_timestamp

PAYG, LEGACY = "ca2payasyougoproduct00000", "legacysubscriptionproduct"


def test_an_identical_resend_is_success_with_the_same_id(emulator):
    record = emulator.record(emulator.buy(), 5)
    first, again = emulator.send(record), emulator.send(record)
    assert again == first
    assert len(emulator.m.ledger.records) == 1


def test_an_identical_resend_can_be_a_duplicate(emulator):
    emulator.m.settings.update({"identical_resend": "duplicate"})
    record = emulator.record(emulator.buy(), 5)
    assert emulator.statuses(record) == ["Success"]
    assert emulator.statuses(record) == ["DuplicateRecord"]
    assert "MeteringRecordId" not in emulator.send(record)["Results"][0]


def test_another_quantity_for_the_same_hour_is_a_duplicate_and_the_first_stands(emulator):
    purchase = emulator.buy()
    emulator.clock.set("2026-11-22T13:10:00Z")
    assert emulator.statuses(emulator.record(purchase, 5)) == ["Success"]
    emulator.clock.set("2026-11-22T13:59:59Z")
    assert emulator.statuses(emulator.record(purchase, 6)) == ["DuplicateRecord"]
    emulator.clock.set("2026-11-22T14:00:00Z")
    assert emulator.statuses(emulator.record(purchase, 6)) == ["Success"]
    assert [item.quantity for item in emulator.m.ledger.records] == [5, 6]


def test_an_early_zero_locks_the_hour(emulator):
    purchase = emulator.buy()
    assert emulator.statuses(emulator.record(purchase, 0)) == ["Success"]
    assert emulator.statuses(emulator.record(purchase, 9)) == ["DuplicateRecord"]
    assert emulator.m.ledger.bill()[0].quantity == 0


def test_quantities_are_compared_by_value(emulator):
    purchase = emulator.buy()
    decimal = emulator.record(purchase, QuantityAsDecimal="17.00")
    del decimal["Quantity"]
    assert emulator.statuses(decimal) == ["Success"]
    assert emulator.statuses(emulator.record(purchase, 17)) == ["Success"]
    assert len(emulator.m.ledger.records) == 1


def test_the_same_quantity_with_other_tags_is_a_duplicate(emulator):
    purchase = emulator.buy()
    tagged = [{"AllocatedUsageQuantity": 5, "Tags": [{"Key": "a", "Value": "b"}]}]
    assert emulator.statuses(emulator.record(purchase, 5)) == ["Success"]
    assert emulator.statuses(emulator.record(purchase, 5, UsageAllocations=tagged)) == ["DuplicateRecord"]


def test_one_key_twice_in_a_call_the_first_wins(emulator):
    purchase = emulator.buy()
    five, six = emulator.record(purchase, 5), emulator.record(purchase, 6)
    assert emulator.statuses(five, six, five) == ["Success", "DuplicateRecord", "Success"]
    assert emulator.m.ledger.bill()[0].quantity == 5


def test_dimensions_and_licences_of_one_account_are_separate_keys(emulator):
    one, other = emulator.buy(), emulator.buy()
    records = [emulator.record(item, 5, name) for item in (one, other) for name in ("api_calls", "storage_gb_hours")]
    assert emulator.statuses(*records) == ["Success"] * 4
    assert len(emulator.m.ledger.records) == 4


def test_the_same_hour_in_two_regions_is_billed_twice(emulator):
    record = emulator.record(emulator.buy(), 5)
    emulator.send(record)
    assert emulator.send(record, region="eu-west-1")["Results"][0]["Status"] == "Success"
    assert [item.region for item in emulator.m.ledger.records] == ["us-east-1", "eu-west-1"]
    (line,) = emulator.m.ledger.bill()
    assert (line.quantity, line.records) == (10, 2)


def test_product_code_and_licence_for_the_same_hour_are_billed_twice(emulator):
    purchase = emulator.buy(LEGACY)
    legacy = emulator.record(purchase, 5)
    licensed = legacy | {"LicenseArn": purchase.license_arn}
    assert emulator.statuses(legacy, ProductCode=LEGACY) == ["Success"]
    assert emulator.statuses(licensed) == ["Success"]
    assert [item.integration for item in emulator.m.ledger.records] == ["legacy", "license"]
    assert emulator.m.ledger.bill()[0].quantity == 10


def test_a_licence_product_can_be_made_to_double_bill_too(emulator):
    emulator.m.settings.update({"product_code_on_license_products": "double_bill"})
    purchase = emulator.buy(PAYG)
    licensed = emulator.record(purchase, 5)
    by_account = {key: value for key, value in licensed.items() if key != "LicenseArn"}
    assert emulator.statuses(licensed) == ["Success"]
    assert emulator.statuses(by_account, ProductCode=PAYG) == ["Success"]
    assert emulator.m.ledger.bill()[0].records == 2


def test_a_legacy_customer_that_comes_back_keeps_its_key(emulator):
    first = emulator.buy(LEGACY)
    emulator.send(emulator.record(first, 5), ProductCode=LEGACY)
    emulator.m.purchases.cancel(first.id)
    emulator.clock.advance(60)
    again = emulator.buy(LEGACY)
    assert again.customer_identifier == first.customer_identifier
    assert emulator.statuses(emulator.record(again, 6), ProductCode=LEGACY) == ["DuplicateRecord"]


def test_usage_of_before_a_resubscription_is_still_taken(emulator):
    first = emulator.buy(LEGACY)
    emulator.clock.advance(3600)
    usage = emulator.record(first, 5)
    emulator.m.purchases.cancel(first.id)
    emulator.clock.advance(60)
    emulator.buy(LEGACY)
    assert emulator.statuses(usage, ProductCode=LEGACY) == ["Success"]


def test_bill_lines_add_up_hours_and_tag_sets(emulator):
    purchase = emulator.buy()
    for quantity in (3, 4):
        parts = [
            {"AllocatedUsageQuantity": quantity - 1, "Tags": [{"Key": "team", "Value": "a"}]},
            {"AllocatedUsageQuantity": 1},
        ]
        emulator.send(emulator.record(purchase, quantity, UsageAllocations=parts))
        emulator.clock.advance(3600)
    first, second = emulator.m.ledger.bill(purchase.id)
    assert (first.quantity, second.quantity) == (3, 4)
    assert second.tag_sets == {(("team", "a"),): 3, (): 1}
    hour = int(to_timestamp("2026-11-22T13:20:00Z") // HOUR)
    (found,) = emulator.m.ledger.select(purchase_id=purchase.id, dimension="api_calls", hour=hour)
    assert found.quantity == 4
    assert list(emulator.m.ledger.select(dimension="storage_gb_hours")) == []


records = st.lists(
    st.tuples(
        st.sampled_from(["us-east-1", "eu-west-1"]),
        st.integers(0, 1),
        st.sampled_from(["api_calls", "storage_gb_hours"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(sent=records, resend=st.sampled_from(["success", "duplicate"]))
def test_every_key_is_billed_once_with_its_first_quantity(sent, resend):
    clock = Clock.frozen("2026-11-22T00:00:00Z")
    marketplace = Marketplace(clock)
    marketplace.settings.update({"identical_resend": resend})
    purchases = [marketplace.purchases.subscribe(PAYG, f"11112222333{n}", provision=True) for n in range(2)]
    start = clock.timestamp()
    clock.advance("PT5H")
    expected = {}
    for region, buyer, dimension, hour, quantity in sent:
        purchase = purchases[buyer]
        record = {
            "Timestamp": start + hour * 3600,
            "Dimension": dimension,
            "Quantity": quantity,
            "CustomerAWSAccountId": purchase.account_id,
            "LicenseArn": purchase.license_arn,
        }
        body = json.dumps({"UsageRecords": [record]}).encode()
        (result,) = marketplace.handle("AWSMPMeteringService.BatchMeterUsage", body, region).json()["Results"]
        key = (region, purchase.id, dimension, hour)
        if key not in expected:
            expected[key] = quantity
            assert result["Status"] == "Success"
        elif expected[key] != quantity or resend == "duplicate":
            assert result["Status"] == "DuplicateRecord"
        else:
            assert result["Status"] == "Success"
    ledger = marketplace.ledger.records
    assert len({item.key for item in ledger}) == len(ledger) == len(expected)
    assert sum(item.quantity for item in ledger) == sum(expected.values())
    assert sum(line.quantity for line in marketplace.ledger.bill()) == sum(expected.values())
    assert sum(marketplace.ledger.totals.values()) == sum(expected.values())


@pytest.mark.parametrize("threads", [8])
def test_concurrent_senders_bill_each_hour_once(emulator, threads):
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    purchase = emulator.buy()
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda n: emulator.statuses(emulator.record(purchase, n)), range(40)))
    assert sorted(found).count(["Success"]) == 1
    assert len(emulator.m.ledger.records) == 1
