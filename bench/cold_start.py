"""How long the layer takes to initialise, beside the same requirements built by plain `sam build`.

Both layers are mounted read-only, as Lambda mounts them, in the Lambda image, and a fresh process imports boto3,
pydantic and Powertools and makes the clients. The two take turns, so that whatever else the machine does hits both,
and the bar is on the fastest runs, which it hit least. Needs Docker with the Lambda image.

    python -m bench.cold_start [--runs 15]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.progress import tracked

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
BAR = 0.35
LAYER = ROOT / "layers" / "common"

INITIALISE = """
import time
start = time.perf_counter()
import boto3, pydantic
from aws_lambda_powertools import Logger, Metrics
class Model(pydantic.BaseModel, frozen=True):
    name: str
    quantity: int
Logger(service="bench"), Metrics(namespace="bench", service="bench")
for service in ("dynamodb", "sqs", "events", "meteringmarketplace", "marketplace-entitlement"):
    boto3.client(service, region_name="us-east-1")
print(time.perf_counter() - start)
"""

PLAIN_TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  CommonLayer:
    Type: AWS::Serverless::LayerVersion
    Metadata: { BuildMethod: python3.13, BuildArchitecture: x86_64 }
    Properties: { ContentUri: common, CompatibleRuntimes: [python3.13], CompatibleArchitectures: [x86_64] }
"""


def build_slim(folder: Path) -> Path:
    """Build the layer as the template does and answer its content."""
    subprocess.run([sys.executable, str(LAYER / "build_layer.py"), str(folder)], check=True)
    return folder / "python"


def build_plain(folder: Path) -> Path:
    """Build the same requirements and package by SAM's own Python builder and answer its content."""
    ours = shutil.ignore_patterns("Makefile", "build_layer.py", "requirements.in", "__pycache__")
    shutil.copytree(LAYER, folder / "common", ignore=ours)
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


def initialise(content: Path) -> float:
    """Answer the seconds that a fresh process in the Lambda image takes to initialise with this layer."""
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/python3"),
            *("--volume", f"{content}:/opt/python:ro", "--env", "PYTHONPATH=/opt/python"),
            *("--env", "AWS_ACCESS_KEY_ID=x", "--env", "AWS_SECRET_ACCESS_KEY=x", IMAGE, "-c", INITIALISE),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def megabytes(content: Path) -> float:
    """Answer the size of a layer, zipped."""
    archive = Path(shutil.make_archive(str(content.parent / "layer"), "zip", content.parent, "python"))
    return archive.stat().st_size / 1e6


def main() -> None:
    """Build both, measure both, print the table, and fail above the bar."""
    parser = argparse.ArgumentParser(description="Measure the layer's initialisation.")
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode != 0:
        print(f"cold start: not measured here; needs Docker and the image {IMAGE}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "slim").mkdir()
        (Path(scratch) / "plain").mkdir()
        layers = {
            "plain sam build": build_plain(Path(scratch) / "plain"),
            "this layer": build_slim(Path(scratch) / "slim"),
        }
        for content in layers.values():
            initialise(content)
        seconds: dict[str, list[float]] = {name: [] for name in layers}
        for _ in tracked(range(runs), "measuring both layers", runs):
            for name, content in layers.items():
                seconds[name].append(initialise(content))
        print(
            f"{'layer':<18}{'zipped':>10}{'median':>10}{'fastest':>10}{'slowest':>10}   init of {runs} fresh processes"
        )
        for name, content in layers.items():
            taken = seconds[name]
            print(
                f"{name:<18}{megabytes(content):>7.1f} MB{statistics.median(taken):>8.3f} s"
                f"{min(taken):>8.3f} s{max(taken):>8.3f} s"
            )
    ratio = min(seconds["this layer"]) / min(seconds["plain sam build"])
    print(f"ratio {ratio:.2f} (bar {BAR})")
    if ratio > BAR:
        sys.exit(1)


if __name__ == "__main__":
    main()
