"""Months of usage go to the bucket and leave the table, on the local stack's clock, and whoever asks for one of them,
over HTTP or by the command line, gets what they got before."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import exports
from local import stack as local_stack
from local.options import Options
from local.stack import Stack
from marketplace_saas_cli.__main__ import main
from marketplace_saas_cli.exits import FINE, NO_ANSWER
from tests.documents.test_commands import Reader
from tests.local_stack.browser import Answer, Neighbourhood, call, lines
from tests.local_stack.conftest import NOON
from tests.local_stack.test_command_line import PRODUCT, Shell
from tools.documents import blocks

MONTH = "2026-11"
HOUR, DAY = 3600, 24 * 3600
ON = {"ArchiveAfterMonths": "1"}
OF_CLI_2 = "--cli-binary-format raw-in-base64-out "
"""AWS CLI 1, which the tests have, takes a payload as it is and does not know the option."""
NAMES = [f"{team}-{hour}" for hour in range(3) for team in ("none", "ads", "search")]


@dataclass
class Seller:
    """A stack with two customers and their usage of November. `before` and `said_before`: what the API
    answered and the command line said when November was over."""

    stack: Stack
    buyers: list[str] = field(default_factory=list)
    before: dict[str, bytes] = field(default_factory=dict)
    said_before: dict[str, str] = field(default_factory=dict)

    @property
    def outside(self) -> Neighbourhood:
        return Neighbourhood(self.stack.api_url, self.stack.marketplace_url, self.stack.console_url)

    def client(self, service: str) -> Any:
        return self.stack.aws.client(service)

    def commands(self) -> dict[str, str]:
        """What the command line says of November."""
        trailed = ["reconcile", "--from", f"{MONTH}-20T00:00:00Z", "--to", f"{MONTH}-30T00:00:00Z"]
        asked = [["statement", buyer, "--month", MONTH] for buyer in self.buyers]
        return {" ".join(one): self.said(*one) for one in [*asked, trailed, ["trace", "ads-1"]]}

    def said(self, *arguments: str) -> str:
        port = self.stack.aws_url.rpartition(":")[2]
        with redirect_stdout(io.StringIO()) as printed:
            assert main([*arguments, "--json", "--local", port]) == FINE
        return printed.getvalue()

    @property
    def bucket(self) -> str:
        return self.stack.outputs["UsageArchiveBucketName"]

    def buy(self, account: str) -> None:
        bought = self.outside.buy(PRODUCT, account)
        self.stack.advance(120)
        code = self.outside.register(bought["id"]).rsplit("/", 1)[1]
        self.buyers.append(self.outside.claim(code, f"tenant-{account}")["subscription_id"])

    def use(self, hour: int) -> None:
        for number, buyer in enumerate(self.buyers):
            records = [
                {
                    "id": f"{team}-{hour}",
                    "subscription_id": buyer,
                    "dimension": "api_calls" if team == "none" else "storage_gb_hours",
                    "quantity": 10 * hour + len(team) + number,
                    **({} if team == "none" else {"tags": {"team": team}}),
                }
                for team in ("none", "ads", "search")
            ]
            assert {one["status"] for one in self.outside.report(records)} == {"recorded"}

    def to(self, moment: str) -> None:
        self.stack.clock.set(moment)

    def paths(self) -> list[str]:
        """What is asked of November."""
        return [
            f"/subscriptions/{buyer}/{what}"
            for buyer in self.buyers
            for what in (
                f"statement?month={MONTH}",
                f"usage?from={MONTH}-01T00:00:00Z&to={MONTH}-30T00:00:00Z",
                *(f"usage/{name}" for name in NAMES),
            )
        ]

    def answers(self) -> dict[str, bytes]:
        found = {path: self.get(path) for path in self.paths()}
        assert {answer.status for answer in found.values()} == {200}
        return {path: answer.body for path, answer in found.items()}

    def get(self, path: str) -> Answer:
        return call("GET", f"{self.stack.api_url}{path}")

    def items(self, buyer: str, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client("dynamodb").query(
            TableName=self.stack.outputs["UsageTableName"],
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": {"S": f"SUB#{buyer}"}, ":prefix": {"S": prefix}},
        )["Items"]
        return found

    def objects(self) -> dict[str, bytes]:
        s3 = self.client("s3")
        names = [one["Key"] for one in s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        return {name: s3.get_object(Bucket=self.bucket, Key=name)["Body"].read() for name in names}


def used_in_november(stack: Stack) -> Seller:
    """It is the 2nd of December, and November's statements are closed."""
    seller = Seller(stack)
    for account in ("111122223333", "444455556666"):
        seller.buy(account)
    for hour in range(3):
        seller.use(hour)
        stack.advance(HOUR)
    seller.to("2026-12-02T12:10:00Z")
    seller.use(9)
    stack.advance(3 * HOUR)
    return seller


@pytest.fixture(scope="module")
def stack(log: io.StringIO) -> Iterator[Stack]:
    options = Options(clock=f"frozen:{NOON}", log=log, log_all=True, metering_rate=None, parameters=ON)
    with local_stack.running(options) as running:
        yield running


@pytest.fixture(scope="module")
def seller(stack: Stack) -> Seller:
    return used_in_november(stack)


@pytest.fixture(scope="module")
def archived(seller: Seller) -> Seller:
    """The clock has passed the archiving of November, and the days after which DynamoDB removes what is archived."""
    seller.before, seller.said_before = seller.answers(), seller.commands()
    assert seller.objects() == {}
    seller.to("2027-01-10T12:00:00Z")
    return seller


def test_november_is_in_the_bucket_and_no_longer_in_the_table(archived: Seller) -> None:
    objects = archived.objects()
    for buyer in archived.buyers:
        place = f"usage/{buyer}/{MONTH}/"
        mark = archived.client("dynamodb").get_item(
            TableName=archived.stack.outputs["UsageTableName"],
            Key={"pk": {"S": "ARCHIVE"}, "sk": {"S": f"SUB#{buyer}"}},
        )["Item"]
        manifest = objects[f"{place}manifest.json"]
        assert mark["months"]["M"][MONTH]["S"] == hashlib.sha256(manifest).hexdigest()
        (part,) = json.loads(manifest)["parts"]
        assert hashlib.sha256(objects[part["name"]]).hexdigest() == part["sha256"]
        kept = [json.loads(line)["sk"]["S"] for line in gzip.decompress(objects[part["name"]]).splitlines()]
        assert len(kept) == 3 * 4
        left = [item["sk"]["S"] for item in archived.items(buyer, "HOUR#")]
        assert left
        assert not [sk for sk in left if MONTH in sk]
        assert len(archived.items(buyer, "RECORD#")) == 4 * 3, "usage records stay for UsageRecordTtlDays"
    assert len(objects) == 2 * 2


def test_statements_lists_and_proofs_over_http_have_the_same_bytes(archived: Seller) -> None:
    assert archived.answers() == archived.before
    statement = json.loads(archived.before[archived.paths()[0]])
    assert [day["closed"] for day in statement["days"]] == [True]
    proof = json.loads(archived.before[f"/subscriptions/{archived.buyers[0]}/usage/ads-1"])
    assert proof["metering_record"]["state"] == "metered"
    assert proof["metering_record"]["metering_record_id"]


def test_the_command_line_reads_both(archived: Seller) -> None:
    assert archived.commands() == archived.said_before
    statement, _, reconciled, traced = (json.loads(text) for text in archived.said_before.values())
    assert statement["closed"] is True
    assert reconciled["differences"] == []
    assert reconciled["compared"] == 2 * 3 * 2
    assert [one["record"]["id"] for one in traced["chains"]] == ["ads-1", "ads-1"]
    assert {one["cloudtrail"]["answers"][0]["status"] for one in traced["chains"]} == {"Success"}


def test_a_proof_of_what_was_never_reported_is_not_found(archived: Seller) -> None:
    answer = archived.get(f"/subscriptions/{archived.buyers[0]}/usage/nothing")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "usage_record_not_found")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda content: content[:-1] + b"x", lambda content: content * 2])
def test_a_damaged_object_gives_no_statement_and_a_sound_month_beside_it_does(
    archived: Seller, damage: Callable[[bytes], bytes], shell: Shell, log: io.StringIO
) -> None:
    first, second = archived.buyers
    for name, content in archived.objects().items():
        if first not in name:
            continue
        archived.client("s3").put_object(Bucket=archived.bucket, Key=name, Body=damage(content))
        try:
            for path in (f"statement?month={MONTH}", "usage/ads-1"):
                answer = archived.get(f"/subscriptions/{first}/{path}")
                assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
            assert lines(log, f"ArchiveDamaged: {name}")
            assert shell.run("statement", first, "--month", MONTH) == NO_ANSWER
            assert "(500 internal_error" in shell.err
            assert shell.run("trace", "ads-1", "--subscription", first) == NO_ANSWER
            assert name in shell.err
            path = f"/subscriptions/{second}/statement?month={MONTH}"
            assert archived.get(path).body == archived.before[path]
        finally:
            archived.client("s3").put_object(Bucket=archived.bucket, Key=name, Body=content)
    assert archived.answers() == archived.before


@pytest.fixture
def shell(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(stack, capsys)


@pytest.mark.awscli
def test_the_documents_commands_check_a_month_and_archive_it_again(archived: Seller, tmp_path: Path) -> None:
    stack, buyer = archived.stack, archived.buyers[0]
    given = exports.variables(stack.aws_url, stack.marketplace_url, stack.deployment.stack_name, stack.outputs)
    reader = Reader("\n".join(exports.lines(given)), tmp_path, stack, {"SUBSCRIPTION_ID": buyer})
    check, again = (
        block.text
        for block in blocks(Path("docs/operations.md"), "sh")
        if "s3://$ARCHIVE_BUCKET" in block.text or "$ARCHIVE_USAGE" in block.text
    )
    status, said = reader.paste(check)
    assert status == 0, said
    sums = [line.split("  ") for line in said.splitlines() if "  month/" in line]
    assert sorted(name for _, name in sums) == sorted(f"month/{one.name}" for one in (tmp_path / "month").iterdir())
    assert [name for digest, name in sums if name == f"month/{digest}.jsonl.gz"]
    shown = [json.loads(line) for line in said.splitlines() if line.startswith('{"sk"')]
    assert len(shown) == 3 * 4
    assert {one["state"] for one in shown} == {"metered", None}
    status, said = reader.paste(again.replace(OF_CLI_2, ""))
    assert status == 0, said
    assert json.loads((tmp_path / "again.json").read_text()) == {"months": 0, "items": 0}


def test_a_run_by_hand_archives_what_was_put_back_into_the_same_bytes(archived: Seller) -> None:
    stack, buyer, objects = archived.stack, archived.buyers[0], archived.objects()
    (part,) = json.loads(objects[f"usage/{buyer}/{MONTH}/manifest.json"])["parts"]
    for line in gzip.decompress(objects[part["name"]]).splitlines():
        item = json.loads(line)
        archived.client("dynamodb").put_item(TableName=stack.outputs["UsageTableName"], Item=item)
    assert archived.answers() == archived.before
    function = stack.deployment.resources["ArchiveUsageFunction"]
    answer = archived.client("lambda").invoke(FunctionName=function, Payload=b'{"again": true}')
    assert json.loads(answer["Payload"].read())["items"] == part["items"]
    assert archived.objects() == objects
    stack.advance(9 * DAY)
    assert [item["sk"]["S"] for item in archived.items(buyer, "HOUR#") if MONTH in item["sk"]["S"]] == []
    assert archived.answers() == archived.before
