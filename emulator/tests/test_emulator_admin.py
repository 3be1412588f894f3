"""The admin HTTP API: everything Python can do, over JSON; errors say what to do."""

import http.client
import json
from dataclasses import fields

import pytest

from marketplace_emulator import Settings
from marketplace_emulator.admin import PURCHASE_ACTIONS

CONTRACT, PAYG, LEGACY = "ca1contractandconsumption", "ca2payasyougoproduct00000", "legacysubscriptionproduct"


@pytest.fixture
def admin(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def request(method, path, data=None, status=200, headers=None):
        body = None if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
        if method == "POST" and body is None:
            body = b""
        connection.request(method, f"/admin{path}", body, headers or {})
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == status, answer
        return answer

    yield request
    connection.close()


def test_health_lists_the_routes(admin):
    answer = admin("GET", "/health")
    assert answer["status"] == "ok"
    assert "/admin/ledger" in answer["routes"]


def test_the_clock_is_read_and_moved(admin):
    assert admin("GET", "/clock") == {
        "now": "2026-11-22T12:00:00.000Z",
        "timestamp": 1795348800.0,
        "mode": "frozen",
        "offset_seconds": 0.0,
    }
    assert admin("POST", "/clock", {"advance": "PT1H30M"})["now"] == "2026-11-22T13:30:00.000Z"
    assert admin("POST", "/clock", {"advance": 60})["now"] == "2026-11-22T13:31:00.000Z"
    assert admin("POST", "/clock", {"to": "next_hour"})["now"] == "2026-11-22T14:00:00.000Z"
    assert admin("POST", "/clock", {"set": "2026-11-23T00:00:00Z"})["now"] == "2026-11-23T00:00:00.000Z"
    assert "forward only" in admin("POST", "/clock", {"set": "2026-11-22T00:00:00Z"}, 400)["error"]
    back = admin("POST", "/clock", {"set": "2026-11-22T00:00:00Z", "force": True})
    assert back["now"] == "2026-11-22T00:00:00.000Z"
    assert admin("POST", "/clock", {"run": True})["mode"] == "real"
    assert admin("POST", "/clock", {"freeze": True})["mode"] == "frozen"
    assert "nothing to do" in admin("POST", "/clock", {}, 400)["error"]
    assert "next_hour" in admin("POST", "/clock", {"to": "noon"}, 400)["hint"]


def test_moving_the_clock_does_what_became_due(admin):
    admin("POST", "/purchases", {"product_code": PAYG})
    admin("POST", "/clock", {"advance": 61})
    assert admin("GET", "/purchases")["purchases"][0]["state"] == "active"


def test_settings_are_read_and_changed(admin, emulator):
    assert set(admin("GET", "/settings")) == {item.name for item in fields(Settings)}
    assert admin("POST", "/settings", {"identical_resend": "duplicate"})["identical_resend"] == "duplicate"
    assert emulator.m.settings.identical_resend == "duplicate"


def test_products_are_listed_and_added(admin):
    product = {
        "code": "newproduct",
        "title": "New",
        "integration": "license",
        "pricing": "contract",
        "dimensions": [{"key": "seats", "type": "entitlement", "price": "9.99", "value_type": "integer"}],
    }
    assert admin("POST", "/products", product)["code"] == "newproduct"
    assert [item["code"] for item in admin("GET", "/products")["products"]] == [CONTRACT, PAYG, LEGACY, "newproduct"]
    assert admin("POST", "/purchases", {"product_code": "newproduct"})["title"] == "New"


def test_a_purchase_goes_through_its_actions(admin):
    bought = admin("POST", "/purchases", {"product_code": CONTRACT, "entitlements": {"seats": 25}, "auto_renew": True})
    assert (bought["state"], bought["entitlements"], bought["agreed_entitlements"]) == ("pending", {}, {"seats": 25})
    path = f"/purchases/{bought['id']}"
    assert admin("POST", f"{path}/provision")["state"] == "active"
    assert admin("POST", f"{path}/upgrade", {"entitlements": {"seats": 30}})["agreed_entitlements"] == {"seats": 30}
    assert len(admin("POST", f"{path}/renew")["agreements"]) == 2
    assert admin("POST", f"{path}/suspend")["suspended"] is True
    assert admin("POST", f"{path}/unsuspend")["suspended"] is False
    admin("POST", f"{path}/advisory", {"outcome": "Issued"})
    assert admin("POST", f"{path}/request_cancellation")["cancellation_request"]
    assert admin("POST", f"{path}/answer_cancellation", {"outcome": "Rejected"})["cancellation_request"] == ""
    replaced = admin("POST", f"{path}/replace", {"new_license": True})
    assert replaced["id"] != bought["id"]
    assert admin("GET", path)["state"] == "closing"
    path = f"/purchases/{replaced['id']}"
    assert admin("POST", f"{path}/cancel")["metering_closes_at"] == "2026-11-22T13:00:31.000Z"
    assert admin("POST", f"{path}/cancel", status=409)["error"]


def test_every_documented_action_exists(admin):
    for action in PURCHASE_ACTIONS:
        assert "no purchase" in admin("POST", f"/purchases/nobody/{action}", status=404)["error"]
    assert "token" in admin("POST", "/purchases/nobody/dance", status=404)["hint"]
    assert admin("POST", "/purchases", {"product_code": "nope"}, 404)["hint"]


def test_purchases_are_filtered(admin):
    for product, account in ((PAYG, "111111111111"), (CONTRACT, "111111111111"), (PAYG, "222222222222")):
        admin("POST", "/purchases", {"product_code": product, "account_id": account})

    def count(query):
        return len(admin("GET", f"/purchases?{query}")["purchases"])

    assert (count("product=" + PAYG), count("account=111111111111"), count("state=active")) == (2, 2, 0)
    assert admin("GET", "/purchases?colour=red", status=400)["hint"]
    assert admin("GET", "/purchases/purchase-2")["product_code"] == CONTRACT


def test_a_token_comes_with_the_form_the_browser_posts(admin, emulator):
    emulator.m.settings.update({"fulfilment_url": "http://127.0.0.1:3000/register"})
    purchase = emulator.buy(PAYG, free_trial_days=14)
    answer = admin("POST", "/tokens", {"purchase_id": purchase.id, "lifetime": 60})
    assert answer["fulfilment_url"] == "http://127.0.0.1:3000/register"
    assert answer["form"] == {
        "x-amzn-marketplace-token": answer["token"],
        "x-amzn-marketplace-offer-type": "free-trial",
    }
    paid = admin("POST", f"/purchases/{emulator.buy().id}/token")
    assert list(paid["form"]) == ["x-amzn-marketplace-token"]


def test_accounts_are_suspended(admin):
    assert admin("POST", "/accounts/111122223333/suspend") == {"suspended": ["111122223333"]}
    assert admin("POST", "/accounts/111122223333/unsuspend") == {"suspended": []}
    assert admin("POST", "/accounts/111122223333/tickle", status=404)["hint"]


def test_faults_are_planned_and_cleared(admin, emulator):
    planned = admin("POST", "/faults", [{"operation": "BatchMeterUsage", "fault": "throttle", "times": 2}])["planned"]
    assert [(item["fault"], item["times"]) for item in planned] == [("throttle", 2)]
    assert emulator.send() == "ThrottlingException"
    assert admin("POST", "/faults", {"unprocessed": [1]})["planned"][1]["indexes"] == [1]
    assert admin("DELETE", "/faults")["planned"] == []
    assert "drop_after" in admin("POST", "/faults", {"fault": "meteor"}, 400)["hint"]


def test_the_ledger_and_the_bill(admin, emulator):
    purchase = emulator.buy(CONTRACT)
    parts = [{"AllocatedUsageQuantity": 5, "Tags": [{"Key": "team", "Value": "a"}]}]
    emulator.send(emulator.record(purchase, 5, "users", UsageAllocations=parts))
    (record,) = admin("GET", f"/ledger?license={purchase.license_arn}&dimension=users&hour=2026-11-22T12:00:00Z")[
        "records"
    ]
    assert record == {
        "id": emulator.m.ledger.records[0].id,
        "seq": 1,
        "region": "us-east-1",
        "integration": "license",
        "customer": purchase.license_id,
        "purchase_id": purchase.id,
        "license_arn": purchase.license_arn,
        "customer_identifier": "",
        "account_id": "111122223333",
        "product_code": CONTRACT,
        "dimension": "users",
        "timestamp": "2026-11-22T12:00:00.000Z",
        "hour": "2026-11-22T12:00:00Z",
        "quantity": 5,
        "allocations": [{"tags": {"team": "a"}, "quantity": 5}],
        "unit_price": "0.05",
        "amount": "0.25",
        "received_at": "2026-11-22T12:00:00.000Z",
    }
    bill = admin("GET", f"/bill?license={purchase.id}")
    assert bill["total"] == "0.25"
    assert bill["lines"][0]["billed_more_than_once"] is False
    assert admin("GET", "/ledger?dimension=api_calls")["records"] == []
    assert admin("GET", "/ledger?licence=x", status=400)["hint"]
    assert admin("GET", "/ledger?hour=noon", status=400)["hint"]
    assert [call["operation"] for call in admin("GET", "/calls")["calls"]] == ["BatchMeterUsage"]


def test_notifications_deliveries_and_rules(admin):
    assert admin("POST", "/delivery", {"do": "hold"})["rules"][0]["do"] == "hold"
    admin("POST", "/purchases", {"product_code": PAYG, "provision": True})
    assert len(admin("GET", "/notifications")["notifications"]) == 2
    assert [item["seq"] for item in admin("GET", "/notifications?after=1")["notifications"]] == [2]
    assert admin("GET", "/deliveries")["deliveries"] == []
    assert admin("POST", "/delivery/release") == {"released": 2}
    assert [item["notification_seq"] for item in admin("GET", "/deliveries")["deliveries"]] == [1, 2]
    assert admin("GET", "/delivery")["rules"][0]["waiting"] == 0
    assert admin("DELETE", "/delivery")["rules"] == []
    assert admin("GET", "/notifications?after=x", status=400)["error"]


def test_anything_can_be_announced(admin):
    purchase = admin("POST", "/purchases", {"product_code": LEGACY, "provision": True})
    event = admin("POST", "/notifications", {"detail_type": "Unheard Of", "detail": {"a": 1}})
    assert event["body"]["detail"] == {"a": 1}
    order = {"action": "unheard-of", "purchase_id": purchase["id"], "members": {"b": 2}}
    sent = admin("POST", "/notifications", order)
    assert json.loads(sent["body"]["Message"])["b"] == "2"
    assert admin("POST", "/notifications", {}, 400)["hint"]


def test_targets_are_added_and_removed(admin):
    target = {"queue_url": "http://127.0.0.1:9/queue", "kinds": ["sns"]}
    assert admin("POST", "/targets", target)["targets"][0]["queue_url"] == target["queue_url"]
    assert admin("DELETE", "/targets")["targets"] == []


def test_a_reset_forgets_what_happened_and_keeps_clock_settings_and_products(admin, emulator):
    emulator.m.settings.update({"token_single_use": True})
    emulator.m.registry.add_product({"code": "kept", "dimensions": [{"key": "a"}]})
    emulator.send(emulator.record(emulator.buy()))
    emulator.m.faults.plan([{"fault": "throttle"}])
    admin("POST", "/reset")
    assert admin("GET", "/purchases")["purchases"] == []
    assert admin("GET", "/ledger")["records"] == []
    assert admin("GET", "/notifications")["notifications"] == []
    assert admin("GET", "/faults")["planned"] == []
    assert admin("GET", "/calls")["calls"] == []
    assert admin("GET", "/settings")["token_single_use"] is True
    assert [item["code"] for item in admin("GET", "/products")["products"]][-1] == "kept"


def test_errors_say_what_to_do(admin):
    assert "/admin/clock" in admin("GET", "/nowhere", status=404)["hint"]
    assert "it takes GET" in admin("DELETE", "/ledger", status=405)["hint"]
    assert admin("POST", "/clock", b"{", 400)["hint"]
    assert admin("POST", "/clock", [], 400)["hint"]
    assert admin("POST", "/notifications", {"action": "x", "purchase_id": "y", "members": []}, 400)["error"]


WRONG_SETTINGS = [
    {"no_such_setting": 1},
    {"identical_resend": "maybe"},
    {"empty_pages": -1},
    {"empty_pages": 1.5},
    {"metering_rate": True},
    {"resolve_metadata": "yes"},
    {"access_denied": "all"},
    {"metering_regions": [5]},
]
WRONG_PRODUCTS = [
    {"code": ""},
    {"code": "white space"},
    {"dimensions": []},
    {"dimensions": [{"type": "usage"}]},
    {"dimensions": [{"key": "a", "price": "much"}]},
    {"dimensions": [{"key": "a", "type": "metered"}]},
    {"integration": "fax"},
    {"pricing": "free"},
]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        *(("/settings", {"token_single_use": True, **change}) for change in WRONG_SETTINGS),
        *(("/products", {"code": "good", "dimensions": [{"key": "a"}], **change}) for change in WRONG_PRODUCTS),
        ("/purchases", {"colour": "red"}),
        ("/clock", {"advance": None}),
        ("/clock", {"advance": "soon"}),
        ("/clock", {"advance": 1e300}),
        ("/clock", {"advance": float("nan")}),
        ("/clock", {"set": {}}),
        ("/clock", {"set": 10**400}),
        ("/clock", {"set": "9999-12-31T00:00:00Z"}),
        ("/clock", {"freeze": "yes"}),
        ("/clock", {"to": []}),
        ("/settings", []),
        ("/products", {"code": "good", "dimensions": [{"key": "a", "price": "NaN"}]}),
        ("/purchases", {"entitlements": "seats"}),
        ("/purchases", {"start": []}),
        ("/purchases", {"free_trial_days": "7"}),
        ("/purchases", {"account_id": 111122223333}),
        ("/purchases/purchase-1/amend", {"purchase_id": "purchase-1"}),
        ("/purchases/purchase-1/renew", {"end": 10**400}),
        ("/purchases/purchase-1/token", {"lifetime": "long"}),
        ("/purchases/purchase-1/suspend", {"why": "so"}),
        ("/tokens", {"purchase_id": ["purchase-1"]}),
        ("/faults", {"fault": ["throttle"]}),
        ("/faults", {"fault": "throttle", "times": "often"}),
        ("/faults", {"fault": "throttle", "seed": []}),
        ("/notifications", {"detail_type": 1}),
        ("/notifications", {"detail_type": "x", "detail": []}),
        ("/delivery", {"do": ["hold"]}),
        ("/delivery", {"do": "hold", "match": 1}),
        ("/targets", {"queue_url": "http://[", "after": 0}),
        ("/targets", {"queue_url": "http://h/q", "after": "x"}),
        ("/targets", {"queue_url": "http://h/q", "kinds": [[]]}),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(admin, emulator, path, data):
    def shown():
        names = ("clock", "settings", "products", "purchases", "faults", "notifications", "delivery", "targets")
        return [admin("GET", f"/{name}") for name in names]

    emulator.buy()
    before = shown()
    assert admin("POST", path, data, 400)["hint"]
    assert shown() == before


def test_another_site_cannot_use_the_admin_api(admin):
    answer = admin("POST", "/reset", {}, 403, {"Origin": "https://elsewhere.example"})
    assert "another site" in answer["error"]
