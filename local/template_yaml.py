"""CloudFormation's YAML as data: the short forms of intrinsic functions (`!Ref X`) become the long ones."""

from pathlib import Path
from typing import Any

import yaml


class TemplateError(Exception):
    """The template, or a parameter for it, says something that this stack can't do."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with the tags of CloudFormation beside it."""


def read(path: Path) -> dict[str, Any]:
    """The template in a file. Raises TemplateError."""
    try:
        parsed = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TemplateError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"{path} is no template: {' '.join(str(error).split())}") from error
    resources = parsed.get("Resources") if isinstance(parsed, dict) else None
    if not isinstance(resources, dict):
        raise TemplateError(f"{path} is no template: it has no Resources")
    for name, body in resources.items():
        if not isinstance(body, dict) or not isinstance(body.get("Type"), str):
            raise TemplateError(f"{path} is no template: its resource {name} has no Type")
    return dict(parsed)


def parse(text: str) -> Any:
    """What a template says. Raises yaml.YAMLError.

    Source: CloudFormation Template Reference, "Intrinsic functions": `!Name` stands for `Fn::Name`, except `!Ref` and
    `!Condition`; `!GetAtt A.B` stands for a list of two.
    """
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader with tags that make plain data


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name: value}


_Loader.add_multi_constructor("!", _intrinsic)
