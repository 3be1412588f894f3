"""The wire: targets, signatures, regions, throttling. Sources: botocore models, AWS common errors, quotas."""

import http.client
import json
from itertools import count, product

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace_emulator import Clock, Drop, Marketplace, Reply, serve
from marketplace_emulator.server import MAX_BODY
from marketplace_emulator.wire import TARGETS

METER = "AWSMPMeteringService.BatchMeterUsage"
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=key/20261122/us-east-1/aws-marketplace/aws4_request, SignedHeaders=host, Signature=0"
)
PAYG = "ca2payasyougoproduct00000"


def raw(server, body=b"{}", method="POST", path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response, text


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (METER, "application/x-amz-json-1.1"),
        ("AWSMPEntitlementService.GetEntitlements", "application/x-amz-json-1.1"),
        ("AWSMPCommerceService_v20200301.SearchAgreements", "application/x-amz-json-1.0"),
    ],
)
def test_errors_come_as_aws_json(server, target, kind):
    response, text = raw(server, X_Amz_Target=target, Authorization=SIGNED)
    assert response.status == 400
    assert response.getheader("Content-Type") == kind
    assert response.getheader("x-amzn-errortype") == json.loads(text)["__type"]
    assert response.getheader("x-amzn-RequestId")
    assert json.loads(text)["message"]


def test_an_unsigned_call_is_refused(server):
    response, text = raw(server, X_Amz_Target=METER)
    assert (response.status, json.loads(text)["__type"]) == (403, "MissingAuthenticationToken")


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("Basic abc", "IncompleteSignatureException"),
        (SIGNED.replace("aws-marketplace/", "sqs/"), "InvalidSignatureException"),
    ],
)
def test_a_call_signed_for_something_else_is_refused(server, authorization, code):
    _, text = raw(server, X_Amz_Target=METER, Authorization=authorization)
    assert json.loads(text)["__type"] == code


def test_an_unknown_operation_is_refused(emulator):
    answer = emulator.call("AWSMPMeteringService.RegisterUsage")
    assert (answer.status, answer.error) == (404, "UnknownOperationException")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"UsageRecords": NaN}', b"null"])
def test_a_body_that_is_no_json_object_is_refused(emulator, body):
    answer = emulator.m.handle(METER, body)
    assert isinstance(answer, Reply)
    assert answer.error == "SerializationException"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["UsageRecords", "ProductCode", "RegistrationToken", "Filter", "MaxResults", "NextToken", "filters", "sort"]
)
record_names = st.sampled_from(
    [
        "Timestamp",
        "Dimension",
        "Quantity",
        "LicenseArn",
        "CustomerAWSAccountId",
        "UsageAllocations",
        "QuantityAsDecimal",
    ]
)


@settings(max_examples=120)
@given(
    target=st.sampled_from(sorted(TARGETS)),
    request=st.dictionaries(names, json_values, max_size=4),
    record=st.dictionaries(record_names, json_values),
)
def test_whatever_is_sent_is_answered(target, request, record):
    marketplace = Marketplace(Clock.frozen("2026-11-22T12:00:00Z"))
    purchase = marketplace.purchases.subscribe(PAYG, provision=True)
    known = {"Dimension": "api_calls", "LicenseArn": purchase.license_arn, "CustomerAWSAccountId": purchase.account_id}
    for body in (request, {"UsageRecords": [known | record]}):
        answer = marketplace.handle(target, json.dumps(body).encode())
        assert isinstance(answer, Reply)
        assert answer.status in (200, 400, 404)


# -- regions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [item for item in TARGETS if "Metering" not in item and "cloudtrail" not in item])
def test_entitlements_and_agreements_exist_in_one_region_only(emulator, target):
    answer = emulator.m.handle(target, b"{}", "eu-west-1")
    assert answer == Drop(accepted=False)
    assert emulator.m.calls[-1].outcome == "no endpoint in this region"


def test_boto3_gets_no_answer_from_a_region_without_an_endpoint(client):
    with pytest.raises(ConnectionClosedError):
        client("marketplace-entitlement", region="eu-west-1").get_entitlements(ProductCode="x")


def test_the_region_is_the_one_the_call_was_signed_for(emulator, client):
    record = emulator.record(emulator.buy()) | {"Timestamp": emulator.clock.now()}
    client("meteringmarketplace", region="ap-southeast-2").batch_meter_usage(UsageRecords=[record])
    assert emulator.m.ledger.records[0].region == "ap-southeast-2"


def test_metering_can_be_off_in_a_region(emulator, client):
    emulator.m.settings.update({"metering_regions": ["us-east-1"]})
    abroad = client("meteringmarketplace", region="eu-west-1")
    with pytest.raises(abroad.exceptions.DisabledApiException):
        abroad.resolve_customer(RegistrationToken="x")
    with pytest.raises(abroad.exceptions.DisabledApiException):
        abroad.batch_meter_usage(UsageRecords=[])
    assert emulator.send() == {"Results": [], "UnprocessedRecords": []}


# -- throttling ---------------------------------------------------------------------------------------------


@pytest.fixture
def ticking():
    """A marketplace whose real time is a list with one number."""
    real = [0.0]
    marketplace = Marketplace(Clock.frozen("2026-11-22T12:00:00Z"), monotonic=lambda: real[0])
    marketplace.settings.update({"metering_rate": 10, "entitlement_rate": 20})
    return marketplace, real


def allowed(marketplace, target=METER, region="us-east-1", body=b'{"UsageRecords": []}'):
    for number in count():
        answer = marketplace.handle(target, body, region)
        if answer.error == "ThrottlingException":
            return number
    return None


def test_ten_calls_a_second_and_region(ticking):
    marketplace, real = ticking
    assert allowed(marketplace) == 10
    assert allowed(marketplace, region="eu-west-1") == 10
    real[0] += 0.25
    assert allowed(marketplace) == 2
    real[0] += 100
    assert allowed(marketplace) == 10


def test_the_settable_clock_refills_nothing(ticking):
    marketplace, _ = ticking
    allowed(marketplace)
    marketplace.clock.advance("P1D")
    assert allowed(marketplace) == 0


def test_twenty_entitlement_calls_a_second(ticking):
    marketplace, _ = ticking
    assert allowed(marketplace, "AWSMPEntitlementService.GetEntitlements", body=b"{}") == 20


def test_throttling_raises_what_boto3_knows(emulator, metering):
    emulator.m._monotonic = lambda: 0.0
    emulator.m.reset()
    emulator.m.settings.update({"metering_rate": 1})
    metering.batch_meter_usage(UsageRecords=[])
    with pytest.raises(metering.exceptions.ThrottlingException):
        metering.batch_meter_usage(UsageRecords=[])


def test_a_new_marketplace_throttles_nobody(emulator):
    assert all(emulator.send() == {"Results": [], "UnprocessedRecords": []} for _ in range(100))


# -- the server ---------------------------------------------------------------------------------------------


def test_a_connection_stays_open_for_many_calls(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    ports = set()
    for _ in range(3):
        connection.request("GET", "/admin/health")
        connection.getresponse().read()
        ports.add(connection.sock.getsockname()[1])
    connection.close()
    assert len(ports) == 1


def test_a_body_needs_a_length(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_a_body_is_limited(server):
    response, text = raw(server, Content_Length=str(MAX_BODY + 1))
    assert (response.status, response.getheader("Connection")) == (413, "close")
    assert str(MAX_BODY) in json.loads(text)["error"]


def test_a_chunked_body_is_refused(server):
    response, _ = raw(server, iter([b"{}"]), path="/admin/reset")
    assert (response.status, response.getheader("Connection")) == (411, "close")


def test_the_body_of_one_request_is_not_taken_for_the_next(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for method, path in (
        ("GET", "/"),
        ("PUT", "/ui/clock"),
        ("POST", "/static/style.css"),
        ("DELETE", "/admin/faults"),
    ):
        connection.request(method, path, b"GET /")
        connection.getresponse().read()
        connection.request("GET", "/admin/health")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
    connection.close()


def test_a_truncated_answer_announces_its_whole_length(emulator, server):
    emulator.m.faults.plan([{"fault": "truncate"}])
    with pytest.raises(http.client.IncompleteRead) as caught:
        raw(server, b'{"UsageRecords": []}', X_Amz_Target=METER, Authorization=SIGNED)
    assert len(caught.value.partial) in (caught.value.expected, caught.value.expected - 1)


def test_only_the_static_files_are_served(server):
    response, text = raw(server, None, "GET", "/static/style.css")
    assert (response.status, response.getheader("Content-Type")) == (200, "text/css; charset=utf-8")
    assert b":root" in text
    for path in ("/static/../server.py", "/static/%2e%2e%2fserver.py", "/static/none.css", "/static"):
        assert raw(server, None, "GET", path)[0].status == 404


def test_an_address_that_is_taken_is_an_error(server):
    with pytest.raises(OSError, match="Address already in use"):
        serve(port=server.port)


def test_the_call_log_keeps_operation_region_and_outcome(emulator):
    emulator.send(emulator.record(emulator.buy()))
    emulator.send(emulator.record(emulator.buy(), dimension="nope"), region="eu-west-1")
    first, second = emulator.m.calls
    assert (first.operation, first.region, first.outcome, first.records) == ("BatchMeterUsage", "us-east-1", "ok", 1)
    assert (second.region, second.outcome) == ("eu-west-1", "InvalidUsageDimensionException")
    assert b"LicenseArn" in first.body


def test_the_call_log_is_bounded(emulator):
    for _ in range(1100):
        emulator.send()
    assert len(emulator.m.calls) == 1000
    assert emulator.m.calls[-1].seq == 1100


def test_an_error_of_the_server_itself_is_logged_and_answered(emulator, metering, capsys):
    del emulator.m._operations["BatchMeterUsage"]
    with pytest.raises(ClientError) as caught:
        metering.batch_meter_usage(UsageRecords=[])
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case",
    list(product(["/purchases/purchase-1", "/admin/bill"], [RuntimeError, TypeError, ValueError, OverflowError])),
)
def test_an_error_of_a_page_or_the_admin_api_is_logged_and_answered(emulator, server, monkeypatch, capsys, case):
    path, error = case

    def broken(_=None):
        raise error("broken on purpose")

    emulator.buy()
    monkeypatch.setattr(emulator.m.ledger, "bill", broken)
    response, text = raw(server, None, "GET", path)
    assert (response.status, list(json.loads(text))) == (500, ["error"])
    assert "broken on purpose" in capsys.readouterr().err
