"""The console: the seller's application in a browser, on the documented API alone."""

from __future__ import annotations

import re

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
    text = shown(call("GET", neighbourhood.console))

    assert "Acme Analytics" in text
    assert "Registration Resolved" in text
    assert "Subscription Activated" in text
    events = call("GET", f"{neighbourhood.console}/events.json").json()["events"]
    assert {event["source"] for event in events} == {"marketplace.saas"}


def test_signing_up_claims_the_registration(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/sign-up?registration={sold[1]}")
    assert sold[1] in page.text
    assert "AWS account 111122223333 has bought Acme" in shown(page)
    claimed = submit(f"{neighbourhood.console}/sign-up", {"registration": sold[1], "tenant_id": "acme"})

    assert "acme now owns this subscription" in followed(neighbourhood.console, claimed)


def test_a_code_that_is_not_known_is_told(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    refused = submit(f"{neighbourhood.console}/sign-up", {"registration": "x" * 32, "tenant_id": "acme"})

    assert "registration" in followed(neighbourhood.console, refused).lower()
    assert "/sign-up?" in refused.headers["location"]


def test_usage_is_reported_metered_and_proven(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    here = f"{neighbourhood.console}/subscriptions/{sold[2]}"
    form = {"dimension": "api_calls", "quantity": "250", "tags": "team=search, env=prod", "id": "r/1?&"}
    text = followed(neighbourhood.console, submit(f"{here}/usage", form))
    assert "Recorded 250 api_calls" in text
    assert "team=search" in text
    assert "counted once" in followed(neighbourhood.console, submit(f"{here}/usage", form))
    assert "Conflict" in followed(neighbourhood.console, submit(f"{here}/usage", {**form, "quantity": "1"}))
    assert "Open" in shown(call("GET", here))

    moved = submit(f"{neighbourhood.console}/clock", {"by": "metered", "back": f"/subscriptions/{sold[2]}"})
    text = followed(neighbourhood.console, moved)
    assert "Metered" in text
    (record,) = neighbourhood.ledger(sold[0])
    assert record["quantity"] == 250
    assert record["id"] in text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"dimension": "api_calls", "quantity": "-1"}, "Rejected"),
        ({"dimension": "api_calls", "quantity": "5", "timestamp": "2020-01-01T00:00:00Z"}, "Rejected"),
        ({"dimension": "", "quantity": "5"}, "Rejected"),
    ],
)
def test_usage_that_is_refused_says_why(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str], form: dict[str, str], said: str
) -> None:
    answer = submit(f"{neighbourhood.console}/subscriptions/{sold[2]}/usage", form)

    assert said in followed(neighbourhood.console, answer)


def test_access_is_checked(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    here = f"{neighbourhood.console}/subscriptions/{sold[2]}"

    assert "Not allowed" not in shown(call("GET", f"{here}?check=seats&of=10"))
    assert "Not allowed" in shown(call("GET", f"{here}?check=seats&of=11"))
    assert "Not allowed" in shown(call("GET", f"{here}?check=golden_taps"))


def test_an_unknown_record_or_subscription_is_told(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    assert call("GET", f"{neighbourhood.console}/subscriptions/sub-nobody").status == 400
    assert "record" in shown(call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}?record=nobody")).lower()
    assert call("GET", f"{neighbourhood.console}/nowhere").status == 404


def test_the_clock_moves_from_here_too(stack: Stack, neighbourhood: Neighbourhood) -> None:
    before = stack.clock.timestamp()
    submit(f"{neighbourhood.console}/clock", {"by": "3600"})
    assert stack.clock.timestamp() == before + 3600
    submit(f"{neighbourhood.console}/clock", {"by": "next_hour", "back": "//elsewhere"})
    assert stack.clock.timestamp() % 3600 == 0


def test_a_redirect_stays_on_the_console(neighbourhood: Neighbourhood) -> None:
    answer = submit(f"{neighbourhood.console}/clock", {"by": "0", "back": "//elsewhere.example"})

    assert answer.headers["location"] == "/"


def test_another_site_can_t_submit_its_forms(neighbourhood: Neighbourhood) -> None:
    answer = call("POST", f"{neighbourhood.console}/clock", "by=3600", {"origin": "https://evil.example"})

    assert answer.status == 403


def test_pages_load_nothing_from_elsewhere(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}")

    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"(?!/|data:|#|http://127\.0\.0\.1)", page.text)
    assert "<script" not in page.text


def test_what_a_buyer_typed_is_shown_as_text(neighbourhood: Neighbourhood, sold: tuple[str, str, str]) -> None:
    page = call("GET", f"{neighbourhood.console}/subscriptions/{sold[2]}?problem=%3Cscript%3Ealert(1)%3C/script%3E")

    assert "<script>alert" not in page.text


def test_a_claim_is_released_made_again_and_transferred_with_its_history_shown(
    neighbourhood: Neighbourhood, sold: tuple[str, str, str]
) -> None:
    bought = neighbourhood.buy(PRODUCT, "777788889999", entitlements={"seats": 10})
    code = neighbourhood.register(bought["id"]).rsplit("/", 1)[1]
    one = neighbourhood.get(f"/registrations/{code}")["subscription_id"]
    here = f"{neighbourhood.console}/subscriptions/{one}"

    def change(action: str, **form: str) -> str:
        revision = neighbourhood.get(f"/subscriptions/{one}")["claim_revision"]
        return followed(
            neighbourhood.console, submit(f"{here}/claim{action}", {"claim_revision": str(revision), **form})
        )

    assert "initech now owns" in change("", tenant_id="initech")
    assert "Nobody owns it now" in change("/release", tenant_id="initech", reason="lured")
    assert "no longer" in change("/release", tenant_id="initech", reason="again, with a new revision")
    change("", tenant_id="initech")
    text = change("/transfer", tenant_id="initech", to_tenant_id="hooli", reason="merged")

    assert "hooli now owns" in text
    for entry in ("Claimed: initech", "Released: nobody, before initech", "lured", "Transferred: hooli", "user/local"):
        assert entry in text
    refused = submit(f"{neighbourhood.console}/sign-up", {"registration": code, "tenant_id": "initech"})
    assert "release" in followed(neighbourhood.console, refused)
    assert submit(f"{here}/claim/elsewhere", {}).status == 404


def test_what_a_buyer_enters_reaches_the_bus_and_the_subscription(neighbourhood: Neighbourhood) -> None:
    bought = neighbourhood.buy(PRODUCT, "555566667777", entitlements={"seats": 10})
    landing = neighbourhood.register(bought["id"])
    for email in ("jo@buyer.example", "kim@buyer.example"):
        assert submit(landing, {"email": email}).status == 303
    neighbourhood.advance(1)

    events = call("GET", f"{neighbourhood.console}/events.json").json()["events"]
    told = {one["detail"]["id"]: one["detail"] for one in events if one["detail_type"] == "Contact Provided"}
    assert sorted(one["contact"]["email"] for one in told.values()) == ["jo@buyer.example", "kim@buyer.example"]
    (subscription_id,) = {one["subscription_id"] for one in told.values()}
    contacts = neighbourhood.get(f"/subscriptions/{subscription_id}")["contacts"]
    assert [contact["email"] for contact in contacts] == ["jo@buyer.example", "kim@buyer.example"]
