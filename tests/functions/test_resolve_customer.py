"""The buyer's registration as API Gateway calls it: the whole way, every error, and nothing told to the logs."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.platform import clients
from marketplace.platform.clock import iso
from marketplace.platform.errors import NoAnswerError
from marketplace.registration import routes
from marketplace.registration.contacts import MAX_CONTACTS
from marketplace.subscriptions.recheck_queue import Requests
from tests.support.deployed import FORM, Deployed, deployed, http_event, sample
from tests.support.storefront import counted
from tests.support.tables import Tables


def with_token(event: dict[str, Any], token: str) -> dict[str, Any]:
    """A sample event with a token that the emulator gave out."""
    body = f"x-amzn-marketplace-token={quote(token, safe='')}"
    event["body"] = base64.b64encode(body.encode()).decode() if event["isBase64Encoded"] else body
    return event


def page(deployment: Deployed, code: str, query: str = "") -> dict[str, Any]:
    return deployment.buyer(http_event("GET /register/{code}", path={"code": code}, query=query))


def submit(deployment: Deployed, code: str, **fields: str) -> dict[str, Any]:
    body = urlencode(fields)
    return deployment.buyer(http_event("POST /register/{code}", path={"code": code}, headers=FORM, body=body))


@pytest.mark.parametrize("name", ["registration_form", "registration_form_base64"])
def test_a_buyer_is_sent_on_to_the_landing_page(deployment: Deployed, name: str) -> None:
    answer = deployment.buyer(with_token(sample(name), deployment.token()))

    assert answer["statusCode"] == 303
    assert re.fullmatch(r"register/[A-Za-z0-9_-]{32}", answer["headers"]["location"])
    (message,) = deployment.messages()
    assert message["reason"] == "registered"


def test_a_token_whose_plus_signs_became_spaces_is_read(deployment: Deployed) -> None:
    event = sample("registration_form")
    token = deployment.token()
    deployment.marketplace.tokens.add("to+ken+/==", next(iter(deployment.marketplace.purchases.all())).id, 2**40)

    event["body"] = "x-amzn-marketplace-token=to+ken+/=="

    assert token
    assert deployment.buyer(event)["statusCode"] == 303


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("https://seller.example/signup", "https://seller.example/signup?registration="),
        ("https://seller.example/signup?plan=pro", "https://seller.example/signup?plan=pro&registration="),
    ],
)
def test_with_a_sign_up_page_the_buyer_is_sent_there(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables, url: str, start: str
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, SIGN_UP_URL=url) as deployment:
        location = deployment.register(deployment.token())["headers"]["location"]

    assert re.fullmatch(rf"{re.escape(start)}[A-Za-z0-9_-]{{32}}", location)


def test_a_warm_registration_makes_three_calls(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    token = deployment.token()
    calls: list[str] = []

    def counting(name: str) -> Any:
        original = getattr(clients, name)

        def made(*given: Any) -> Any:
            client = original(*given)
            counted(client, calls.append)
            return client

        return made

    for name in ("dynamodb", "sqs", "metering_for_registration"):
        monkeypatch.setattr(clients, name, counting(name))

    for _ in range(2):
        calls.clear()
        assert deployment.register(token)["statusCode"] == 303

    assert calls == ["ResolveCustomer", "TransactWriteItems", "SendMessage"]


def test_a_free_trial_stands_in_the_claims_answer_at_once(deployment: Deployed) -> None:
    purchase = deployment.marketplace.purchases.subscribe(
        "ca2payasyougoproduct00000", "444455556666", free_trial_days=14
    )
    code = deployment.register(deployment.marketplace.registration_token(purchase.id))["headers"]["location"]
    event = http_event(
        "POST /registrations/{code}/claim",
        path={"code": code.removeprefix("register/")},
        headers={"content-type": "application/json"},
        body=json.dumps({"tenant_id": "acme"}),
    )
    claimed = json.loads(deployment.seller(event)["body"])
    assert claimed["free_trial"] is True
    assert claimed["free_trial_ends_at"] == iso(int(purchase.free_trial_until or 0))


def test_the_landing_page_takes_the_contact_and_confirms_it(deployment: Deployed) -> None:
    code = deployment.code()

    shown = page(deployment, code)
    saved = submit(deployment, code, email="jo@buyer.example", company="Example & Sons")
    confirmed = page(deployment, code, query=saved["headers"]["location"].removeprefix("?"))

    assert shown["statusCode"] == 200
    assert "Finish setting up your account" in shown["body"]
    assert saved["statusCode"] == 303
    assert confirmed["statusCode"] == 200
    assert "jo@buyer.example" in confirmed["body"]
    assert page(deployment, code, query="saved=1")["body"] == confirmed["body"]


def test_details_can_be_changed_while_the_code_lives(deployment: Deployed) -> None:
    code = deployment.code()
    submit(deployment, code, email="jo@buyer.example", company="Example")

    edit = page(deployment, code)
    submit(deployment, code, email="kim@buyer.example")

    assert 'value="jo@buyer.example"' in edit["body"]
    assert "kim@buyer.example" in page(deployment, code, query="saved=1")["body"]


def test_a_form_that_was_sent_too_often_says_whom_to_write_to(deployment: Deployed) -> None:
    code = deployment.code()
    for number in range(MAX_CONTACTS):
        assert submit(deployment, code, email=f"jo{number}@buyer.example")["statusCode"] == 303

    refused = submit(deployment, code, email="kim@buyer.example")

    assert refused["statusCode"] == 409
    assert "help@seller.example" in refused["body"]
    assert "kim@buyer.example" not in refused["body"] + page(deployment, code, query="saved=1")["body"]
    assert '"message":"TooManyContacts"' in deployment.logged


def test_a_contact_is_told_by_a_message_without_what_was_entered(deployment: Deployed) -> None:
    code = deployment.code()
    submit(deployment, code, email="jo@buyer.example")

    told = [message for message in deployment.messages() if message["reason"] == "contact_provided"]

    assert [set(message) for message in told] == [{"marketplace_request", "subscription_id", "reason"}]


def test_a_contact_whose_message_the_queue_did_not_take_is_to_be_sent_again(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = deployment.code()

    def down(*_: Any, **__: Any) -> None:
        raise NoAnswerError("ConnectTimeoutError")

    with monkeypatch.context() as outage:
        outage.setattr(Requests, "look_again", down)
        assert submit(deployment, code, email="jo@buyer.example")["statusCode"] == 503
    assert submit(deployment, code, email="jo@buyer.example")["statusCode"] == 303


def test_another_code_of_the_same_subscription_does_not_show_what_was_typed(deployment: Deployed) -> None:
    purchase = deployment.marketplace.purchases.subscribe(provision=True)
    first, second = deployment.code(purchase), deployment.code(purchase)
    submit(deployment, first, email="jo@buyer.example")

    assert "jo@buyer.example" not in page(deployment, second)["body"]
    assert "Finish setting up your account" in page(deployment, second, query="saved=1")["body"]


def test_a_wrong_address_is_said_beside_the_field_with_what_was_typed_kept(deployment: Deployed) -> None:
    answer = submit(deployment, deployment.code(), email="jo@localhost", company="<b>Example</b>")

    assert answer["statusCode"] == 400
    assert "Enter an e-mail address like name@example.com." in answer["body"]
    assert 'value="&lt;b&gt;Example&lt;/b&gt;"' in answer["body"]


def test_whoever_comes_without_aws_marketplace_is_shown_the_way(deployment: Deployed) -> None:
    answer = deployment.buyer(sample("register_get"))

    assert answer["statusCode"] == 200
    assert "Start from AWS Marketplace" in answer["body"]
    assert answer["headers"]["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", ["registration_page_get", "registration_page_post"])
def test_an_unknown_code_gets_a_page_that_says_how_to_get_another(deployment: Deployed, name: str) -> None:
    answer = deployment.buyer(sample(name))

    assert answer["statusCode"] == 404
    assert "Set up your account" in answer["body"]


def test_an_expired_code_is_as_good_as_unknown(deployment: Deployed) -> None:
    code = deployment.code()
    deployment.dynamodb.update_item(
        TableName=deployment.tables.subscriptions,
        Key=keys.registration(code).item(),
        UpdateExpression="SET expires_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )

    assert page(deployment, code)["statusCode"] == submit(deployment, code, email="a@b.example")["statusCode"] == 404


def error_of(answer: dict[str, Any]) -> tuple[int, str]:
    return answer["statusCode"], json.loads(answer["body"])["error"]["code"]


JSON = {"accept": "application/json"}


def test_errors_are_json_for_those_who_ask(deployment: Deployed) -> None:
    def post(body: str | None, **given: Any) -> tuple[int, str]:
        return error_of(deployment.buyer(http_event("POST /register", headers={**FORM, **JSON}, body=body, **given)))

    assert post(None) == (400, "token_missing")
    assert post("") == (400, "token_missing")
    assert post("other=field") == (400, "token_missing")
    assert post("x-amzn-marketplace-token=+") == (400, "token_missing")
    assert post("x-amzn-marketplace-token=%ff") == (400, "form_unreadable")
    assert post("x-amzn-marketplace-token=" + "x" * 16_384) == (413, "request_too_large")
    assert post("x-amzn-marketplace-token=nonsense") == (400, "token_invalid")
    assert error_of(deployment.register(deployment.token(lifetime=-1), **JSON)) == (400, "token_expired")
    assert error_of(deployment.buyer(http_event("GET /elsewhere", headers=JSON))) == (404, "not_found")


def test_a_product_of_another_seller_is_refused(
    monkeypatch: pytest.MonkeyPatch, moto_dynamodb: Any, moto_tables: Tables
) -> None:
    with deployed(monkeypatch, moto_dynamodb, moto_tables, PRODUCT_CODES="another") as deployment:
        answer = deployment.register(deployment.token())

    assert answer["statusCode"] == 403
    assert "set up elsewhere" in answer["body"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("throttle", "busy"),
        ("internal_error", "unavailable"),
        ("unavailable", "unavailable"),
        ("timeout_before", "unavailable"),
        ("drop_after", "unavailable"),
        ("access_denied", "unavailable"),
        ("disabled_api", "unavailable"),
        ("malformed", "unavailable"),
    ],
)
def test_an_outage_asks_the_buyer_to_come_back(deployment: Deployed, fault: str, code: str) -> None:
    token = deployment.token()
    deployment.marketplace.faults.plan([{"fault": fault, "operation": "ResolveCustomer"}])

    answer = deployment.register(token, **JSON)

    assert error_of(answer) == (503, code)
    assert int(answer["headers"]["retry-after"]) > 0
    assert deployment.register(token)["statusCode"] == 303


def test_a_fault_of_our_own_is_a_page_without_a_word_of_it(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any, request: Any) -> None:
        raise RuntimeError(f"secret {request.raw_body}")

    monkeypatch.setattr(routes.BuyerRoutes, "answer", broken)

    answer = deployment.register("the-token")

    logged = deployment.logged
    assert answer["statusCode"] == 500
    assert "secret" not in answer["body"] + logged
    assert "the-token" not in answer["body"] + logged
    assert "RuntimeError at broken:" in logged


def test_a_deployment_without_settings_still_answers_with_a_page(
    deployment: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBSCRIPTIONS_TABLE")

    answer = deployment.buyer(sample("register_get"))

    assert answer["statusCode"] == 500
    assert "Something went wrong on our side" in answer["body"]


def test_neither_token_nor_code_nor_buyer_is_logged_or_shown(
    deployment: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    token = deployment.token()
    answers = [deployment.register(token)]
    code = answers[0]["headers"]["location"].rpartition("/")[2]
    answers += [
        page(deployment, code),
        submit(deployment, code, email="jo@nowhere"),
        submit(deployment, code, email="jo@buyer.example", phone="+1 206 555 0100"),
        page(deployment, code, query="saved=1"),
        deployment.register("an-invalid-token"),
        deployment.register(deployment.token(lifetime=-1)),
    ]

    printed = capsys.readouterr()
    text = deployment.logged + printed.out + printed.err
    assert '"message":"RegistrationResolved"' in text
    assert '"RegistrationResolved":[1.0]' in text
    for secret in (token, code, "an-invalid-token", "jo@", "206 555", "111122223333", "license:l-", "agmt-"):
        assert secret not in text, secret
    for answer in answers:
        shown = answer["body"] + json.dumps(answer["headers"])
        for secret in (token, "111122223333", "sub-", "agmt-", "license-manager", "set-cookie"):
            assert secret not in shown, secret


ANY_EVENT = st.fixed_dictionaries(
    {},
    optional={
        "routeKey": st.sampled_from(
            ["POST /register", "GET /register", "GET /register/{code}", "POST /register/{code}", "$default"]
        )
        | st.text(),
        "pathParameters": st.none() | st.dictionaries(st.just("code"), st.text()),
        "headers": st.none() | st.dictionaries(st.sampled_from(["accept", "content-type"]), st.text()),
        "rawQueryString": st.text(),
        "body": st.none()
        | st.text()
        | st.binary().map(lambda raw: base64.b64encode(raw).decode())
        | st.text().map(lambda text: urlencode({"x-amzn-marketplace-token": text, "email": text})),
        "isBase64Encoded": st.booleans() | st.none(),
    },
)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=ANY_EVENT)
def test_no_request_is_answered_with_a_fault(deployment: Deployed, event: dict[str, Any]) -> None:
    answer = deployment.buyer(event)

    assert answer["statusCode"] < 500
    json.dumps(answer)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(["email", "company", "name", "phone"]), st.text()))
def test_no_form_is_answered_with_a_fault(deployment: Deployed, fields: dict[str, str]) -> None:
    code = getattr(deployment, "fuzzed_code", None) or deployment.code()
    deployment.fuzzed_code = code  # type: ignore[attr-defined]

    assert submit(deployment, code, **fields)["statusCode"] in {303, 400, 413}
