"""The buyer's pages: buy, set up an account, change, cancel, read the bill."""

import http.client
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

CONTRACT, PAYG, LEGACY = "ca1contractandconsumption", "ca2payasyougoproduct00000", "legacysubscriptionproduct"
VOID = {"meta", "link", "input", "br"}


class Checker(HTMLParser):
    """Fails on tags that are not closed in order, and collects forms and outside addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.actions, self.addresses, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "form":
            self.actions.append(found["action"])
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[name] for name in ("src", "href") if name in found]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert all(not urlsplit(item).netloc for item in checker.addresses)
    return checker


@pytest.fixture
def browse(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def request(path="/", form=None, status=None, origin=None):
        headers = {"Origin": origin or server.url}
        if form is None:
            connection.request("GET", path)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request("POST", path, urlencode(form), headers)
        response = connection.getresponse()
        html = response.read().decode()
        assert response.status == (status or (303 if form is not None else 200)), html
        if response.status == 303:
            return response.getheader("Location")
        if response.getheader("Content-Type").startswith("text/html"):
            check(html)
        return html

    yield request
    connection.close()


def text(html):
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S))))


def notice(location):
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def test_an_empty_store_says_what_to_do(browse):
    shown = text(browse())
    assert "2026-11-22 12:00 UTC" in shown
    for part in ("Acme Analytics", "Nothing bought yet", "No usage yet", "has not called", "No messages"):
        assert part in shown


def test_a_buyer_subscribes_and_is_shown_the_purchase(browse, emulator):
    form = {"product": CONTRACT, "account": "111122223333", "entitlement.seats": "25", "auto_renew": "on"}
    location = browse("/ui/subscribe", form)
    assert location.endswith("#purchase-1")
    (purchase,) = emulator.m.purchases.all()
    assert (purchase.agreement.entitlements, purchase.auto_renew) == ({"seats": 25}, True)
    shown = text(browse(location))
    assert "Bought: Acme Analytics" in shown
    assert "Licence on its way" in shown
    assert purchase.license_id in shown


def test_a_trial_can_be_chosen(browse, emulator):
    browse("/ui/subscribe", {"product": PAYG, "account": "111122223333", "free_trial_days": "14"})
    assert emulator.m.purchases.all()[0].free_trial_until is not None


def test_what_cannot_be_bought_is_explained(browse, emulator):
    location = browse("/ui/subscribe", {"product": PAYG, "account": "12"})
    assert "12 digits" in notice(location)["problem"]
    location = browse("/ui/subscribe", {"product": CONTRACT, "account": "111122223333", "entitlement.seats": "x"})
    assert "problem" in notice(location)
    assert 'role="alert"' in browse(location)
    assert emulator.m.purchases.all() == []


def test_setting_up_the_account_posts_the_token_to_the_seller(browse, emulator):
    emulator.m.settings.update({"fulfilment_url": "http://127.0.0.1:3000/register?a=1&b=2"})
    purchase = emulator.buy(PAYG, free_trial_days=7)
    html = browse(f"/ui/purchases/{purchase.id}/register", {}, 200)
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', html))
    assert fields["x-amzn-marketplace-offer-type"] == "free-trial"
    assert 'action="http://127.0.0.1:3000/register?a=1&amp;b=2"' in html
    token = unescape(fields["x-amzn-marketplace-token"])
    answer = emulator.call("AWSMPMeteringService.ResolveCustomer", RegistrationToken=token)
    assert answer.json()["LicenseArn"] == purchase.license_arn
    nonce = re.search(r'<script nonce="([^"]+)">', html)
    assert nonce
    paid = browse(f"/ui/purchases/{emulator.buy().id}/register", {}, 200)
    assert "offer-type" not in paid


def test_without_a_fulfilment_url_the_page_asks_for_it(browse, emulator):
    purchase = emulator.buy()
    assert "fulfilment URL is not set" in text(browse(f"/ui/purchases/{purchase.id}/register", {}, 200))
    assert "problem" in notice(browse("/ui/fulfilment-url", {"url": "javascript:alert(1)"}))
    browse("/ui/fulfilment-url", {"url": "http://127.0.0.1:3000/register"})
    assert emulator.m.settings.fulfilment_url == "http://127.0.0.1:3000/register"


def test_the_buttons_of_the_clock(browse, emulator):
    emulator.clock.advance("PT10M")
    assert notice(browse("/ui/clock", {"by": "next_hour"})) == {"notice": "It is now 2026-11-22 13:00 UTC."}
    browse("/ui/clock", {"by": "PT1H"})
    browse("/ui/clock", {"by": "P1D"})
    assert "2026-11-23 14:00 UTC" in text(browse())
    assert "problem" in notice(browse("/ui/clock", {"by": "soon"}))


def test_every_button_of_a_purchase_works(browse, emulator):
    for state in ("pending", "active"):
        emulator.m.reset()
        emulator.m.settings.update({"fulfilment_url": "http://127.0.0.1:3000/register"})
        purchase = emulator.m.purchases.subscribe(CONTRACT) if state == "pending" else emulator.buy(CONTRACT)
        actions = [item for item in check(browse()).actions if purchase.id in item]
        assert len(actions) == len(set(actions)) >= 8
        for action in actions:
            emulator.m.reset()
            purchase = emulator.m.purchases.subscribe(CONTRACT) if state == "pending" else emulator.buy(CONTRACT)
            if action.endswith("/register"):
                browse(action, {}, 200)
            else:
                location = browse(action, {"entitlement.seats": "3"})
                assert "notice" in notice(location), (action, location)
            browse()


def test_purchases_in_every_state_are_shown(browse, emulator):
    emulator.m.purchases.subscribe(CONTRACT, start="2027-01-01T00:00:00Z")
    emulator.m.purchases.fail(emulator.m.purchases.subscribe(PAYG).id)
    ended = emulator.buy(PAYG)
    emulator.m.purchases.cancel(ended.id)
    emulator.clock.advance("PT2H")
    closing = emulator.buy(LEGACY)
    emulator.m.purchases.cancel(closing.id)
    trial = emulator.buy(PAYG, "444455556666", free_trial_days=7)
    emulator.m.purchases.suspend(trial.account_id)
    shown = text(browse())
    for part in ("Starts later", "Payment failed", "Ended, final usage", "Free trial", "Account suspended"):
        assert part in shown
    assert "Final usage is taken until 2026-11-22 15:00 UTC" in shown


def test_the_bill_shows_hours_tags_amounts_and_what_is_billed_twice(browse, emulator):
    purchase = emulator.buy(CONTRACT)
    parts = [
        {"AllocatedUsageQuantity": 7000, "Tags": [{"Key": "team", "Value": "search"}]},
        {"AllocatedUsageQuantity": 5000},
    ]
    record = emulator.record(purchase, 12000, "api_calls", UsageAllocations=parts)
    emulator.send(record)
    shown = text(browse())
    for part in ("2026-11-22 12:00", "12,000", "team: search", "7,000", "untagged", "$24.00", "of usage so far"):
        assert part in shown
    assert "billed twice" not in shown
    emulator.send(record, region="eu-west-1")
    assert "billed twice" in text(browse())


def test_a_long_bill_shows_the_newest_hours(browse, emulator):
    purchase = emulator.buy(PAYG)
    for _ in range(50):
        emulator.send(emulator.record(purchase))
        emulator.clock.advance("PT1H")
    assert "2 older lines" in text(browse())


def test_many_tag_sets_are_cut_short(browse, emulator):
    parts = [{"AllocatedUsageQuantity": 1, "Tags": [{"Key": "n", "Value": str(n)}]} for n in range(9)]
    emulator.send(emulator.record(emulator.buy(), 9, UsageAllocations=parts))
    assert "and 3 more" in text(browse())


def test_the_page_shows_recent_calls_and_messages(browse, emulator):
    emulator.buy(LEGACY)
    emulator.send(emulator.record(emulator.buy(), dimension="nope"))
    shown = text(browse())
    assert "InvalidUsageDimension" in shown
    assert "License Updated - Manufacturer" in shown
    assert "subscribe-success" in shown


def test_everything_that_is_shown_is_escaped(browse, emulator):
    bad = '<script>alert("1")</script>'
    emulator.m.registry.add_product(
        {
            "code": "evil",
            "title": bad,
            "pricing": "contract_with_consumption",
            "dimensions": [
                {"key": bad, "unit": bad},
                {"key": 'e"><b>', "type": "entitlement", "value_type": "string"},
                {"key": "flag", "type": "entitlement", "value_type": "boolean"},
                {"key": "ratio", "type": "entitlement", "value_type": "double"},
            ],
        }
    )
    form = {"product": "evil", "account": "111122223333", 'entitlement.e"><b>': bad}
    browse("/ui/subscribe", form | {"entitlement.flag": "false", "entitlement.ratio": "1.5"})
    (purchase,) = emulator.m.purchases.all()
    emulator.m.purchases.provision(purchase.id)
    assert purchase.entitlements == {'e"><b>': bad, "flag": False, "ratio": 1.5}
    emulator.send(emulator.record(purchase, dimension=bad))
    emulator.m.announcer.custom(purchase, bad, None, emulator.clock.timestamp())
    html = browse(f"/?{urlencode({'notice': bad, 'problem': bad})}")
    assert "<script" not in html
    assert "<b>" not in re.sub(r"<b>[\d,]+</b>", "", html)


def test_another_site_cannot_use_the_forms(browse, emulator):
    answer = browse("/ui/subscribe", {"product": PAYG}, 403, origin="https://elsewhere.example")
    assert "another site" in answer
    assert emulator.m.purchases.all() == []


def test_pages_allow_no_scripts_and_no_framing(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    policy = response.getheader("Content-Security-Policy")
    assert "script-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_what_does_not_exist_is_not_found(browse, emulator):
    assert "no such page" in text(browse("/nowhere", status=404))
    assert "problem" in notice(browse("/ui/dance", {}))
    assert "problem" in notice(browse(f"/ui/purchases/{emulator.buy().id}/dance", {}))
