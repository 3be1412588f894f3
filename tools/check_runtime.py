"""Is the built layer for the Python that a deployment would give the functions?

    python -m tools.check_runtime [--config-env prod] [--build-dir .aws-sam/build] [Runtime=python3.14]

`sam build` and `sam deploy` each read the parameter Runtime, and neither SAM CLI nor Lambda compares them: a stack
whose layer was built for the other Python fails at each function's first import. The value of a deployment is the one
given here, else that of samconfig.toml for `--config-env`, in the table of `deploy` or else of `global`, else the
template's default, as `sam deploy` reads it.
"""

import argparse
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

from tools import template
from tools.check_layer import runtime_of
from tools.template import ROOT


def deployed_runtime(config: dict[str, Any], environment: str, given: str | None = None) -> str:
    """Answer the Runtime that `sam deploy --config-env` would deploy with; raises KeyError for no such environment."""
    if given is not None:
        return given.removeprefix("Runtime=")
    tables = [config[environment].get(command, {}).get("parameters", {}) for command in ("global", "deploy")]
    overrides = (tables[0] | tables[1]).get("parameter_overrides", [])
    words = shlex.split(overrides) if isinstance(overrides, str) else overrides
    named = [word.removeprefix("Runtime=") for word in words if word.startswith("Runtime=")]
    default: str = template.load()["Parameters"]["Runtime"]["Default"]
    return named[-1].strip('"') if named else default


def problem(layer: Path, runtime: str) -> str | None:
    """Answer why the layer must not be deployed with this Runtime, or None."""
    if not layer.is_dir():
        return f"{layer} is missing: run sam build first"
    built = runtime_of(layer)
    if built == runtime:
        return None
    return (
        f"the layer was built for {built or 'no Python that can be told'}, and the functions would run on {runtime}: "
        f"give sam build and sam deploy the same Runtime (sam build --parameter-overrides Runtime={runtime})"
    )


def main(arguments: list[str] | None = None) -> None:
    """Compare, and say what is wrong."""
    options = argparse.ArgumentParser(prog="check-runtime", description="Is the built layer for the deployed Python?")
    options.add_argument("--config-env", default="default")
    options.add_argument("--build-dir", type=Path, default=ROOT / ".aws-sam" / "build")
    options.add_argument("runtime", nargs="?", metavar="Runtime=VALUE", help="as sam deploy is given it")
    given = options.parse_args(arguments)
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    if given.config_env not in config:
        sys.exit(f"runtime: samconfig.toml has no environment {given.config_env}")
    runtime = deployed_runtime(config, given.config_env, given.runtime)
    if found := problem(given.build_dir / "CommonLayer", runtime):
        sys.exit(f"runtime: {found}")
    print(f"runtime: the layer is for {runtime}, which the deployment gives the functions")


if __name__ == "__main__":
    main()
