"""The style of the buyer's pages: the seller's colour is used, and every text stands out from its ground."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.registration.style import DARK, LIGHT, TEXT_CONTRAST, contrast, style

COLORS = ["#ffd400", "#ffffff", "#000000", "#777777", "#e30613", "#0b5cad", "#00ff88", "#1A1A2E"]


def schemes(color: str) -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark scheme by name, as a browser reads them."""
    light, dark = re.findall(r":root \{ (?:color-scheme: light dark; )?((?:--[\w-]+: \S+; ?)+)\}", style(color))
    found = [dict(re.findall(r"--([\w-]+): (\S+);", text)) for text in (light, dark)]
    return found[0], found[1]


def assert_readable(scheme: dict[str, str]) -> None:
    assert contrast(scheme["on-brand"], scheme["brand"]) >= TEXT_CONTRAST
    for ground in ("card", "ground"):
        for text in ("accent", "text", "soft"):
            assert contrast(scheme[text], scheme[ground]) >= TEXT_CONTRAST, (text, ground)
    assert contrast(scheme["bad"], scheme["bad-ground"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("color", ["", *COLORS])
def test_every_text_is_readable_in_both_schemes(color: str) -> None:
    for scheme in schemes(color):
        assert_readable(scheme)


@given(st.from_regex(r"#[0-9A-Fa-f]{6}", fullmatch=True))
def test_every_text_is_readable_with_any_colour(color: str) -> None:
    for scheme in schemes(color):
        assert_readable(scheme)


@pytest.mark.parametrize("color", COLORS)
def test_buttons_have_the_sellers_very_colour(color: str) -> None:
    assert [scheme["brand"] for scheme in schemes(color)] == [color, color]


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    light, dark = schemes("#0b5cad")[0], schemes("#ffd400")[1]

    assert light["accent"] == "#0b5cad"
    assert dark["accent"] == "#ffd400"


@pytest.mark.parametrize(
    ("one", "other", "ratio"), [("#000000", "#ffffff", 21), ("#ffffff", "#ffffff", 1), ("#767676", "#ffffff", 4.54)]
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == contrast(other, one) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("color", ["", "red", "#fff", "#12345", "#1234567", "#ffd400; } body { display: none"])
def test_anything_else_counts_as_no_colour(color: str) -> None:
    assert style(color) == style()
    assert schemes(color) == (dict(LIGHT), dict(DARK))
