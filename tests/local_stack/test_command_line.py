"""`marketplace-saas --local` against a whole system: every command, its JSON, its exit status, its refusals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from local.stack import Stack
from marketplace.platform.clock import iso
from marketplace_saas_cli import usage_import
from marketplace_saas_cli.__main__ import main
from marketplace_saas_cli.exits import FINE, INTERRUPTED, NO_ANSWER, NOT_CONFIRMED, TROUBLE, USAGE
from marketplace_saas_cli.session import Session
from tests.local_stack.browser import Neighbourhood
from tests.local_stack.test_local_operations import DEAD_LETTERS, client, dead_letter

PRODUCT = "ca2payasyougoproduct00000"
HOUR = 3600


class Shell:
    """A shell beside the local system."""

    def __init__(self, stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
        self.port = stack.aws_url.rpartition(":")[2]
        self._capsys = capsys
        self.out = self.err = ""

    def run(self, *arguments: str) -> int:
        self._capsys.readouterr()
        status = main([*arguments, "--local", self.port])
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return status

    def json(self, *arguments: str, status: int = FINE) -> Any:
        assert self.run(*arguments, "--json") == status, self.out + self.err
        return json.loads(self.out)


@pytest.fixture
def shell(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(stack, capsys)


@pytest.fixture(autouse=True)
def no_dead_letters(stack: Stack) -> None:
    stack.advance(61)  # SQS purges a queue once a minute
    client(stack, "sqs").purge_queue(QueueUrl=stack.queue_url(DEAD_LETTERS))


@pytest.fixture
def buyer(stack: Stack, neighbourhood: Neighbourhood) -> Callable[..., str]:
    """A new buyer's subscription, active since the start of the present hour or so."""

    def bought(account: str = "111122223333", product: str = PRODUCT) -> str:
        purchase = neighbourhood.buy(product, account)
        code = neighbourhood.register(purchase["id"]).rsplit("/", 1)[1]
        subscription_id: str = neighbourhood.claim(code, f"tenant-{account}")["subscription_id"]
        stack.advance(120)  # the licence comes a minute after the purchase
        return subscription_id

    return bought


def moment(stack: Stack, back: float = 0) -> str:
    return iso(int(stack.clock.timestamp() - back))


def usage_file(path: Path, stack: Stack, subscription_id: str, name: str, count: int = 3, **given: Any) -> Path:
    at = moment(stack)
    lines = [
        f"{name}-{n},{subscription_id},{given.get('dimension', 'api_calls')},{n},{at},ads" for n in range(1, count + 1)
    ]
    path.write_text("\n".join(["id,subscription_id,dimension,quantity,timestamp,tag:team", *lines, ""]))
    return path


def reported(shell: Shell, stack: Stack, path: Path, subscription_id: str, name: str, **given: Any) -> None:
    file = usage_file(path / f"{name}.csv", stack, subscription_id, name, **given)
    assert shell.run("usage", "import", str(file), "--yes") == FINE, shell.out + shell.err


# One unit's way


def test_a_unit_is_traced_from_its_record_to_aws_and_back(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer()
    reported(shell, stack, tmp_path, subscription_id, "way")
    assert shell.run("trace", "way-2") == TROUBLE  # not metered yet
    stack.advance(2 * HOUR)

    (chain,) = shell.json("trace", "way-2")["chains"]
    assert chain["record"]["quantity"] == 2
    assert (chain["metering_record"]["state"], chain["metering_record"]["quantity"]) == ("metered", 6)
    (answered,) = chain["cloudtrail"]["answers"]
    assert (answered["status"], answered["quantity"], answered["dimension"]) == ("Success", 6, "api_calls")
    assert answered["metering_record_id"] == chain["metering_record"]["metering_record_id"]
    accepted = chain["metering_record"]["metering_record_id"]
    (back,) = shell.json("trace", accepted)["chains"]
    assert {one["id"]: one["quantity"] for one in back["usage_records"]} == {"way-1": 1, "way-2": 2, "way-3": 3}
    assert back["billed_to"] == subscription_id
    assert shell.run("trace", accepted, "--subscription", subscription_id) == FINE
    assert accepted in shell.out
    assert shell.run("trace", "way-2") == FINE
    assert "6 units of 3 usage records" in shell.out


@pytest.mark.parametrize(
    "name", ["nobody", "0a1b2c3d-0000-0000-0000-000000000000", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_an_id_that_nothing_has_is_said_in_a_sentence(shell: Shell, name: str) -> None:
    assert shell.run("trace", name) == USAGE
    assert shell.err.startswith("marketplace-saas: no usage record and no metering record has the id")
    assert shell.err.count("\n") == 1


# Status and doctor


def test_status_counts_what_waits_and_until_when(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer()
    before = shell.json("status")["states"]["open"]["units"]
    reported(shell, stack, tmp_path, subscription_id, "status")

    found = shell.json("status")
    assert found["states"]["open"]["units"] == before + 6
    assert subscription_id in {one["subscription_id"] for one in found["soonest"]}
    assert shell.run("status") == FINE
    assert "nothing needs a person" in shell.out


def test_doctor_finds_a_sound_system_sound(shell: Shell) -> None:
    found = shell.json("doctor")
    assert found["counts"]["trouble"] == 0, found
    assert {one["subject"] for one in found["findings"] if one["result"] == "fine"} >= {
        *("deployment", "region", "parameters", "identity", "clock", "product codes", "schedule", "queues"),
        *("last run", "at risk", "waiting", "fulfilment url"),
    }
    assert shell.run("doctor", "--all") == FINE
    assert "us-east-1" in shell.out


def test_doctor_names_a_schedule_that_is_disabled_and_usage_that_is_late(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    rule = stack.deployment.resources["MeterUsageSchedule"]
    reported(shell, stack, tmp_path, buyer(), "late")
    client(stack, "events").disable_rule(Name=rule)
    stack.advance(20 * HOUR)

    found = shell.json("doctor", status=TROUBLE)
    troubles = {one["subject"]: one for one in found["findings"] if one["result"] == "trouble"}
    assert rule in troubles["schedule"]["do"]
    assert "usage has been due for" in troubles["last run"]["text"]
    assert "at risk" in troubles
    assert shell.run("status") == TROUBLE
    client(stack, "events").enable_rule(Name=rule)
    assert shell.run("run", "--yes") == FINE
    assert shell.json("doctor")["counts"]["trouble"] == 0


def test_doctor_names_messages_that_could_not_be_handled(stack: Stack, shell: Shell) -> None:
    dead_letter(stack, "not JSON")
    troubles = [one for one in shell.json("doctor", status=TROUBLE)["findings"] if one["result"] == "trouble"]
    assert [one["subject"] for one in troubles] == ["queues"]
    (message,) = shell.json("queue", "show", status=TROUBLE)["messages"]
    assert shell.run("queue", "delete", message["message_id"], "--yes") == FINE


# Subscriptions


def test_a_claim_is_made_moved_and_undone(shell: Shell, buyer: Callable[..., str]) -> None:
    subscription_id = buyer("222233334444")
    assert shell.run("subscriptions", "transfer", subscription_id, "zeta", "--reason", "merger") == NOT_CONFIRMED
    assert (
        shell.json("subscriptions", "transfer", subscription_id, "zeta", "--reason", "m", "--yes")["tenant_id"]
        == "zeta"
    )
    released = shell.json("subscriptions", "release", subscription_id, "--reason", "a mistake", "--yes")
    assert (released["tenant_id"], released["claim_revision"]) == (None, 3)
    assert shell.run("subscriptions", "release", subscription_id, "--reason", "again", "--yes") == USAGE
    assert shell.run("subscriptions", "claim", subscription_id, "acme", "--yes") == FINE

    shown = shell.json("subscriptions", "show", subscription_id)
    changes = [one["what"] for one in shown["timeline"] if one["what"] in {"claimed", "transferred", "released"}]
    assert changes == ["claimed", "transferred", "released", "claimed"]
    assert [one["what"] for one in shown["timeline"]].index("registered") < len(shown["timeline"]) - 4
    assert shell.run("subscriptions", "show", subscription_id) == FINE
    assert "a mistake" in shell.out


def test_subscriptions_are_listed_by_status_tenant_and_account(shell: Shell, buyer: Callable[..., str]) -> None:
    subscription_id = buyer("333344445555")
    tenant = shell.json("subscriptions", "show", subscription_id)["tenant_id"]
    for given in ([], ["--status", "active"], ["--tenant", tenant], ["--account", "333344445555"]):
        listed = shell.json("subscriptions", "list", *given)["subscriptions"]
        assert subscription_id in {one["subscription_id"] for one in listed}
    assert shell.json("subscriptions", "list", "--status", "failed")["subscriptions"] == []
    assert shell.run("subscriptions", "list", "--status", "gone") == USAGE
    assert shell.run("subscriptions", "list", "--status", "active", "--tenant", tenant) == USAGE


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["claim", "acme"],
        ["release", "--reason", "r"],
        ["transfer", "acme", "--reason", "r"],
        ["activate", "--reason", "r"],
        ["recheck"],
        ["reconcile"],
        ["forget-contact"],
    ],
    ids=lambda command: command[0],
)
def test_a_subscription_that_nobody_has_is_said_in_a_sentence(shell: Shell, command: list[str]) -> None:
    given = ["subscriptions", command[0], "sub-" + "a" * 26, *command[1:]]
    assert shell.run(*given, "--yes") == USAGE
    assert "there is no subscription sub-" in shell.err
    assert shell.err.count("\n") == 1


def test_a_comparison_with_aws_and_a_recheck_are_requested_once_confirmed(
    stack: Stack, shell: Shell, buyer: Callable[..., str]
) -> None:
    subscription_id = buyer()
    for command in (["reconcile"], ["reconcile", subscription_id], ["recheck", subscription_id]):
        assert shell.run("subscriptions", *command) == NOT_CONFIRMED
        assert shell.json("subscriptions", *command, "--yes")["changed"] is True
        stack.settle()
    assert shell.json("queue", "list")["queues"][-1]["waiting"] == 0


# Usage from and to files


def test_usage_is_imported_once_however_often(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    file = usage_file(tmp_path / "usage.csv", stack, buyer(), "once")
    preview = shell.json("usage", "import", str(file), status=NOT_CONFIRMED)["preview"]
    assert (preview["records"], preview["units"]) == (3, {"api_calls": 6})
    assert not (tmp_path / "usage.csv.result.jsonl").exists()

    for _ in range(2):
        assert shell.json("usage", "import", str(file), "--yes")["counts"] == {"recorded": 3}
    results = [json.loads(line) for line in (tmp_path / "usage.csv.result.jsonl").read_text().splitlines()]
    assert [one["line"] for one in results[1:]] == [2, 3, 4]
    (tmp_path / "usage.csv.result.jsonl").unlink()
    assert shell.json("usage", "import", str(file), "--yes")["counts"] == {"duplicate": 3}


class CrashError(BaseException):
    """The process ends here."""


@pytest.fixture
def crashing_file(stack: Stack, buyer: Callable[..., str], tmp_path: Path) -> Path:
    return usage_file(tmp_path / "usage.csv", stack, buyer(), tmp_path.name, count=25)


@pytest.mark.parametrize("after_the_answer", [True, False])
def test_an_import_that_crashed_is_resumed(
    stack: Stack, shell: Shell, crashing_file: Path, monkeypatch: pytest.MonkeyPatch, after_the_answer: bool
) -> None:
    file = crashing_file
    monkeypatch.setattr(usage_import, "MAX_RECORDS", 10)
    call, calls = Session.call, 0

    def crashing(self: Session, one: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            if after_the_answer:
                call(self, one)
            raise CrashError
        return call(self, one)

    with monkeypatch.context() as crash:
        crash.setattr(Session, "call", crashing)
        with pytest.raises(CrashError):
            shell.run("usage", "import", str(file), "--yes")
    result = file.with_name("usage.csv.result.jsonl")
    assert len(result.read_text().splitlines()) == 11
    result.write_bytes(result.read_bytes() + b'{"line": 12, "id"')  # a line that the crash has torn

    counts = shell.json("usage", "import", str(file), "--yes")["counts"]
    assert counts == ({"recorded": 15, "duplicate": 10} if after_the_answer else {"recorded": 25})
    lines = [json.loads(line) for line in result.read_text().splitlines()]
    assert [one["line"] for one in lines[1:]] == list(range(2, 27))
    stack.advance(2 * HOUR)
    (chain,) = shell.json("trace", f"{file.parent.name}-1")["chains"]
    assert chain["metering_record"]["quantity"] == sum(range(1, 26))


def test_ctrl_c_ends_an_import_in_order(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    file = usage_file(tmp_path / "usage.csv", stack, buyer(), "ctrl")
    with monkeypatch.context() as patch:
        patch.setattr(Session, "call", interrupted)
        assert shell.run("usage", "import", str(file), "--yes") == INTERRUPTED
    assert shell.run("usage", "import", str(file), "--yes") == FINE


def test_another_file_does_not_go_on_with_these_results(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    file = usage_file(tmp_path / "usage.csv", stack, buyer(), "other")
    assert shell.run("usage", "import", str(file), "--yes") == FINE
    file.write_text(file.read_text().replace("other-1,", "other-9,"))
    assert shell.run("usage", "import", str(file), "--yes") == USAGE
    assert "another file" in shell.err
    assert shell.run("usage", "import", str(file), "--yes", "--result", str(tmp_path / "second")) == FINE


def test_what_the_api_rejects_and_what_has_to_wait_is_told(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer()
    record = {"subscription_id": subscription_id, "dimension": "api_calls", "quantity": 1}
    lines = [
        {**record, "id": "mixed-1"},
        {**record, "id": "mixed-2", "timestamp": moment(stack, 40 * 24 * HOUR)},
        {**record, "id": "mixed-3", "subscription_id": "sub-" + "a" * 26},
    ]
    file = tmp_path / "usage.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    done = shell.json("usage", "import", str(file), "--yes", status=TROUBLE)
    assert done["counts"]["recorded"] == 1
    assert sum(done["counts"].values()) == 3
    answered = [json.loads(line) for line in Path(done["result_file"]).read_text().splitlines()][1:]
    assert all(one["status"] == "recorded" or one["message"] for one in answered)


def test_a_wrong_line_is_named_and_nothing_is_sent(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    file.write_text("id,subscription_id,dimension,quantity\na,sub-x,api_calls,1\nb,,api_calls,1.5\n")
    assert shell.run("usage", "import", str(file), "--yes") == USAGE
    assert "line 2: " in shell.err
    assert "line 3: the quantity '1.5' is not a whole number" in shell.err


def test_metering_records_are_exported(stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path) -> None:
    subscription_id = buyer()
    reported(shell, stack, tmp_path, subscription_id, "export")
    stack.advance(2 * HOUR)

    assert shell.run("usage", "export", "--subscription", subscription_id) == FINE
    (row,) = csv.DictReader(io.StringIO(shell.out))
    assert (row["quantity"], row["state"], row["subscription_id"]) == ("6", "metered", subscription_id)
    assert (
        shell.run("usage", "export", "--subscription", subscription_id, "--file", str(tmp_path / "out.jsonl")) == FINE
    )
    assert json.loads((tmp_path / "out.jsonl").read_text())["metering_record_id"] == row["metering_record_id"]
    assert shell.run("usage", "export", "--file", str(tmp_path / "out.txt")) == USAGE
    assert shell.run("usage", "export", "--from", "yesterday") == USAGE
    assert shell.run("usage", "export", "--from", moment(stack), "--to", moment(stack, 3 * HOUR)) == USAGE


def test_refused_usage_is_listed_and_sent_again(
    stack: Stack, shell: Shell, buyer: Callable[..., str], neighbourhood: Neighbourhood, tmp_path: Path
) -> None:
    subscription_id = buyer()
    reported(shell, stack, tmp_path, subscription_id, "misspelt", dimension="Api_calls")
    stack.advance(2 * HOUR)

    (record,) = shell.json("usage", "list", "--subscription", subscription_id, status=TROUBLE)["metering_records"]
    assert (record["state"], record["reason"]) == ("rejected", "InvalidUsageDimensionException")
    assert shell.run("status") == TROUBLE
    troubles = [one for one in shell.json("doctor", status=TROUBLE)["findings"] if one["result"] == "trouble"]
    assert "rejected" in {one["subject"] for one in troubles}
    product = next(one for one in neighbourhood.admin("GET", "/products")["products"] if one["code"] == PRODUCT)
    neighbourhood.admin(
        "POST",
        "/products",
        {**product, "dimensions": [*product["dimensions"], {"key": "Api_calls", "type": "usage", "price": "0.001"}]},
    )
    assert shell.run("retry", subscription_id) == NOT_CONFIRMED
    assert len(shell.json("retry", subscription_id, "--dimension", "Api_calls", "--yes")["due_again"]) == 1
    assert shell.run("run", "--yes") == FINE
    assert shell.json("trace", "misspelt-1")["chains"][0]["metering_record"]["state"] == "metered"
    assert shell.run("retry", subscription_id) == FINE


def test_a_usage_record_is_voided_once_confirmed_while_its_hour_is_open(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer()
    reported(shell, stack, tmp_path, subscription_id, "mistaken")
    assert shell.run("void", subscription_id, "nobody", "--yes") == USAGE
    assert "no usage is recorded under the id nobody" in shell.err
    assert shell.run("void", subscription_id, "mistaken-2") == NOT_CONFIRMED
    assert "2 api_calls of" in shell.out
    for _ in range(2):
        assert shell.json("void", subscription_id, "mistaken-2", "--yes")["result"]["status"] == "voided"
    stack.advance(2 * HOUR)
    assert shell.json("trace", "mistaken-3")["chains"][0]["metering_record"]["quantity"] == 4
    assert shell.run("void", subscription_id, "mistaken-3", "--yes") == USAGE
    assert "sealed" in shell.err


def test_a_conflict_is_resolved_with_what_cloudtrail_shows(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer("666677778888")
    reported(shell, stack, tmp_path, subscription_id, "contested")
    other_sender(stack, shell.json("subscriptions", "show", subscription_id), 4)
    stack.advance(2 * HOUR)
    listing = ("usage", "list", "--subscription", subscription_id)
    (record,) = shell.json(*listing, status=TROUBLE)["metering_records"]
    assert (record["state"], record["quantity"]) == ("conflict", 6)
    stack.advance(HOUR)
    given = ("resolve", subscription_id, "--hour", record["hour"], "--dimension", "api_calls")
    assert shell.run(*given) == NOT_CONFIRMED
    made = shell.json(*given, "--yes")
    assert made["metering_record"]["aws_quantity"] == 4
    assert shell.json(*given, "--yes")["changed"] is False
    stack.advance(2 * HOUR)
    (told,) = [one.detail for one in stack.aws.events if one.detail_type == "Conflict Resolved"]
    assert (told["subscription_id"], told["missing"], told["excess"]) == (subscription_id, 2, 0)
    shown = shell.json(*listing, "--all", "--from", record["hour"])["metering_records"]
    assert [(one["state"], one["quantity"]) for one in shown] == [("conflict", 6), ("metered", 2)]


def test_an_adjustment_is_completed_by_aws_own_event_and_stands_in_timeline_and_statement(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer("555544443333")
    reported(shell, stack, tmp_path, subscription_id, "adjusted")
    stack.advance(2 * HOUR)
    month = moment(stack)[:7]
    stack.advance(13 * 24 * HOUR)  # the month is invoiced
    made = shell.json("correct", subscription_id, "--record", "adjusted-3", "--price", "0.001", "--yes")
    assert made["correction"]["state"] == "requested"
    stack.advance(600)
    told = [one["what"] for one in shell.json("subscriptions", "show", subscription_id)["timeline"]]
    assert told[-3:] == [
        "correction prepared",
        "Purchase Agreement Billing Adjustment Completed",
        "correction completed",
    ]
    shown = shell.json("statement", subscription_id, "--month", month)
    assert sum(one["adjusted"] for one in (*shown["totals"], *shown["corrections"])) == 3


def test_a_month_is_forecast_at_given_prices(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer()
    reported(shell, stack, tmp_path, subscription_id, "forecast")
    given = ["forecast", "--subscription", subscription_id]
    (line,) = shell.json(*given, "--price", "api_calls=0.50")["dimensions"]
    assert line["waiting"] == 6
    assert line["units"] == 6 + line["expected"]
    assert float(line["amount"]) == line["units"] / 2
    prices = tmp_path / "prices.csv"
    prices.write_text(f"dimension,price\n{PRODUCT}/api_calls,2\n")
    assert shell.json(*given, "--prices", str(prices))["dimensions"][0]["price"] == "2"
    assert shell.run(*given) == FINE
    for wrong in ("api_calls", "api_calls=-1", "api_calls=x", "=1"):
        assert shell.run(*given, "--price", wrong) == USAGE


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".html", ".json"])
def test_a_statement_is_shown_and_written(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path, suffix: str
) -> None:
    subscription_id, month = buyer(), moment(stack)[:7]
    reported(shell, stack, tmp_path, subscription_id, f"statement{suffix}")
    stack.advance(2 * HOUR)

    given = ["statement", subscription_id, "--month", month]
    found = shell.json(*given)
    (total,) = found["totals"]
    assert (total["recorded"], total["metered"], found["closed"]) == (6, 6, False)
    (day,) = found["days"]
    assert [one["tags"] for one in day["lines"]] == [{"team": "ads"}]
    file = tmp_path / f"statement{suffix}"
    assert shell.run(*given, "--file", str(file), "--title", "Acme & Sons") == FINE
    assert shell.out == ""
    text = file.read_text()
    assert "api_calls" in text
    assert ("Acme &amp; Sons" in text) is (suffix == ".html")
    assert shell.run(*given, "--format", {".txt": "table"}.get(suffix, suffix[1:])) == FINE
    assert suffix == ".html" or shell.out == text
    assert shell.run("statement", subscription_id, "--month", "2026-13") == USAGE
    assert shell.err.startswith("marketplace-saas: ")


# The queues


def test_dead_letters_are_shown_and_moved_back(stack: Stack, shell: Shell) -> None:
    dead_letter(stack, "not JSON")
    assert shell.json("queue", "list", status=TROUBLE)["queues"][-1] == {
        "queue": "dead-letter",
        "waiting": 1,
        "in_work": 0,
        "delayed": 0,
    }
    (message,) = shell.json("queue", "show", status=TROUBLE)["messages"]
    assert message["effect"].startswith("it can never be handled")
    assert shell.run("queue", "redrive") == NOT_CONFIRMED
    assert stack.aws.visible_messages(DEAD_LETTERS) == 1  # looking hides nothing
    assert shell.json("queue", "redrive", "--to", "read-back", "--yes")["moved"] == 1
    stack.advance(HOUR)
    (message,) = shell.json("queue", "show", status=TROUBLE)["messages"]
    assert shell.run("queue", "delete", message["message_id"]) == NOT_CONFIRMED
    assert shell.run("queue", "delete", "nobody", "--yes") == USAGE
    assert shell.run("queue", "delete", message["message_id"], "--yes") == FINE
    assert shell.run("queue", "show") == FINE
    assert shell.json("queue", "redrive", "--yes")["changed"] is False


# Who can't be reached


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--local", "1"], NO_ANSWER, "nothing answers at http://127.0.0.1:1"),
        (["--local", "./nowhere"], USAGE, "no local system runs with --keep ./nowhere"),
        (["--local=99999"], USAGE, "99999 is neither a port"),
        (["--local", "1", "--stack", "x"], USAGE, "--stack and --local exclude each other"),
        (["--stack"], USAGE, "--stack needs a value"),
        ([], USAGE, "name the deployment"),
    ],
)
def test_a_deployment_that_is_not_there_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    sentence: str,
) -> None:
    monkeypatch.delenv("STACK", raising=False)
    assert main(["status", *arguments]) == status
    assert capsys.readouterr().err.startswith(f"marketplace-saas: {sentence}")


def test_a_stack_that_does_not_exist_is_said_in_a_sentence(
    stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": stack.aws_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["status", "--stack", "nobody"]) == USAGE
    assert capsys.readouterr().err.startswith("marketplace-saas: there is no stack nobody in us-east-1")
    assert main(["queue", "list", "--stack", "marketplace-saas"]) == FINE


def test_a_shell_without_credentials_is_told(
    stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.aws_url)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert main(["status", "--stack", "marketplace-saas"]) == NO_ANSWER
    assert capsys.readouterr().err.startswith("marketplace-saas: this shell has no AWS credentials")


# Whether the bill is right


def test_the_ledger_agrees_with_cloudtrail_until_somebody_else_meters(
    stack: Stack, shell: Shell, buyer: Callable[..., str], tmp_path: Path
) -> None:
    subscription_id = buyer("555566667777")
    reported(shell, stack, tmp_path, subscription_id, "agrees")
    stack.advance(3 * HOUR)
    period = ["--from", moment(stack, 4 * HOUR)]
    sound = shell.json("reconcile", *period)
    assert sound["differences"] == []
    assert sound["compared"] >= 1

    other_sender(stack, shell.json("subscriptions", "show", subscription_id), 7)
    stack.advance(HOUR)
    found = shell.json("reconcile", *period, "--price", "api_calls=2", status=TROUBLE)
    (difference,) = found["differences"]
    assert (difference["kind"], difference["units"], difference["money"]) == ("sent_by_someone_else", 7, "14")
    assert "somebody" in difference["senders"][0]
    assert shell.run("reconcile", *period) == TROUBLE
    assert difference["id"] in shell.out

    accepted = ["--accepted", str(tmp_path / "accepted.jsonl")]
    given = ["--accept", difference["id"], "--reason", "the old meter's last hour"]
    assert shell.run("reconcile", *accepted, *given) == NOT_CONFIRMED
    assert shell.run("reconcile", *accepted, *given, "--yes") == FINE
    assert shell.json("reconcile", *period, *accepted)["differences"][0]["accepted"] == "the old meter's last hour"


def other_sender(stack: Stack, subscription: dict[str, Any], quantity: int) -> None:
    """Somebody with the account's credentials meters a licence in the present hour."""
    client_: Any = boto3.client(
        "meteringmarketplace",
        endpoint_url=stack.marketplace_url,
        region_name="us-east-1",
        aws_access_key_id="somebody",
        aws_secret_access_key="somebody",
    )
    record = {
        "Timestamp": datetime.fromtimestamp(int(stack.clock.timestamp()), UTC),
        "Dimension": "api_calls",
        "Quantity": quantity,
        "LicenseArn": subscription["license_arn"],
        "CustomerAWSAccountId": subscription["account_id"],
    }
    answer = client_.batch_meter_usage(UsageRecords=[record])
    assert answer["Results"][0]["Status"] == "Success"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--trail", "/nowhere"],
        ["--report", "/nowhere"],
        ["--report", "x", "--trail", "y"],
        ["--accept", "dif-1"],
        ["--from", "2025-01-01T00:00:00Z"],
        ["--price", "x"],
    ],
    ids=" ".join,
)
def test_a_reconciliation_that_can_not_be_made_is_said_in_a_sentence(shell: Shell, wrong: list[str]) -> None:
    assert shell.run("reconcile", *wrong) == USAGE
    assert shell.err.count("\n") == 1
