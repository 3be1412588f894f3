"""What the integration guide lists is what there is: each parameter of the template and each option of `make run`,
once, with its default."""

import re

from local.command import parser
from local.template_yaml import read
from tools.template import ROOT, TEMPLATE

GUIDE = (ROOT / "docs" / "integration.md").read_text()


def section(heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    return GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_parameter_of_the_template_has_one_row_with_its_default() -> None:
    """A row may have several parameters, with one default or one for each. Options have a table of their own."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", section("2. Deploy"), re.MULTILINE)
    listed: list[tuple[str, str]] = []
    for names, default in rows:
        several = re.findall(r"\w+", names)
        defaults = [one.strip().strip("`") for one in default.split(",")]
        listed += zip(
            several, defaults if len(defaults) == len(several) else [default.strip().strip("`")] * 9, strict=False
        )
    of_options = [
        name
        for row in re.findall(
            r"^\| [^|]+ \|([^|]*)\|", section("2. Deploy").split("### Options\n")[1].split("\n### ")[0], re.MULTILINE
        )
        for name in re.findall(r"`(\w+)(?:=\w+)?`", row)
    ]
    declared = {
        name: "" if "Default" not in one else str(one["Default"]) or "empty"
        for name, one in read(TEMPLATE)["Parameters"].items()
    }

    assert len(listed) == len(dict(listed))
    assert sorted([*dict(listed), *of_options]) == sorted(declared)
    assert dict(listed).items() <= declared.items()


def test_every_option_of_make_run_is_listed_once() -> None:
    rows = re.findall(r"^\| (`--[^|]+) \|", section("10. On one machine"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"--[a-z-]+", row)]
    options = {name for action in parser()._actions for name in action.option_strings if name.startswith("--")}

    assert len(listed) == len(set(listed))
    assert set(listed) == options - {"--help"}
