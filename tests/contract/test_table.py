"""What every store relies on in Table, held against the tests' own memory, moto and AWS's DynamoDB Local alike."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from marketplace.archive.archiver import ALLOCATION_EXPIRING
from marketplace.dynamodb.attributes import Item, from_item, to_item
from marketplace.dynamodb.keys import STATUS_INDEX, Key
from marketplace.dynamodb.table import Table, Update, key_of
from marketplace.ledger.due_index import SEALING
from marketplace.ledger.record import EXPIRING
from marketplace.platform.errors import AwsError, InvalidParameterError, NoAnswerError, RefusedError, ThrottledError
from tests.support.memory_dynamodb import MemoryDynamoDB
from tests.support.observed_client import ObservedClient
from tests.support.tables import Tables, create_tables

KEY = Key("SUB#a", "SUBSCRIPTION")
NEVER = "attribute_exists(pk) AND attribute_not_exists(pk)"


@pytest.fixture(params=["memory", "moto", pytest.param("local", marks=pytest.mark.dynamodb_local)])
def table(request: pytest.FixtureRequest) -> Table:
    engine = request.param
    if engine == "memory":
        client = MemoryDynamoDB().client
        return Table(client, create_tables(client).subscriptions, sleep=lambda _: None)
    tables: Tables = request.getfixturevalue(f"{engine}_tables")
    return Table(request.getfixturevalue(f"{engine}_dynamodb"), tables.subscriptions, sleep=lambda _: None)


def item(key: Key = KEY, **values: Any) -> Item:
    return to_item({**key._asdict(), **values})


def numbered(count: int) -> list[Item]:
    return [item(Key("SUB#a", f"EVENT#{number:03d}"), number=number) for number in range(count)]


def values(table: Table, key: Key = KEY) -> dict[str, Any] | None:
    """The attributes of an item beside its key."""
    found = table.get(key)
    return None if found is None else {name: v for name, v in from_item(found).items() if name not in {"pk", "sk"}}


def repeated(table: Table, meanwhile: Callable[[], object] = lambda: None) -> Table:
    """The table through an SDK that loses the first answer to UpdateItem and sends the request again, after what others
    do `meanwhile`."""
    lost: list[str] = []

    def again(name: str, arguments: dict[str, Any]) -> None:
        if name == "update_item" and not lost:
            lost.append(name)
            meanwhile()
            table._client.update_item(**arguments)

    client: Any = ObservedClient(table._client, after=again)
    return Table(client, table.name)


TOO_LARGE = "x" * 500_000
"""More than an item may hold (DynamoDB Developer Guide: 400 KB)."""


class TestReading:
    def test_an_item_comes_as_it_was_put_and_a_missing_one_as_none(self, table: Table) -> None:
        assert table.get(KEY) is None
        table.put(item(status="active", agreement_ids=["x"], version=3, free_trial=False))
        assert table.get(KEY) == item(status="active", agreement_ids=["x"], version=3, free_trial=False)

    def test_many_are_found_by_their_keys_each_once(self, table: Table) -> None:
        everything = numbered(130)
        table.put_all(everything)
        wanted = [key_of(one) for one in everything]
        assert table.get_many([*wanted, KEY, *wanted]) == {key_of(one): one for one in everything}
        assert table.get_many([]) == {}

    def test_items_come_in_the_order_of_their_keys(self, table: Table) -> None:
        everything = numbered(7)
        table.put_all([*reversed(everything), item()])
        assert list(table.items_under("SUB#a", "EVENT#")) == everything
        assert list(table.items("pk = :pk AND sk > :after", {"pk": "SUB#a", "after": "EVENT#004"})) == [
            *everything[5:],
            item(),
        ]
        few = table.items("pk = :pk", {"pk": "SUB#a", "wanted": 5}, where="#number = :wanted")
        assert list(few) == everything[5:6]

    def test_pages_follow_one_another(self, table: Table) -> None:
        everything = numbered(5)
        table.put_all(everything)
        found: list[Item] = []
        page = table.page("pk = :pk", {"pk": "SUB#a"}, limit=2)
        while True:
            found += page.items
            assert len(page.items) <= 2
            if page.after is None:
                break
            page = table.page("pk = :pk", {"pk": "SUB#a"}, limit=2, after=page.after)
        assert found == everything

    def test_an_index_is_queried_by_the_name_of_its_attribute(self, table: Table) -> None:
        table.put_all([item(Key(f"SUB#{one}", "SUBSCRIPTION"), status="active") for one in "ab"])
        table.put(item(Key("SUB#c", "SUBSCRIPTION"), status="ended"))
        found = table.items("#status = :status", {"status": "active"}, index=STATUS_INDEX)
        assert [key_of(one).pk for one in found] == ["SUB#a", "SUB#b"]

    def test_a_query_that_dynamodb_refuses_is_an_error(self, table: Table) -> None:
        with pytest.raises(RefusedError):
            table.page("nothing = :pk", {"pk": "SUB#a"})


class TestWritingOneItem:
    def test_a_new_item_is_written_once(self, table: Table) -> None:
        assert table.put_new(item(version=1))
        assert not table.put_new(item(version=2))
        assert values(table) == {"version": 1}

    def test_a_deleted_item_is_gone_and_may_be_deleted_again(self, table: Table) -> None:
        table.put(item())
        table.delete(KEY)
        table.delete(KEY)
        assert table.get(KEY) is None

    def test_an_update_sets_keeps_adds_and_removes(self, table: Table) -> None:
        table.put(item(status="pending", registered_at=1, offer_id="o", hold="h", tenants=frozenset({"x"})))
        change = Update(
            set={"status": "active", "offer_id": None},
            keep={"registered_at": 2, "claimed_at": 3, "account_id": None},
            add={"version": 1, "tenants": frozenset({"y"})},
            remove=("hold",),
        )
        assert table.update_if(KEY, change)
        found = values(table) or {}
        assert sorted(found.pop("tenants")) == ["x", "y"]
        assert found == {"status": "active", "registered_at": 1, "claimed_at": 3, "version": 1}

    def test_an_update_is_made_only_if_its_condition_holds(self, table: Table) -> None:
        table.put(item(seal="a"))
        assert table.update_if(KEY, Update(set={"state": "x"}, condition="seal = :seal", given={"seal": "a"}))
        assert not table.update_if(KEY, Update(set={"state": "y"}, condition="#seal = :seal", given={"seal": "b"}))
        assert not table.update_if(KEY, Update(add={"tries": 1}, condition=NEVER))
        assert values(table) == {"seal": "a", "state": "x"}

    def test_an_update_may_only_remove(self, table: Table) -> None:
        table.put(item(hold="a", seal="s"))
        assert table.update_if(KEY, Update(remove=("hold",), condition="#hold = :hold", given={"hold": "a"}))
        assert values(table) == {"seal": "s"}

    def test_nothing_is_removed_from_an_item_that_is_not_there(self, table: Table) -> None:
        assert not table.update_if(KEY, Update(remove=("hold",), condition="attribute_exists(pk)"))
        assert not table.update_if(KEY, Update(set={"hold": None}, condition="attribute_exists(pk)"))
        assert table.get(KEY) is None

    @pytest.mark.parametrize(
        "change",
        [
            Update(
                set={"state": "sealed", "names": ("x", "y")},
                remove=("due_at",),
                condition="#state = :old",
                given={"old": "open"},
            ),
            Update(
                set={"state": "sealed", "due_at": None},
                keep={"token": "t"},
                condition="#state = :old",
                given={"old": "open"},
            ),
        ],
        ids=["remove", "none"],
    )
    def test_a_repetition_of_an_update_that_was_made_is_made(self, table: Table, change: Update) -> None:
        table.put(item(state="open", due_at=5))
        assert repeated(table).update_if(KEY, change)
        assert (values(table) or {})["state"] == "sealed"

    def test_a_repetition_after_another_writer_is_not(self, table: Table) -> None:
        table.put(item(state="open"))
        sealing = Update(set={"state": "sealed"}, condition="#state = :old", given={"old": "open"})
        other = Update(set={"state": "metered"})
        assert not repeated(table, lambda: table.update_if(KEY, other)).update_if(KEY, sealing)
        assert values(table) == {"state": "metered"}

    def test_a_repetition_of_an_addition_is_not_recognised(self, table: Table) -> None:
        table.put(item(version=1))
        counting = Update(set={"state": "x"}, add={"version": 1}, condition="version = :read", given={"read": 1})
        assert not repeated(table).update_if(KEY, counting)
        assert values(table) == {"state": "x", "version": 2}

    def test_a_write_that_dynamodb_refuses_is_an_error(self, table: Table) -> None:
        with pytest.raises(InvalidParameterError):
            table.update_if(KEY, Update(set={"note": TOO_LARGE}))
        with pytest.raises(AwsError):
            table.put_new({"pk": {"S": "SUB#a"}})


def test_a_write_without_an_answer_is_an_error() -> None:
    def lost(name: str, _: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="https://dynamodb.invalid")

    client: Any = ObservedClient(MemoryDynamoDB(), before=lost)
    table = Table(client, "subscriptions")
    with pytest.raises(NoAnswerError):
        table.update_if(KEY, Update(set={"state": "x"}))
    with pytest.raises(NoAnswerError):
        table.put_new(item())


class TestWritingTogether:
    def test_all_of_it_is_written(self, table: Table) -> None:
        gone = Key("SUB#a", "CONTACT")
        table.put(item(gone))
        assert (
            table.write_together(
                [
                    table.put_action(item(Key("SUB#a", "EVENT#1"), number=1)),
                    table.update_action(KEY, Update(set={"status": "active"}, add={"version": 1})),
                    table.delete_action(gone),
                ]
            )
            is None
        )
        assert values(table) == {"status": "active", "version": 1}
        assert values(table, Key("SUB#a", "EVENT#1")) == {"number": 1}
        assert table.get(gone) is None

    def test_or_none_of_it_with_what_is_stored_where_that_was_asked_for(self, table: Table) -> None:
        table.put(item(tenant_id="acme"))
        refused = Update(set={"tenant_id": "other"}, condition="tenant_id = :tenant_id")
        unwritten = table.put_action(item(Key("SUB#a", "EVENT#1")))

        silent = table.write_together([unwritten, table.update_action(KEY, refused)])
        told = table.write_together([table.update_action(KEY, refused, tell=True), unwritten])
        put = table.write_together([table.put_action(item(), "attribute_not_exists(#tenant_id)")])

        assert silent is not None
        assert (silent.index, silent.found) == (1, {})
        assert told is not None
        assert (told.index, told.found["tenant_id"]) == (0, "acme")
        assert put is not None
        assert put.found["tenant_id"] == "acme"
        assert table.get(Key("SUB#a", "EVENT#1")) is None

    def test_one_attempt_answers_the_reason_of_each(self, table: Table) -> None:
        first = table.put_action(item(), "attribute_not_exists(pk)")
        assert table.try_together([first]) == []
        reasons = table.try_together([table.put_action(item(Key("SUB#b", "CONTACT"))), first])
        assert [reason.get("Code", "None") for reason in reasons] == ["None", "ConditionalCheckFailed"]
        assert reasons[1]["Item"] == item()

    def test_a_transaction_that_dynamodb_refuses_is_an_error(self, table: Table) -> None:
        with pytest.raises(RefusedError):
            table.write_together([table.update_action(KEY, Update(set={"note": TOO_LARGE}))])


class TestWritingMany:
    def test_all_items_are_put_in_place_of_what_was_there(self, table: Table) -> None:
        table.put(item(Key("SUB#a", "EVENT#003"), number=99))
        everything = numbered(60)
        assert table.put_all(everything) == set()
        assert list(table.items_under("SUB#a", "EVENT#")) == everything
        assert table.put_all([]) == set()

    def test_statements_change_what_their_condition_finds(self, table: Table) -> None:
        everything = numbered(30)
        table.put_all([{**one, "seal": {"S": "old"}} for one in everything])
        rows = [["new", key_of(one).pk, key_of(one).sk, "old"] for one in everything]
        rows[3][3] = "another"
        failed = table.update_all("SET seal = ? WHERE pk = ? AND sk = ? AND seal = ?", rows)
        assert failed.total() == 0
        seals = [from_item(one)["seal"] for one in table.items_under("SUB#a", "EVENT#")]
        assert seals == ["old" if number == 3 else "new" for number in range(30)]


STATEMENTS: dict[str, tuple[str, dict[str, Any], tuple[str, str | int]]] = {
    "a seal": (SEALING, {"seal": "old", "state": "open"}, ("seal", "new")),
    "an expiry": (EXPIRING, {"seal": "old", "quantity": 5, "settled_at": 7}, ("expires_at", 99)),
    "an allocation's expiry": (ALLOCATION_EXPIRING, {"quantity": 5}, ("expires_at", 99)),
}
"""The statements with a condition that the product sends: what they compare, in their order, and what they set."""


@pytest.mark.parametrize(("clauses", "compared", "change"), STATEMENTS.values(), ids=STATEMENTS)
class TestStatementsWithACondition:
    """Each item is changed in one way before the statement comes; the last one is not there at all."""

    @staticmethod
    def stored(compared: dict[str, Any]) -> list[Item]:
        other: dict[str, Any] = {"seal": "another", "state": "rejected", "quantity": 6, "settled_at": 8}
        as_expected = [compared, {**compared, "other": "x"}]
        changed = [{**compared, name: other[name]} for name in compared]
        without = [{name: value for name, value in compared.items() if name != left} for left in compared]
        of_another_type = [{**compared, name: [value]} for name, value in compared.items()]
        everything = [*as_expected, *changed, *without, *of_another_type]
        return [item(Key("SUB#a", f"HOUR#{number:02d}"), **one) for number, one in enumerate(everything)]

    @staticmethod
    def rows(stored: list[Item], compared: dict[str, Any], change: tuple[str, str | int]) -> list[list[str | int]]:
        places = [*(key_of(one) for one in stored), Key("SUB#a", "HOUR#99")]
        return [[change[1], place.pk, place.sk, *compared.values()] for place in places]

    def test_change_what_is_as_expected_and_nothing_else(
        self, table: Table, clauses: str, compared: dict[str, Any], change: tuple[str, str | int]
    ) -> None:
        stored = self.stored(compared)
        table.put_all(stored)
        rows = self.rows(stored, compared, change)
        assert table.update_all(clauses, rows).total() == 0
        name, value = change
        expected = [{**one, **to_item({name: value})} for one in stored[:2]] + stored[2:]
        assert list(table.items("pk = :pk", {"pk": "SUB#a"})) == expected
        assert table.update_all(clauses, rows).total() == 0
        assert list(table.items("pk = :pk", {"pk": "SUB#a"})) == expected

    def test_report_which_had_another_condition_or_no_item(
        self,
        table: Table,
        request: pytest.FixtureRequest,
        clauses: str,
        compared: dict[str, Any],
        change: tuple[str, str | int],
    ) -> None:
        stored = self.stored(compared)
        table.put_all(stored)
        rows = self.rows(stored, compared, change)
        statements = [
            {"Statement": f'UPDATE "{table.name}" {clauses}', "Parameters": [to_item({"x": one})["x"] for one in row]}
            for row in rows
        ]
        client: Any = table._client
        codes = [
            answer.get("Error", {}).get("Code")
            for answer in client.batch_execute_statement(Statements=statements)["Responses"]
        ]
        told = None if "moto" in request.node.callspec.id else "ConditionalCheckFailed"  # moto does not say so
        assert codes == [None, None, *[told] * (len(rows) - 2)]


class TestWhatDynamoDBLeavesUndone:
    @staticmethod
    def table(undone: Callable[[str, int], Any], waits: list[float]) -> Table:
        client = MemoryDynamoDB().client
        name = create_tables(client).subscriptions
        client.unprocessed = undone  # type: ignore[attr-defined]
        return Table(client, name, sleep=waits.append, jitter=lambda: 1.0)

    def test_is_done_in_a_later_attempt(self) -> None:
        waits: list[float] = []
        calls: list[int] = []

        def undone(_: str, count: int) -> range:
            calls.append(count)
            return range(count if len(calls) % 2 else 0)

        table = self.table(undone, waits)
        assert table.put_all(numbered(3)) == set()
        assert len(table.get_many(key_of(one) for one in numbered(3))) == 3
        rows = [["new", "SUB#a", f"EVENT#{number:03d}", "new"] for number in range(3)]
        assert table.update_all("SET seal = ? WHERE pk = ? AND sk = ? AND seal = ?", rows).total() == 0
        assert waits == [0.05, 0.05, 0.05]

    def test_is_named_in_the_end(self) -> None:
        waits: list[float] = []
        table = self.table(lambda _, count: range(count), waits)
        everything = {key_of(one) for one in numbered(3)}
        assert table.put_all(numbered(3)) == everything
        found, unread = table.get_readable(everything)
        assert found == {}
        assert set(unread) == everything
        with pytest.raises(ThrottledError):
            table.get_many(everything)
        with pytest.raises(ThrottledError):
            table.update_all("SET seal = ? WHERE pk = ? AND sk = ? AND seal = ?", [["n", "SUB#a", "EVENT#000", "o"]])
        assert waits == [0.05, 0.1, 0.2, 0.4] * 4
