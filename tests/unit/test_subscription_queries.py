"""Finding subscriptions: by tenant, account or status as of now, a page at a time."""

import base64
import json
from typing import Any

import pytest

from marketplace.dynamodb import keys
from marketplace.dynamodb.paging import InvalidCursorError
from marketplace.registration.contacts import Contact
from marketplace.seller_api.subscription_queries import Attribute, Filter
from tests.support.storefront import Storefront


def stored(shop: Storefront, number: int, **values: Any) -> str:
    subscription_id = f"sub-{number:026d}".replace("0", "a").replace("1", "b").replace("8", "y").replace("9", "z")
    known = {"id": subscription_id, "integration": "license", "product_code": "code", "status": "active", "version": 1}
    shop.put(keys.subscription(subscription_id), {**known, **values})
    if "tenant_id" in values:
        shop.put(keys.tenant_subscription(values["tenant_id"], subscription_id), {})
    return subscription_id


def found(shop: Storefront, attribute: Attribute, value: str, limit: int = 100) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = shop.queries.find(Filter(attribute, value), cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        ids += [one.id for one in page.items]
        cursor = page.cursor
        if cursor is None:
            return ids


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("attribute", "value", "other"),
    [("tenant_id", "acme", "globex"), ("account_id", "111122223333", "444455556666"), ("status", "closing", "active")],
)
def test_every_page_together_is_every_match_once(
    shop: Storefront, attribute: Attribute, value: str, other: str, limit: int
) -> None:
    wanted = [stored(shop, number, **{attribute: value}) for number in range(2, 7)]
    stored(shop, 7, **{attribute: other})

    assert found(shop, attribute, value, limit) == wanted


def test_a_tenant_is_not_found_by_the_beginning_of_its_name(shop: Storefront) -> None:
    stored(shop, 2, tenant_id="acme#2")

    assert found(shop, "tenant_id", "acme") == []
    assert len(found(shop, "tenant_id", "acme#2")) == 1


def test_a_closing_subscription_whose_deadline_has_passed_is_found_as_ended(shop: Storefront) -> None:
    over = stored(shop, 2, status="closing", closing_deadline=shop.seconds())
    closing = stored(shop, 3, status="closing", closing_deadline=shop.seconds() + 1)
    ended = stored(shop, 4, status="ended", closing_deadline=shop.seconds() - 10)

    assert found(shop, "status", "closing", limit=1) == [closing]
    assert found(shop, "status", "ended", limit=1) == [ended, over]
    assert found(shop, "status", "ended") == [ended, over]


def test_other_items_with_the_same_attribute_are_not_subscriptions(shop: Storefront) -> None:
    subscription_id = stored(shop, 2, account_id="111122223333")
    shop.put(keys.contact(subscription_id), {"account_id": "111122223333", "status": "active"})

    assert found(shop, "account_id", "111122223333") == [subscription_id]
    assert found(shop, "status", "active") == [subscription_id]


def test_a_link_of_a_tenant_whose_subscription_is_gone_is_passed_over(shop: Storefront) -> None:
    shop.put(keys.tenant_subscription("acme", "sub-" + "a" * 26), {})

    assert found(shop, "tenant_id", "acme") == []


def test_more_than_dynamodb_reads_at_once(shop: Storefront) -> None:
    for number in range(2, 107):
        stored(shop, number, status="failed")

    assert len(found(shop, "status", "failed")) == 105


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("cursor", ["x", "###", "é", encoded(7), encoded([]), encoded(["digest", 0, ""]), encoded({})])
def test_a_cursor_of_another_making_is_refused(shop: Storefront, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        shop.queries.find(Filter("status", "active"), cursor=cursor)


@pytest.mark.parametrize("change", [["digest"], [None, 5], [None, "0"], [None, None, 7], [None, None, "elsewhere"]])
def test_a_cursor_that_was_tampered_with_is_refused(shop: Storefront, change: list[Any]) -> None:
    given = [Filter("status", "active").digest, 0, ""]
    tampered = [new if new is not None else old for new, old in zip(change, given, strict=False)] + given[len(change) :]

    with pytest.raises(InvalidCursorError):
        shop.queries.find(Filter("status", "active"), cursor=encoded(tampered))


def test_a_cursor_of_another_question_is_refused(shop: Storefront) -> None:
    for number in (2, 3):
        stored(shop, number)
    cursor = shop.queries.find(Filter("status", "active"), limit=1).cursor

    with pytest.raises(InvalidCursorError):
        shop.queries.find(Filter("status", "ended"), cursor=cursor)


def test_details_hold_entitlements_and_contact(shop: Storefront) -> None:
    subscription_id = stored(shop, 2)
    shop.put(keys.entitlement(subscription_id, "seats"), {"dimension": "seats", "value_type": "integer", "value": 25})
    shop.put(keys.event(subscription_id, "2026-11-22T14:00:00.000Z", "e1"), {"kind": "license_updated"})
    shop.contacts.save(subscription_id, Contact("jo@buyer.example"), "code")

    details = shop.queries.details(subscription_id)

    assert details is not None
    assert [one.dimension for one in details.entitlements] == ["seats"]
    assert [one.contact for one in details.contacts] == [Contact("jo@buyer.example")]
    assert shop.queries.details("sub-" + "b" * 26) is None
