"""A stack that keeps its state goes on where it was stopped, and where it was killed says what it lost."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from local import stack as local_stack
from local.options import Options, StackError
from local.stack import Stack
from local.state import Keeper
from tests.local_stack.browser import Neighbourhood, call

NOON = "2026-11-22T12:10:00Z"
PRODUCT = "ca2payasyougoproduct00000"
HOUR = 3600


@contextmanager
def started(folder: Path, log: io.StringIO | None = None) -> Iterator[tuple[Stack, Neighbourhood]]:
    with local_stack.running(Options(clock=f"frozen:{NOON}", keep=folder, log=log, log_all=True)) as stack:
        yield stack, Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)


def sold(neighbourhood: Neighbourhood, account: str = "111122223333") -> tuple[str, str]:
    """A purchase and its claimed subscription, active."""
    purchase = neighbourhood.buy(PRODUCT, account)
    neighbourhood.advance(120)
    code = neighbourhood.register(purchase["id"]).rsplit("/", 1)[1]
    return purchase["id"], neighbourhood.claim(code, f"tenant-{account}")["subscription_id"]


def report(neighbourhood: Neighbourhood, subscription_id: str, record_id: str, quantity: int) -> str:
    """The status of one reported record."""
    record = {"id": record_id, "subscription_id": subscription_id, "dimension": "api_calls", "quantity": quantity}
    (result,) = neighbourhood.report([record])
    return str(result["status"])


def shown(neighbourhood: Neighbourhood, subscription_id: str) -> Any:
    return neighbourhood.get(f"/subscriptions/{subscription_id}")


def test_a_stack_that_was_stopped_goes_on_with_the_same_data(tmp_path: Path) -> None:
    with started(tmp_path) as (stack, neighbourhood):
        assert stack.kept is not None
        assert stack.kept.news == ""
        purchase, subscription = sold(neighbourhood)
        report(neighbourhood, subscription, "r1", 5)
        stack.marketplace.faults.plan([{"operation": "GetEntitlements", "fault": "throttle", "times": 3}])
        stack.marketplace.purchases.request_cancellation(purchase)  # a task that waits for seven days
        before = shown(neighbourhood, subscription)
        events, now = stack.aws.events, stack.clock.timestamp()
        deliveries = len(stack.marketplace.outbox.deliveries())

    log = io.StringIO()
    with started(tmp_path, log) as (stack, neighbourhood):
        assert stack.kept is not None
        assert stack.kept.news.startswith(f"Goes on with the state of {tmp_path}")
        assert "lost" not in stack.kept.news
        assert stack.clock.timestamp() == now
        assert shown(neighbourhood, subscription) == before
        assert stack.aws.events == events
        assert [fault.fault for fault in stack.marketplace.faults.planned()] == ["throttle"]
        stack.settle()
        assert len(stack.marketplace.outbox.deliveries()) == deliveries
        assert "message handled" not in log.getvalue()  # what was delivered is not delivered again
        assert report(neighbourhood, subscription, "r1", 5) == "duplicate"
        stack.advance(2 * HOUR)
        assert [(one.dimension, one.quantity) for one in stack.marketplace.ledger.bill()] == [("api_calls", 5)]
        stack.advance(8 * 24 * HOUR)
        assert stack.marketplace.purchases.state(purchase) == "ended"
        other, _ = sold(neighbourhood, "999988887777")
        assert other == "purchase-2"


def test_the_archive_is_kept_and_outlives_its_option(tmp_path: Path) -> None:
    for archive_after_months in ("1", "0", "2"):
        parameters = {"ArchiveAfterMonths": archive_after_months}
        with local_stack.running(Options(clock=f"frozen:{NOON}", keep=tmp_path, parameters=parameters)) as stack:
            s3 = stack.aws.client("s3")
            bucket = "marketplace-saas-usagearchivebucket"
            if archive_after_months == "1":
                s3.put_object(Bucket=bucket, Key="usage/x", Body=b"a month")
            assert s3.get_object(Bucket=bucket, Key="usage/x")["Body"].read() == b"a month"


def test_a_stack_that_was_killed_goes_on_with_what_was_written_and_says_so(tmp_path: Path) -> None:
    with started(tmp_path / "kept") as (stack, neighbourhood):
        _, subscription = sold(neighbourhood)
        report(neighbourhood, subscription, "r1", 5)
        assert stack.kept is not None
        stack.kept.save(stack)
        shutil.copytree(tmp_path / "kept", tmp_path / "killed")  # what a kill leaves
        report(neighbourhood, subscription, "r2", 7)

    with started(tmp_path / "killed") as (stack, neighbourhood):
        assert stack.kept is not None
        assert "was not stopped in order: what happened after that moment is lost" in stack.kept.news
        assert report(neighbourhood, subscription, "r1", 5) == "duplicate"
        assert report(neighbourhood, subscription, "r2", 7) == "recorded"
        stack.advance(2 * HOUR)
        assert [one.quantity for one in stack.marketplace.ledger.bill()] == [12]


def test_a_cut_between_sending_and_settling_bills_once(tmp_path: Path) -> None:
    """AWS has accepted the usage, and the answer is not written: the worst moment."""
    with started(tmp_path / "kept") as (stack, neighbourhood):
        _, subscription = sold(neighbourhood)
        report(neighbourhood, subscription, "r1", 5)
        stack.marketplace.faults.plan([{"operation": "BatchMeterUsage", "fault": "drop_after", "times": None}])
        stack.advance(2 * HOUR)
        assert [one.quantity for one in stack.marketplace.ledger.bill()] == [5]
        assert stack.kept is not None
        stack.kept.save(stack)
        shutil.copytree(tmp_path / "kept", tmp_path / "killed")

    with started(tmp_path / "killed") as (stack, neighbourhood):
        stack.marketplace.faults.clear()
        stack.advance(HOUR)
        (record,) = neighbourhood.get(f"/subscriptions/{subscription}/usage")["metering_records"]
        assert (record["state"], record["quantity"]) == ("metered", 5)
        assert [one.quantity for one in stack.marketplace.ledger.bill()] == [5]


def test_time_that_has_passed_meanwhile_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_stack.running(Options(keep=tmp_path)) as stack:
        neighbourhood = Neighbourhood(stack.api_url, stack.marketplace_url, stack.console_url)
        _, subscription = sold(neighbourhood)
        report(neighbourhood, subscription, "r1", 5)
        stopped = stack.clock.timestamp()
    real = Keeper.restore

    def restore(keeper: Any, stack: Any) -> None:
        real(keeper, stack)
        keeper._ahead += 3 * HOUR  # as if three hours had passed

    monkeypatch.setattr(Keeper, "restore", restore)
    with local_stack.running(Options(keep=tmp_path)) as stack:
        assert stack.clock.timestamp() >= stopped + 3 * HOUR
        assert [one.quantity for one in stack.marketplace.ledger.bill()] == [5]


def test_two_stacks_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        started(tmp_path),
        ExitStack() as cleanup,
        pytest.raises(StackError, match="another stack keeps its state in"),
    ):
        Keeper(tmp_path, cleanup)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda _: b"", lambda _: b"cos\nsystem\n(S'true'\ntR."])
def test_a_damaged_state_is_refused_and_left_alone(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with started(tmp_path):
        pass
    file = tmp_path / "state"
    data = damage(file.read_bytes())
    file.write_bytes(data)

    with pytest.raises(StackError, match=r"can't be read.*move it away"), started(tmp_path):
        pass
    assert file.read_bytes() == data


def test_a_folder_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StackError, match="can't be kept in"), started(tmp_path / "file" / "below"):
        pass


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with local_stack.running(Options()) as stack:
        assert call("GET", f"{stack.api_url}/register").status == 200

    assert list(tmp_path.iterdir()) == []
