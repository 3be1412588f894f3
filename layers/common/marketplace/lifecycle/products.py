"""Which products have no entitlements, so that an empty answer about one of their buyers is not taken for "not yet".

GetEntitlements lists nothing of a product with usage pricing alone, and nothing for some minutes of a contract that has
just been bought. Nothing in its answer tells the two apart. What is known of a product comes from two sources:

- AWS has listed an entitlement of it, of whatever buyer: it has entitlements. This is never forgotten.
- Nothing was ever listed of it, and a buyer's agreement has usage pricing alone, or the readings of one buyer were
  empty until the last of them, an hour after the activation: it has none, until AWS lists one.

A product of which neither is known is treated as one that has entitlements.
"""

from collections.abc import Callable

from marketplace.dynamodb import keys
from marketplace.dynamodb.attributes import from_item, to_item
from marketplace.dynamodb.table import Table

type TermsFinder = Callable[[str], frozenset[str]]
"""Returns the kinds of an agreement's accepted terms, none when AWS does not say."""

_USAGE = "usageBasedPricingTerm"
_GRANTING = frozenset({"configurableUpfrontPricingTerm", "fixedUpfrontPricingTerm", "freeTrialPricingTerm"})
"""Terms that come with entitlements (botocore model of marketplace-agreement: their grants)."""


def has_usage_pricing_alone(terms: frozenset[str]) -> bool:
    return _USAGE in terms and not terms & _GRANTING


class Products:
    """What is known of products, in the subscriptions table. Raises AwsError when DynamoDB gave no answer."""

    def __init__(self, table: Table, find_terms: TermsFinder) -> None:
        self._table = table
        self._find_terms = find_terms

    def note_listed(self, product_code: str) -> None:
        """AWS has listed an entitlement of the product."""
        if self._lists(product_code) is not True:
            self._table.put(to_item({**keys.product(product_code)._asdict(), "lists_entitlements": True}))

    def may_list_later(self, product_code: str, agreement_id: str | None, *, first: bool, last: bool) -> bool:
        """Whether AWS may list later what it does not list yet. Asks for the terms of the agreement at the `first`
        reading, if nothing is known of the product; an empty `last` one settles what nothing else has."""
        lists = self._lists(product_code)
        if lists is not None:
            return lists
        usage_alone = first and agreement_id is not None and has_usage_pricing_alone(self._find_terms(agreement_id))
        if usage_alone or last:
            # Unless another reading has listed something meanwhile.
            self._table.put_new(to_item({**keys.product(product_code)._asdict(), "lists_entitlements": False}))
            return False
        return True

    def _lists(self, product_code: str) -> bool | None:
        item = self._table.get(keys.product(product_code))
        return None if item is None else from_item(item)["lists_entitlements"]
