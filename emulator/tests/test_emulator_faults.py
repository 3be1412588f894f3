"""Faults on demand, in process and through boto3."""

import json

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from marketplace_emulator import AdminError, Drop
from marketplace_emulator.faults import FAULTS

TARGET = "AWSMPMeteringService.BatchMeterUsage"


@pytest.fixture
def sent(emulator):
    """A usage record as boto3 sends it."""
    return emulator.record(emulator.buy()) | {"Timestamp": emulator.clock.now()}


def plan(emulator, **fault):
    emulator.m.faults.plan([{"operation": "BatchMeterUsage", **fault}])


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("throttle", ("ThrottlingException", 400)),
        ("internal_error", ("InternalServiceErrorException", 500)),
        ("disabled_api", ("DisabledApiException", 400)),
        ("access_denied", ("AccessDeniedException", 400)),
        ("expired_token_credentials", ("ExpiredTokenException", 403)),
        ("unrecognized_credentials", ("UnrecognizedClientException", 403)),
    ],
)
def test_errors_before_acceptance(emulator, sent, metering, fault, answer):
    plan(emulator, fault=fault)
    with pytest.raises(ClientError) as caught:
        metering.batch_meter_usage(UsageRecords=[sent])
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == answer
    assert emulator.m.ledger.records == []
    assert metering.batch_meter_usage(UsageRecords=[sent])["Results"][0]["Status"] == "Success"


def test_a_500_after_acceptance(emulator, sent, metering):
    plan(emulator, fault="internal_error_after")
    with pytest.raises(metering.exceptions.InternalServiceErrorException):
        metering.batch_meter_usage(UsageRecords=[sent])
    assert len(emulator.m.ledger.records) == 1


def test_a_load_balancer_answers_503_in_html(emulator, sent, metering):
    plan(emulator, fault="unavailable")
    with pytest.raises(ClientError) as caught:
        metering.batch_meter_usage(UsageRecords=[sent])
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


@pytest.mark.parametrize(
    ("fault", "accepted"), [("drop_before", 0), ("drop_after", 1), ("timeout_before", 0), ("timeout_after", 1)]
)
def test_lost_answers_in_process(emulator, fault, accepted):
    record = emulator.record(emulator.buy())
    plan(emulator, fault=fault, seconds=7)
    answer = emulator.send(record)
    assert isinstance(answer, Drop)
    assert answer.accepted == bool(accepted)
    assert answer.kind == ("timeout" if fault.startswith("timeout") else "closed")
    assert answer.seconds == (7 if fault.startswith("timeout") else 0)
    assert len(emulator.m.ledger.records) == accepted
    assert emulator.statuses(record) == ["Success"]
    assert len(emulator.m.ledger.records) == 1


@pytest.mark.parametrize(("fault", "accepted"), [("drop_before", 0), ("drop_after", 1)])
def test_a_closed_connection_over_http(emulator, sent, metering, fault, accepted):
    plan(emulator, fault=fault)
    with pytest.raises(ConnectionClosedError):
        metering.batch_meter_usage(UsageRecords=[sent])
    assert len(emulator.m.ledger.records) == accepted


@pytest.mark.parametrize(("fault", "accepted"), [("timeout_before", 0), ("timeout_after", 1)])
def test_a_timeout_over_http(emulator, sent, client, fault, accepted):
    metering = client("meteringmarketplace", read_timeout=0.5)
    plan(emulator, fault=fault)
    with pytest.raises(ReadTimeoutError):
        metering.batch_meter_usage(UsageRecords=[sent])
    while not emulator.m.calls:
        pass
    assert len(emulator.m.ledger.records) == accepted


@pytest.mark.parametrize("fault", ["truncate", "malformed"])
def test_an_answer_that_is_cut_or_not_json_reaches_a_boto3_caller_without_results(emulator, sent, metering, fault):
    plan(emulator, fault=fault)
    assert set(metering.batch_meter_usage(UsageRecords=[sent])) == {"ResponseMetadata"}
    assert len(emulator.m.ledger.records) == 1


def test_a_slow_answer(emulator, sent, metering):
    plan(emulator, fault="slow", seconds=0.01)
    assert metering.batch_meter_usage(UsageRecords=[sent])["Results"][0]["Status"] == "Success"


# -- per record ---------------------------------------------------------------------------------------------


@pytest.fixture
def three(emulator):
    purchase = emulator.buy("ca1contractandconsumption")
    return [emulator.record(purchase, 5, name) for name in ("api_calls", "users", "storage_gb_hours")]


@pytest.mark.parametrize(("fault", "billed"), [("unprocessed", 1), ("unprocessed_after", 3)])
def test_unprocessed_records(emulator, three, fault, billed):
    plan(emulator, fault=fault, indexes=[0, 2])
    answer = emulator.send(*three)
    assert answer["UnprocessedRecords"] == [three[0], three[2]]
    assert [item["UsageRecord"] for item in answer["Results"]] == [three[1]]
    assert len(emulator.m.ledger.records) == billed
    assert emulator.send(*answer["UnprocessedRecords"])["UnprocessedRecords"] == []
    assert len(emulator.m.ledger.records) == 3


@pytest.mark.parametrize(("fault", "billed"), [("omit", 2), ("omit_after", 3)])
def test_records_in_neither_list(emulator, three, fault, billed):
    plan(emulator, fault=fault, indexes=[1])
    answer = emulator.send(*three)
    assert len(answer["Results"]) == 2
    assert answer["UnprocessedRecords"] == []
    assert len(emulator.m.ledger.records) == billed


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("unknown_status", "AcceptedForReview"),
        ("not_subscribed", "CustomerNotSubscribed"),
        ("duplicate", "DuplicateRecord"),
    ],
)
def test_forced_statuses(emulator, three, fault, status):
    plan(emulator, fault=fault, indexes=[1])
    assert emulator.statuses(*three) == ["Success", status, "Success"]
    assert len(emulator.m.ledger.records) == 2


def test_without_indexes_every_record_is_struck(emulator, three):
    plan(emulator, fault="unprocessed")
    assert len(emulator.send(*three)["UnprocessedRecords"]) == 3


@pytest.mark.parametrize("written", [{"unprocessed": [1]}, {"fault": {"unprocessed": [1]}}])
def test_a_record_fault_can_be_written_short(emulator, three, written):
    plan(emulator, **written)
    assert emulator.send(*three)["UnprocessedRecords"] == [three[1]]


# -- the plan -----------------------------------------------------------------------------------------------


def outcomes(emulator, record, count):
    return [answer if isinstance(answer := emulator.send(record), str) else "ok" for _ in range(count)]


def test_faults_strike_so_many_times_after_so_many_calls(emulator):
    record = emulator.record(emulator.buy())
    plan(emulator, fault="throttle", times=2, skip=1)
    plan(emulator, fault="internal_error")
    bad, worse = "ThrottlingException", "InternalServiceErrorException"
    assert outcomes(emulator, record, 5) == [worse, bad, bad, "ok", "ok"]
    assert emulator.m.faults.planned() == []


def test_a_fault_lasts_until_cleared(emulator):
    record = emulator.record(emulator.buy())
    plan(emulator, fault="throttle", times=None)
    assert outcomes(emulator, record, 50) == ["ThrottlingException"] * 50
    emulator.m.faults.clear()
    assert outcomes(emulator, record, 1) == ["ok"]


def test_chance_is_repeatable_by_its_seed(emulator):
    record = emulator.record(emulator.buy())

    def run(seed):
        emulator.m.faults.clear()
        plan(emulator, fault="throttle", times=None, probability=0.3, seed=seed)
        return outcomes(emulator, record, 60)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 5 < run(1).count("ThrottlingException") < 35


def test_a_fault_is_for_its_operation_and_region(emulator):
    record = emulator.record(emulator.buy())
    emulator.m.faults.plan([{"operation": "GetEntitlements", "fault": "throttle"}])
    plan(emulator, fault="throttle", region="eu-west-1")
    assert outcomes(emulator, record, 1) == ["ok"]
    assert emulator.send(record, region="eu-west-1") == "ThrottlingException"
    answer = emulator.call("AWSMPEntitlementService.GetEntitlements", ProductCode="x")
    assert answer.error == "ThrottlingException"


def test_the_agreement_service_has_its_own_error_names(emulator):
    for fault, code, status in [
        ("throttle", "ThrottlingException", 429),
        ("internal_error", "InternalServerException", 500),
        ("access_denied", "AccessDeniedException", 403),
    ]:
        emulator.m.faults.plan([{"operation": "DescribeAgreement", "fault": fault}])
        answer = emulator.call("AWSMPCommerceService_v20200301.DescribeAgreement", agreementId="x")
        assert (answer.error, answer.status) == (code, status)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "meteor"},
        {"fault": "throttle", "operation": "Dance"},
        {"fault": "throttle", "often": 3},
        {"fault": "unprocessed", "indexes": "all"},
        "throttle",
        {},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(emulator, fault):
    with pytest.raises(AdminError):
        emulator.m.faults.plan([fault])


def test_every_fault_can_be_planned_for_every_operation(emulator):
    purchase = emulator.buy()
    for fault in FAULTS:
        emulator.m.faults.plan([{"fault": fault, "seconds": 0}])
        emulator.m.handle(TARGET, json.dumps({"UsageRecords": [emulator.record(purchase)]}).encode())
        emulator.m.faults.clear()
    assert {call.fault for call in emulator.m.calls} == set(FAULTS)


def test_nothing_listens_after_close(sent, server, metering):
    metering.batch_meter_usage(UsageRecords=[sent])
    server.close()
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        metering.batch_meter_usage(UsageRecords=[sent])
