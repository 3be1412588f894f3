"""The seller API over an archived month: the bytes are those from before, and where the archive can't be read the
answer is an error, never a wrong statement or a wrong proof."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import IncompleteReadError, ReadTimeoutError

from functions.seller_api import app as seller_api
from marketplace.archive.content import manifest_name
from marketplace.platform import clients
from marketplace.subscriptions.model import Subscription
from tests.support import lasting
from tests.support.archive_world import MONTH, ArchiveWorld, used
from tests.support.calls import Calls
from tests.support.deployed import Deployed, deployed, http_event
from tests.support.memory_dynamodb import aws_error
from tests.support.roles import Roles

STATEMENT = "GET /subscriptions/{subscription_id}/statement"
USAGE = "GET /subscriptions/{subscription_id}/usage"
PROOF = "GET /subscriptions/{subscription_id}/usage/{record_id+}"
NOVEMBER: list[tuple[str, dict[str, Any], str]] = [
    (STATEMENT, {"month": MONTH}, ""),
    (STATEMENT, {"month": MONTH, "limit": 1}, ""),
    (USAGE, {"from": f"{MONTH}-01T00:00:00Z", "to": f"{MONTH}-30T00:00:00Z"}, ""),
    *((PROOF, {}, f"{name}-{hour}") for name in ("of", "a", "b") for hour in range(4)),
]
"""What is asked of November: the route, its query, and the id of a usage record."""
BUCKET = "UsageArchiveBucket"
"""The name that the seller API's role knows it by (tests/support/roles.py)."""


@dataclass
class Archived:
    """Two buyers whose November is in the bucket and no longer in the table. `calls` may fail calls of S3."""

    archive: ArchiveWorld
    deployment: Deployed
    calls: Calls
    first: Subscription
    second: Subscription

    def ask(self, buyer: Subscription, route: str, query: dict[str, Any], record_id: str) -> dict[str, Any]:
        path = {"subscription_id": buyer.id, **({"record_id": record_id} if record_id else {})}
        return self.deployment.seller(http_event(route, path=path, query=urlencode(query)))

    def answers(self, buyer: Subscription) -> list[str]:
        found = [self.ask(buyer, *asked) for asked in NOVEMBER]
        assert {one["statusCode"] for one in found} == {200}
        return [one["body"] for one in found]

    def errors(self, buyer: Subscription) -> set[tuple[int, str]]:
        """What each question about November is answered with; no answer shows anything of the month."""
        found = [self.ask(buyer, *asked) for asked in NOVEMBER]
        assert not [one["body"] for one in found if "days" in one["body"] or "metering_record" in one["body"]]
        return {(one["statusCode"], json.loads(one["body"])["error"]["code"]) for one in found}

    @property
    def names(self) -> list[str]:
        """The objects of the first buyer: the files, then the manifest."""
        listed = lasting.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"usage/{self.first.id}/")["Contents"]
        return sorted((one["Key"] for one in listed), key=lambda name: (name.endswith(".json"), name))

    def content(self, name: str) -> bytes:
        content: bytes = lasting.client("s3").get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        lasting.client("s3").put_object(Bucket=BUCKET, Key=name, Body=content)

    def remove(self, name: str) -> None:
        lasting.client("s3").delete_object(Bucket=BUCKET, Key=name)


@pytest.fixture
def before() -> dict[str, list[str]]:
    """What was answered before November was archived, by subscription."""
    return {}


@pytest.fixture
def archived(
    moto: None, monkeypatch: pytest.MonkeyPatch, before: dict[str, list[str]], roles: Roles
) -> Iterator[Archived]:
    roles.options = frozenset({"ArchiveReading"})
    s3 = lasting.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    archive = ArchiveWorld(s3=s3, bucket_name=BUCKET, part_items=6)
    world, calls = archive.world, Calls()
    first, second = used(archive, buyers=2)
    monkeypatch.setattr(clients, "dynamodb", lambda: world.dynamodb)
    monkeypatch.setattr(clients, "s3", lambda: calls.wrap(s3))
    monkeypatch.setattr(seller_api, "utc_now", world.time.now)
    with deployed(monkeypatch, world.dynamodb, world.tables, ARCHIVE_BUCKET=BUCKET) as deployment:
        made = Archived(archive, deployment, calls, first, second)
        before |= {buyer.id: made.answers(buyer) for buyer in (first, second)}
        assert calls.count() == {}
        assert archive.run().months == 2
        archive.expire()
        assert not [item for item in archive.items() if MONTH in item["sk"]["S"]]
        yield made


def test_an_archived_month_is_answered_with_the_same_bytes(archived: Archived, before: dict[str, list[str]]) -> None:
    for buyer in (archived.first, archived.second):
        assert archived.answers(buyer) == before[buyer.id]
    statement, first_page, usage, proof = (json.loads(one) for one in before[archived.first.id][:4])
    assert {day["closed"] for day in statement["days"]} == {True}
    assert len(first_page["days"]) == 1
    assert first_page["cursor"]
    assert len(usage["metering_records"]) == 4 * 2
    assert proof["metering_record"]["state"] == "metered"


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_pages_of_an_archived_statement_have_every_line_once(archived: Archived, limit: int) -> None:
    whole = json.loads(archived.answers(archived.first)[0])
    lines, cursor = [], None
    while True:
        query = {"month": MONTH, "limit": limit, **({} if cursor is None else {"cursor": cursor})}
        page = json.loads(archived.ask(archived.first, STATEMENT, query, "")["body"])
        lines += [(day["day"], line) for day in page["days"] for line in day["lines"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert lines == [(day["day"], line) for day in whole["days"] for line in day["lines"]]


def other_units(content: bytes) -> bytes:
    """A file that can be read, whose units are others."""
    return gzip.compress(gzip.decompress(content).replace(b'"quantity":{"N":"10"}', b'"quantity":{"N":"11"}'))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda content: content[:-9],
    "one bit": lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
    "another text": lambda _: b"<Error><Code>AccessDenied</Code></Error>",
    "more": lambda content: content + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("place", [-1, 0, 1], ids=["manifest", "first file", "second file"])
def test_an_object_that_is_not_what_its_hash_says_is_named_in_the_log_and_gives_no_statement(
    archived: Archived, before: dict[str, list[str]], place: int, damage: Callable[[bytes], bytes]
) -> None:
    name = archived.names[place]
    whole = archived.content(name)
    archived.put(name, damage(whole))
    answer = archived.ask(archived.first, *NOVEMBER[0])
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (500, "internal_error")
    assert f"ArchiveDamaged: {name}" in archived.deployment.logged
    proofs = [archived.ask(archived.first, *asked) for asked in NOVEMBER[3:]]
    kept = before[archived.first.id][3:]
    assert {one["statusCode"] for one in proofs} == ({500} if place == -1 else {200, 500})
    assert all(one["body"] == known for one, known in zip(proofs, kept, strict=True) if one["statusCode"] == 200)
    assert archived.answers(archived.second) == before[archived.second.id]
    archived.put(name, whole)
    assert archived.answers(archived.first) == before[archived.first.id]


def test_files_and_manifest_that_are_replaced_together_are_found_by_the_mark(archived: Archived) -> None:
    manifest = manifest_name(archived.first.id, MONTH)
    values = json.loads(archived.content(manifest))
    for part in values["parts"]:
        content = other_units(archived.content(part["name"]))
        archived.put(part["name"], content)
        part |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    archived.put(manifest, json.dumps(values, separators=(",", ":"), sort_keys=True).encode() + b"\n")
    assert archived.errors(archived.first) == {(500, "internal_error")}
    assert f"{manifest}: its hash is another than the usage table says" in archived.deployment.logged


def test_an_object_that_is_gone_is_named_in_the_log(archived: Archived, before: dict[str, list[str]]) -> None:
    for name in archived.names:
        whole = archived.content(name)
        archived.remove(name)
        answer = archived.ask(archived.first, *NOVEMBER[0])
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (500, "internal_error")
        assert f"ArchiveDamaged: {name}: it is not there" in archived.deployment.logged
        archived.put(name, whole)
    assert archived.answers(archived.first) == before[archived.first.id]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (aws_error("AccessDenied", "GetObject", status=403), ("SystemicError AccessDenied", 503, "unavailable")),
        (
            aws_error("KMS.DisabledException", "GetObject", status=400),
            ("RefusedError KMS.DisabledException", 500, "internal_error"),
        ),
        (aws_error("SlowDown", "GetObject", status=503), ("ThrottledError SlowDown", 503, "busy")),
        (aws_error("InternalError", "GetObject", status=500), ("NoAnswerError InternalError", 503, "unavailable")),
        (ReadTimeoutError(endpoint_url="https://s3.invalid"), ("NoAnswerError ReadTimeoutError", 503, "unavailable")),
        (
            IncompleteReadError(actual_bytes=1, expected_bytes=9),
            ("NoAnswerError IncompleteReadError", 503, "unavailable"),
        ),
    ],
    ids=["denied", "key disabled", "throttled", "internal", "timeout", "half an answer"],
)
@pytest.mark.parametrize("skip", [0, 1], ids=["the manifest", "a file"])
def test_a_bucket_that_cannot_be_read_is_an_error_and_shows_nothing_of_the_month(
    archived: Archived, before: dict[str, list[str]], error: Exception, expected: tuple[str, int, str], skip: int
) -> None:
    logged, status, code = expected
    for asked in NOVEMBER[:4]:
        archived.calls.fail("get_object", lambda: error, times=None, skip=skip)
        answer = archived.ask(archived.first, *asked)
        archived.calls.heal()
        assert answer["statusCode"] == status
        assert json.loads(answer["body"])["error"]["code"] == code
        assert logged in archived.deployment.logged
        assert MONTH not in answer["body"]
    assert archived.answers(archived.first) == before[archived.first.id]


def test_months_that_are_not_archived_need_no_bucket(archived: Archived) -> None:
    archived.calls.fail("get_object", lambda: aws_error("AccessDenied", "GetObject", status=403), times=None)
    answer = archived.ask(archived.first, STATEMENT, {"month": "2026-12"}, "")
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["days"]
    assert archived.calls.count() == {}


def test_a_deployment_whose_bucket_was_taken_away_says_which_month_it_lacks(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_BUCKET", "")
    seller_api.routes.cache_clear()
    assert archived.errors(archived.first) == {(500, "internal_error")}
    assert f"ArchiveUnknown: {MONTH} is archived, and no bucket is named" in archived.deployment.logged
