"""The seller as the buyer's pages show it: the settings that put a name, a logo, a colour, titles and links on them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from marketplace.platform.settings import Settings

AWS_SUBSCRIPTIONS = "https://console.aws.amazon.com/marketplace/home#/subscriptions"
"""Where AWS Marketplace lists a buyer's subscriptions and has "Set up your account" (Buyer Guide: managing
subscriptions)."""

_LOGO = re.compile(r"(?P<origin>https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?)/\S*")


@dataclass(frozen=True, slots=True)
class Seller:
    """What the seller's settings add to every page; what is empty is left out.

    `support_contact`: an e-mail address, web address or text. `color`: `#rrggbb`. `product_titles`: by product code.
    `marketplace_url`: where the buyer came from.
    """

    support_contact: str = ""
    login_url: str = ""
    name: str = ""
    logo_url: str = ""
    color: str = ""
    product_titles: Mapping[str, str] = field(default_factory=dict)
    marketplace_url: str = AWS_SUBSCRIPTIONS

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            support_contact=settings.support_contact,
            login_url=settings.login_url,
            name=settings.seller_name,
            logo_url=settings.seller_logo_url,
            color=settings.seller_color,
            product_titles=settings.product_titles,
            marketplace_url=settings.marketplace_console_url or AWS_SUBSCRIPTIONS,
        )

    @property
    def logo_origin(self) -> str:
        """The origin that the logo is fetched from, as a content security policy names it. Empty if there is no logo,
        or its address is not https with a plain host name: then it is not shown."""
        match = _LOGO.fullmatch(self.logo_url)
        return match["origin"] if match else ""
