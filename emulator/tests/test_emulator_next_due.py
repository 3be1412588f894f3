"""What happens next by itself, for whoever moves the clock."""

from marketplace_emulator import Clock, Marketplace

NOON = "2026-11-22T12:00:00Z"


def test_nothing_is_due_before_anyone_buys() -> None:
    assert Marketplace(Clock.frozen(NOON)).agenda.next_due() is None


def test_the_licence_is_due_a_minute_after_the_purchase() -> None:
    marketplace = Marketplace(Clock.frozen(NOON))
    marketplace.purchases.subscribe("ca2payasyougoproduct00000")

    assert marketplace.agenda.next_due() == marketplace.clock.timestamp() + 61


def test_what_was_called_off_is_not_due() -> None:
    marketplace = Marketplace(Clock.frozen(NOON))
    purchase = marketplace.purchases.subscribe("ca2payasyougoproduct00000")
    marketplace.purchases.provision(purchase.id)

    assert marketplace.agenda.next_due() is None
