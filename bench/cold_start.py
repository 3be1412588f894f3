"""How long each function takes from a new process to its first answer, beside the same function by plain `sam build`.

Both layers are mounted read-only, as Lambda mounts them, in the Lambda image, and a fresh process imports the
function's app.py (all of what Lambda calls its initialisation) and answers one event (bench/first_answer.py). Plain is
what a project has that leaves everything to SAM: the locked requirements and boto3, which makes the clients. "Plain
without boto3" is the same code by plain `sam build`: what the build of the layer gains by itself.

The layers take turns, so that whatever else the machine does hits all, and the bar is on the fastest runs, which it hit
least, and on CPU time, which waiting does not lengthen. Needs Docker with the Lambda image.

    python -m bench.cold_start [--runs 15] [--function seller_api]
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support.progress import tracked
from tools.check_layer import LIMIT_BYTES, zipped_bytes

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
BAR = 0.30
LAYER = ROOT / "layers" / "common"
EVENTS = {
    "resolve_customer": "registration_page_get",
    "seller_api": "subscriptions_list",
    "entitlement_check": "request_measure_waiting",
    "meter_usage": "schedule",
}
PLAIN_ONLY = ("boto3", "s3transfer")
PLAIN_TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  CommonLayer:
    Type: AWS::Serverless::LayerVersion
    Metadata: { BuildMethod: python3.13, BuildArchitecture: x86_64 }
    Properties: { ContentUri: common, CompatibleRuntimes: [python3.13], CompatibleArchitectures: [x86_64] }
"""


class Seconds(NamedTuple):
    """What one fresh process took."""

    init: float
    init_cpu: float
    answer: float
    answer_cpu: float


class Variant(NamedTuple):
    """A layer, and whether boto3 makes the clients."""

    name: str
    layer: Path
    boto3: bool = False


def build_slim(folder: Path) -> Path:
    """Build the layer as the template does and answer its content."""
    subprocess.run([sys.executable, str(LAYER / "build_layer.py"), str(folder), "3.13"], check=True)
    return folder / "python"


def build_plain(folder: Path) -> Path:
    """Build the same requirements, boto3 and our package by SAM's own Python builder and answer its content."""
    of_our_build = ("Makefile", "build_layer.py", "dataclass_methods.py", "requirements.in")
    shutil.copytree(LAYER, folder / "common", ignore=shutil.ignore_patterns(*of_our_build, "__pycache__"))
    locked = (ROOT / "requirements-run.txt").read_text()
    with (folder / "common" / "requirements.txt").open("a") as requirements:
        for name in PLAIN_ONLY:
            found = re.search(rf"^{name}==(?:.*\\\n)+.*\n", locked, re.MULTILINE)
            assert found is not None, f"requirements-run.txt names no {name}"
            requirements.write(found[0])
    (folder / ".python-version").write_text("3.13\n")
    (folder / "template.yaml").write_text(PLAIN_TEMPLATE)
    subprocess.run(
        [str(ROOT / ".tools" / "sam" / "bin" / "sam"), "build", "--build-dir", "built"],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, "SAM_CLI_TELEMETRY": "0"},
    )
    return folder / "built" / "CommonLayer" / "python"


def measured(function: str, variant: Variant) -> Seconds:
    """Answer what a fresh process in the Lambda image takes with this function and layer."""
    event = f"{EVENTS[function]}.json"
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/python3"),
            *(
                "--volume",
                f"{variant.layer}:/opt/python:ro",
                "--volume",
                f"{ROOT / 'functions' / function}:/var/task:ro",
            ),
            *("--volume", f"{ROOT / 'bench' / 'first_answer.py'}:/first_answer.py:ro"),
            *("--volume", f"{ROOT / 'events' / event}:/event.json:ro"),
            *("--env", "PYTHONPATH=/var/task:/opt/python", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *(IMAGE, "/first_answer.py", "/event.json", *(["boto3"] if variant.boto3 else [])),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"cold start: {function} with {variant.name}: {done.stderr}")
    return Seconds(*json.loads(done.stderr.strip().splitlines()[-1]))


def compare(function: str, variants: list[Variant], runs: int) -> float:
    """Measure one function with all layers by turns, print the table, and answer its ratio to plain `sam build` of the
    same requirements (decision 0073)."""
    taken: dict[str, list[Seconds]] = {variant.name: [] for variant in variants}
    for _ in tracked(range(runs), f"measuring {function}", runs):
        for variant in variants:
            taken[variant.name].append(measured(function, variant))
    print(f"\n{function}, {runs} fresh processes of each (seconds of CPU: fastest, median; elapsed: fastest)")
    print(f"{'':<24}{'initialisation':>24}{'first answer':>24}{'both elapsed':>14}")
    best: dict[str, Seconds] = {}
    for name, all_runs in taken.items():
        columns = list(zip(*all_runs, strict=True))
        best[name] = Seconds(*map(min, columns))
        middle = Seconds(*map(statistics.median, columns))
        elapsed = min(one.init + one.answer for one in all_runs)
        print(
            f"{name:<24}{best[name].init_cpu:>14.3f}{middle.init_cpu:>10.3f}"
            f"{best[name].answer_cpu:>14.3f}{middle.answer_cpu:>10.3f}{elapsed:>14.3f}"
        )
    plain, same, ours = (best[variant.name] for variant in variants)
    ratio = ours.init_cpu / same.init_cpu
    whole, whole_plain = ours.init_cpu + ours.answer_cpu, plain.init_cpu + plain.answer_cpu
    print(
        f"initialisation {ratio:.2f} x plain without boto3 (bar {BAR}), {ours.init_cpu / plain.init_cpu:.2f} x plain;"
        f" with the first answer {whole / whole_plain:.2f} x plain;"
        f" SnapStart would do {ours.init_cpu / whole:.0%} of it before the snapshot"
    )
    return ratio


def main() -> None:
    """Build all, measure all, and fail above a bar."""
    parser = argparse.ArgumentParser(description="Measure the functions' initialisation and first answer.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--function", action="append", choices=sorted(EVENTS), help="only this one (may be repeated)")
    given = parser.parse_args()
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode != 0:
        print(f"cold start: not measured here; needs Docker and the image {IMAGE}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "slim").mkdir()
        (Path(scratch) / "plain").mkdir()
        slim, plain = build_slim(Path(scratch) / "slim"), build_plain(Path(scratch) / "plain")
        variants = [
            Variant("plain sam build", plain, boto3=True),
            Variant("plain without boto3", plain),
            Variant("this layer", slim),
        ]
        weight = zipped_bytes(slim.parent)
        print(f"zipped: plain {zipped_bytes(plain.parent) / 1e6:.1f} MB, this layer {weight / 1e6:.1f} MB", end="")
        print(f" (bar {LIMIT_BYTES / 1e6:.0f} MB)")
        ratios = [compare(function, variants, given.runs) for function in given.function or EVENTS]
    if max(ratios) > BAR or weight > LIMIT_BYTES:
        sys.exit(1)


if __name__ == "__main__":
    main()
