"""The console: the seller's application in a browser, on the documented API alone."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from typing import Any

import pytest

from local.stack import Stack
from tests.local_stack.browser import Answer, Neighbourhood, call, submit

PRODUCT = "ca1contractandconsumption"


@pytest.fixture(scope="module")
def sold(stack: Stack) -> tuple[str, str, str]:
    """A subscription that is active: its purchase, its registration code, its id."""
    outside = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
    bought = outside.buy(PRODUCT, "111122223333", entitlements={"seats": 10})
    code = outside.register(bought["id"]).rsplit("/", 1)[1]
    outside.advance(120)
    (one,) = outside.get("/subscriptions?status=active")["subscriptions"]
    return bought["id"], code, one["subscription_id"]


def shown(answer: Answer) -> str:
    """What a reader sees of a page."""
    assert answer.status == 200, answer.status
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", answer.text, flags=re.DOTALL))


def followed(console: str, answer: Answer) -> str:
    assert answer.status == 303, answer.text
    return shown(call("GET", f"{console}{answer.headers['location']}"))


def test_a_registered_buyer_is_listed_with_what_the_bus_told(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str]
) -> None:
    assert "Acme Analytics" in shown(call("GET", neighbourhood.console))
    text = shown(call("GET", f"{neighbourhood.console}/events"))
    assert "Registration Resolved" in text
    assert "Subscription Activated" in text
    events = call("GET", f"{neighbourhood.console}/events.json").json()["events"]
    assert {event["source"] for event in events} == {"marketplace.saas"}


def test_signing_up_claims_the_registration(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/sign-up?registration={sold[1]}")
    assert sold[1] in page.text
    assert "AWS account 111122223333 has bought Acme" in shown(page)
    claimed = submit(f"{neighbourhood.console}/sign-up", {"registration": sold[1], "tenant_id": "acme"})

    assert "acme now has this subscription" in followed(neighbourhood.console, claimed)


def test_a_subscription_is_claimed_without_a_code_even_when_every_code_has_expired(
    neighbourhood: Neighbourhood,
) -> None:
    one = active(neighbourhood, "666677778888")
    here = f"{neighbourhood.console}/subscriptions/{one['subscription_id']}"
    neighbourhood.advance(2 * 3600)
    assert "Claim for a tenant" in shown(call("GET", here))

    form = {"tenant_id": "globex", "claim_revision": str(one["claim_revision"])}
    assert "globex now has this subscription" in followed(neighbourhood.console, submit(f"{here}/claim", form))
    assert neighbourhood.get(f"/subscriptions/{one['subscription_id']}")["tenant_id"] == "globex"
    assert "Claim for a tenant" not in shown(call("GET", here))


def test_a_claim_is_released_made_again_and_transferred_with_its_history_shown(neighbourhood: Neighbourhood) -> None:
    bought = neighbourhood.buy(PRODUCT, "777788889999", entitlements={"seats": 10})
    code = neighbourhood.register(bought["id"]).rsplit("/", 1)[1]
    one = neighbourhood.get(f"/registrations/{code}")["subscription_id"]
    here = f"{neighbourhood.console}/subscriptions/{one}"

    def change(action: str, **form: str) -> str:
        revision = neighbourhood.get(f"/subscriptions/{one}")["claim_revision"]
        return followed(
            neighbourhood.console, submit(f"{here}/claim{action}", {"claim_revision": str(revision), **form})
        )

    assert "initech now has" in change("", tenant_id="initech")
    assert "Nobody has it now" in change("/release", tenant_id="initech", reason="lured")
    assert "has changed" in change("/release", tenant_id="initech", reason="again, with a new revision")
    change("", tenant_id="initech")
    text = change("/transfer", tenant_id="initech", to_tenant_id="hooli", reason="merged")

    assert "hooli now has" in text
    for entry in ("Claimed: initech", "Released: nobody, before initech", "lured", "Transferred: hooli", "user/local"):
        assert entry in text
    refused = submit(f"{neighbourhood.console}/sign-up", {"registration": code, "tenant_id": "initech"})
    assert "code is not known" in followed(neighbourhood.console, refused)
    assert submit(f"{here}/claim/elsewhere", {}).status == 404


def test_what_a_buyer_enters_reaches_the_bus_and_the_subscription(neighbourhood: Neighbourhood) -> None:
    bought = neighbourhood.buy(PRODUCT, "555566667777", entitlements={"seats": 10})
    landing = neighbourhood.register(bought["id"])
    for email in ("jo@buyer.example", "kim@buyer.example"):
        assert submit(landing, {"email": email}).status == 303
    neighbourhood.advance(1)

    events = call("GET", f"{neighbourhood.console}/events.json").json()["events"]
    provided = (event["detail"] for event in events if event["detail_type"] == "Contact Provided")
    told = list({detail["id"]: detail for detail in provided}.values())  # published at least once
    assert sorted(detail["contact"]["email"] for detail in told) == ["jo@buyer.example", "kim@buyer.example"]
    contacts = neighbourhood.get(f"/subscriptions/{told[0]['subscription_id']}")["contacts"]
    assert [contact["email"] for contact in contacts] == ["jo@buyer.example", "kim@buyer.example"]
    page = shown(call("GET", f"{neighbourhood.console}/subscriptions/{told[0]['subscription_id']}"))
    assert "kim@buyer.example" in page


def test_a_second_tenant_of_an_account_is_explained_in_words_and_keeps_what_was_typed(
    neighbourhood: Neighbourhood,
) -> None:
    first, second = (active(neighbourhood, "666677779999") for _ in range(2))
    for one in (first, second):
        here = f"{neighbourhood.console}/subscriptions/{one['subscription_id']}"
        form = {"tenant_id": f"tenant of {one['subscription_id']}", "claim_revision": str(one["claim_revision"])}
        answer = submit(f"{here}/claim", form)

    text = call("GET", f"{neighbourhood.console}{answer.headers['location']}").text
    assert "tick “The AWS account belongs to other tenants too”" in text
    assert f'value="tenant of {second["subscription_id"]}"' in text
    assert "share_account&#34;" not in text


def test_a_code_that_is_not_known_is_told(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    refused = submit(f"{neighbourhood.console}/sign-up", {"registration": "x" * 32, "tenant_id": "acme"})

    page = call("GET", f"{neighbourhood.console}{refused.headers['location']}").text
    assert "code is not known" in page
    assert "has arrived" not in page
    assert re.search(rf'type="text" name="registration"[^>]* value="{"x" * 32}"', page)
    assert 'value="acme"' in page


def test_usage_is_reported_metered_and_proven(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    here = f"{neighbourhood.console}/subscriptions/{sold[2]}"
    form = {"dimension": "api_calls", "quantity": "250", "tags": "team=search, env=prod", "id": "r/1?&"}
    text = followed(neighbourhood.console, submit(f"{here}/usage", form))
    assert "Recorded 250 api_calls" in text
    assert "team=search" in text
    assert "counted once" in followed(neighbourhood.console, submit(f"{here}/usage", form))
    assert "Conflict" in followed(neighbourhood.console, submit(f"{here}/usage", {**form, "quantity": "1"}))
    assert "Open" in shown(call("GET", here))

    until = re.search(r'value="(until [^"]+)"', call("GET", here).text)
    assert until
    moved = submit(f"{neighbourhood.console}/clock", {"by": until[1], "back": f"/subscriptions/{sold[2]}"})
    text = followed(neighbourhood.console, moved)
    assert "Metered: 250 api_calls of " in text
    assert "recorded, metered and billed are equal: 250" in text
    (record,) = neighbourhood.ledger(sold[0])
    assert record["quantity"] == 250
    assert record["id"] in text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"dimension": "api_calls", "quantity": "-1"}, "The quantity is a whole number from 0 to 2,147,483,647."),
        ({"dimension": "api_calls", "quantity": "lots"}, "The quantity is a whole number"),
        ({"dimension": "api_calls", "quantity": "5", "timestamp": "2020-01-01T00:00"}, "more than 24 hours ago"),
        ({"dimension": "api_calls", "quantity": "5", "timestamp": "2099-01-01T00:00"}, "in the future"),
        ({"dimension": "api_calls", "quantity": "5", "timestamp": "yesterday"}, "such as 2026-11-22 14:00"),
        ({"dimension": "api_calls", "quantity": "5", "tags": "team"}, "Each tag is a name and a value"),
        ({"dimension": "api_calls", "quantity": "5", "tags": "aws:team=x"}, "Rejected: Tags:"),
        ({"dimension": "api_calls", "quantity": "5", "id": "two words"}, "no spaces"),
        ({"dimension": "api_calls", "quantity": "5", "id": "x" * 129}, "at most 128"),
        ({"dimension": "", "quantity": "5"}, "Choose a dimension"),
    ],
)
def test_usage_that_is_refused_says_why_and_keeps_what_was_typed(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str], form: dict[str, str], said: str
) -> None:
    answer = submit(f"{neighbourhood.console}/subscriptions/{sold[2]}/usage", form)

    page = call("GET", f"{neighbourhood.console}{answer.headers['location']}").text
    assert said in unescape(page)
    assert "Input should" not in page
    assert f'name="quantity" min="0" max="2147483647" required\n      value="{form["quantity"]}"' in page
    for name in ("tags", "timestamp", "id"):
        assert not form.get(name) or f'value="{form[name]}"' in page


def test_everything_that_is_wrong_is_told_at_once(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    form = {"dimension": "", "quantity": "x", "tags": "team", "timestamp": "soon"}
    text = followed(neighbourhood.console, submit(f"{neighbourhood.console}/subscriptions/{sold[2]}/usage", form))

    for said in ("The quantity is", "Choose a dimension", "The time has", "Each tag is"):
        assert said in text


def test_access_is_checked(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    here = f"{neighbourhood.console}/subscriptions/{sold[2]}/access"

    assert "Not allowed" not in shown(call("GET", f"{here}?check=seats&of=10"))
    assert "Not allowed" in shown(call("GET", f"{here}?check=seats&of=11"))
    assert "Not allowed" in shown(call("GET", f"{here}?check=golden_taps"))


def test_an_unknown_record_or_subscription_is_told(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    for path in ("/subscriptions/sub-nobody", "/nowhere", "/purchases/nobody", "/requests/0", "/subscriptions/x/y"):
        answer = call("GET", f"{neighbourhood.console}{path}")
        assert answer.status == 404
        assert "GET /" not in answer.text
    text = shown(call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}?record=nobody"))
    assert "no usage record with that id" in text
    assert "percent-encode" not in text


def test_the_clock_moves_from_here_too(stack: Stack, neighbourhood: Neighbourhood) -> None:
    before = stack.clock.timestamp()
    submit(f"{neighbourhood.console}/clock", {"by": "3600"})
    assert stack.clock.timestamp() == before + 3600
    submit(f"{neighbourhood.console}/clock", {"by": "next_hour", "back": "//elsewhere"})
    assert stack.clock.timestamp() % 3600 == 0


def test_a_redirect_stays_on_the_console(neighbourhood: Neighbourhood) -> None:
    answer = submit(f"{neighbourhood.console}/clock", {"by": "0", "back": "//elsewhere.example"})

    assert answer.headers["location"].startswith("/?notice=")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_another_site_can_t_submit_its_forms(neighbourhood: Neighbourhood, origin: str) -> None:
    answer = call("POST", f"{neighbourhood.console}/clock", "by=3600", {"origin": origin})

    assert answer.status == 403


def test_pages_load_nothing_from_elsewhere(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}")

    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"(?!/|data:|#|http://127\.0\.0\.1)", page.text)
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    assert call("GET", f"{neighbourhood.console}/static/live.js").status == 200
    assert call("GET", f"{neighbourhood.console}/static/../pages.py").status == 404


def test_what_a_buyer_typed_is_shown_as_text(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}?problem=%3Cscript%3Ealert(1)%3C/script%3E")

    assert "<script>alert" not in page.text


def test_usage_records_are_listed_with_those_that_were_rejected(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str]
) -> None:
    neighbourhood.report(
        [
            {"id": "listed-1", "subscription_id": sold[2], "dimension": "users", "quantity": 3},
            {"id": "listed-2", "subscription_id": sold[2], "dimension": "users", "quantity": -3},
        ]
    )

    page = call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}")
    assert f'href="/subscriptions/{sold[2]}?record=listed-1#proof"' in page.text
    assert "listed-2" in page.text
    assert "Where it went" in shown(call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}?record=listed-1"))
    timeline = shown(call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}/timeline"))
    for said in (
        "Recorded: 3 users",
        "Rejected: -3 users",
        "ResolveCustomer",
        "License Updated",
        "Subscription Activated",
    ):
        assert said in timeline


def test_a_request_can_be_opened_with_its_answer_and_as_curl(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str]
) -> None:
    neighbourhood.report([{"id": "opened", "subscription_id": sold[2], "dimension": "users", "quantity": 3}])
    listed = call("GET", f"{neighbourhood.console}/requests").text
    number = re.search(r'href="/requests/(\d+)">POST /usage', listed)
    assert number

    text = unescape(shown(call("GET", f"{neighbourhood.console}/requests/{number[1]}")))
    assert f"curl -X POST {neighbourhood.api}/usage" in text
    assert '"status": "recorded"' in text


def test_no_registration_token_is_kept(stack: Stack, neighbourhood: Neighbourhood) -> None:
    bought = neighbourhood.buy(PRODUCT, "111122223333", entitlements={"seats": 10})
    neighbourhood.register(bought["id"])

    assert all(b"x-amzn-marketplace-token" not in one.body for one in stack.traffic.exchanges())


def test_what_the_console_only_reads_is_not_among_the_requests(stack: Stack, neighbourhood: Neighbourhood) -> None:
    before = stack.traffic.passed
    call("GET", neighbourhood.console)
    assert stack.traffic.passed == before


def test_a_purchase_leads_to_its_subscription(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    answer = call("GET", f"{neighbourhood.console}/purchases/{sold[0]}")
    assert answer.headers["location"] == f"/subscriptions/{sold[2]}"

    bought = neighbourhood.buy(PRODUCT, "555566667788", entitlements={"seats": 10})
    assert "has not set up the account" in call("GET", f"{neighbourhood.console}/purchases/{bought['id']}").text


def test_a_legacy_purchase_leads_to_its_subscription_too(neighbourhood: Neighbourhood) -> None:
    bought = neighbourhood.buy("legacysubscriptionproduct", "555566668888")
    neighbourhood.register(bought["id"])
    answer = call("GET", f"{neighbourhood.console}/purchases/{bought['id']}")
    assert answer.headers["location"].startswith("/subscriptions/sub-")
    assert "Acme Mail" in shown(call("GET", f"{neighbourhood.console}{answer.headers['location']}"))


def test_two_subscriptions_of_one_buyer_can_be_told_apart(neighbourhood: Neighbourhood) -> None:
    first, second = (active(neighbourhood, "555566669999") for _ in range(2))

    text = shown(call("GET", f"{neighbourhood.console}/?status=active"))
    for one in (first, second):
        assert one["license_arn"].rpartition(":")[2] in text or "More subscriptions" in text


def test_an_ended_subscription_offers_no_form_and_a_closing_one_says_when_it_is_metered(
    neighbourhood: Neighbourhood,
) -> None:
    one = active(neighbourhood, "555500001111")
    here = f"{neighbourhood.console}/subscriptions/{one['subscription_id']}"
    neighbourhood.cancel(one["license_arn"])
    neighbourhood.advance(60)
    text = call("GET", here).text
    assert "metered for the last time at about" in text
    assert "last usage metered</button>" in text
    assert "Report usage</button>" in text

    neighbourhood.advance(2 * 3600)
    text = call("GET", here).text
    assert "takes no more usage" in text
    assert "Report usage</button>" not in text


def test_usage_that_moved_to_another_month_is_told(neighbourhood: Neighbourhood) -> None:
    one = active(neighbourhood, "555500002222")
    here = f"{neighbourhood.console}/subscriptions/{one['subscription_id']}"
    neighbourhood.admin("POST", "/clock", {"set": "2026-11-30T22:30:00Z"})
    neighbourhood.report(
        [{"id": "seal", "subscription_id": one["subscription_id"], "dimension": "users", "quantity": 1}]
    )
    neighbourhood.admin("POST", "/clock", {"set": "2026-12-01T07:50:00Z"})

    form = {"dimension": "users", "quantity": "5", "timestamp": "2026-11-30T23:10"}
    text = followed(neighbourhood.console, submit(f"{here}/usage", form))
    assert "on the bill of December 2026 and not of November 2026" in text


def test_the_time_to_show_can_be_chosen(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    here = f"{neighbourhood.console}/subscriptions/{sold[2]}"

    assert "From 2026-11-20 10:00 to 2026-11-21 12:00 UTC" in shown(
        call("GET", f"{here}?from=2026-11-20T10:20&to=2026-11-21T11:01")
    )
    assert "later than its start" in shown(call("GET", f"{here}?from=2026-11-21T10:00&to=2026-11-20T10:00"))
    assert "At most 62 days" in shown(call("GET", f"{here}?from=2025-11-21T10:00&to=2026-11-20T10:00"))
    for text in ("never", "9999-12-31T00:00", "0001-01-01T00:00"):
        assert "A time has a date" in shown(call("GET", f"{here}?from={text}"))


def test_the_statement_of_a_month_is_there_as_csv(neighbourhood: Neighbourhood) -> None:
    one = active(neighbourhood, "555500003333")
    here = f"{neighbourhood.console}/subscriptions/{one['subscription_id']}"
    neighbourhood.report(
        [{"id": "csv", "subscription_id": one["subscription_id"], "dimension": "users", "quantity": 40}]
    )
    neighbourhood.advance(2 * 3600)

    assert "$2.00" in shown(call("GET", f"{here}/statement"))
    (row,) = csv.DictReader(call("GET", f"{here}/statement.csv").text.splitlines())
    assert (row["recorded"], row["metered"], row["billed"], row["amount"], row["remark"]) == (
        "40",
        "40",
        "40",
        "2.00",
        "",
    )


def test_dead_letters_are_shown_and_sent_back(stack: Stack, neighbourhood: Neighbourhood) -> None:
    source = next(one.queue for one in stack.deployment.queue_mappings if one.function == "EntitlementCheckFunction")
    sqs = stack.aws.client("sqs")
    dead = sqs.get_queue_attributes(QueueUrl=stack.queue_url(source), AttributeNames=["RedrivePolicy"])
    dead_letters = json.loads(dead["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
    sqs.send_message(QueueUrl=stack.queue_url(source), MessageBody="not json")
    neighbourhood.advance(2 * 3600)
    text = call("GET", f"{neighbourhood.console}/queues").text
    assert "not json" in text
    assert "Send them back" in text

    sent = submit(f"{neighbourhood.console}/queues/{dead_letters}/redrive", {})
    assert "1 message goes back" in followed(neighbourhood.console, sent)
    assert stack.aws.messages(dead_letters) == []
    assert submit(f"{neighbourhood.console}/queues/nothing/redrive", {}).status == 404


def active(neighbourhood: Neighbourhood, account: str) -> dict[str, Any]:
    """A new subscription of a buyer, as the API shows it."""
    bought = neighbourhood.buy(PRODUCT, account, entitlements={"seats": 10})
    neighbourhood.register(bought["id"])
    neighbourhood.advance(120)
    found = neighbourhood.get(f"/subscriptions?account_id={account}")["subscriptions"]
    (one,) = (one for one in found if one["license_arn"] == bought["license_arn"])
    return dict(one)
