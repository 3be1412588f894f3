"""What a buyer may type: an address is needed, everything is bounded, what is wrong is said field by field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.dynamodb import keys
from marketplace.platform.errors import NoAnswerError, ThrottledError
from marketplace.registration.contacts import (
    FIELDS,
    MAX_CONTACTS,
    Contact,
    EnteredContact,
    TooManyContactsError,
    checked,
)
from marketplace.subscriptions.seller_events import SellerEvent
from tests.support.seller_schemas import check
from tests.support.storefront import Storefront


def test_an_address_is_enough() -> None:
    assert checked({"email": " jo@buyer.example "}) == Contact("jo@buyer.example")


def test_everything_can_be_given() -> None:
    typed = {
        "email": "jo@mail.buyer.example",
        "company": "Söhne & Co",
        "name": "Jo O'Connor",
        "phone": "+1 (206) 555-01.00/2",
    }

    assert checked(typed) == Contact(**typed)


def test_fields_that_the_form_does_not_have_are_ignored() -> None:
    assert checked({"email": "jo@gmail.com", "x-amzn-marketplace-offer-type": "free-trial"}) == Contact("jo@gmail.com")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("email", "", "Enter your e-mail address"),
        ("email", "jo", "like name@example.com"),
        ("email", "jo@localhost", "like name@example.com"),
        ("email", "jo@@buyer.example", "like name@example.com"),
        ("email", "jo smith@buyer.example", "like name@example.com"),
        ("email", "jo@buyer..example", "like name@example.com"),
        ("email", "x" * 250 + "@b.example", "254 characters or fewer"),
        ("company", "x" * 201, "200 characters or fewer"),
        ("name", "Jo\r\nBcc: all@buyer.example", "line breaks"),
        ("name", "Jo\x00", "control characters"),
        ("phone", "call me", "digits"),
        ("phone", "1" * 41, "40 characters or fewer"),
    ],
)
def test_what_is_wrong_is_said(field: str, value: str, words: str) -> None:
    problems = checked({"email": "jo@buyer.example", field: value})

    assert isinstance(problems, dict)
    assert list(problems) == [field]
    assert words in problems[field]


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS] + ["other"]), st.text()))
def test_whatever_is_typed_is_a_bounded_contact_or_a_complaint(typed: dict[str, str]) -> None:
    contact = checked(typed)

    if isinstance(contact, Contact):
        assert "@" in contact.email
        assert all(len(getattr(contact, field.name)) <= field.max_length for field in FIELDS)
        assert not any(character in "\r\n\0" for value in contact.values.values() for character in value)
    else:
        assert contact
        assert set(contact) <= {field.name for field in FIELDS}


BUYER = "sub-" + "x" * 26
JO, KIM = Contact("jo@buyer.example", company="Example"), Contact("kim@buyer.example")


def entered(shop: Storefront, subscription_id: str) -> list[tuple[str, int]]:
    """The addresses that were entered, and when."""
    stored = shop.stored(keys.contact(subscription_id)) or {}
    return [(one.contact.email, one.entered_at) for one in EnteredContact.all_in(stored)]


def told(shop: Storefront) -> list[SellerEvent]:
    events = [event for event in shop.announced() if event.kind == "Contact Provided"]
    for event in events:
        check(event.kind, event.published_detail)
    return sorted(events, key=lambda event: event.detail["contact_number"])


class TestStoredContacts:
    def test_two_people_of_one_buyer_are_both_kept_with_their_times(self, shop: Storefront) -> None:
        registered = shop.register()
        first = shop.seconds()
        shop.contacts.save(registered.subscription_id, JO, registered.code)
        shop.later(minutes=5)
        shop.contacts.save(registered.subscription_id, KIM, "code-of-a-second-registration")

        assert entered(shop, registered.subscription_id) == [
            ("jo@buyer.example", first),
            ("kim@buyer.example", first + 300),
        ]

    def test_a_correction_under_the_same_code_keeps_what_was_entered_before(self, shop: Storefront) -> None:
        shop.contacts.save(BUYER, Contact("jo@buyer.exmaple"), "code-1")
        shop.contacts.save(BUYER, JO, "code-1")

        assert [email for email, _ in entered(shop, BUYER)] == ["jo@buyer.exmaple", "jo@buyer.example"]
        assert shop.contacts.read(BUYER, code="code-1") == JO

    def test_a_form_that_is_sent_twice_is_one_contact(self, shop: Storefront) -> None:
        registered = shop.register()
        for _ in range(3):
            shop.contacts.save(registered.subscription_id, JO, registered.code)

        assert len(entered(shop, registered.subscription_id)) == 1
        assert len(told(shop)) == 1
        assert [reason for _, reason, _ in shop.queue.sent][1:] == ["contact_provided"] * 3

    def test_a_contact_is_shown_only_to_the_code_that_it_came_by(self, shop: Storefront) -> None:
        shop.contacts.save(BUYER, JO, "code-1")
        shop.contacts.save(BUYER, KIM, "code-3")

        assert shop.contacts.read(BUYER, code="code-1") == JO
        assert shop.contacts.read(BUYER, code="code-2") is None
        assert shop.contacts.read("sub-" + "y" * 26, code="code-1") is None

    def test_an_item_that_is_one_contact_is_kept_beside_the_next(self, shop: Storefront) -> None:
        registration = keys.registration("code-1").pk
        shop.put(keys.contact(BUYER), {**JO.values, "updated_at": 7, "registration": registration})
        assert shop.contacts.read(BUYER, code="code-1") == JO

        shop.contacts.save(BUYER, KIM, "code-2")

        assert entered(shop, BUYER) == [("jo@buyer.example", 7), ("kim@buyer.example", shop.seconds())]
        assert set(shop.stored(keys.contact(BUYER)) or {}) == {"pk", "sk", "contacts", "version"}
        assert shop.contacts.read(BUYER, code="code-1") == JO

    def test_a_code_cannot_have_any_number_of_strangers_written_to(self, shop: Storefront) -> None:
        for number in range(MAX_CONTACTS):
            shop.contacts.save(BUYER, Contact(f"stranger{number}@elsewhere.example"), f"code-{number % 3}")

        for _ in range(2):
            with pytest.raises(TooManyContactsError):
                shop.contacts.save(BUYER, JO, "code-0")

        assert len(entered(shop, BUYER)) == len(told(shop)) == MAX_CONTACTS

    def test_the_last_contact_that_fits_may_be_sent_again(self, shop: Storefront) -> None:
        for number in range(MAX_CONTACTS):
            shop.contacts.save(BUYER, Contact(f"p{number}@buyer.example"), "code-1")

        shop.contacts.save(BUYER, Contact(f"p{MAX_CONTACTS - 1}@buyer.example"), "code-1")

        assert len(entered(shop, BUYER)) == MAX_CONTACTS

    def test_contacts_that_others_keep_changing_are_to_be_entered_again(
        self, shop: Storefront, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shop.contacts, "_write", lambda *_: False)

        with pytest.raises(ThrottledError):
            shop.contacts.save(BUYER, JO, "code-1")

        assert entered(shop, BUYER) == []


class TestContactProvided:
    def test_the_seller_is_told_what_was_entered_and_whose_it_is(self, shop: Storefront) -> None:
        registered = shop.register()
        shop.claim(registered.code, "acme")
        shop.contacts.save(registered.subscription_id, JO, registered.code)

        (event,) = told(shop)

        assert event.time == shop.seconds()
        assert event.detail == {
            "subscription_id": registered.subscription_id,
            "product_code": shop.subscription(registered.subscription_id).product_code,
            "tenant_id": "acme",
            "contact": {"email": "jo@buyer.example", "company": "Example"},
            "contact_number": 1,
        }

    def test_each_contact_has_an_event_of_its_own(self, shop: Storefront) -> None:
        registered = shop.register()
        for contact in (JO, KIM, JO):
            shop.contacts.save(registered.subscription_id, contact, registered.code)

        events = told(shop)

        assert [event.detail["contact"]["email"][:3] for event in events] == ["jo@", "kim", "jo@"]
        assert [event.detail["contact_number"] for event in events] == [1, 2, 3]
        assert len({event.id for event in events}) == 3

    def test_a_contact_that_is_deleted_and_entered_again_is_another_event(self, shop: Storefront) -> None:
        registered = shop.register()
        shop.contacts.save(registered.subscription_id, JO, registered.code)
        key = keys.contact(registered.subscription_id).item()
        shop.dynamodb.delete_item(TableName=shop.table, Key=key)
        shop.later(minutes=1)

        shop.contacts.save(registered.subscription_id, JO, registered.code)

        assert len({event.id for event in told(shop)}) == 2

    def test_a_contact_and_its_event_are_stored_together_or_not_at_all(
        self, shop: Storefront, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registered = shop.register()
        shop.queue.down = True
        with pytest.raises(NoAnswerError):
            shop.contacts.save(registered.subscription_id, JO, registered.code)
        assert len(entered(shop, registered.subscription_id)) == len(told(shop)) == 1

        shop.queue.down = False
        shop.contacts.save(registered.subscription_id, JO, registered.code)

        assert len(entered(shop, registered.subscription_id)) == len(told(shop)) == 1
        assert shop.queue.sent[-1][:2] == (registered.subscription_id, "contact_provided")
