"""What the tests rely on in the in-memory DynamoDB, asked of it and of AWS's own DynamoDB Local.

tests/contract/test_table.py holds what the product relies on, of moto too. Here are the rules beneath: conditions,
updates, limits, refusals; and the stand-in must answer random requests as DynamoDB Local does. A case in which
DynamoDB Local is known to differ from DynamoDB is named with the reason, and must fail there: the stand-in follows
DynamoDB's own documentation.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.dynamodb.attributes import to_item
from marketplace.dynamodb.table import Update
from tests.support.memory_dynamodb import MemoryDynamoDB, aws_error
from tests.support.observed_client import ObservedClient
from tests.support.tables import Tables, create_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Attribute = dict[str, Any]
type Item = dict[str, Attribute]

LOCAL_DIFFERS = {
    "an update with an index key of the wrong type": "DynamoDB Local lets UpdateItem write it",
    "test_a_transaction_is_cancelled_by_an_update_that_does_not_fit": "DynamoDB Local refuses the request",
    "too-many": "DynamoDB Local ignores the rest",
}


def s(value: str) -> Attribute:
    return {"S": value}


def n(value: int | str) -> Attribute:
    return {"N": str(value)}


def key(pk: str, sk: str) -> Item:
    return {"pk": s(pk), "sk": s(sk)}


def keys(count: int) -> list[Item]:
    return [key("a", str(number)) for number in range(count)]


def colons(values: dict[str, Attribute] | None) -> Item:
    """Values as a request gives them; nothing when there are none."""
    return {"ExpressionAttributeValues": {f":{name}": value for name, value in values.items()}} if values else {}


@dataclass(frozen=True, slots=True)
class Engine:
    """A DynamoDB with the product's two tables. Requests go to the table of usage unless they name another."""

    client: "DynamoDBClient"
    tables: Tables

    @property
    def usage(self) -> str:
        return self.tables.usage

    def send(self, method: str, **request: Any) -> Any:
        return getattr(self.client, method)(**{"TableName": self.usage, **request})

    def put(self, pk: str, sk: str, **attributes: Attribute) -> None:
        self.send("put_item", Item={**key(pk, sk), **attributes})

    def get(self, pk: str, sk: str) -> Item | None:
        found = self.send("get_item", Key=key(pk, sk), ConsistentRead=True).get("Item")
        return cast("Item | None", found)

    def update(self, expression: str, values: Item | None = None, /, pk: str = "a", sk: str = "1") -> Item:
        """Updates an item and answers it without its key."""
        self.send("update_item", Key=key(pk, sk), UpdateExpression=expression, **colons(values))
        return {name: value for name, value in (self.get(pk, sk) or {}).items() if name not in {"pk", "sk"}}

    def holds(self, condition: str, values: Item | None = None, /, pk: str = "a", sk: str = "1") -> bool:
        """Answers whether a condition lets a write of the item through; the item keeps what it held."""
        item = self.get(pk, sk)
        try:
            self.send("delete_item", Key=key(pk, sk), ConditionExpression=condition, **colons(values))
        except self.client.exceptions.ConditionalCheckFailedException:
            return False
        if item is not None:
            self.send("put_item", Item=item)
        return True

    def query(self, condition: str, /, **request: Any) -> Any:
        values = {name: request.pop(name) for name in list(request) if name[0].islower()}
        return self.send("query", KeyConditionExpression=condition, **colons(values), **request)

    def member(self, action: str, **request: Any) -> dict[str, Any]:
        """A member of a transaction."""
        return {action: {"TableName": self.usage, **request}}

    def transact(self, *members: Any) -> None:
        self.client.transact_write_items(TransactItems=members)

    def read(self, *asked: Item, table: str = "") -> Any:
        return self.client.batch_get_item(RequestItems={table or self.usage: {"Keys": asked, "ConsistentRead": True}})

    def write(self, *items: Item, table: str = "") -> Any:
        puts: Any = [{"PutRequest": {"Item": item}} for item in items]
        return self.client.batch_write_item(RequestItems={table or self.usage: puts})

    def execute(self, *rows: list[Attribute], table: str = "") -> Any:
        """What a batch of statements answers; a row holds the new seal, the key, and the seal that must be there."""
        return self.execute_where("", *rows, table=table)

    def execute_where(self, more: str, *rows: list[Attribute], table: str = "") -> Any:
        """The same with more clauses, for which a row holds the values behind the others."""
        text = f'UPDATE "{table or self.usage}" SET seal=? WHERE pk=? AND sk=? AND seal=?{more}'  # noqa: S608
        statements: Any = [{"Statement": text, "Parameters": row} for row in rows]
        return self.client.batch_execute_statement(Statements=statements)["Responses"]


def sealing(sk: str = "1", pk: str = "a") -> list[Attribute]:
    return [s("new"), s(pk), s(sk), s("-")]


def sks(page: Any) -> list[str]:
    return [item["sk"]["S"] for item in page["Items"]]


def refused(code: str = "ValidationException") -> Any:
    """Expects a ClientError with this code."""
    return pytest.raises(ClientError, check=lambda error: error.response["Error"]["Code"] == code)


@pytest.fixture
def memory() -> Engine:
    client = MemoryDynamoDB().client
    return Engine(client, create_tables(client))


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.dynamodb_local)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Tables of the test's own; in a case in which this engine is known to differ, the test must fail."""
    if request.param == "memory":
        return cast("Engine", request.getfixturevalue("memory"))
    case = request.node.callspec.params.get("case", request.node.originalname)
    if reason := LOCAL_DIFFERS.get(case):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))  # a difference that is gone fails
    return Engine(request.getfixturevalue("local_dynamodb"), request.getfixturevalue("local_tables"))


class TestOneItem:
    def test_a_failed_condition_says_so_and_shows_the_item_when_asked(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        asked: Any = {"ConditionExpression": "x = :other", **colons({"other": s("y")})}
        told = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        for sk, request, shown in [("1", {}, None), ("1", told, {**key("a", "1"), "x": s("x")}), ("2", told, None)]:
            with pytest.raises(engine.client.exceptions.ConditionalCheckFailedException) as caught:
                engine.send("update_item", Key=key("a", sk), UpdateExpression="REMOVE x", **asked, **request)
            response = cast("Any", caught.value.response)
            assert response["Error"]["Code"] == "ConditionalCheckFailedException"
            assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
            assert caught.value.operation_name == "UpdateItem"
            assert response.get("Item") == shown
        assert engine.query("pk = :a", a=s("a"))["Items"] == [{**key("a", "1"), "x": s("x")}]

    def test_numbers_are_kept_in_one_form(self, engine: Engine) -> None:
        written = ["007", "-0", "-05", "10000000000000000000000000"]
        engine.put("a", "1", **{f"x{place}": n(text) for place, text in enumerate(written)})
        kept = ["7", "0", "-5", "10000000000000000000000000"]
        found = engine.get("a", "1") or {}
        assert [found[f"x{place}"] for place in range(len(kept))] == [n(text) for text in kept]

    def test_a_key_has_a_greatest_length(self, engine: Engine) -> None:
        engine.put("a" * 2048, "1" * 1024)

    def test_a_table_is_made_once(self, engine: Engine) -> None:
        with refused("ResourceInUseException"):
            create_tables(engine.client, prefix=engine.usage.removesuffix("usage"))


CONDITIONS: dict[str, tuple[str, Item, bool]] = {
    "exists": ("attribute_exists(x)", {}, True),
    "absent": ("attribute_not_exists(nil)", {}, True),
    "equal": ("x = :v", {"v": n("05")}, True),
    "unequal-type": ("x = :v", {"v": s("5")}, False),
    "different": ("x <> :v", {"v": s("5")}, True),
    "missing-equal": ("nil = :v", {"v": n(5)}, False),
    "missing-different": ("nil <> :v", {"v": n(5)}, True),
    "numbers-not-texts": ("x <= :v", {"v": n(10)}, True),
    "texts": ("t <= :v", {"v": s("b")}, True),
    "types-have-no-order": ("x <= :v", {"v": s("9")}, False),
    "missing-at-most": ("nil <= :v", {"v": n(5)}, False),
    "at-most": ("x <= :v", {"v": n(5)}, True),
    "at-least": ("x >= :v", {"v": n(5)}, True),
    "less-than-at-least": ("x >= :v", {"v": n(6)}, False),
    "missing-at-least": ("nil >= :v", {"v": n(0)}, False),
    "more": ("x > :v", {"v": n(4)}, True),
    "in": ("t IN (:v, :w)", {"v": s("b"), "w": s("abc")}, True),
    "contains-text": ("contains(t, :v)", {"v": s("bc")}, True),
    "contains-member": ("contains(l, :v)", {"v": n(1)}, True),
    "contains-element": ("contains(ss, :v)", {"v": s("c")}, False),
    "and-before-or": ("attribute_exists(x) OR attribute_exists(x) AND attribute_exists(nil)", {}, True),
    "parentheses": ("(attribute_exists(x) OR attribute_exists(x)) AND attribute_exists(nil)", {}, False),
    "as-recording-asks": (
        "(attribute_not_exists(pk) OR (seal = :unsealed AND x <= :room)) AND (attribute_not_exists(pk) OR y = :y)",
        {"unsealed": s("-"), "room": n(9), "y": n(6)},
        True,
    ),
}
UPDATES: dict[str, tuple[str, Item, Item]] = {
    "set": ("SET z = :v", {"v": n(1)}, {"z": n(1)}),
    "set-several": ("SET z = :v, x = :w", {"v": n(1), "w": s("w")}, {"z": n(1), "x": s("w")}),
    "default-missing": ("SET z = if_not_exists(z, :v)", {"v": n(1)}, {"z": n(1)}),
    "default-present": ("SET x = if_not_exists(x, :v)", {"v": n(1)}, {"x": n(5)}),
    "remove": ("REMOVE x", {}, {"x": {}}),
    "remove-missing": ("REMOVE z", {}, {}),
    "add-number": ("ADD x :v", {"v": n(2)}, {"x": n(7)}),
    "add-first": ("ADD z :v", {"v": n(0)}, {"z": n(0)}),
    "add-members": ("ADD ss :v", {"v": {"SS": ["a", "c"]}}, {"ss": {"SS": ["a", "b", "c"]}}),
    "add-first-members": ("ADD z :v", {"v": {"SS": ["c"]}}, {"z": {"SS": ["c"]}}),
    "all-clauses": ("SET z = :v REMOVE x ADD y :v", {"v": n(1)}, {"z": n(1), "x": {}, "y": n(7)}),
}


class TestExpressions:
    @pytest.mark.parametrize("case", CONDITIONS)
    def test_operators_bind_as_documented(self, engine: Engine, case: str) -> None:
        condition, values, expected = CONDITIONS[case]
        rest: Item = {"ss": {"SS": ["a", "b"]}, "l": {"L": [s("a"), n(1)]}}
        engine.put("a", "1", x=n(5), y=n(6), t=s("abc"), seal=s("-"), **rest)
        assert engine.holds(condition, values) is expected

    def test_nothing_exists_of_a_missing_item(self, engine: Engine) -> None:
        assert not engine.holds("attribute_exists(pk)")
        assert not engine.holds("seal = :seal", {"seal": s("-")})
        assert engine.holds("attribute_not_exists(pk)")

    @pytest.mark.parametrize("case", UPDATES)
    def test_clauses_change_what_they_name(self, engine: Engine, case: str) -> None:
        expression, values, changed = UPDATES[case]
        before: Item = {"x": n(5), "y": n(6), "ss": {"SS": ["a", "b"]}}
        engine.put("a", "1", **before)
        expected = {name: value for name, value in {**before, **changed}.items() if value}
        found = engine.update(expression, values)
        for attribute in found.values():
            if "SS" in attribute:
                attribute["SS"].sort()
        assert found == expected

    def test_an_update_makes_the_item(self, engine: Engine) -> None:
        assert engine.update("ADD x :v", {"v": n(2)}) == {"x": n(2)}
        engine.update("REMOVE x", sk="2")
        assert engine.get("a", "2") == key("a", "2")

    def test_an_update_without_an_expression_makes_the_item(self, engine: Engine) -> None:
        engine.send("update_item", Key=key("a", "1"))
        assert engine.get("a", "1") == key("a", "1")


type Call = Callable[[Engine], object]

NO_VALUE_USED: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)", **colons({"x": s("x")})}
NO_NAME_USED: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"} | {
    "ExpressionAttributeNames": {"#x": "x"}
}
ONE = key("a", "1")
REFUSED: dict[str, Call] = {
    "an empty set": lambda engine: engine.put("a", "2", x={"SS": []}),
    "a set with a repetition": lambda engine: engine.put("a", "2", x={"SS": ["a", "a"]}),
    "a number that is none": lambda engine: engine.put("a", "2", x=n("1x")),
    "an item over 400 KB": lambda engine: engine.put("a", "2", x=s("x" * 409_600)),
    "a key without its sort key": lambda engine: engine.send("get_item", Key={"pk": s("a")}),
    "a key with more attributes": lambda engine: engine.send("get_item", Key={**ONE, "x": s("x")}),
    "an empty key": lambda engine: engine.send("get_item", Key=key("", "1")),
    "a key of the wrong type": lambda engine: engine.send("get_item", Key={"pk": s("a"), "sk": n(1)}),
    "an item without its sort key": lambda engine: engine.send("put_item", Item={"pk": s("a")}),
    "an item with an empty key": lambda engine: engine.put("a", ""),
    "an item with a key of the wrong type": lambda engine: engine.send("put_item", Item={"pk": s("a"), "sk": n(1)}),
    "a partition key over 2048 bytes": lambda engine: engine.put("a" * 2049, "1"),
    "a sort key over 1024 bytes": lambda engine: engine.put("a", "1" * 1025),
    "an empty index key": lambda engine: engine.put("a", "2", due_shard=s(""), due_at=n(1)),
    "a put with an index key of the wrong type": lambda engine: engine.put("a", "2", due_shard=s("0"), due_at=s("1")),
    "an update with an index key of the wrong type": lambda engine: engine.update("SET due_at = :x", {"x": s("1")}),
    "a condition that cannot be true of its types": lambda engine: engine.holds("x <= :v", {"v": {"BOOL": True}}),
    "a reserved word": lambda engine: engine.holds("attribute_not_exists(status)"),
    "a reserved word in capitals": lambda engine: engine.holds("attribute_not_exists(Hour)"),
    "another reserved word": lambda engine: engine.holds("attribute_not_exists(state)"),
    "a name that is not used": lambda engine: engine.send("put_item", Item=ONE, **NO_NAME_USED),
    "a value that is not used": lambda engine: engine.send("put_item", Item=ONE, **NO_VALUE_USED),
    "a name that is not defined": lambda engine: engine.holds("#x = :x", {"x": s("x")}),
    "a value that is not defined": lambda engine: engine.holds("x = :y", {"x": s("x")}),
    "values without an expression": lambda engine: engine.send("put_item", Item=key("a", "2"), **colons({"x": n(1)})),
    "redundant parentheses": lambda engine: engine.holds("((x = :x))", {"x": s("x")}),
    "an update of one attribute twice": lambda engine: engine.update("SET x = :v, x = :v", {"v": n(1)}),
    "an update that sets and removes": lambda engine: engine.update("SET x = :v REMOVE x", {"v": n(1)}),
    "a number added to a text": lambda engine: engine.update("ADD t :v", {"v": n(1)}),
    "a set added to a number": lambda engine: engine.update("ADD x :v", {"v": {"SS": ["a"]}}),
    "a text added to a number": lambda engine: engine.update("ADD x :v", {"v": s("a")}),
    "a transaction with two members for one item": lambda engine: engine.transact(
        engine.member("Put", Item=key("a", "2")), engine.member("Delete", Key=key("a", "2"))
    ),
    "a transaction of 101": lambda engine: engine.transact(*(engine.member("Put", Item=item) for item in keys(101))),
    "a transaction with an item without a sort key": lambda engine: engine.transact(
        engine.member("Put", Item=key("a", "2")), engine.member("Put", Item={"pk": s("a")})
    ),
    "a transaction with a value that is not used": lambda engine: engine.transact(
        engine.member("Put", Item=key("a", "2")), engine.member("Put", Item=key("a", "3"), **NO_VALUE_USED)
    ),
    "a transaction with two actions in a member": lambda engine: engine.transact(
        engine.member("Put", Item=key("a", "2")) | engine.member("Delete", Key=key("a", "3"))
    ),
    "a batch read of 101": lambda engine: engine.read(*keys(101)),
    "a batch read of one item twice": lambda engine: engine.read(ONE, ONE),
    "a batch write of 26": lambda engine: engine.write(*keys(26)),
    "a batch write of one item twice": lambda engine: engine.write(key("a", "2"), key("a", "2")),
    "26 statements": lambda engine: engine.execute(*(sealing(str(number)) for number in range(26))),
    "statements for one item twice": lambda engine: engine.execute(sealing(), sealing()),
    "a key condition without the partition": lambda engine: engine.query("sk = :a", a=s("a")),
    "a key condition that names no key": lambda engine: engine.query("pk = :a AND seal = :b", a=s("a"), b=s("-")),
    "a key condition with an empty key": lambda engine: engine.query("pk = :a", a=s("")),
    "a key condition of the wrong type": lambda engine: engine.query("pk = :a", a=n(1)),
    "a key condition whose bounds are the wrong way round": lambda engine: engine.query(
        "pk = :a AND sk BETWEEN :b AND :c", a=s("a"), b=s("2"), c=s("1")
    ),
    "a key condition with a value that is not used": lambda engine: engine.query("pk = :a", a=s("a"), b=s("b")),
    "a filter that names a key": lambda engine: engine.query("pk = :a", a=s("a"), FilterExpression="sk = :a"),
    "a start key without its sort key": lambda engine: from_start(engine, {"pk": s("a")}),
    "a start key outside the sort keys asked for": lambda engine: from_start(engine, key("a", "RECORD#a")),
    "a start key of another partition": lambda engine: from_start(engine, key("b", "HOUR#1")),
    "an index that does not exist": lambda engine: engine.query("due_shard = :s", s=s("00"), IndexName="nowhere"),
    "a consistent read of an index": lambda engine: engine.query(
        "due_shard = :s", s=s("00"), IndexName="due", ConsistentRead=True
    ),
}
NOT_SENT: dict[str, Call] = {
    "transaction": lambda engine: engine.transact(),
    "batch read": lambda engine: engine.read(),
    "batch write": lambda engine: engine.write(),
    "statements": lambda engine: engine.execute(),
    "page": lambda engine: engine.query("pk = :a", a=s("a"), Limit=0),
}
OF_NO_TABLE: dict[str, Call] = {
    "get": lambda engine: engine.send("get_item", TableName="nowhere", Key=ONE),
    "put": lambda engine: engine.send("put_item", TableName="nowhere", Item=ONE),
    "transaction": lambda engine: engine.transact(engine.member("Put", TableName="nowhere", Item=ONE)),
    "batch read": lambda engine: engine.read(ONE, table="nowhere"),
    "batch write": lambda engine: engine.write(ONE, table="nowhere"),
    "query": lambda engine: engine.query("pk = :a", a=s("a"), TableName="nowhere"),
}


def from_start(engine: Engine, start: Item) -> Any:
    return engine.query("pk = :a AND begins_with(sk, :h)", a=s("a"), h=s("HOUR#"), ExclusiveStartKey=start)


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    def test_what_breaks_a_rule_is_refused_whole(self, engine: Engine, case: str) -> None:
        engine.put("a", "1", x=n(1), t=s("t"))
        before = engine.query("pk = :a", a=s("a"))["Items"]
        with refused():
            REFUSED[case](engine)
        assert engine.query("pk = :a", a=s("a"))["Items"] == before

    @pytest.mark.parametrize("case", NOT_SENT)
    def test_nothing_is_asked_for_by_an_empty_request(self, engine: Engine, case: str) -> None:
        with pytest.raises(ParamValidationError):
            NOT_SENT[case](engine)

    @pytest.mark.parametrize("case", OF_NO_TABLE)
    def test_a_table_must_exist(self, engine: Engine, case: str) -> None:
        with pytest.raises(engine.client.exceptions.ResourceNotFoundException):
            OF_NO_TABLE[case](engine)


STATEMENTS: dict[str, tuple[list[Attribute], str, str | None]] = {
    "sealed": (sealing("1"), "", None),
    "taken": (sealing("2"), "", "ConditionalCheckFailed"),
    "without-seal": (sealing("3"), "", "ConditionalCheckFailed"),
    "no-item": (sealing("4"), "", "ConditionalCheckFailed"),
    "no-table": (sealing("1"), "nowhere", "ResourceNotFound"),
    "empty-key": (sealing("1", pk=""), "", "ValidationError"),
    "too-few": (sealing("1")[:3], "", "ValidationError"),
    "too-many": ([*sealing("1"), s("more")], "", "ValidationError"),
}


class TestSeveralItems:
    def test_a_transaction_takes_100_members_and_two_tables(self, engine: Engine) -> None:
        elsewhere = engine.member("Put", TableName=engine.tables.subscriptions, Item=ONE)
        engine.transact(*(engine.member("Put", Item=item) for item in keys(99)), elsewhere)
        assert engine.query("pk = :a", a=s("a"), TableName=engine.tables.subscriptions)["Items"] == [ONE]
        assert len(engine.read(*keys(100))["Responses"][engine.usage]) == 99

    def test_a_transaction_is_cancelled_by_an_update_that_does_not_fit(self, engine: Engine) -> None:
        """DynamoDB API reference, TransactionCanceledException: an operand with an incorrect data type."""
        engine.put("a", "1", x=s("x"))
        adding = engine.member("Update", Key=ONE, UpdateExpression="ADD x :v", **colons({"v": n(1)}))
        with pytest.raises(engine.client.exceptions.TransactionCanceledException) as caught:
            engine.transact(engine.member("Put", Item=key("a", "2")), adding)
        reasons = cast("Any", caught.value.response)["CancellationReasons"]
        assert [reason["Code"] for reason in reasons] == ["None", "ValidationError"]
        assert engine.get("a", "2") is None

    @pytest.mark.parametrize("case", STATEMENTS)
    def test_a_statement_is_answered_by_itself(self, engine: Engine, case: str) -> None:
        row, table, code = STATEMENTS[case]
        engine.put("a", "1", seal=s("-"), due_shard=s("00"), due_at=n(1))
        engine.put("a", "2", seal=s("taken"))
        engine.put("a", "3")
        (answer,) = engine.execute(row, table=table)
        assert answer.get("Error", {}).get("Code") == code
        if code in {None, "ConditionalCheckFailed"}:
            assert answer["TableName"] == engine.usage
        seals = [item.get("seal", {}).get("S") for item in engine.query("pk = :a", a=s("a"))["Items"]]
        assert seals == ["-" if code else "new", "taken", None]
        due = engine.query("due_shard = :shard", shard=s("00"), IndexName="due")["Items"]
        assert [item["seal"]["S"] for item in due] == seals[:1]

    @pytest.mark.parametrize(("state", "code"), [("open", None), ("rejected", "ConditionalCheckFailed")])
    def test_a_statement_compares_an_attribute_with_a_reserved_word_for_a_name(
        self, engine: Engine, state: str, code: str | None
    ) -> None:
        """DynamoDB Developer Guide, "Reserved words in DynamoDB": STATE is one; PartiQL takes them in double quotes."""
        engine.put("a", "1", seal=s("-"), state=s(state))
        (answer,) = engine.execute_where(' AND "state"=?', [*sealing("1"), s("open")])
        assert answer.get("Error", {}).get("Code") == code
        found = engine.get("a", "1")
        assert found is not None
        assert found["seal"] == s("-" if code else "new")


class TestQueries:
    @pytest.fixture(autouse=True)
    def partition(self, engine: Engine) -> None:
        for sk in ("HOUR#2", "RECORD#a", "HOUR#10", "HOUR#1", "HOUR#1#TAGS#x"):
            engine.put("a", sk, **({} if "TAGS" in sk else {"seal": s("-")}))
        engine.put("b", "HOUR#1")

    @pytest.mark.parametrize(
        ("condition", "values", "found"),
        [
            ("begins_with(sk, :x)", {"x": s("HOUR#1#TAGS#")}, ["HOUR#1#TAGS#x"]),
            ("sk = :x", {"x": s("HOUR#1")}, ["HOUR#1"]),
            ("sk <= :x", {"x": s("HOUR#10")}, ["HOUR#1", "HOUR#1#TAGS#x", "HOUR#10"]),
            ("sk > :x", {"x": s("HOUR#10")}, ["HOUR#2", "RECORD#a"]),
            ("sk BETWEEN :x AND :y", {"x": s("HOUR#1#"), "y": s("HOUR#2")}, ["HOUR#1#TAGS#x", "HOUR#10", "HOUR#2"]),
        ],
    )
    def test_sort_keys_are_chosen(self, engine: Engine, condition: str, values: Item, found: list[str]) -> None:
        page = engine.query(f"pk = :a AND {condition}", a=s("a"), **values)
        assert (sks(page), page["Count"], page["ScannedCount"], "LastEvaluatedKey" in page) == (
            found,
            len(found),
            len(found),
            False,
        )
        backwards = engine.query(f"pk = :a AND {condition}", a=s("a"), ScanIndexForward=False, **values)
        assert sks(backwards) == found[::-1]

    @pytest.mark.parametrize("case", ["forwards", "backwards"])
    def test_a_page_ends_at_its_limit(self, engine: Engine, case: str) -> None:
        asked: dict[str, Any] = {"a": s("a"), "h": s("HOUR#"), "Limit": 2, "ScanIndexForward": case == "forwards"}
        found: list[list[str]] = []
        while True:
            page = engine.query("pk = :a AND begins_with(sk, :h)", **asked)
            found.append(sks(page))
            if "LastEvaluatedKey" not in page:
                break
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        assert (
            found
            == {
                "forwards": [["HOUR#1", "HOUR#1#TAGS#x"], ["HOUR#10", "HOUR#2"], []],
                "backwards": [["HOUR#2", "HOUR#10"], ["HOUR#1#TAGS#x", "HOUR#1"], []],
            }[case]
        )

    def test_a_page_starts_after_an_item_that_is_gone(self, engine: Engine) -> None:
        page = engine.query("pk = :a", a=s("a"), ExclusiveStartKey=key("a", "HOUR#15"))
        assert sks(page) == ["HOUR#2", "RECORD#a"]

    def test_a_limit_counts_what_is_looked_at(self, engine: Engine) -> None:
        page = engine.query("pk = :a", a=s("a"), Limit=3, FilterExpression="attribute_exists(seal)")
        assert (sks(page), page["Count"], page["ScannedCount"]) == (["HOUR#1", "HOUR#10"], 2, 3)
        assert page["LastEvaluatedKey"] == key("a", "HOUR#10")


class TestIndexes:
    def due(self, engine: Engine, **request: Any) -> Any:
        return engine.query("due_shard = :s AND due_at <= :now", s=s("00"), now=n(100), IndexName="due", **request)

    def test_an_index_holds_the_items_with_both_keys_in_number_order(self, engine: Engine) -> None:
        for pk, due_at in [("x", 100), ("y", 9), ("z", 20), ("later", 101)]:
            engine.put(pk, "1", due_shard=s("00"), due_at=n(due_at))
        engine.put("half", "1", due_shard=s("00"))
        engine.put("other", "1", due_shard=s("01"), due_at=n(1))
        assert [item["pk"]["S"] for item in self.due(engine)["Items"]] == ["y", "z", "x"]
        backwards = self.due(engine, ScanIndexForward=False)["Items"]
        assert [item["pk"]["S"] for item in backwards] == ["x", "z", "y"]

    def test_an_index_answers_what_is_projected(self, engine: Engine) -> None:
        kept: Item = {"due_shard": s("00"), "due_at": n(1), "seal": s("-"), "license_arn": s("arn")}
        engine.put("a", "1", **kept, digest=s("not projected"))
        assert self.due(engine)["Items"] == [{**ONE, **kept}]
        table = engine.tables.subscriptions
        item = {**key("SUB#1", "SUBSCRIPTION"), "status": s("active"), "account_id": s("1"), "title": s("x")}
        engine.send("put_item", TableName=table, Item=item)
        for index, partition in [("by_status", "status"), ("by_account", "account_id")]:
            asked: Any = {"TableName": table, "IndexName": index, "ExpressionAttributeNames": {"#p": partition}}
            page = engine.query("#p = :p AND pk > :after", p=item[partition], after=s("SUB#0"), Limit=5, **asked)
            assert page["Items"] == [{**key("SUB#1", "SUBSCRIPTION"), partition: item[partition]}]

    def test_index_pages_meet_every_item_once_though_sort_keys_are_equal(self, engine: Engine) -> None:
        for pk in "abcdefg":
            engine.put(pk, "1", due_shard=s("00"), due_at=n(5 if pk > "b" else 4))
        found: list[str] = []
        start: dict[str, Any] = {}
        while True:
            page = self.due(engine, Limit=2, **start)
            found += [item["pk"]["S"] for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            assert page["LastEvaluatedKey"].keys() == {"pk", "sk", "due_shard", "due_at"}
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        assert sorted(found) == list("abcdefg")
        assert set(found[:2]) == {"a", "b"}


UNKNOWN: list[Call] = [
    lambda memory: memory.holds("x[1] = :x", {"x": s("x")}),
    lambda memory: memory.holds("m.leaf = :x", {"x": s("x")}),
    lambda memory: memory.holds("NOT x = :x", {"x": s("x")}),
    lambda memory: memory.holds("size(x) = :x", {"x": n(1)}),
    lambda memory: memory.holds("begins_with(x, :x)", {"x": s("x")}),
    lambda memory: memory.holds("x = y"),
    lambda memory: memory.holds("x = :x AND", {"x": s("x")}),
    lambda memory: memory.holds("(x = :x", {"x": s("x")}),
    lambda memory: memory.holds("x", {"x": s("x")}),
    lambda memory: memory.update("SET x = y"),
    lambda memory: memory.update("SET x = if_not_exists(y, :x)", {"x": s("x")}),
    lambda memory: memory.update("SET x = x + :x", {"x": n(1)}),
    lambda memory: memory.update("DELETE x :x", {"x": {"SS": ["a"]}}),
    lambda memory: memory.update("SET sk = :x", {"x": s("x")}),
    lambda memory: memory.put("a", "1", x={"B": b"x"}),
    lambda memory: memory.put("a", "1", x=n("1.5")),
    lambda memory: memory.send("get_item", Key=ONE, ProjectionExpression="x"),
    lambda memory: memory.query("pk < :a", a=s("a")),
    lambda memory: memory.query("pk = :a AND sk <> :a", a=s("a")),
    lambda memory: memory.query("pk = :a OR sk = :a", a=s("a")),
    lambda memory: memory.query("pk = :a", a=s("a"), Select="COUNT"),
    lambda memory: memory.client.transact_write_items(TransactItems=[], ClientRequestToken="x"),
    lambda memory: memory.client.batch_write_item(RequestItems={memory.usage: [{"DeleteRequest": {"Key": ONE}}]}),
    lambda memory: memory.client.batch_execute_statement(Statements=[{"Statement": "SELECT * FROM x"}]),
    lambda memory: memory.send("update_item", Key=ONE, ReturnValues="ALL_NEW"),
]


class TestTheStandInAlone:
    def test_it_shares_nothing_with_its_callers(self, memory: Engine) -> None:
        given: Item = {"l": {"L": [{"M": {"x": s("x")}}]}, "t": s("t")}
        memory.put("a", "1", **given)
        given["l"]["L"][0]["M"]["x"]["S"] = "changed"
        given["t"]["S"] = "changed"
        found = memory.get("a", "1") or {}
        assert found["l"] == {"L": [{"M": {"x": s("x")}}]}
        found["l"]["L"].clear()
        found["t"]["S"] = "changed"
        assert (memory.get("a", "1") or {})["l"] == {"L": [{"M": {"x": s("x")}}]}
        value: Attribute = {"M": {"x": s("x")}}
        memory.update("SET m = :m", {"m": value})
        value["M"]["x"]["S"] = "changed"
        assert (memory.get("a", "1") or {})["m"] == {"M": {"x": s("x")}}

    def test_indexes_lag_until_they_catch_up(self) -> None:
        engine = MemoryDynamoDB()
        memory = Engine(engine.client, create_tables(engine.client))

        def due() -> list[tuple[str, str]]:
            page = memory.query("due_shard = :s", s=s("00"), IndexName="due")
            return [(item["pk"]["S"], item["seal"]["S"]) for item in page["Items"]]

        memory.put("a", "1", due_shard=s("00"), due_at=n(1), seal=s("-"))
        engine.index_lag = True
        memory.put("b", "1", due_shard=s("00"), due_at=n(2), seal=s("-"))
        memory.update("SET seal = :new", {"new": s("new")})
        assert due() == [("a", "-")]
        assert (memory.get("a", "1") or {})["seal"] == s("new")
        engine.catch_up()
        assert due() == [("a", "new"), ("b", "-")]
        memory.send("delete_item", Key=ONE)
        assert due() == [("a", "new"), ("b", "-")]
        engine.index_lag = False
        assert (due(), engine.index_lag) == ([("b", "-")], False)

    def test_pages_end_early_on_demand(self) -> None:
        engine = MemoryDynamoDB(page_limit=2)
        memory = Engine(engine.client, create_tables(engine.client))
        for sk in "abc":
            memory.put("a", sk)
        page = memory.query("pk = :a", a=s("a"))
        assert (sks(page), page["LastEvaluatedKey"]) == (["a", "b"], key("a", "b"))
        assert len(memory.query("pk = :a", a=s("a"), Limit=1)["Items"]) == 1

    def test_batches_leave_undone_what_they_are_told_to(self) -> None:
        engine = MemoryDynamoDB(unprocessed=lambda operation, count: {count - 1})
        memory = Engine(engine.client, create_tables(engine.client))
        items = [{**key("a", sk), "seal": s("-")} for sk in "12"]
        assert memory.write(*items)["UnprocessedItems"] == {memory.usage: [{"PutRequest": {"Item": items[1]}}]}
        read = memory.read(key("a", "1"), key("a", "2"))
        assert read["Responses"] == {memory.usage: items[:1]}
        assert read["UnprocessedKeys"] == {memory.usage: {"Keys": [key("a", "2")], "ConsistentRead": True}}
        assert memory.execute(sealing())[0]["Error"]["Code"] == "ThrottlingError"
        assert engine.items(memory.usage) == items[:1]

    @pytest.mark.parametrize("call", UNKNOWN)
    def test_what_it_does_not_know_it_refuses_aloud(self, memory: Engine, call: Call) -> None:
        with pytest.raises(NotImplementedError):  # rather than an answer that DynamoDB would not give
            call(memory)

    def test_its_errors_are_those_of_boto3(self, memory: Engine) -> None:
        error = aws_error("ThrottlingException", "PutItem", "slow down", status=400)
        assert isinstance(error, ClientError)
        assert str(error) == "An error occurred (ThrottlingException) when calling the PutItem operation: slow down"
        reasons = {"CancellationReasons": [{"Code": "TransactionConflict"}]}
        conflict = aws_error("TransactionCanceledException", "TransactWriteItems", members=reasons)
        assert isinstance(conflict, memory.client.exceptions.TransactionCanceledException)


class TestObservedClient:
    def test_hooks_see_every_call(self, memory: Engine) -> None:
        seen: list[str] = []
        client: Any = ObservedClient(
            memory.client,
            before=lambda name, arguments: seen.append(f"before {name} {sorted(arguments)[0]}"),
            after=lambda name, arguments: seen.append(f"after {name}"),
        )
        observed = Engine(client, memory.tables)
        observed.put("a", "1")
        with pytest.raises(client.exceptions.ConditionalCheckFailedException):
            observed.send("delete_item", Key=ONE, ConditionExpression="attribute_not_exists(pk)")
        assert seen == ["before put_item Item", "after put_item", "before delete_item ConditionExpression"]

    def test_a_hook_prevents_a_call_or_loses_its_answer(self, memory: Engine) -> None:
        def crash(name: str, arguments: dict[str, Any]) -> None:
            raise ConnectionError(name)

        for hook, made in [("before", False), ("after", True)]:
            hooks: Any = {hook: crash}
            with pytest.raises(ConnectionError):
                ObservedClient(memory.client, **hooks).put_item(TableName=memory.usage, Item=ONE)
            assert (memory.get("a", "1") is not None) == made


# Random requests: the stand-in answers as DynamoDB Local does

SCALARS: st.SearchStrategy[Attribute] = st.sampled_from(
    [s(""), s("a"), s("ab"), s("b"), n(0), n(1), n(2), n(10), n(-1), {"BOOL": True}, {"NULL": True}]
)
VALUES: st.SearchStrategy[Attribute] = SCALARS | st.sampled_from(
    [{"SS": ["a"]}, {"SS": ["b", "a"]}, {"L": []}, {"L": [s("a"), n(1)]}, {"M": {"p": n(1)}}]
)
NAMES = st.sampled_from(["x", "y", "z", "nil"])
ITEMS = st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES, "z": VALUES})


def drawn(draw: st.DrawFn, values: Item) -> str:
    """Puts a value into `values` and answers how an expression refers to it."""
    values[f"v{len(values)}"] = draw(VALUES)
    return f":v{len(values) - 1}"


@st.composite
def conditions(draw: st.DrawFn, values: Item, depth: int = 3) -> str:
    """The text of a condition; the values that it refers to are put into `values`."""

    value = partial(drawn, draw, values)

    def inner() -> str:
        return draw(conditions(values, depth - 1))

    forms: list[Callable[[], str]] = [
        lambda: f"attribute_exists({draw(NAMES)})",
        lambda: f"attribute_not_exists({draw(NAMES)})",
        lambda: f"contains({draw(NAMES)}, {value()})",
        lambda: f"{draw(NAMES)} IN ({value()}, {value()})",
        lambda: f"{draw(NAMES)} {draw(st.sampled_from(['=', '<>', '<=', '>']))} {value()}",
    ]
    if depth:
        forms += [
            lambda: f"({inner()} {draw(st.sampled_from(['AND', 'OR']))} {inner()})",
            lambda: f"{inner()} {draw(st.sampled_from(['AND', 'OR']))} {inner()}",
        ]
    return draw(st.sampled_from(forms))()


@st.composite
def updates(draw: st.DrawFn, values: Item) -> str:
    """The text of an update of some attributes, which may name one twice."""

    value = partial(drawn, draw, values)

    def assigned(name: str) -> str:
        return f"if_not_exists({name}, {value()})" if draw(st.booleans()) else value()

    forms: dict[str, Callable[[str], str]] = {
        "SET": lambda name: f"{name} = {assigned(name)}",
        "REMOVE": str,
        "ADD": lambda name: f"{name} {value()}",
    }
    chosen = draw(st.lists(st.tuples(st.sampled_from(list(forms)), NAMES), min_size=1, max_size=4))
    texts = {verb: [form(name) for clause, name in chosen if clause == verb] for verb, form in forms.items()}
    return " ".join(f"{verb} {', '.join(members)}" for verb, members in texts.items() if members)


def _key_of(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _place_of(member: dict[str, Any]) -> tuple[str, str]:
    """Which item a member of a transaction is about; a transaction has one member for an item."""
    ((_, request),) = member.items()
    return _key_of(request.get("Item") or request["Key"])


class Requests:
    """Requests as the product's stores make them, on a few items so that they meet; `prefix` keeps examples apart."""

    _TOLD: ClassVar = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}

    def __init__(self, prefix: str, table: str) -> None:
        self._pks = [f"{prefix}A", f"{prefix}B"]
        self._shards = [f"{prefix}00", f"{prefix}01"]
        self._table = {"TableName": table}
        self._keys = st.builds(key, st.sampled_from(self._pks), st.sampled_from(["HOUR#1", "HOUR#2", "RECORD#a"]))
        self._seals = st.sampled_from(["-", "t1", "t2"])
        self._small = st.integers(0, 3)
        self._due: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
            {}, optional={"due_shard": st.sampled_from(self._shards), "due_at": st.sampled_from([2, 10])}
        )

    def any(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        return st.one_of(
            self._items().map(lambda item: ("put_item", {**self._table, "Item": item})),
            self._new().map(lambda put: ("put_item", put)),
            self._keys.map(lambda key: ("get_item", {**self._table, "Key": key, "ConsistentRead": True})),
            self._conditional_updates().map(lambda update: ("update_item", update)),
            self._keys.map(lambda key: ("delete_item", {**self._table, "Key": key})),
            self._transactions(),
            st.lists(self._keys, min_size=1, max_size=4).map(self._batch_read),
            st.lists(self._items(), min_size=1, max_size=4).map(self._batch_write),
            st.lists(st.tuples(self._keys, self._seals, self._seals), min_size=1, max_size=3).map(self._seal),
            self._queries(),
        )

    def _items(self) -> st.SearchStrategy[Item]:
        rest: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
            {}, optional={"seal": self._seals, "quantity": self._small, "digest": st.just("d")}
        )
        return st.builds(lambda key, due, rest: {**key, **to_item({**due, **rest})}, self._keys, self._due, rest)

    def _new(self) -> st.SearchStrategy[dict[str, Any]]:
        condition = {"ConditionExpression": "attribute_not_exists(pk)", **self._TOLD}
        return self._items().map(lambda item: {**self._table, "Item": item, **condition})

    def _update(self, key: Item, update: Update) -> dict[str, Any]:
        return {**self._table, "Key": key, **update.arguments(), **self._TOLD}

    def _bookings(self) -> st.SearchStrategy[dict[str, Any]]:
        """Usage added to a metering record while that is unsealed and the sum fits."""

        def booking(key: Item, due: dict[str, Any], quantity: int, tag_keys: frozenset[str]) -> dict[str, Any]:
            add: dict[str, Any] = {"quantity": quantity} | ({"tag_keys": tag_keys} if tag_keys else {})
            condition = "(attribute_not_exists(pk) OR (seal = :seal AND quantity <= :room))"
            return self._update(key, Update(keep={"seal": "-", **due}, add=add, condition=condition, given={"room": 5}))

        tag_keys = st.frozensets(st.sampled_from("abc"), max_size=2)
        return st.builds(booking, self._keys, self._due, self._small, tag_keys)

    def _settlements(self) -> st.SearchStrategy[dict[str, Any]]:
        """A record that leaves the index if it still carries the seal that was seen."""

        def settlement(key: Item, seal: str) -> dict[str, Any]:
            removed = ("due_shard", "due_at")
            change = Update(set={"state": "held"}, remove=removed, condition="#seal = :seen", given={"seen": seal})
            return self._update(key, change)

        return st.builds(settlement, self._keys, self._seals)

    def _versions(self) -> st.SearchStrategy[dict[str, Any]]:
        """A subscription written on the condition that it is the version that was read."""

        def written(key: Item, read: int, due: int) -> dict[str, Any]:
            condition = "attribute_not_exists(version) OR version = :read"
            changes: Any = {"set": {"state": due}, "keep": {"due_at": due}, "add": {"version": 1}}
            return self._update(key, Update(**changes, condition=condition, given={"read": read}))

        return st.builds(written, self._keys, self._small, self._small)

    def _conditional_updates(self) -> st.SearchStrategy[dict[str, Any]]:
        return st.one_of(self._bookings(), self._settlements(), self._versions())

    def _transactions(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        member = st.one_of(
            self._new().map(lambda put: {"Put": put}),
            self._conditional_updates().map(lambda update: {"Update": update}),
            self._keys.map(lambda key: {"Delete": {**self._table, "Key": key}}),
        )
        members = st.lists(member, min_size=1, max_size=4, unique_by=_place_of)
        return members.map(lambda members: ("transact_write_items", {"TransactItems": members}))

    def _batch_read(self, keys: list[Item]) -> tuple[str, dict[str, Any]]:
        return "batch_get_item", {"RequestItems": {self._table["TableName"]: {"Keys": keys, "ConsistentRead": True}}}

    def _batch_write(self, items: list[Item]) -> tuple[str, dict[str, Any]]:
        puts = [{"PutRequest": {"Item": item}} for item in items]
        return "batch_write_item", {"RequestItems": {self._table["TableName"]: puts}}

    def _seal(self, seals: list[tuple[Item, str, str]]) -> tuple[str, dict[str, Any]]:
        text = f'UPDATE "{self._table["TableName"]}" SET seal=? WHERE pk=? AND sk=? AND seal=?'  # noqa: S608
        different = {_key_of(key): [s(new), key["pk"], key["sk"], s(seen)] for key, new, seen in seals}
        statements = [{"Statement": text, "Parameters": row} for row in different.values()]
        return "batch_execute_statement", {"Statements": statements}

    def _queries(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        paging = st.fixed_dictionaries(
            {},
            optional={"Limit": st.integers(1, 3), "ScanIndexForward": st.booleans(), "ConsistentRead": st.just(True)},
        )
        asked = {
            **self._table,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
            "FilterExpression": "attribute_exists(due_shard) AND #state IN (:open, :held)",
            "ExpressionAttributeNames": {"#state": "state"},
        }
        values = {"prefix": s("HOUR#"), "open": s("open"), "held": s("held")}
        return st.builds(
            lambda pk, paging, start: ("query", {**asked, **paging, **start, **colons({"pk": s(pk), **values})}),
            st.sampled_from(self._pks),
            paging,
            st.fixed_dictionaries({}, optional={"ExclusiveStartKey": self._keys}),
        )

    def contents(self) -> list[dict[str, Any]]:
        """Queries that answer everything that an example has stored, and both its shards of the index."""
        partitions: list[dict[str, Any]] = [
            {**self._table, "KeyConditionExpression": "pk = :pk", **colons({"pk": s(pk)})} for pk in self._pks
        ]
        due: dict[str, Any] = {**self._table, "IndexName": "due"} | {
            "KeyConditionExpression": "due_shard = :shard AND due_at <= :now"
        }
        shards = [{**due, **colons({"shard": s(shard), "now": n(now)})} for shard in self._shards for now in (5, 10)]
        return partitions + shards

    @staticmethod
    def comparable(request: dict[str, Any], answer: Any) -> Any:
        """An answer without the order that DynamoDB does not promise: of a batch, of an index's equal sort keys."""
        if not isinstance(answer, dict):
            return answer
        if "RequestItems" in request and "Responses" in answer:
            found = {name: sorted(items, key=_key_of) for name, items in answer["Responses"].items()}
            return {**answer, "Responses": found}
        if "IndexName" in request:
            due = [int(item["due_at"]["N"]) for item in answer["Items"]]
            assert due == sorted(due)
            return {**answer, "Items": sorted(answer["Items"], key=_key_of)}
        return answer


def outcome(call: Callable[[], Any]) -> Any:
    """What a call answers, without what no caller relies on: the metadata and the wording of messages."""
    try:
        return _without_noise(call())
    except ClientError as error:
        response = cast("Any", error.response)
        reasons = [
            {name: value for name, value in reason.items() if name != "Message"}
            for reason in response.get("CancellationReasons", ())
        ]
        return response["Error"]["Code"], response.get("Item"), reasons


def _without_noise(answer: Any) -> Any:
    if isinstance(answer, dict):
        noise = {"ResponseMetadata", "ConsumedCapacity", "Message"}
        return {name: _without_noise(value) for name, value in answer.items() if name not in noise}
    return [_without_noise(member) for member in answer] if isinstance(answer, list) else answer


@pytest.fixture
def pair(memory: Engine, local_dynamodb: "DynamoDBClient", local_tables: Tables) -> tuple[Engine, Engine]:
    """The stand-in and DynamoDB Local, with tables of the same names."""
    create_tables(memory.client, prefix=local_tables.usage.removesuffix("usage"))
    return Engine(memory.client, local_tables), Engine(local_dynamodb, local_tables)


serial = itertools.count()
alike = settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.dynamodb_local
class TestAsDynamoDBLocal:
    @alike
    @given(data=st.data(), item=ITEMS)
    def test_any_condition_decides_alike(self, pair: tuple[Engine, Engine], data: st.DataObject, item: Item) -> None:
        values: Item = {}
        text = data.draw(conditions(values))
        pk = str(next(serial))

        def judged(engine: Engine) -> Any:
            engine.put(pk, "1", **item)
            return outcome(lambda: engine.holds(text, values, pk=pk))

        memory, local = map(judged, pair)
        assert memory == local

    @alike
    @given(data=st.data(), item=ITEMS)
    def test_any_update_writes_alike(self, pair: tuple[Engine, Engine], data: st.DataObject, item: Item) -> None:
        values: Item = {}
        text = data.draw(updates(values))
        pk = str(next(serial))

        def updated(engine: Engine) -> Any:
            engine.put(pk, "1", **item)
            return outcome(lambda: engine.update(text, values, pk=pk))

        memory, local = map(updated, pair)
        assert memory == local

    @alike
    @given(data=st.data())
    def test_any_sequence_of_the_products_requests_is_answered_alike(
        self, pair: tuple[Engine, Engine], data: st.DataObject
    ) -> None:
        requests = Requests(f"{next(serial)}-", pair[0].usage)
        for _ in range(data.draw(st.integers(1, 15))):
            self.check(requests, pair, *data.draw(requests.any()))
        for query in requests.contents():
            self.check(requests, pair, "query", query)

    def check(self, requests: Requests, pair: tuple[Engine, Engine], method: str, request: dict[str, Any]) -> None:
        memory, local = (
            requests.comparable(request, outcome(partial(getattr(engine.client, method), **request))) for engine in pair
        )
        assert memory == local
