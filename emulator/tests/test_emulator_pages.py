"""The buyer's pages: buy, set up an account, change, cancel, read the bill."""

import csv
import http.client
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qs, quote, urlencode, urlsplit

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
    for part in ("2026-11-22 12:00:00 UTC", "Acme Analytics", "Nothing bought yet", "Buy a product on AWS Marketplace"):
        assert part in shown
    for path, said in {
        "/bill": "Nothing on the bill yet",
        "/calls": "has not called",
        "/messages": "No messages",
    }.items():
        assert said in text(browse(path))


def test_a_buyer_subscribes_and_is_shown_the_purchase(browse, emulator):
    form = {"product": CONTRACT, "account": "111122223333", "entitlement.seats": "25", "auto_renew": "on"}
    location = browse("/ui/subscribe", form)
    assert urlsplit(location).path == "/purchases/purchase-1"
    (purchase,) = emulator.m.purchases.all()
    assert (purchase.agreement.entitlements, purchase.auto_renew) == ({"seats": 25}, True)
    shown = text(browse(location))
    assert "You bought Acme Analytics" in shown
    assert "Activation on its way" in shown
    assert purchase.license_id in shown


def test_a_trial_can_be_chosen(browse, emulator):
    browse("/ui/subscribe", {"product": PAYG, "account": "111122223333", "free_trial_days": "14"})
    assert emulator.m.purchases.all()[0].free_trial_until is not None


def test_what_cannot_be_bought_is_explained(browse, emulator):
    location = browse("/ui/subscribe", {"product": PAYG, "account": "12"})
    assert "12 digits" in notice(location)["problem"]
    assert notice(location)["problem"] == "'12' is not an AWS account. An account has 12 digits."
    location = browse("/ui/subscribe", {"product": CONTRACT, "account": "111122223333", "entitlement.seats": "x"})
    assert "How many seats is a whole number" in notice(location)["problem"]
    assert 'role="alert"' in browse(location)
    assert emulator.m.purchases.all() == []


def test_a_refused_purchase_keeps_what_was_typed(browse):
    typed = {"product": CONTRACT, "account": "12", "entitlement.seats": "7", "free_trial_days": "9"}
    location = browse("/ui/subscribe", typed)
    assert location.endswith(f"#product-{CONTRACT}")
    form = re.search(rf'id="product-{CONTRACT}".*?</article>', browse(location), re.S)[0]
    for value in ("12", "7", "9"):
        assert f'value="{value}"' in form
    assert "checked" not in form
    assert 'role="alert"' in form


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
    assert "2026-11-23 14:00:00 UTC" in text(browse())
    assert "problem" in notice(browse("/ui/clock", {"by": "soon"}))
    browse("/ui/clock", {"by": "run"})
    assert not emulator.clock.is_frozen
    browse("/ui/clock", {"by": "freeze"})
    assert emulator.clock.is_frozen


def test_moving_the_clock_leads_back_to_the_same_page(browse):
    assert browse("/ui/clock", {"by": "PT1H", "back": "/calls?page=2"}).startswith("/calls?page=2&notice=")
    for strange in ("/a\r\nSet-Cookie: x=1", "/\u20ac"):
        location = browse("/ui/clock", {"by": "PT1H", "back": strange})
        assert location.startswith("/"), location
        assert location.isascii()
        assert " " not in location
    for elsewhere in ("//elsewhere.example", "/\\elsewhere.example", "https://elsewhere.example"):
        assert browse("/ui/clock", {"by": "PT1H", "back": elsewhere}).startswith("/?notice=")


def test_every_button_of_a_purchase_works(browse, emulator):
    for state in ("pending", "active"):
        emulator.m.reset()
        emulator.m.settings.update({"fulfilment_url": "http://127.0.0.1:3000/register"})
        purchase = emulator.m.purchases.subscribe(CONTRACT) if state == "pending" else emulator.buy(CONTRACT)
        page = f"/purchases/{purchase.id}"
        actions = [item for item in check(browse(page)).actions if purchase.id in item]
        assert len(actions) == len(set(actions)) >= 8
        for action in actions:
            emulator.m.reset()
            purchase = emulator.m.purchases.subscribe(CONTRACT) if state == "pending" else emulator.buy(CONTRACT)
            if action.endswith("/register"):
                browse(action, {}, 200)
            else:
                location = browse(action, {"entitlement.seats": "3"})
                assert "notice" in notice(location), (action, location)
                browse(location)


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
    for part in ("Starts later", "Payment failed", "Ended, final usage", "Active"):
        assert part in shown
    shown = text(browse(f"/purchases/{trial.id}"))
    for part in ("Free trial until 2026-11-29 14:00", "Account suspended"):
        assert part in shown
    assert "Final usage is taken until 2026-11-22 15:00 UTC" in text(browse(f"/purchases/{closing.id}"))


def test_the_bill_shows_hours_tags_amounts_and_what_is_billed_twice(browse, emulator):
    purchase = emulator.buy(CONTRACT)
    parts = [
        {"AllocatedUsageQuantity": 7000, "Tags": [{"Key": "team", "Value": "search"}]},
        {"AllocatedUsageQuantity": 5000},
    ]
    record = emulator.record(purchase, 12000, "api_calls", UsageAllocations=parts)
    emulator.send(record)
    page = f"/purchases/{purchase.id}"
    shown = text(browse(page))
    for part in ("2026-11-22 12:00", "12,000", "team: search", "7,000", "untagged", "$24.00", "2026-11: $24.00"):
        assert part in shown
    assert "billed twice" not in shown
    emulator.send(record, region="eu-west-1")
    assert "billed twice" in text(browse(page))


def test_the_bill_is_one_of_a_month_with_contracts_and_usage(browse, emulator):
    emulator.clock.set("2026-11-30T23:10:00Z")
    purchase = emulator.buy(CONTRACT, entitlements={"seats": 25})
    emulator.send(emulator.record(purchase, 500, "api_calls"))
    emulator.clock.advance("PT2H")
    emulator.send(emulator.record(purchase, 1000, "api_calls"))
    november, december = text(browse("/bill?month=2026-11")), text(browse("/bill"))
    assert "Bill of 2026-12 $2.00 in all" in december
    assert "Bill of 2026-11 $3,001.00 in all" in november
    assert "25 seats, $120.00 per seat a year: $3,000.00" in november


def test_a_month_of_the_bill_is_there_as_csv_without_formulas(browse, emulator):
    parts = [{"AllocatedUsageQuantity": 9, "Tags": [{"Key": "team", "Value": "=1+1"}]}]
    emulator.m.registry.add_product({"code": "evil", "title": "=cmd()", "dimensions": [{"key": "n", "price": "2"}]})
    emulator.send(emulator.record(emulator.buy("evil"), 9, UsageAllocations=parts))
    row = next(csv.DictReader(browse("/bill.csv?month=2026-11").splitlines()))
    assert (row["title"], row["tags"], row["quantity"], row["amount"]) == ("'=cmd()", "team==1+1", "9", "18")
    assert len(browse("/bill.csv?month=2026-10").splitlines()) == 1


def test_a_long_bill_shows_the_newest_hours(browse, emulator):
    purchase = emulator.buy(PAYG)
    for _ in range(50):
        emulator.send(emulator.record(purchase))
        emulator.clock.advance("PT1H")
    assert "Page 1 of 2, 50 in all" in text(browse(f"/purchases/{purchase.id}"))
    assert "2026-11-22 12:00" in text(browse(f"/purchases/{purchase.id}?page=2"))


def test_many_tag_sets_are_cut_short(browse, emulator):
    parts = [{"AllocatedUsageQuantity": 1, "Tags": [{"Key": "n", "Value": str(n)}]} for n in range(9)]
    purchase = emulator.buy()
    emulator.send(emulator.record(purchase, 9, UsageAllocations=parts))
    assert "and 3 more" in text(browse(f"/purchases/{purchase.id}"))


def test_calls_and_messages_are_listed_and_can_be_opened(browse, emulator):
    emulator.buy(LEGACY)
    purchase = emulator.buy()
    emulator.send(emulator.record(purchase, dimension="nope"))
    emulator.send(emulator.record(purchase, 42))
    assert "InvalidUsageDimension" in text(browse("/calls"))
    opened = text(browse("/calls/2"))
    assert '"Quantity": 42' in opened
    assert '"Status": "Success"' in opened
    messages = text(browse("/messages"))
    assert "License Updated - Manufacturer" in messages
    assert "subscribe-success" in messages
    assert purchase.license_arn in text(browse(f"/messages/{len(emulator.m.outbox.log)}"))
    for path in ("/calls/99", "/messages/99", "/messages/x"):
        browse(path, status=404)


def test_many_reading_calls_do_not_hide_those_that_cost_money(browse, emulator):
    purchase = emulator.buy()
    emulator.send(emulator.record(purchase))
    for _ in range(50):
        emulator.call("AWSMPEntitlementService.GetEntitlements", ProductCode=PAYG)
    assert "BatchMeterUsage" in text(browse("/calls"))
    assert "BatchMeterUsage ok" in text(browse("/calls?operation=BatchMeterUsage"))
    assert "BatchMeterUsage ok" in text(browse(f"/purchases/{purchase.id}"))


def test_a_message_can_be_delivered_once_more(browse, emulator):
    emulator.buy()
    before = len(emulator.m.outbox.deliveries())
    assert "once more" in notice(browse("/ui/messages/1/again", {}))["notice"]
    again = emulator.m.outbox.deliveries()[before:]
    assert [one.notification.seq for one in again] == [1]
    assert "problem" in notice(browse("/ui/messages/99/again", {}))


def test_faults_and_delivery_rules_are_planned_in_the_browser(browse, emulator):
    browse("/ui/faults", {"fault": "throttle", "operation": "BatchMeterUsage", "times": "1"})
    assert "Throttle in BatchMeterUsage" in text(browse("/faults"))
    assert emulator.send(emulator.record(emulator.buy())) == "ThrottlingException"
    assert "No fault is planned" in text(browse("/faults"))
    browse("/ui/delivery", {"do": "hold", "match": "License*"})
    before = len(emulator.m.outbox.deliveries())
    emulator.buy()
    assert "1 waiting" in text(browse("/faults"))
    assert "1 messages were released" in notice(browse("/ui/delivery/release", {}))["notice"]
    assert len(emulator.m.outbox.deliveries()) == before + 2
    for path in ("/ui/faults/clear", "/ui/delivery/clear"):
        assert "notice" in notice(browse(path, {}))
    refused = browse("/ui/faults", {"fault": "throttle", "times": "many"})
    assert "whole number" in notice(refused)["problem"]
    assert "problem" in notice(browse("/ui/faults", {"fault": "dance"}))
    assert "problem" in notice(browse("/ui/delivery", {"do": "dance"}))


def test_the_story_ticks_itself_from_the_store_to_the_bill(browse, emulator):
    def done():
        return re.findall(r"(Buy|Set up|Report|Metered|Billed) ?, done", text(browse()))

    assert done() == []
    purchase = emulator.buy()
    assert done() == ["Buy"]
    token = emulator.m.registration_token(purchase.id)
    emulator.call("AWSMPMeteringService.ResolveCustomer", RegistrationToken=token)
    assert done() == ["Buy", "Set up"]
    emulator.send(emulator.record(purchase, 0))
    assert done() == ["Buy", "Set up"]
    emulator.clock.advance("PT1H")
    emulator.send(emulator.record(purchase, 3))
    assert done() == ["Buy", "Set up", "Report", "Metered", "Billed"]
    emulator.buy()
    assert done() == ["Buy"]


def test_the_pages_of_a_big_store_stay_small(browse, emulator):
    for number in range(500):
        emulator.m.purchases.subscribe(PAYG, f"{number:012}", provision=True)
    emulator.clock.advance("PT23H")
    hours = [emulator.clock.timestamp() - 3600 * hour for hour in range(15)]
    for purchase in emulator.m.purchases.all():
        for dimension in purchase.product.dimensions:
            emulator.send(*[emulator.record(purchase, 1, dimension) | {"Timestamp": moment} for moment in hours])
    assert len(emulator.m.ledger.records) == 15_000
    for path in ("/", "/bill", "/calls", "/messages", f"/purchases/{purchase.id}", "/?page=50"):
        assert len(browse(path)) < 100_000, path


def test_a_stream_says_when_something_has_changed(server, emulator):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"/changes?since={emulator.m.version()}")
    response = connection.getresponse()
    assert response.getheader("Content-Type").startswith("text/event-stream")
    assert response.readline() == b"retry: 2000\n"
    emulator.buy()
    lines = [response.readline() for _ in range(2)]
    assert lines[1].startswith(b"data: ")
    connection.close()


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
    shown = urlencode({"notice": bad, "problem": bad, "product": "evil", "account": bad, "at": "product-evil"})
    last_message, last_call = len(emulator.m.outbox.log), emulator.m.calls[-1].seq
    pages = ["/", f"/purchases/{purchase.id}", "/bill", "/calls", f"/calls/{last_call}", "/messages", "/faults"]
    for path in [*(f"{one}?{shown}" for one in pages), f"/messages/{last_message}", f"/calls?operation={quote(bad)}"]:
        html = browse(path)
        assert "<script>" not in html, path
        assert 'e"><b>' not in html, path


def test_another_site_cannot_use_the_forms(browse, emulator):
    answer = browse("/ui/subscribe", {"product": PAYG}, 403, origin="https://elsewhere.example")
    assert "another site" in answer
    assert emulator.m.purchases.all() == []


def test_pages_run_only_the_servers_own_script_and_allow_no_framing(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    policy = response.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


def test_what_does_not_exist_is_not_found(browse, emulator):
    assert "no such page" in text(browse("/nowhere", status=404))
    assert "no purchase" in text(browse("/purchases/nobody", status=404))
    assert "no purchase" in text(browse("/ui/purchases/nobody/register", {}, 404))
    assert "problem" in notice(browse("/ui/dance", {}))
    assert "problem" in notice(browse("/ui/purchases/%0d%0aSet-Cookie:%20x/cancel", {}))
    assert "problem" in notice(browse(f"/ui/purchases/{emulator.buy().id}/dance", {}))
