"""The way of a purchase from the store to the bill, as the bar on every page shows it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from marketplace_emulator.clock import to_datetime
from marketplace_emulator.model import Purchase

if TYPE_CHECKING:
    from marketplace_emulator.marketplace import Marketplace


class Seller(Protocol):
    """What the emulator's pages may know of the seller's side. `console_url` is empty where it has no pages."""

    console_url: str

    def has_reported(self, purchase: Purchase) -> bool:
        """Whether the seller's application has reported usage of the purchase."""

    def activity(self) -> int:
        """A number that grows whenever something happens there."""

    def metered_at(self) -> float | None:
        """When the hour that is running will be metered, in seconds since the epoch; None if that is not known."""


class UnknownSeller:
    """A seller of whom the emulator knows nothing but the calls that it receives."""

    console_url = ""

    def has_reported(self, purchase: Purchase) -> bool:  # noqa: ARG002 - the protocol's
        """Not known; usage that AWS has accepted was reported, and that the story sees by itself."""
        return False

    def activity(self) -> int:
        """Nothing happens that is not a call."""
        return 0

    def metered_at(self) -> float | None:
        """Not known."""
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way; `url` is empty where it has no page."""

    name: str
    done: bool
    url: str


@dataclass(frozen=True, slots=True)
class Story:
    """The steps of one purchase. `about` names it; `hint` says what comes next."""

    about: str
    steps: tuple[Step, ...]
    hint: str

    @property
    def current(self) -> str:
        """The name of the first step that is not done, or an empty text."""
        return next((step.name for step in self.steps if not step.done), "")


def story_of(
    marketplace: "Marketplace", purchase: Purchase | None, store_url: str = "", metered: bool | None = None
) -> Story:
    """The way of a purchase, or of the one that is still to be made.

    `store_url` is where the emulator's pages are, seen from the page that shows the bar. `metered` says whether the
    seller's application knows usage as metered, where that is known.
    """
    console = marketplace.seller.console_url
    if purchase is None:
        names = ("Buy", "Set up", "Report", "Metered", "Billed")
        steps = tuple(Step(name, False, f"{store_url}/" if name == "Buy" else "") for name in names)
        return Story("", steps, "Buy a product on AWS Marketplace.")
    billed = any(record.quantity for record in marketplace.ledger.of_purchase(purchase.id))
    metered = billed if metered is None else metered
    reported = metered or billed or marketplace.seller.has_reported(purchase)
    page = f"{store_url}/purchases/{purchase.id}"
    subscription = f"{console}/purchases/{purchase.id}" if console and purchase.registered_at is not None else ""
    steps = (
        Step("Buy", True, page),
        Step("Set up", purchase.registered_at is not None, page),
        Step("Report", reported, f"{subscription}#report" if subscription else ""),
        Step("Metered", metered, f"{subscription}#usage" if subscription else ""),
        Step("Billed", billed, f"{page}#bill"),
    )
    story = Story(f"{purchase.product.title}, account {purchase.account_id}", steps, "")
    return Story(story.about, steps, _hint(marketplace, purchase, story.current))


def _hint(marketplace: "Marketplace", purchase: Purchase, current: str) -> str:
    over = bool(purchase.failed_reason) or purchase.ended_at is not None
    moment = marketplace.seller.metered_at()
    when = "after its hour has ended" if moment is None else f"at {to_datetime(moment):%H:%M} UTC"
    hints = {
        "Set up": "Set up your account: AWS Marketplace sends the buyer to the seller.",
        "Report": "Report usage in your application.",
        "Metered": f"The usage is metered {'before AWS stops taking it' if over else when}; move the clock on.",
        "Billed": "The application takes the usage as metered, and AWS has not billed it: look at the calls.",
    }
    if over and current in ("Set up", "Report"):
        return "This purchase came to an end before any usage was reported."
    if current == "Report" and purchase.provisioned_at is None:
        return "AWS Marketplace activates the subscription in a moment; then report usage in your application."
    return hints.get(current, "Usage is on the bill: from the purchase to the bill, all is done.")
