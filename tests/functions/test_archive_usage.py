"""The function that archives usage: what it emits, the alarms that follow, and the role that it needs."""

from typing import Any

import pytest

from functions.archive_usage import app as archive_usage
from marketplace.dynamodb import keys
from marketplace.ledger.record import is_metering_record
from marketplace.platform.clock import DAY
from tests.support.alarms import emitted, is_raised, under_its_own_name
from tests.support.archive_world import READY, ArchiveWorld
from tests.support.deployed import Context
from tests.support.roles import Grant, granted, needed, used_by_lambda

S3 = {"put_object", "get_object"}


class Invocation(Context):
    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return self.seconds * 1000


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> ArchiveWorld:
    """A buyer with metered usage of November, tagged and not, in January."""
    made = ArchiveWorld()
    buyer = made.world.subscribe(product="ca2payasyougoproduct00000")
    made.world.report(buyer, 7)
    made.world.report(buyer, 3, tags={"team": "a"})
    made.world.to_due()
    made.world.meter()
    made.world.time.to(READY)
    under_its_own_name(monkeypatch, archive_usage.metrics, "ArchiveUsageFunction")
    monkeypatch.setattr(archive_usage, "archiver", made.archiver)
    return made


def invoked(capture: pytest.CaptureFixture[str], event: dict[str, Any] | None = None, seconds: int = 900) -> list[Any]:
    capture.readouterr()
    archive_usage.lambda_handler(event or {}, Invocation(seconds))
    return emitted(capture.readouterr().out)


def test_what_goes_well_raises_no_alarm(archive: ArchiveWorld, capsys: pytest.CaptureFixture[str]) -> None:
    period = invoked(capsys)
    assert {one.name: one.value for one in period} == {
        "UsageMonthsArchived": 1,
        "UsageItemsArchived": 2,
        "UsageArchiveHeldBack": 0,
        "UsageArchiveDamaged": 0,
        "SecondsUsageArchiveBehind": 0,
    }
    for alarm in ("UsageArchiveHeldBackAlarm", "UsageArchiveDamagedAlarm", "SecondsUsageArchiveBehindAlarm"):
        assert not is_raised(alarm, [period] * 6)


def test_a_month_that_is_held_back_raises_an_alarm(archive: ArchiveWorld, capsys: pytest.CaptureFixture[str]) -> None:
    item = next(one for one in archive.items() if is_metering_record(one))
    changed = {**item, "state": {"S": "rejected"}}
    archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=changed)
    assert is_raised("UsageArchiveHeldBackAlarm", [invoked(capsys)])


def test_a_damaged_object_raises_an_alarm(archive: ArchiveWorld, capsys: pytest.CaptureFixture[str]) -> None:
    backup = archive.items()
    invoked(capsys)
    for item in backup:
        archive.world.dynamodb.put_item(TableName=archive.world.tables.usage, Item=item)
    for name in archive.s3.objects:
        archive.s3.objects[name] += b"x"
    assert is_raised("UsageArchiveDamagedAlarm", [invoked(capsys, {"again": True})])


def test_a_run_that_never_has_the_time_raises_an_alarm_after_three_days(
    archive: ArchiveWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not is_raised("SecondsUsageArchiveBehindAlarm", [invoked(capsys, seconds=10)] * 6)
    archive.world.time.advance(3 * DAY + 1)
    assert is_raised("SecondsUsageArchiveBehindAlarm", [invoked(capsys, seconds=10)] * 6)


def test_no_run_at_all_raises_an_alarm() -> None:
    assert is_raised("SecondsUsageArchiveBehindAlarm", [[]] * 6)


def test_the_role_grants_what_the_function_uses_and_nothing_else(archive: ArchiveWorld) -> None:
    archive.run()
    archive.run()
    assert used(archive) | used_by_lambda("ArchiveUsageFunction") == granted("ArchiveUsageFunction")


def used(archive: ArchiveWorld) -> set[Grant]:
    tables = archive.world.tables
    names = {tables.usage: "UsageTable", tables.subscriptions: "SubscriptionsTable", "archive": "UsageArchiveBucket"}
    found: set[Grant] = set()
    for method, arguments in archive.calls.made:
        operation = "".join(part.capitalize() for part in method.split("_"))
        for action, resource in needed("s3" if method in S3 else "dynamodb", operation, arguments):
            name, slash, rest = resource.partition("/")
            found.add((action, names[name] + slash + rest))
    return found


def test_only_marks_are_put_and_only_the_expiry_of_other_items_is_set(archive: ArchiveWorld) -> None:
    archive.run()
    put = [arguments["Item"]["pk"]["S"] for arguments in archive.calls.of("put_item")]
    statements = [arguments["Item"]["sk"]["S"].partition("#")[0] for arguments in archive.calls.of("put_item")]
    assert {one for one, sk in zip(put, statements, strict=True) if sk not in {"FROZEN", "STATEMENT"}} == {keys.ARCHIVE}
    changes = {
        one["Statement"].partition(" WHERE ")[0].partition(" SET ")[2]
        for arguments in archive.calls.of("batch_execute_statement")
        for one in arguments["Statements"]
    }
    assert changes == {"expires_at=?"}


def test_the_handler_is_put_together_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUBSCRIPTIONS_TABLE", "USAGE_TABLE", "EVENT_BUS_NAME", "NOTIFICATION_QUEUE_URL"):
        monkeypatch.setenv(name, name.lower())
    for name in ("READ_BACK_QUEUE_URL", "METERING_QUEUE_URL"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("ARCHIVE_BUCKET", "the-bucket")
    monkeypatch.setenv("ARCHIVE_AFTER_MONTHS", "3")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = archive_usage.archiver()
    assert (made.after_months, made.usage.name) == (3, "usage_table")
    archive_usage.archiver.cache_clear()
