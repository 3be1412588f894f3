"""Lists of AWS are read to their end; one without an end is no answer, and nothing is concluded from its part."""

from collections.abc import Callable, Iterator
from itertools import chain, count, cycle, repeat
from typing import Any

import pytest

from marketplace.entitlements.source import MarketplaceEntitlements
from marketplace.lifecycle.agreement_api import MarketplaceAgreements
from marketplace.platform.errors import NoAnswerError, UnavailableError
from marketplace.platform.pages import MAX_PAGES, pages
from marketplace.subscriptions.model import Subscription
from tests.support.lifecycle_world import LICENSE_ARN, LICENSED, PRODUCT

HOLDER = Subscription(id=LICENSED, integration="license", product_code=PRODUCT, license_arn=LICENSE_ARN)


class Listing:
    """A list operation whose pages have these tokens, of a client that has it under every name. `asked`: the tokens
    that it was asked with."""

    def __init__(self, name: str, tokens: Iterator[str | None]) -> None:
        self.name, self.tokens, self.asked = name, tokens, list[str | None]()

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments.get(self.name))
        token = next(self.tokens, None)
        return {} if token is None else {self.name: token}

    def __getattr__(self, _: str) -> Callable[..., dict[str, Any]]:
        return self


ENDLESS: list[Callable[[], Iterator[str]]] = [
    lambda: repeat("again"),
    lambda: chain(["first"], repeat("again")),
    lambda: cycle(["one", "other"]),
    lambda: map(str, count(1)),
]


@pytest.mark.parametrize("tokens", ENDLESS)
def test_a_list_without_an_end_is_no_answer(tokens: Callable[[], Iterator[str]]) -> None:
    listing = Listing("NextToken", tokens())
    with pytest.raises(NoAnswerError):
        list(pages(listing, "NextToken"))
    assert len(listing.asked) <= MAX_PAGES


@pytest.mark.parametrize("last", [None, ""])
def test_every_page_is_asked_for_with_the_token_of_the_one_before(last: str | None) -> None:
    listing = Listing("NextToken", iter(["a", "b", last]))
    assert len(list(pages(listing, "NextToken"))) == 3
    assert listing.asked == [None, "a", "b"]


def test_the_longest_list_is_read_whole() -> None:
    listing = Listing("NextToken", iter([str(page) for page in range(1, MAX_PAGES)]))
    assert len(list(pages(listing, "NextToken"))) == MAX_PAGES


@pytest.mark.parametrize("tokens", ENDLESS)
def test_entitlements_that_never_end_are_not_known(tokens: Callable[[], Iterator[str]]) -> None:
    source = MarketplaceEntitlements(Listing("NextToken", tokens()))  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        source.entitlements(HOLDER)


@pytest.mark.parametrize("tokens", ENDLESS)
@pytest.mark.parametrize("question", ["of_license", "provisioning", "has_free_trial"])
def test_agreements_that_never_end_are_not_known(tokens: Callable[[], Iterator[str]], question: str) -> None:
    agreements = MarketplaceAgreements(Listing("nextToken", tokens()))  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        getattr(agreements, question)("agmt-1")
