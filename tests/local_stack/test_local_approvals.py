"""Unusual usage on a whole system: held, listed, approved or refused by a command or in the console, and billed."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from local.options import Options
from local.stack import Stack, running
from marketplace.platform.clock import DAY, HOUR, iso
from marketplace_saas_cli.exits import FINE, TROUBLE
from tests.local_stack.browser import Neighbourhood, call, submit
from tests.local_stack.test_command_line import PRODUCT, Shell
from tests.local_stack.test_local_browser import look
from tests.local_stack.test_local_console import followed, shown
from tests.support.chromium import page
from tests.support.machine import chromium


@pytest.fixture(scope="module")
def holding() -> Iterator[Stack]:
    """A system that holds what is more than three times as great as usual."""
    options = Options(
        clock="frozen:2026-11-22T12:10:00Z",
        log=io.StringIO(),
        metering_rate=None,
        seed=1,
        parameters={"AnomalyHoldFactor": "3"},
    )
    with running(options) as stack:
        yield stack


@dataclass
class Buyer:
    """A buyer on a system that holds unusual usage, seen from outside."""

    stack: Stack
    account: str
    purchase: str = ""
    subscription_id: str = ""
    reported: int = 0
    hour: str = ""
    "The last hour of usage, as the page shows it."

    def __post_init__(self) -> None:
        self.outside = Neighbourhood(self.stack.api_url, self.stack.marketplace_url, self.stack.console_url)
        self.purchase = self.outside.buy(PRODUCT, self.account)["id"]
        code = self.outside.register(self.purchase).rsplit("/", 1)[1]
        self.subscription_id = self.outside.claim(code, self.account)["subscription_id"]

    def use(self, quantity: int, dimension: str = "api_calls", until: int = 2 * HOUR) -> None:
        """Usage of an hour, and until it is metered or held."""
        record = {"id": f"r{self.reported}", "subscription_id": self.subscription_id, "dimension": dimension}
        self.outside.report([{**record, "quantity": quantity}])
        self.reported += 1
        self.hour = iso(int(self.stack.clock.timestamp()) // HOUR * HOUR)[:16].replace("T", " ")
        self.stack.advance(until)

    @property
    def here(self) -> str:
        return f"{self.stack.console_url}/subscriptions/{self.subscription_id}"

    @property
    def moment(self) -> str:
        """The same hour, as the API takes it."""
        return f"{self.hour.replace(' ', 'T')}:00Z"

    def decide(self, choice: str, number: int = 0) -> str:
        """Presses a button of the page, the first of its kind unless a later one is named; answers what is shown."""
        text = call("GET", self.here).text
        forms = [one for one in re.findall(r'<form class="decide".*?</form>', text, re.S) if f'"{choice}"' in one]
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', forms[number]))
        return followed(self.stack.console_url, submit(f"{self.here}/approval", {**fields, "decision": choice}))

    def states(self) -> list[str]:
        records = self.outside.get(f"/subscriptions/{self.subscription_id}/usage?limit=100")["metering_records"]
        return [one["state"] for one in records]

    def billed(self) -> list[int]:
        return [int(entry["quantity"]) for entry in self.outside.ledger(self.purchase)]


@pytest.fixture(scope="module")
def buyers(holding: Stack) -> list[Buyer]:
    """Buyers with two days of usage, one for each test."""
    made = [Buyer(holding, f"1111222200{number:02}") for number in range(10)]
    holding.advance(120)
    holding.schedules.spacing = {"MeterUsageSchedule": 6 * HOUR}  # few runs of two plain days show as much as all
    for quantity in (10, 12):
        for one in made:
            one.use(quantity, until=0)
        holding.advance(DAY)
    holding.schedules.spacing = {}
    return made


@pytest.fixture
def buyer(buyers: list[Buyer]) -> Buyer:
    """A buyer with an unusual hour."""
    one = buyers.pop()
    one.use(37)
    return one


def test_unusual_usage_is_listed_approved_and_billed(buyer: Buyer, capsys: pytest.CaptureFixture[str]) -> None:
    holding, outside, purchase, subscription_id = buyer.stack, buyer.outside, buyer.purchase, buyer.subscription_id
    shell = Shell(holding, capsys)
    listing = ("approvals", "list", "--subscription", subscription_id)
    (held,) = shell.json(*listing, status=TROUBLE)["metering_records"]
    assert (held["quantity"], held["reason"], held["approval"]) == (37, "far_above_usual", "awaited")
    assert shell.json("status", status=TROUBLE)["states"]["awaiting_approval"]["units"] >= 37
    trace = ("trace", "r2", "--subscription", subscription_id)
    (chain,) = shell.json(*trace, status=TROUBLE)["chains"]
    assert chain["metering_record"]["state"] == "awaiting_approval"

    assert shell.json("approvals", "approve", subscription_id, "--yes")["changed"] is True
    holding.advance(HOUR)
    assert shell.run(*listing) == FINE
    (chain,) = shell.json(*trace)["chains"]
    assert (chain["metering_record"]["state"], chain["metering_record"]["quantity"]) == ("metered", 37)
    assert [int(entry["quantity"]) for entry in outside.ledger(purchase)] == [10, 12, 37]
    told = [one["what"] for one in shell.json("subscriptions", "show", subscription_id)["timeline"]]
    assert "usage approved" in told


def test_a_click_in_the_console_approves_unusual_usage_and_the_page_says_so(buyer: Buyer) -> None:
    text = shown(call("GET", buyer.here))
    assert "Awaits your approval" in text
    assert "It is unusual and waits for your approval until" in text
    assert f"Approved: 37 api_calls of {buyer.hour}. The next metering run sends it" in buyer.decide("approve")
    text = shown(call("GET", buyer.here))
    assert "You have approved it, and the next metering run sends it" in text
    assert ">Approve</button>" not in call("GET", buyer.here).text
    buyer.stack.advance(HOUR)
    text = call("GET", buyer.here).text
    assert "It was unusual, and you have approved it" in shown(call("GET", buyer.here))
    assert 'class="decide"' not in text
    assert buyer.billed() == [10, 12, 37]


def test_a_click_refuses_unusual_usage_and_another_takes_the_refusal_back(buyer: Buyer) -> None:
    text = buyer.decide("refuse")
    assert f"Refused: 37 api_calls of {buyer.hour}. It is not sent to AWS Marketplace." in text
    assert "You have refused it, and the next metering run writes it off" in text
    buyer.stack.advance(HOUR)
    assert "It is not sent (it was unusual, and you refused it)" in shown(call("GET", buyer.here))
    assert buyer.billed() == [10, 12]
    assert "Approved: 37 api_calls" in buyer.decide("approve")
    buyer.stack.advance(HOUR)
    assert buyer.billed() == [10, 12, 37]


def test_a_click_is_about_its_own_hour_alone(buyer: Buyer) -> None:
    buyer.use(90)
    buyer.use(5, dimension="users")
    buyer.decide("refuse", 1)
    decided = {
        (one["dimension"], one["quantity"]): one["approval"]
        for one in buyer.outside.get(f"/subscriptions/{buyer.subscription_id}/usage?limit=100")["metering_records"]
        if one["state"] == "awaiting_approval"
    }
    assert decided == {("api_calls", 37): "awaited", ("api_calls", 90): "refused", ("users", 5): "awaited"}


def test_a_decision_that_comes_too_late_is_told(buyer: Buyer) -> None:
    buyer.stack.advance(20 * HOUR)
    form = {"dimension": "api_calls", "hour": buyer.moment, "decision": "refuse"}
    text = followed(buyer.stack.console_url, submit(f"{buyer.here}/approval", form))
    assert f"The decision came too late: 37 api_calls of {buyer.hour} is metered." in text
    assert "It was unusual, and was sent as nobody decided in time" in text
    text = followed(buyer.stack.console_url, submit(f"{buyer.here}/approval", {**form, "dimension": "users"}))
    assert "Nothing of this awaits your approval any more" in text


@pytest.mark.parametrize("change", [{"decision": "perhaps"}, {"hour": "noon"}, {"dimension": ""}])
def test_a_decision_that_the_api_does_not_take_is_told_on_the_page(buyer: Buyer, change: dict[str, str]) -> None:
    form = {"dimension": "api_calls", "hour": buyer.moment, "decision": "refuse"} | change
    answer = submit(f"{buyer.here}/approval", form)
    assert 'class="notice problem"' in call("GET", f"{buyer.stack.console_url}{answer.headers['location']}").text
    assert buyer.states()[-1] == "awaiting_approval"


def test_no_other_site_decides(buyer: Buyer) -> None:
    form = urlencode({"dimension": "api_calls", "hour": buyer.moment, "decision": "approve"})
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": "https://elsewhere.example"}
    assert call("POST", f"{buyer.here}/approval", form, headers).status == 403
    assert "awaits your approval" in shown(call("GET", buyer.here)).lower()


@pytest.mark.browser
@pytest.mark.axe
def test_the_buttons_are_for_everybody(buyer: Buyer) -> None:
    buyer.use(90)
    with page(chromium() or "") as tab:
        tab.go(buyer.here)
        assert look(tab, "console-usage-unusual") == []
        tab.click("Refuse")
        assert "Refused: 90 api_calls" in tab.text
        tab.click("Approve")
        assert "Approved: 90 api_calls" in tab.text
        assert look(tab, "console-usage-decided") == []
        tab.go(f"{buyer.here}/timeline")
        assert "Usage refused" in tab.text
        assert look(tab, "console-timeline-decided") == []
