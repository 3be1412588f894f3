"""The one style of the buyer's pages, with the seller's colour in it; every text stands out from its ground.

Contrast is as WCAG 2.2 defines it; 4.5 is what it asks for text (success criterion 1.4.3).
"""

import re
from collections.abc import Mapping
from functools import cache

TEXT_CONTRAST = 4.5

LIGHT: Mapping[str, str] = {
    "ground": "#f2f4f7",
    "card": "#ffffff",
    "text": "#17202b",
    "soft": "#4f5b69",
    "line": "#8792a0",
    "hair": "#dfe4ea",
    "accent": "#0b5cad",
    "brand": "#0b5cad",
    "on-brand": "#ffffff",
    "bad": "#b3261e",
    "bad-ground": "#fdf0ef",
    "good": "#1c7a3e",
}
DARK: Mapping[str, str] = {
    "ground": "#0f1419",
    "card": "#182029",
    "text": "#e9eef4",
    "soft": "#a9b5c2",
    "line": "#72808f",
    "hair": "#2b3642",
    "accent": "#7cbcff",
    "brand": "#7cbcff",
    "on-brand": "#07182a",
    "bad": "#ffaaa3",
    "bad-ground": "#38201f",
    "good": "#74d699",
}
"""The colours of both schemes: `brand` fills buttons, `accent` is the colour of links, steps and outlines."""

_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_BLACK, _WHITE = "#000000", "#ffffff"
_STEPS = 100


@cache
def style(color: str = "") -> str:
    """The style sheet. `color`: the seller's, as `#rrggbb`; anything else counts as none."""
    light, dark = (_branded(palette, color) for palette in (LIGHT, DARK))
    return (
        f"\n:root {{ color-scheme: light dark; {_variables(light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}{_RULES}"
    )


def contrast(one: str, other: str) -> float:
    """How much two colours differ: from 1, the same, to 21, black and white."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _branded(palette: Mapping[str, str], color: str) -> Mapping[str, str]:
    """The palette with the seller's colour: unchanged behind buttons, with the text that is read best on it; as the
    colour of text, changed as far as the page's grounds ask for."""
    if not _COLOR.fullmatch(color):
        return palette
    on_color = max(_BLACK, _WHITE, key=lambda text: contrast(text, color))
    accent = _readable(color, (palette["card"], palette["ground"]))
    return {**palette, "accent": accent, "brand": color, "on-brand": on_color}


def _readable(color: str, grounds: tuple[str, ...]) -> str:
    """The colour, mixed with as little black or white as makes it readable on all of these grounds."""
    end = max(_BLACK, _WHITE, key=lambda text: min(contrast(text, ground) for ground in grounds))
    mixes = (_mixed(color, end, step / _STEPS) for step in range(_STEPS + 1))
    return next(mix for mix in mixes if min(contrast(mix, ground) for ground in grounds) >= TEXT_CONTRAST)


def _mixed(color: str, other: str, share: float) -> str:
    pairs = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in pairs)


def _luminance(color: str) -> float:
    parts = (value / 255 for value in _channels(color))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(color: str) -> tuple[int, ...]:
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))


def _variables(palette: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


_RULES = """
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(1rem, 5vw, 4rem) 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, footer, header { max-width: 36rem; margin: 0 auto; overflow-wrap: anywhere; }
header { display: flex; align-items: center; gap: .75rem; padding: 0 .25rem 1.25rem; font-weight: 600; }
header img { flex: none; max-width: 11rem; height: 2.5rem; padding: .25rem; border-radius: 6px; background: #ffffff;
  object-fit: contain; }
main { padding: clamp(1.25rem, 5vw, 2.5rem); background: var(--card); border: 1px solid var(--hair);
  border-radius: 14px; box-shadow: 0 1px 2px rgb(0 0 0 / 6%), 0 8px 24px rgb(0 0 0 / 6%); }
footer { padding: 1.25rem; color: var(--soft); font-size: .9375rem; text-align: center; }
h1 { margin: 0 0 .75rem; font-size: clamp(1.5rem, 5vw, 1.75rem); line-height: 1.2; letter-spacing: -.01em;
  text-wrap: balance; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1.125rem; }
p { margin: 0 0 1rem; }
.lead { margin-bottom: 1.5rem; color: var(--soft); font-size: 1.0625rem; }
.lead .value { color: var(--text); }
a { color: var(--accent); text-underline-offset: .15em; }
ol.next { margin: 0 0 1.25rem; padding-left: 1.5rem; }
ol.next li { margin-bottom: .5rem; padding-left: .25rem; }
ol.steps { display: flex; gap: .5rem; margin: 0 0 1.75rem; padding: 0; list-style: none; font-size: .8125rem; }
ol.steps li { flex: 1; padding-top: .5rem; border-top: 4px solid var(--hair); color: var(--soft); }
ol.steps .now { border-color: var(--accent); color: var(--text); font-weight: 600; }
ol.steps .done { border-color: var(--good); }
ol.steps .done::before { content: "\\2713\\00a0" / ""; color: var(--good); font-weight: 700; }
.field { margin-bottom: 1.25rem; }
label { display: block; margin-bottom: .375rem; font-weight: 600; }
.optional { color: var(--soft); font-weight: 400; }
input { display: block; width: 100%; min-height: 2.875rem; padding: .5rem .75rem; border: 1px solid var(--line);
  border-radius: 8px; background: var(--card); color: var(--text); font: inherit; }
.wrong { padding-left: .875rem; border-left: 4px solid var(--bad); }
.wrong input { border-color: var(--bad); }
.error { margin: 0 0 .375rem; color: var(--bad); font-weight: 600; }
.summary { margin-bottom: 1.5rem; padding: 1rem 1.25rem; border: 2px solid var(--bad); border-radius: 8px;
  background: var(--bad-ground); }
.summary h2 { margin: 0 0 .375rem; }
.summary ul { margin: 0; padding-left: 1.25rem; }
.summary a { color: var(--bad); font-weight: 600; }
button, .button { display: inline-block; min-height: 2.875rem; padding: .625rem 1.375rem; cursor: pointer;
  border: 1px solid var(--accent); border-radius: 8px; background: var(--brand); color: var(--on-brand); font: inherit;
  font-weight: 600; text-decoration: none; }
button:hover, .button:hover { box-shadow: 0 0 0 3px var(--hair); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.summary:focus-visible { outline-color: var(--bad); }
.login { margin: 1.5rem 0 0; padding-top: 1.25rem; border-top: 1px solid var(--hair); color: var(--soft); }
@media (max-width: 30rem) { button, .button { width: 100%; text-align: center; } }
"""
