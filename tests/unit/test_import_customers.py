"""Customers whom a seller has already: a file, checked as a whole, what AWS says of each, and who they become here."""

from pathlib import Path
from typing import Any

import pytest

from marketplace.commands.customer_file import CustomerFileError, customers_of
from marketplace.entitlements.rules import Entitlement
from marketplace.platform.clock import DAY
from marketplace.platform.errors import InvalidParameterError, NoAnswerError
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace_saas_cli.exits import NO_ANSWER, NOT_CONFIRMED, USAGE
from tests.support.duty import Duty, on_duty
from tests.support.lifecycle_world import LICENSE_ARN, LICENSED, LifecycleWorld

LEGACY_PRODUCT = "n0123EXAMPLEXXXXXXXXXXXX"
PRODUCTS = [LEGACY_PRODUCT, "examplecode00000000000000"]
SEATS = Entitlement(dimension="seats", value_type="integer", value=25)
FIRST, SECOND = (LegacyIdentity(LEGACY_PRODUCT, name).subscription_id for name in ("X01", "X02"))
FILE = f"""product_code,customer_identifier,account_id
{LEGACY_PRODUCT},X01,111122223333
{LEGACY_PRODUCT},X02,
"""

# The file


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(CustomerFileError) as refused:
        customers_of(text.encode() if isinstance(text, str) else text, PRODUCTS)
    return list(refused.value.problems)


def test_a_file_of_legacy_customers() -> None:
    first, second = customers_of(FILE.encode(), PRODUCTS)
    assert (first.line, second.line) == (2, 3)
    assert (first.identity.subscription_id, first.account_id) == (FIRST, "111122223333")
    assert (second.identity.subscription_id, second.account_id) == (SECOND, None)


def test_a_file_of_licences_and_of_both() -> None:
    text = (
        f"account_id,license_arn,customer_identifier,product_code\n,{LICENSE_ARN},,{PRODUCTS[1]}\n,,X01,{PRODUCTS[0]}"
    )
    licensed, legacy = customers_of(text.encode(), PRODUCTS)
    assert licensed.identity == LicenseIdentity(LICENSE_ARN)
    assert legacy.identity == LegacyIdentity(LEGACY_PRODUCT, "X01")


@pytest.mark.parametrize(
    "text",
    [
        FILE.replace("\n", "\r\n"),
        "\ufeff" + FILE,
        FILE.replace(",", " , "),
        FILE.replace("X01", '"X01"'),
        "\n" + FILE + "\n,,\n",
    ],
    ids=["CRLF", "byte order mark", "blanks", "quotes", "empty lines"],
)
def test_what_spreadsheets_make_of_it_is_read_too(text: str) -> None:
    assert [one.identity.subscription_id for one in customers_of(text.encode(), PRODUCTS)] == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("other,X03,", "line 4: the product code 'other' is not one of this deployment's"),
        (f"{LEGACY_PRODUCT},,", "line 4: give either customer_identifier or license_arn"),
        (f"{LEGACY_PRODUCT},X03,11112222333", "line 4: the account '11112222333' is not twelve digits"),
        (f"{LEGACY_PRODUCT},X0 3,", "line 4: 'X0 3' is not a customer identifier"),
        (f"{LEGACY_PRODUCT},X03", "line 4: 2 values for 3 columns"),
        (f"{LEGACY_PRODUCT},X03,,", "line 4: 4 values for 3 columns"),
        (f"{LEGACY_PRODUCT},X01,", "line 4: the customer of line 2 again"),
        (f'{LEGACY_PRODUCT},"X03"x,', "line 4: "),
    ],
)
def test_a_wrong_line_is_named(line: str, problem: str) -> None:
    (found,) = problems(FILE + line + "\n")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("arn", "problem"),
    [
        ("l-0123456789abcdef0123456789abcdef", "is not the ARN of a licence"),
        ("arn:aws:license-manager::1:product", "is not the ARN of a licence"),
    ],
)
def test_a_licence_is_named_by_its_arn(arn: str, problem: str) -> None:
    (found,) = problems(f"product_code,license_arn\n{PRODUCTS[1]},{arn}\n")
    assert problem in found


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("product_code,customer", "line 1: there is no column 'customer'; the columns are product_code, "),
        ("customer_identifier", "line 1: the columns product_code and customer_identifier or license_arn are required"),
        ("product_code", "line 1: the columns product_code and customer_identifier or license_arn are required"),
        ("product_code,customer_identifier,product_code", "line 1: a column is there twice"),
    ],
)
def test_a_wrong_head_is_named(head: str, problem: str) -> None:
    assert problems(f"{head}\na,b,c\n")[0].startswith(problem)


def test_every_wrong_line_is_named_at_once() -> None:
    assert len(problems(FILE + "other,X03,\nother,X04,\n")) == 2


@pytest.mark.parametrize("text", ["", "\n\n", "product_code,customer_identifier\n"])
def test_a_file_without_customers_is_refused(text: str) -> None:
    assert problems(text) == ["the file names no customer"]


def test_a_file_that_is_no_text_is_refused() -> None:
    assert problems(FILE.encode() + b"\xff\xfe") == [f"the file is not UTF-8 (byte {len(FILE) + 1})"]


# The command


class Command:
    """The command on a world."""

    def __init__(self, duty: Duty, file: Path) -> None:
        self.duty, self.file = duty, file

    @property
    def out(self) -> str:
        return self.duty.out

    def run(self, *more: str, text: str = FILE) -> int:
        self.file.write_text(text)
        return self.duty.run("subscriptions", "import", str(self.file), *more)

    def write(self, *more: str, text: str = FILE) -> int:
        return self.run("--yes", *more, text=text)


@pytest.fixture
def world() -> LifecycleWorld:
    return LifecycleWorld.in_memory()


@pytest.fixture
def command(
    world: LifecycleWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    duty = on_duty(
        monkeypatch,
        tables=world.tables,
        now=world.time.now,
        capsys=capsys,
        clients={"dynamodb": world.dynamodb, "sqs": world.sqs},
        entitlements=world.source,
        parameters={"ProductCodes": ",".join(PRODUCTS)},
    )
    return Command(duty, tmp_path / "customers.csv")


def test_a_preview_says_what_aws_says_and_writes_nothing(world: LifecycleWorld, command: Command) -> None:
    world.source.granted[FIRST] = [SEATS]
    preview = command.duty
    command.file.write_text(FILE)
    first, second = preview.json("subscriptions", "import", str(command.file), status=NOT_CONFIRMED)["preview"][
        "customers"
    ]
    assert first == {"line": 2, "subscription_id": FIRST, "known": "new", "aws": "AWS lists seats=25"}
    assert second["aws"] == "AWS lists nothing, which is all it says of a customer without a contract"
    assert world.store.read(FIRST) is None
    assert world.sqs.sent == []


def test_whom_aws_grants_something_is_active_after_the_recheck_and_the_others_are_seen(
    world: LifecycleWorld, command: Command
) -> None:
    world.source.granted[FIRST] = [SEATS]
    assert command.write() == 0
    world.wait(world.time.seconds + DAY)
    assert world.subscription(FIRST).status == "active"
    assert world.subscription(FIRST).account_id == "111122223333"
    assert world.subscription(SECOND).status == "pending"
    assert world.gauges.measure().seconds["OldestPendingRegistrationSeconds"] == DAY


def test_a_licence_is_imported_and_compared_with_its_agreements(world: LifecycleWorld, command: Command) -> None:
    command.write(text=f"product_code,license_arn\n{PRODUCTS[1]},{LICENSE_ARN}\n")
    assert world.subscription(LICENSED).license_arn == LICENSE_ARN
    start = world.time.seconds
    world.wait(start + 60)
    assert world.waiting("reconcile") == [start + 900]


def test_importing_again_changes_nothing(world: LifecycleWorld, command: Command) -> None:
    command.write("--activate", "--reason", "known")
    world.wait(world.time.seconds + 60)
    before = world.attributes(FIRST)
    assert command.write("--activate", "--reason", "known") == 0
    assert command.out.endswith("2 customers: 2 known\n")
    world.wait(world.time.seconds + 60)
    assert world.attributes(FIRST) | {"entitlements_synced_at": 0, "entitlements_version": 0} == before | {
        "entitlements_synced_at": 0,
        "entitlements_version": 0,
    }
    assert world.bus.kinds().count("Subscription Activated") == 2


def test_a_customer_who_is_known_keeps_what_is_known(world: LifecycleWorld, command: Command) -> None:
    world.register(FIRST, None, integration="legacy", product_code=LEGACY_PRODUCT, customer_identifier="X01")
    before = world.attributes(FIRST)
    assert command.write() == 0
    assert f"{FIRST}   pending" in command.out
    assert world.attributes(FIRST) == before


def test_all_can_be_activated_with_one_reason(world: LifecycleWorld, command: Command) -> None:
    assert command.write("--activate", "--reason", "metered by the old application until today") == 0
    assert command.out.endswith("2 customers: 2 activated, 2 imported\n")
    for subscription_id in (FIRST, SECOND):
        assert world.subscription(subscription_id).status == "active"
        (word,) = world.store.inbox(subscription_id)
        assert "metered by the old application until today" in word.message.body


def test_one_who_can_not_be_activated_does_not_stop_the_others(world: LifecycleWorld, command: Command) -> None:
    command.write("--activate", "--reason", "known")
    closing = {"status": "closing", "closing_deadline": world.time.seconds + 600}
    stored = world.store.read(FIRST)
    world.store.write(FIRST, read=stored, changes=closing, defaults={})
    command.write("--activate", "--reason", "known")
    assert f"line 2: not activated: {FIRST} is closing" in command.duty.err


def test_whom_aws_does_not_know_is_left_out(world: LifecycleWorld, command: Command) -> None:
    world.source.errors = [InvalidParameterError("InvalidParameterException")]
    assert command.write() == 1
    assert "AWS refuses to answer" in command.out
    assert command.out.endswith("2 customers: 1 imported, 1 left out\n")
    assert world.store.read(FIRST) is None
    assert world.subscription(SECOND).status == "pending"


def test_an_import_that_was_interrupted_is_finished_by_the_next(world: LifecycleWorld, command: Command) -> None:
    world.source.errors = [NoAnswerError("ReadTimeoutError")]
    assert command.write() == NO_ANSWER
    assert command.duty.err == "marketplace-saas: AWS refused or gave no answer (ReadTimeoutError)\n"
    assert command.write() == 0
    assert {world.subscription(one).status for one in (FIRST, SECOND)} == {"pending"}


@pytest.mark.parametrize("at", [1, 2])
def test_a_crash_before_the_recheck_is_made_good(world: LifecycleWorld, command: Command, at: int) -> None:
    class Down:
        calls = 0

        def send_message(self, **call: Any) -> None:
            self.calls += 1
            if self.calls == at:
                raise NoAnswerError("ConnectTimeoutError")
            world.sqs.send_message(**call)

    command.duty.clients["sqs"] = Down()
    assert command.write() == NO_ANSWER
    command.duty.clients["sqs"] = world.sqs
    assert command.write() == 0
    rechecked = {message["subscription_id"] for message, _ in world.sqs.sent}
    assert rechecked == {FIRST, SECOND}


def test_nothing_is_written_of_a_file_with_a_wrong_line(world: LifecycleWorld, command: Command) -> None:
    assert command.write(text=FILE + "other,X03,\n") == 2
    assert command.duty.err.endswith("line 4: the product code 'other' is not one of this deployment's\n")
    assert world.source.calls == 0
    assert world.store.read(FIRST) is None


def test_a_file_that_is_not_there_is_said_in_a_sentence(command: Command) -> None:
    assert command.duty.run("subscriptions", "import", str(command.file / "nowhere")) == USAGE
    assert command.duty.err.startswith("marketplace-saas: the file can't be read: ")


@pytest.mark.parametrize("wrong", [["--activate"], ["--reason", "r"], ["--activate", "--reason", " "]], ids=" ".join)
def test_arguments_that_do_not_fit_together_are_refused(command: Command, wrong: list[str]) -> None:
    assert command.run(*wrong) == USAGE
