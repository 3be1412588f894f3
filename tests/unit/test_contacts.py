"""What a buyer may type: an address is needed, everything is bounded, what is wrong is said field by field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.registration.contacts import FIELDS, Contact, checked
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


def test_a_later_contact_takes_the_place_of_an_earlier_one(shop: Storefront) -> None:
    shop.contacts.save("sub-x", Contact("jo@buyer.example", company="Example"), "code-1")
    shop.contacts.save("sub-x", Contact("kim@buyer.example"), "code-2")

    assert shop.contacts.read("sub-x") == Contact("kim@buyer.example")


def test_a_contact_is_shown_only_to_the_code_that_it_came_by(shop: Storefront) -> None:
    shop.contacts.save("sub-x", Contact("jo@buyer.example"), "code-1")

    assert shop.contacts.read("sub-x", code="code-1") == Contact("jo@buyer.example")
    assert shop.contacts.read("sub-x", code="code-2") is None
    assert shop.contacts.read("sub-y") is None
