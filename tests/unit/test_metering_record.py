"""What is stored, what is sent, byte for byte, and how due work is put into calls."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb.keys import Key
from marketplace.ledger.due_index import DueEntry
from marketplace.ledger.record import MAX_QUANTITY, InvalidRecordError, MeteringRecord
from marketplace.ledger.seal import UNSEALED, cleared, in_doubt
from marketplace.metering.wire import (
    MAX_REQUEST_BYTES,
    Allocation,
    Sendable,
    UnsendableError,
    batches,
    result_key,
    split_by_size,
    wire_record,
    wire_size,
)
from marketplace.platform.clock import EpochSeconds
from tests.support.world import metering_record

LICENSE = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"


def stored(**changes: Any) -> MeteringRecord:
    values = {
        "timestamp": 1795316400,
        "dimension": "api_calls",
        "quantity": 10,
        "license_arn": LICENSE,
        "account_id": "111122223333",
    }
    return metering_record(**{**values, **changes})


def entry(number: int, *, refuse_at: int = 0, product: str = "p", licensed: bool = True) -> DueEntry:
    return DueEntry(
        Key(f"SUB#{number:05d}", "HOUR#1#d"),
        UNSEALED,
        "open",
        EpochSeconds(refuse_at),
        1,
        product,
        licensed,
        EpochSeconds(0),
    )


def sendable(size: int) -> Sendable:
    wire = {"Timestamp": 0, "Dimension": "d", "Quantity": 1, "CustomerIdentifier": "c"}
    return Sendable(stored(), wire, size, doubtful=False)


def test_a_licence_record_names_licence_and_account_and_never_a_product() -> None:
    assert wire_record(stored(), []) == {
        "Timestamp": 1795316400,
        "Dimension": "api_calls",
        "Quantity": 10,
        "LicenseArn": LICENSE,
        "CustomerAWSAccountId": "111122223333",
    }


def test_a_legacy_record_names_the_customer_identifier_only() -> None:
    record = wire_record(stored(license_arn=None, customer_identifier="X01"), [])
    assert record == {"Timestamp": 1795316400, "Dimension": "api_calls", "Quantity": 10, "CustomerIdentifier": "X01"}


def test_allocations_sum_to_the_quantity_with_an_untagged_rest() -> None:
    record = wire_record(stored(), [Allocation(7, (("a", "1"), ("b", "2")))])
    assert record["UsageAllocations"] == [
        {"AllocatedUsageQuantity": 7, "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]},
        {"AllocatedUsageQuantity": 3},
    ]
    exact = wire_record(stored(quantity=7), [Allocation(7, (("a", "1"),))])
    assert [allocation["AllocatedUsageQuantity"] for allocation in exact["UsageAllocations"]] == [7]


@pytest.mark.parametrize("changes", [{"account_id": None}, {"license_arn": None}])
def test_a_record_without_an_identity_is_not_sent(changes: dict[str, None]) -> None:
    with pytest.raises(UnsendableError):
        wire_record(stored(**changes), [])


def test_allocations_beyond_the_quantity_are_not_sent() -> None:
    with pytest.raises(UnsendableError):
        wire_record(stored(), [Allocation(11, (("a", "1"),))])


@given(st.integers(0, 1000), st.lists(st.integers(0, 50), max_size=20))
def test_the_same_stored_data_gives_the_same_bytes(rest: int, parts: list[int]) -> None:
    allocations = [Allocation(quantity, (("k", str(n)),)) for n, quantity in enumerate(parts)]
    record = stored(quantity=rest + sum(parts))
    again = MeteringRecord.from_item(record.to_item())
    first, second = wire_record(record, allocations), wire_record(again, list(allocations))
    assert json.dumps(first) == json.dumps(second)
    assert sum(part["AllocatedUsageQuantity"] for part in first.get("UsageAllocations", [])) in {0, first["Quantity"]}
    assert wire_size(first) >= len(json.dumps(first))


def test_an_echoed_record_is_recognised_in_every_form_of_its_arn() -> None:
    sent = wire_record(stored(), [])
    echoed = {**sent, "LicenseArn": LICENSE.removeprefix("arn:").replace("license:l-", "license/l-")}
    assert result_key(echoed) == result_key(sent)
    assert result_key({**sent, "Timestamp": sent["Timestamp"] + 3600}) != result_key(sent)
    assert result_key({**sent, "Dimension": "API_CALLS"}) != result_key(sent)


# What is stored

names = st.text("abcdef", min_size=1)
moments = st.integers(1, 2**40).map(EpochSeconds)


@given(
    st.builds(
        metering_record,
        quantity=st.integers(0, MAX_QUANTITY),
        records=st.integers(0, 1000),
        license_arn=st.none() | names,
        due_at=st.none() | moments,
        settled_at=st.none() | moments,
        tag_sets=st.integers(0, 2499),
        tag_keys=st.frozensets(names, max_size=5),
        reason=st.none() | names,
    )
)
def test_a_record_is_read_back_as_it_was_written(record: MeteringRecord) -> None:
    assert MeteringRecord.from_item(record.to_item()) == record


def test_a_record_without_tags_has_no_attributes_for_them() -> None:
    """A transaction that creates the first tag set needs `tag_sets` to be missing."""
    item = metering_record(quantity=0, records=0).to_item()
    assert (item["quantity"], item["records"]) == ({"N": "0"}, {"N": "0"})
    assert not {"tag_sets", "tag_bytes", "tag_keys", "untagged_records", "reason", "settled_at"} & set(item)


@pytest.mark.parametrize("name", ["dimension", "hour", "quantity", "state", "seal", "timestamp", "refuse_at"])
def test_a_record_that_lacks_an_attribute_is_invalid(name: str) -> None:
    item = metering_record().to_item()
    del item[name]
    with pytest.raises(InvalidRecordError, match=name):
        MeteringRecord.from_item(item)


@pytest.mark.parametrize("name", ["hour", "timestamp", "tag_sets", "settled_at"])
def test_a_record_with_a_number_in_another_form_is_invalid(name: str) -> None:
    with pytest.raises(InvalidRecordError, match=name):
        MeteringRecord.from_item({**metering_record().to_item(), name: {"S": "soon"}})


def test_a_settled_record_is_out_of_the_index_and_has_no_schedule() -> None:
    open_record = metering_record(due_shard="00", due_at=EpochSeconds(5), reason="CustomerNotSubscribed")
    settled = MeteringRecord.from_item(open_record.as_metered(EpochSeconds(7), "aws-id"))
    assert (settled.state, settled.settled_at, settled.metering_record_id) == ("metered", 7, "aws-id")
    assert (settled.due_shard, settled.due_at, settled.reason) == (None, None, None)
    with pytest.raises(ValueError, match="not due"):
        _ = settled.schedule


def test_a_schedule_that_a_record_has_already_needs_no_change() -> None:
    record = metering_record(due_shard="00", due_at=EpochSeconds(5))
    assert record.rescheduled(record.schedule) is None


def test_a_seal_tells_open_from_doubtful_from_clear() -> None:
    assert not in_doubt(UNSEALED)
    assert in_doubt("token")
    assert not in_doubt(cleared("token"))
    assert cleared(cleared("token")) == cleared("token")


def test_a_call_holds_one_product_and_one_integration() -> None:
    entries = [entry(n, product="pq"[n % 2], licensed=n % 3 > 0) for n in range(60)]
    for batch in batches(entries):
        assert len({one.group for one in batch}) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("pq"), st.booleans()), max_size=120))
def test_batches_are_full_complete_and_soonest_refusal_first(work: list[tuple[int, str, bool]]) -> None:
    entries = [entry(n, refuse_at=r, product=p, licensed=li) for n, (r, p, li) in enumerate(work)]
    filled = batches(entries)
    assert sorted(one.key for batch in filled for one in batch) == sorted(one.key for one in entries)
    for group in {one.group for one in entries}:
        of_group = [batch for batch in filled if batch[0].group == group]
        assert sum(len(batch) < 25 for batch in of_group) <= 1
        times = [one.refuse_at for batch in of_group for one in batch]
        assert times == sorted(times)
    assert [batch[0].refuse_at for batch in filled] == sorted(batch[0].refuse_at for batch in filled)


@given(st.lists(st.integers(1, 900_000), max_size=80))
def test_requests_keep_within_25_records_and_one_megabyte(sizes: list[int]) -> None:
    """botocore model, BatchMeterUsageRequest: at most 25 records, less than 1 MB."""
    records = [sendable(size) for size in sizes]
    requests = split_by_size(records)
    assert [record for request in requests for record in request] == records
    for request in requests:
        assert 1 <= len(request) <= 25
        assert sum(record.size for record in request) < MAX_REQUEST_BYTES
