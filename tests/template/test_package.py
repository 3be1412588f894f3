"""The template as others install it: SAM CLI packages it for the AWS Serverless Application Repository, with moto's S3
in the place of AWS's."""

import os
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from local.template_yaml import read
from tests.support.machine import SAM_PYTHON
from tools import template, versions

APPLICATION: dict[str, Any] = template.load()["Metadata"]["AWS::ServerlessRepo::Application"]
FILES = ("LicenseUrl", "ReadmeUrl")


def test_the_application_has_what_the_repository_asks_for() -> None:
    """AWS SAM Developer Guide: properties of AWS::ServerlessRepo::Application, and their limits."""
    assert {"Name", "Description", "Author"} <= set(APPLICATION)
    assert len(APPLICATION["Description"]) <= 256
    assert len(APPLICATION["Labels"]) <= 10
    assert APPLICATION["SemanticVersion"] == versions.version()
    for name in FILES:
        assert (template.ROOT / APPLICATION[name]).stat().st_size < 5 * 2**20


@pytest.mark.slow
@pytest.mark.sam_cli
def test_sam_package_uploads_code_licence_and_readme(tmp_path: Path) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        aws = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        make: Any = boto3.client  # the stubs of S3 are not among the project's
        s3 = make("s3", endpoint_url=aws["AWS_ENDPOINT_URL"], region_name="us-east-1")
        s3.create_bucket(Bucket="releases")
        packaged = tmp_path / "packaged.yaml"
        command = [
            str(SAM_PYTHON.parent / "sam"),
            "package",
            "--s3-bucket",
            "releases",
            "--template-file",
            "template.yaml",
        ]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL": "0"}
        subprocess.run(
            [*command, "--output-template-file", str(packaged)],
            cwd=template.ROOT,
            env=environment | aws,
            check=True,
            capture_output=True,
            timeout=240,
        )
        written = read(packaged)
        stored = {item["Key"] for item in s3.list_objects_v2(Bucket="releases")["Contents"]}
    finally:
        server.stop()
    application = written["Metadata"]["AWS::ServerlessRepo::Application"]
    resources = [body["Properties"] for body in written["Resources"].values()]
    uris = [application[name] for name in FILES]
    uris += [body[name] for body in resources for name in ("CodeUri", "ContentUri") if name in body]
    assert len(uris) == len(FILES) + len(template.resources("AWS::Serverless::Function")) + 1
    assert {uri.removeprefix("s3://releases/") for uri in uris} <= stored
    assert application["SemanticVersion"] == versions.version()
