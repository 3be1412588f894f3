"""What `sam deploy` would deploy: its options resolved by SAM CLI's own code, from samconfig.toml and the command line,
without a call to AWS. It runs in SAM CLI's environment, in the folder of the template:

    .tools/sam/bin/python tests/support/sam_deploy.py '{"ProductCodes": "..."}' --config-env dev

The first argument holds, as JSON, the answers to a guided deployment's questions, by parameter; every other question is
answered with what SAM CLI proposes. The rest is what stands after `sam deploy`. The last line of the output is a JSON
object with the stack's name and its parameters.
"""

import json
import sys
from typing import Any

from samcli.cli.main import cli
from samcli.commands.deploy import command, guided_context
from samcli.commands.package import package_context
from samcli.lib.utils import version_checker


class Stop:
    """Takes the place of the package step, the first that needs AWS, and ends there with what SAM CLI has resolved."""

    def __init__(self, **given: Any) -> None:
        self._given = given

    def __enter__(self) -> None:
        names = {"stack_name": "web_function_stack_name", "parameters": "parameter_overrides", "region": "region"}
        sys.stdout.write("\n" + json.dumps({name: self._given[given] for name, given in names.items()}) + "\n")
        raise SystemExit(0)

    def __exit__(self, *_: object) -> None: ...


def main() -> None:
    """Resolve the command and print it."""
    answers, arguments = json.loads(sys.argv[1]), sys.argv[2:]

    def prompt(text: str, default: Any = None, **_: Any) -> Any:
        parameter = text.rpartition("Parameter ")[2]
        return answers.get(parameter.removesuffix("\033[0m"), default)

    def confirm(text: str, default: Any = None, **_: Any) -> bool:
        return "no authentication" in text or bool(default)

    guided_context.prompt, guided_context.confirm = prompt, confirm
    guided_context.GuidedContext.prompt_image_repository = lambda *_: {}
    command.manage_stack = guided_context.manage_stack = lambda **_: "a-bucket"
    package_context.PackageContext = Stop
    version_checker.is_version_check_overdue = lambda _: False
    cli(["deploy", *arguments])


if __name__ == "__main__":
    main()
