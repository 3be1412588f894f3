"""What the product relies on in DynamoDB, asked of the in-memory stand-in, of moto and of AWS's own DynamoDB Local.

One specification holds for all three; then the stand-in must answer random requests as DynamoDB Local does. A case in
which an engine is known to differ is named with the reason, and must fail. Where DynamoDB Local differs from DynamoDB,
the stand-in follows DynamoDB's own documentation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

# isort: off
from moto import mock_aws  # before boto3 makes a client

# isort: on
import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_dynamodb import MemoryDynamoDB, aws_error
from tests.support.observed_client import ObservedClient
from tests.support.tables import Tables, create_tables, delete_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

type Attribute = dict[str, Any]
type Item = dict[str, Attribute]

MOTO_DIFFERS = {
    "test_a_condition_that_cannot_be_true_of_its_types_is_refused": "moto takes it for a condition that fails",
    "test_names_and_values_that_are_not_used_are_refused[value]": "moto does not look while the condition fails",
    "test_operators_bind_as_documented[types-have-no-order]": "moto raises TypeError",
    "test_names_and_values_that_are_not_defined_are_refused": "moto raises KeyError",
    "test_values_without_an_expression_are_refused": "moto ignores them",
    "test_numbers_are_kept_in_one_form": "moto keeps them as they were written",
    "test_sets_are_kept_without_order_or_repetition": "moto keeps the order and takes repetitions",
    "test_a_key_of_the_wrong_type_is_refused": "moto finds nothing under it",
    "test_an_index_key_of_the_wrong_type_is_refused": "moto takes it in a put",
    "test_a_transaction_with_a_bad_member_is_refused_whole": "moto cancels it, or takes it",
    "test_a_transaction_is_cancelled_by_an_update_that_does_not_fit": "moto refuses the request",
    "test_a_batch_write_has_limits": "moto has none",
    "test_a_batch_of_statements_answers_each": "moto carries out an UPDATE whose condition fails",
    "test_a_batch_of_statements_has_limits": "moto has none",
    "test_a_statement_says_what_is_wrong_with_it": "moto ignores it",
    "test_a_start_key_outside_the_question_is_refused": "moto answers an empty page",
    "test_a_key_condition_must_fit_the_key": "moto looks at no types and bounds",
    "test_a_filter_cannot_name_a_key": "moto takes it",
    "test_an_update_without_an_expression_makes_the_item": "moto raises AttributeError",
    "test_an_index_must_exist": "moto answers ResourceNotFoundException",
}
LOCAL_DIFFERS = {
    "test_an_index_key_of_the_wrong_type_is_refused": "DynamoDB Local lets UpdateItem write it",
    "test_a_transaction_is_cancelled_by_an_update_that_does_not_fit": "DynamoDB Local refuses the request",
    "test_a_statement_takes_its_parameters_and_no_more": "DynamoDB Local ignores the rest",
}


@dataclass(frozen=True, slots=True)
class Engine:
    """A DynamoDB with the product's two tables."""

    client: "DynamoDBClient"
    tables: Tables

    @property
    def usage(self) -> str:
        return self.tables.usage

    def put(self, pk: str, sk: str, **attributes: Attribute) -> None:
        self.client.put_item(TableName=self.usage, Item={**key(pk, sk), **attributes})

    def get(self, pk: str, sk: str) -> Item | None:
        found = self.client.get_item(TableName=self.usage, Key=key(pk, sk), ConsistentRead=True).get("Item")
        return cast("Item | None", found)

    def update(self, expression: str, values: Item | None = None, /, pk: str = "a", sk: str = "1") -> Item:
        """Updates an item and answers it without its key."""
        self.client.update_item(
            TableName=self.usage,
            Key=key(pk, sk),
            UpdateExpression=expression,
            **cast("Any", {"ExpressionAttributeValues": colons(values)} if values else {}),
        )
        return {name: value for name, value in (self.get(pk, sk) or {}).items() if name not in {"pk", "sk"}}

    def holds(self, condition: str, values: Item | None = None, /, pk: str = "a", sk: str = "1") -> bool:
        """Answers whether a condition lets a write of the item through; the item keeps what it held."""
        item = self.get(pk, sk)
        given: Any = {"ExpressionAttributeValues": colons(values)} if values else {}
        try:
            self.client.delete_item(TableName=self.usage, Key=key(pk, sk), ConditionExpression=condition, **given)
        except self.client.exceptions.ConditionalCheckFailedException:
            return False
        if item is not None:
            self.client.put_item(TableName=self.usage, Item=cast("Any", item))
        return True

    def query(self, condition: str, /, **request: Any) -> Any:
        values = {name: request.pop(name) for name in list(request) if name[0].islower()}
        return self.client.query(
            TableName=self.usage, KeyConditionExpression=condition, ExpressionAttributeValues=colons(values), **request
        )


def s(value: str) -> Attribute:
    return {"S": value}


def n(value: int | str) -> Attribute:
    return {"N": str(value)}


def key(pk: str, sk: str) -> Item:
    return {"pk": s(pk), "sk": s(sk)}


def colons(values: dict[str, Attribute]) -> Item:
    return {f":{name}": value for name, value in values.items()}


def sks(page: Any) -> list[str]:
    return [item["sk"]["S"] for item in page["Items"]]


def refused(code: str = "ValidationException") -> Any:
    """Expects a ClientError with this code."""
    return pytest.raises(ClientError, check=lambda error: error.response["Error"]["Code"] == code)


def boto3_client(endpoint: str | None = None) -> "DynamoDBClient":
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


ENGINES = ["memory", "moto", pytest.param("local", marks=pytest.mark.dynamodb_local)]


@pytest.fixture(scope="module", params=ENGINES)
def client(request: pytest.FixtureRequest) -> Iterator["DynamoDBClient"]:
    """One client of each kind for all tests: making one takes longer than most of them."""
    match request.param:
        case "memory":
            yield MemoryDynamoDB().client
        case "moto":
            with mock_aws():
                yield boto3_client()
        case _:
            local = boto3_client(request.getfixturevalue("dynamodb_local"))
            yield local
            local.close()


@pytest.fixture
def engine(request: pytest.FixtureRequest, client: "DynamoDBClient", serial: Iterator[int]) -> Iterator[Engine]:
    """Tables of the test's own; in a case in which this kind of engine is known to differ, the test must fail."""
    callspec = request.node.callspec
    kind = callspec.params["client"]
    case = "-".join(part for part in callspec.id.split("-") if part != kind)
    differs = {"moto": MOTO_DIFFERS, "local": LOCAL_DIFFERS}.get(kind, {})
    name = request.node.originalname
    if reason := differs.get(name) or differs.get(f"{name}[{case}]"):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    tables = create_tables(client, prefix=f"e{next(serial)}-")
    yield Engine(client, tables)
    if kind != "memory":
        delete_tables(client, tables)


@pytest.fixture
def memory() -> Engine:
    client = MemoryDynamoDB().client
    return Engine(client, create_tables(client))


class TestOneItem:
    def test_an_item_is_read_as_it_was_put(self, engine: Engine) -> None:
        attributes: Item = {
            "text": s(""),
            "number": n(7),
            "truth": {"BOOL": False},
            "nothing": {"NULL": True},
            "list": {"L": [s("a"), n(1), {"M": {"x": s("y")}}]},
            "map": {"M": {"x": {"L": []}}},
            "set": {"SS": ["a", "b"]},
        }
        engine.put("a", "1", **attributes)
        assert engine.get("a", "1") == {**key("a", "1"), **attributes}

    def test_a_missing_item_is_no_error(self, engine: Engine) -> None:
        assert "Item" not in engine.client.get_item(TableName=engine.usage, Key=key("a", "1"))
        engine.client.delete_item(TableName=engine.usage, Key=key("a", "1"))

    def test_a_put_replaces_the_whole_item(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        engine.put("a", "1", y=s("y"))
        assert engine.get("a", "1") == {**key("a", "1"), "y": s("y")}

    def test_a_deleted_item_is_gone(self, engine: Engine) -> None:
        engine.put("a", "1")
        engine.client.delete_item(TableName=engine.usage, Key=key("a", "1"))
        assert engine.get("a", "1") is None

    def test_a_failed_condition_says_so_and_writes_nothing(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        with pytest.raises(engine.client.exceptions.ConditionalCheckFailedException) as caught:
            engine.client.put_item(
                TableName=engine.usage, Item=key("a", "1"), ConditionExpression="attribute_not_exists(pk)"
            )
        assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert caught.value.operation_name == "PutItem"
        assert "Item" not in caught.value.response
        assert engine.get("a", "1") == {**key("a", "1"), "x": s("x")}

    def test_a_failed_condition_shows_the_item_when_asked(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        asked: Any = {
            "TableName": engine.usage,
            "ConditionExpression": "x = :other",
            "ExpressionAttributeValues": {":other": s("y")},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        with pytest.raises(engine.client.exceptions.ConditionalCheckFailedException) as caught:
            engine.client.update_item(**asked, Key=key("a", "1"), UpdateExpression="REMOVE x")
        assert cast("Any", caught.value.response)["Item"] == {**key("a", "1"), "x": s("x")}
        with pytest.raises(engine.client.exceptions.ConditionalCheckFailedException) as caught:
            engine.client.update_item(**asked, Key=key("a", "2"), UpdateExpression="REMOVE x")
        assert "Item" not in caught.value.response

    def test_an_update_can_answer_the_item_as_it_is_then(self, engine: Engine) -> None:
        engine.put("a", "1", x=n(1))
        answer = engine.client.update_item(
            TableName=engine.usage,
            Key=key("a", "1"),
            UpdateExpression="ADD x :one",
            ExpressionAttributeValues={":one": n(1)},
            ReturnValues="ALL_NEW",
        )
        assert answer["Attributes"]["x"] == n(2)

    def test_numbers_are_kept_in_one_form(self, engine: Engine) -> None:
        written = ["007", "-0", "-05", "10000000000000000000000000"]
        engine.put("a", "1", **{f"x{place}": n(text) for place, text in enumerate(written)})
        kept = ["7", "0", "-5", "10000000000000000000000000"]
        found = engine.get("a", "1") or {}
        assert [found[f"x{place}"] for place in range(len(kept))] == [n(text) for text in kept]

    def test_sets_are_kept_without_order_or_repetition(self, engine: Engine) -> None:
        engine.put("a", "1", x={"SS": ["b", "a"]})
        found = engine.get("a", "1") or {}
        assert sorted(found["x"]["SS"]) == ["a", "b"]
        with refused():
            engine.put("a", "1", x={"SS": ["a", "a"]})

    @pytest.mark.parametrize("value", [{"SS": []}, n("1x")], ids=["empty-set", "no-number"])
    def test_a_value_that_is_none_is_refused(self, engine: Engine, value: Attribute) -> None:
        with refused():
            engine.put("a", "1", x=value)

    def test_an_item_has_a_greatest_size(self, engine: Engine) -> None:
        with refused():
            engine.put("a", "1", x=s("x" * 409_600))

    def test_a_table_must_exist(self, engine: Engine) -> None:
        with refused("ResourceNotFoundException"):
            engine.client.get_item(TableName="nowhere", Key=key("a", "1"))
        with pytest.raises(engine.client.exceptions.ResourceNotFoundException):
            engine.client.put_item(TableName="nowhere", Item=key("a", "1"))

    def test_a_table_is_made_once(self, engine: Engine) -> None:
        with refused("ResourceInUseException"):
            create_tables(engine.client, prefix=engine.usage.removesuffix("usage"))


class TestKeys:
    @pytest.mark.parametrize(
        "given", [{"pk": s("a")}, {**key("a", "1"), "x": s("x")}, key("", "1")], ids=["few", "many", "empty"]
    )
    def test_a_key_has_exactly_its_attributes(self, engine: Engine, given: Item) -> None:
        with refused():
            engine.client.get_item(TableName=engine.usage, Key=given)

    @pytest.mark.parametrize(
        "item", [{"pk": s("a")}, key("a", ""), {"pk": s("a"), "sk": n(1)}], ids=["few", "empty", "type"]
    )
    def test_an_item_has_its_key(self, engine: Engine, item: Item) -> None:
        with refused():
            engine.client.put_item(TableName=engine.usage, Item=item)

    def test_a_key_of_the_wrong_type_is_refused(self, engine: Engine) -> None:
        with refused():
            engine.client.get_item(TableName=engine.usage, Key={"pk": s("a"), "sk": n(1)})

    def test_a_key_has_a_greatest_length(self, engine: Engine) -> None:
        engine.put("a" * 2048, "1" * 1024)
        with refused():
            engine.put("a" * 2049, "1")
        with refused():
            engine.put("a", "1" * 1025)

    def test_an_empty_index_key_is_refused(self, engine: Engine) -> None:
        with refused():
            engine.put("a", "1", due_shard=s(""), due_at=n(1))

    def test_an_index_key_of_the_wrong_type_is_refused(self, engine: Engine) -> None:
        with refused():
            engine.put("a", "1", due_shard=s("00"), due_at=s("1"))
        with refused():
            engine.update("SET due_at = :x", {"x": s("1")})


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


class TestConditions:
    @pytest.mark.parametrize(("condition", "values", "expected"), CONDITIONS.values(), ids=CONDITIONS)
    def test_operators_bind_as_documented(self, engine: Engine, condition: str, values: Item, expected: bool) -> None:
        engine.put(
            "a",
            "1",
            x=n(5),
            y=n(6),
            t=s("abc"),
            seal=s("-"),
            ss={"SS": ["a", "b"]},
            l={"L": [s("a"), n(1)]},
        )
        assert engine.holds(condition, values) is expected

    def test_nothing_exists_of_a_missing_item(self, engine: Engine) -> None:
        assert not engine.holds("attribute_exists(pk)")
        assert not engine.holds("seal = :seal", {"seal": s("-")})
        assert engine.holds("attribute_not_exists(pk)")

    def test_a_condition_that_cannot_be_true_of_its_types_is_refused(self, engine: Engine) -> None:
        with refused():
            engine.holds("x <= :v", {"v": {"BOOL": True}})

    def test_names_stand_for_attributes(self, engine: Engine) -> None:
        with pytest.raises(engine.client.exceptions.ConditionalCheckFailedException):
            engine.client.put_item(
                TableName=engine.usage,
                Item=key("a", "1"),
                ConditionExpression="#state = :open",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":open": s("open")},
            )

    @pytest.mark.parametrize("word", ["status", "Hour", "state"])
    def test_reserved_words_need_names(self, engine: Engine, word: str) -> None:
        with refused():
            engine.holds(f"attribute_not_exists({word})")

    @pytest.mark.parametrize(
        "extra",
        [
            {"ExpressionAttributeNames": {"#x": "x"}},
            {"ExpressionAttributeValues": {":x": s("x")}},
        ],
        ids=["name", "value"],
    )
    def test_names_and_values_that_are_not_used_are_refused(self, engine: Engine, extra: Any) -> None:
        engine.put("a", "1")
        with refused():
            engine.client.put_item(
                TableName=engine.usage, Item=key("a", "1"), ConditionExpression="attribute_not_exists(pk)", **extra
            )

    @pytest.mark.parametrize("condition", ["#x = :x", "x = :y"], ids=["name", "value"])
    def test_names_and_values_that_are_not_defined_are_refused(self, engine: Engine, condition: str) -> None:
        with refused():
            engine.holds(condition, {"x": s("x")})

    def test_values_without_an_expression_are_refused(self, engine: Engine) -> None:
        with refused():
            engine.client.put_item(TableName=engine.usage, Item=key("a", "1"), ExpressionAttributeValues={":x": s("x")})

    def test_redundant_parentheses_are_refused(self, engine: Engine) -> None:
        with refused():
            engine.holds("((x = :x))", {"x": s("x")})


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


class TestUpdates:
    @pytest.mark.parametrize(("expression", "values", "changed"), UPDATES.values(), ids=UPDATES)
    def test_clauses_change_what_they_name(self, engine: Engine, expression: str, values: Item, changed: Item) -> None:
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
        engine.client.update_item(TableName=engine.usage, Key=key("a", "1"))
        assert engine.get("a", "1") == key("a", "1")

    @pytest.mark.parametrize(
        "expression", ["SET x = :v, x = :v", "SET x = :v REMOVE x"], ids=["twice", "set-and-removed"]
    )
    def test_a_contradiction_is_refused(self, engine: Engine, expression: str) -> None:
        with refused():
            engine.update(expression, {"v": n(1)})

    @pytest.mark.parametrize(
        ("expression", "value"),
        [("ADD t :v", n(1)), ("ADD x :v", {"SS": ["a"]})],
        ids=["number", "set"],
    )
    def test_adding_to_another_type_is_refused(self, engine: Engine, expression: str, value: Attribute) -> None:
        engine.put("a", "1", x=n(1), t=s("t"))
        with refused():
            engine.update(expression, {"v": value})

    def test_a_value_of_the_wrong_type_is_refused(self, engine: Engine) -> None:
        engine.put("a", "1", x=n(1))
        with refused():
            engine.update("ADD x :v", {"v": s("a")})


class TestTransactions:
    def test_all_members_are_written(self, engine: Engine) -> None:
        engine.put("a", "old")
        engine.client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": engine.usage, "Item": {**key("a", "1"), "x": s("x")}}},
                {
                    "Update": {
                        "TableName": engine.usage,
                        "Key": key("a", "2"),
                        "UpdateExpression": "ADD x :one",
                        "ExpressionAttributeValues": {":one": n(1)},
                    }
                },
                {"Delete": {"TableName": engine.usage, "Key": key("a", "old")}},
                {"Put": {"TableName": engine.tables.subscriptions, "Item": key("a", "1")}},
            ]
        )
        assert sks(engine.query("pk = :a", a=s("a"))) == ["1", "2"]

    def test_nothing_is_written_when_a_condition_fails(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        with pytest.raises(engine.client.exceptions.TransactionCanceledException) as caught:
            engine.client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": engine.usage, "Item": key("a", "2")}},
                    {
                        "Put": {
                            "TableName": engine.usage,
                            "Item": key("a", "1"),
                            "ConditionExpression": "attribute_not_exists(pk)",
                            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                        }
                    },
                    {
                        "Update": {
                            "TableName": engine.usage,
                            "Key": key("a", "3"),
                            "UpdateExpression": "REMOVE x",
                            "ConditionExpression": "attribute_exists(pk)",
                            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                        }
                    },
                ]
            )
        response = cast("Any", caught.value.response)
        reasons = response["CancellationReasons"]
        assert response["Error"]["Code"] == "TransactionCanceledException"
        assert response["Error"]["Message"].endswith("[None, ConditionalCheckFailed, ConditionalCheckFailed]")
        assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed", "ConditionalCheckFailed"]
        assert [reason.get("Item") for reason in reasons] == [None, {**key("a", "1"), "x": s("x")}, None]
        assert sks(engine.query("pk = :a", a=s("a"))) == ["1"]

    def test_one_item_has_one_member(self, engine: Engine) -> None:
        with refused():
            engine.client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": engine.usage, "Item": key("a", "1")}},
                    {"Delete": {"TableName": engine.usage, "Key": key("a", "1")}},
                ]
            )

    def test_a_transaction_has_limits(self, engine: Engine) -> None:
        puts: Any = [{"Put": {"TableName": engine.usage, "Item": key("a", str(place))}} for place in range(101)]
        engine.client.transact_write_items(TransactItems=puts[:100])
        with refused():
            engine.client.transact_write_items(TransactItems=puts)
        with pytest.raises(ParamValidationError):
            engine.client.transact_write_items(TransactItems=[])
        with refused("ResourceNotFoundException"):
            engine.client.transact_write_items(TransactItems=[{"Put": {"TableName": "nowhere", "Item": key("a", "1")}}])

    @pytest.mark.parametrize("bad", ["no-sort-key", "unused-value", "two-actions"])
    def test_a_transaction_with_a_bad_member_is_refused_whole(self, engine: Engine, bad: str) -> None:
        put: Any = {"TableName": engine.usage, "Item": key("a", "2")}
        member: Any = {
            "no-sort-key": {"Put": {**put, "Item": {"pk": s("a")}}},
            "unused-value": {
                "Put": {
                    **put,
                    "ConditionExpression": "attribute_not_exists(pk)",
                    "ExpressionAttributeValues": {":v": n(1)},
                }
            },
            "two-actions": {"Put": put, "Delete": {"TableName": engine.usage, "Key": key("a", "3")}},
        }[bad]
        with refused():
            engine.client.transact_write_items(
                TransactItems=[{"Put": {"TableName": engine.usage, "Item": key("a", "1")}}, member]
            )
        assert engine.get("a", "1") is None

    def test_a_transaction_is_cancelled_by_an_update_that_does_not_fit(self, engine: Engine) -> None:
        """DynamoDB API reference, TransactionCanceledException: an operand with an incorrect data type."""
        engine.put("a", "1", x=s("x"))
        add: Any = {
            "TableName": engine.usage,
            "Key": key("a", "1"),
            "UpdateExpression": "ADD x :v",
            "ExpressionAttributeValues": {":v": n(1)},
        }
        with pytest.raises(engine.client.exceptions.TransactionCanceledException) as caught:
            engine.client.transact_write_items(
                TransactItems=[{"Put": {"TableName": engine.usage, "Item": key("a", "2")}}, {"Update": add}]
            )
        reasons = cast("Any", caught.value.response)["CancellationReasons"]
        assert [reason["Code"] for reason in reasons] == ["None", "ValidationError"]
        assert engine.get("a", "2") is None


class TestBatches:
    def test_a_batch_read_answers_the_items_that_exist(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        engine.put("b", "1")
        asked: Any = {engine.usage: {"Keys": [key("b", "1"), key("c", "1"), key("a", "1")], "ConsistentRead": True}}
        answer = engine.client.batch_get_item(RequestItems=asked)
        found = sorted(answer["Responses"][engine.usage], key=lambda item: item["pk"]["S"])
        assert found == [{**key("a", "1"), "x": s("x")}, key("b", "1")]
        assert answer["UnprocessedKeys"] == {}
        asked[engine.usage]["Keys"] = [key("c", "1")]
        assert engine.client.batch_get_item(RequestItems=asked)["Responses"] == {engine.usage: []}

    def test_a_batch_read_has_limits(self, engine: Engine) -> None:
        def read(*keys: Item, table: str = engine.usage) -> None:
            engine.client.batch_get_item(RequestItems={table: {"Keys": list(keys)}})

        read(*(key("a", str(place)) for place in range(100)))
        with refused():
            read(*(key("a", str(place)) for place in range(101)))
        with refused():
            read(key("a", "1"), key("a", "1"))
        with pytest.raises(ParamValidationError):
            read()
        with refused("ResourceNotFoundException"):
            read(key("a", "1"), table="nowhere")

    def test_a_batch_write_puts(self, engine: Engine) -> None:
        engine.put("a", "1", x=s("x"))
        items: list[Any] = [{**key("a", "1"), "y": s("y")}, key("a", "2")]
        answer = engine.client.batch_write_item(
            RequestItems={engine.usage: [{"PutRequest": {"Item": item}} for item in items]}
        )
        assert answer["UnprocessedItems"] == {}
        assert engine.query("pk = :a", a=s("a"))["Items"] == items

    def test_a_batch_write_has_limits(self, engine: Engine) -> None:
        def write(*items: Item, table: str = engine.usage) -> None:
            engine.client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": item}} for item in items]})

        with refused():
            write(*(key("a", str(place)) for place in range(26)))
        with refused():
            write(key("a", "1"), key("a", "1"))
        with pytest.raises(ParamValidationError):
            write()
        with refused("ResourceNotFoundException"):
            write(key("a", "1"), table="nowhere")

    def statement(self, engine: Engine, *parameters: Attribute, table: str = "") -> Any:
        text = f'UPDATE "{table or engine.usage}" SET seal=? WHERE pk=? AND sk=? AND seal=?'  # noqa: S608
        return {"Statement": text, "Parameters": list(parameters)}

    def test_a_batch_of_statements_answers_each(self, engine: Engine) -> None:
        engine.put("a", "1", seal=s("-"), due_shard=s("00"), due_at=n(1))
        engine.put("a", "2", seal=s("taken"))
        engine.put("a", "3")
        answer = engine.client.batch_execute_statement(
            Statements=[self.statement(engine, s("new"), s("a"), s(sk), s("-")) for sk in ("1", "2", "3", "nil")]
            + [self.statement(engine, s("new"), s("a"), s("1"), s("-"), table="nowhere")]
        )
        codes = [each.get("Error", {}).get("Code") for each in answer["Responses"]]
        assert codes == [None, *["ConditionalCheckFailed"] * 3, "ResourceNotFound"]
        assert [each.get("TableName") for each in answer["Responses"]] == [*[engine.usage] * 4, None]
        seals = [item.get("seal", {}).get("S") for item in engine.query("pk = :a", a=s("a"))["Items"]]
        assert seals == ["new", "taken", None]
        due = engine.query("due_shard = :shard", shard=s("00"), IndexName="due")["Items"]
        assert [item["seal"] for item in due] == [s("new")]

    def test_a_batch_of_statements_has_limits(self, engine: Engine) -> None:
        with refused():
            engine.client.batch_execute_statement(
                Statements=[self.statement(engine, s("x"), s("a"), s(str(place)), s("-")) for place in range(26)]
            )
        with refused():
            engine.client.batch_execute_statement(
                Statements=[self.statement(engine, s("x"), s("a"), s("1"), s("-"))] * 2
            )
        with pytest.raises(ParamValidationError):
            engine.client.batch_execute_statement(Statements=[])

    def test_a_statement_says_what_is_wrong_with_it(self, engine: Engine) -> None:
        answer = engine.client.batch_execute_statement(
            Statements=[
                self.statement(engine, s("x"), s(""), s("1"), s("-")),
                self.statement(engine, s("x"), s("a"), s("1")),
            ]
        )
        assert [each["Error"]["Code"] for each in answer["Responses"]] == ["ValidationError", "ValidationError"]

    def test_a_statement_takes_its_parameters_and_no_more(self, engine: Engine) -> None:
        engine.put("a", "1", seal=s("-"))
        statement = self.statement(engine, s("x"), s("a"), s("1"), s("-"), s("more"))
        answer = engine.client.batch_execute_statement(Statements=[statement])
        assert answer["Responses"][0]["Error"]["Code"] == "ValidationError"


class TestQueries:
    @pytest.fixture(autouse=True)
    def partition(self, engine: Engine) -> None:
        for sk in ("HOUR#2", "RECORD#a", "HOUR#10", "HOUR#1", "HOUR#1#TAGS#x"):
            engine.put("a", sk, **({} if "TAGS" in sk else {"seal": s("-")}))
        engine.put("b", "HOUR#1")

    def test_a_partition_is_answered_in_the_order_of_its_sort_keys(self, engine: Engine) -> None:
        page = engine.query("pk = :a", a=s("a"), ConsistentRead=True)
        assert sks(page) == ["HOUR#1", "HOUR#1#TAGS#x", "HOUR#10", "HOUR#2", "RECORD#a"]
        assert (page["Count"], page["ScannedCount"], "LastEvaluatedKey" in page) == (5, 5, False)
        assert sks(engine.query("pk = :a", a=s("a"), ScanIndexForward=False)) == sks(page)[::-1]
        assert engine.query("pk = :a", a=s("nothing"))["Items"] == []

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
        assert sks(engine.query(f"pk = :a AND {condition}", a=s("a"), **values)) == found
        backwards = engine.query(f"pk = :a AND {condition}", a=s("a"), ScanIndexForward=False, **values)
        assert sks(backwards) == found[::-1]

    def test_a_page_ends_at_its_limit(self, engine: Engine) -> None:
        found: list[list[str]] = []
        start: dict[str, Any] = {}
        while True:
            page = engine.query("pk = :a AND begins_with(sk, :h)", a=s("a"), h=s("HOUR#"), Limit=2, **start)
            found.append(sks(page))
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        assert found == [["HOUR#1", "HOUR#1#TAGS#x"], ["HOUR#10", "HOUR#2"], []]

    def test_pages_go_backwards_too(self, engine: Engine) -> None:
        asked: dict[str, Any] = {"a": s("a"), "ScanIndexForward": False, "Limit": 2}
        first = engine.query("pk = :a", **asked)
        second = engine.query("pk = :a", **asked, ExclusiveStartKey=first["LastEvaluatedKey"])
        assert [*sks(first), *sks(second)] == ["RECORD#a", "HOUR#2", "HOUR#10", "HOUR#1#TAGS#x"]

    def test_a_page_starts_after_an_item_that_is_gone(self, engine: Engine) -> None:
        page = engine.query("pk = :a", a=s("a"), ExclusiveStartKey=key("a", "HOUR#15"))
        assert sks(page) == ["HOUR#2", "RECORD#a"]

    def test_a_limit_counts_what_is_looked_at(self, engine: Engine) -> None:
        page = engine.query("pk = :a", a=s("a"), Limit=3, FilterExpression="attribute_exists(seal)")
        assert (sks(page), page["Count"], page["ScannedCount"]) == (["HOUR#1", "HOUR#10"], 2, 3)
        assert page["LastEvaluatedKey"] == key("a", "HOUR#10")

    def test_a_paginator_goes_through_all_pages(self, engine: Engine) -> None:
        question: Any = {
            "TableName": engine.usage,
            "KeyConditionExpression": "pk = :a",
            "ExpressionAttributeValues": {":a": s("a")},
            "Limit": 2,
        }
        pages = engine.client.get_paginator("query").paginate(**question)
        assert [len(page["Items"]) for page in pages] == [2, 2, 1]

    def test_a_filter_uses_names(self, engine: Engine) -> None:
        engine.put("a", "HOUR#1", due_shard=s("00"), due_at=n(1), state=s("held"))
        engine.put("a", "HOUR#2", due_shard=s("00"), due_at=n(1), state=s("rejected"))
        page = engine.query(
            "pk = :pk AND sk BETWEEN :first AND :last",
            pk=s("a"),
            first=s("HOUR#0"),
            last=s("HOUR#9"),
            open=s("open"),
            held=s("held"),
            FilterExpression="attribute_exists(due_shard) AND #state IN (:open, :held)",
            ExpressionAttributeNames={"#state": "state"},
        )
        assert sks(page) == ["HOUR#1"]

    @pytest.mark.parametrize(
        ("condition", "values"),
        [
            ("sk = :a", {"a": s("a")}),
            ("pk = :a AND seal = :b", {"a": s("a"), "b": s("-")}),
            ("pk = :a", {"a": s("")}),
        ],
        ids=["no-partition", "no-key", "empty"],
    )
    def test_a_key_condition_must_name_the_key(self, engine: Engine, condition: str, values: Item) -> None:
        with refused():
            engine.query(condition, **values)

    @pytest.mark.parametrize(
        ("condition", "values"),
        [
            ("pk = :a", {"a": n(1)}),
            ("pk = :a AND sk BETWEEN :b AND :c", {"a": s("a"), "b": s("2"), "c": s("1")}),
            ("pk = :a", {"a": s("a"), "b": s("b")}),
        ],
        ids=["type", "bounds", "unused"],
    )
    def test_a_key_condition_must_fit_the_key(self, engine: Engine, condition: str, values: Item) -> None:
        with refused():
            engine.query(condition, **values)

    def test_a_filter_cannot_name_a_key(self, engine: Engine) -> None:
        with refused():
            engine.query("pk = :a", a=s("a"), FilterExpression="sk = :a")

    @pytest.mark.parametrize(
        "start", [{"pk": s("a")}, key("a", "RECORD#a"), key("b", "HOUR#1")], ids=["no-key", "sort", "partition"]
    )
    def test_a_start_key_outside_the_question_is_refused(self, engine: Engine, start: Item) -> None:
        with refused():
            engine.query("pk = :a AND begins_with(sk, :h)", a=s("a"), h=s("HOUR#"), ExclusiveStartKey=start)

    def test_a_page_holds_something(self, engine: Engine) -> None:
        with pytest.raises(ParamValidationError):
            engine.query("pk = :a", a=s("a"), Limit=0)
        with refused("ResourceNotFoundException"):
            engine.client.query(
                TableName="nowhere", KeyConditionExpression="pk = :a", ExpressionAttributeValues={":a": s("a")}
            )


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

    def test_an_index_follows_its_items(self, engine: Engine) -> None:
        engine.put("a", "1", due_shard=s("00"), due_at=n(1), seal=s("-"))
        engine.update("SET due_at = :at, seal = :seal", {"at": n(50), "seal": s("new")})
        (entry,) = self.due(engine)["Items"]
        assert (entry["due_at"], entry["seal"]) == (n(50), s("new"))
        engine.update("REMOVE due_shard, due_at")
        assert self.due(engine)["Items"] == []
        engine.put("a", "1", due_shard=s("00"), due_at=n(1))
        engine.client.delete_item(TableName=engine.usage, Key=key("a", "1"))
        assert self.due(engine)["Items"] == []

    def test_an_index_answers_what_is_projected(self, engine: Engine) -> None:
        kept: Item = {"due_shard": s("00"), "due_at": n(1), "seal": s("-"), "license_arn": s("arn")}
        engine.put("a", "1", **kept, digest=s("not projected"))
        assert self.due(engine)["Items"] == [{**key("a", "1"), **kept}]
        item: Any = {**key("SUB#1", "SUBSCRIPTION"), "status": s("active"), "account_id": s("1"), "title": s("x")}
        engine.client.put_item(TableName=engine.tables.subscriptions, Item=item)
        for index, partition in [("by_status", "status"), ("by_account", "account_id")]:
            page = engine.client.query(
                TableName=engine.tables.subscriptions,
                IndexName=index,
                KeyConditionExpression="#p = :p AND pk > :after",
                ExpressionAttributeNames={"#p": partition},
                ExpressionAttributeValues={":p": item[partition], ":after": s("SUB#0")},
                Limit=5,
            )
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

    def test_an_index_cannot_be_read_consistently(self, engine: Engine) -> None:
        with refused():
            self.due(engine, ConsistentRead=True)

    def test_an_index_must_exist(self, engine: Engine) -> None:
        with refused():
            engine.query("due_shard = :s", s=s("00"), IndexName="nowhere")


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
        memory.client.delete_item(TableName=memory.usage, Key=key("a", "1"))
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
        written = engine.batch_write_item(
            RequestItems={memory.usage: [{"PutRequest": {"Item": item}} for item in items]}
        )
        assert written["UnprocessedItems"] == {memory.usage: [{"PutRequest": {"Item": items[1]}}]}
        read = engine.batch_get_item(
            RequestItems={memory.usage: {"Keys": [key("a", "1"), key("a", "2")], "ConsistentRead": True}}
        )
        assert read["Responses"] == {memory.usage: items[:1]}
        assert read["UnprocessedKeys"] == {memory.usage: {"Keys": [key("a", "2")], "ConsistentRead": True}}
        statement = TestBatches().statement(memory, s("new"), s("a"), s("1"), s("-"))
        answer = engine.batch_execute_statement(Statements=[statement])
        assert answer["Responses"][0]["Error"]["Code"] == "ThrottlingError"
        assert engine.items(memory.usage) == items[:1]

    @pytest.mark.parametrize(
        "call",
        [
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
            lambda memory: memory.client.get_item(TableName=memory.usage, Key=key("a", "1"), ProjectionExpression="x"),
            lambda memory: memory.query("pk < :a", a=s("a")),
            lambda memory: memory.query("pk = :a AND sk <> :a", a=s("a")),
            lambda memory: memory.query("pk = :a OR sk = :a", a=s("a")),
            lambda memory: memory.query("pk = :a", a=s("a"), Select="COUNT"),
            lambda memory: memory.client.transact_write_items(TransactItems=[], ClientRequestToken="x"),
            lambda memory: memory.client.transact_write_items(TransactItems=cast("Any", [{"Get": {}}])),
            lambda memory: memory.client.batch_write_item(
                RequestItems={memory.usage: [{"DeleteRequest": {"Key": key("a", "1")}}]}
            ),
            lambda memory: memory.client.batch_execute_statement(Statements=[{"Statement": "SELECT * FROM x"}]),
            lambda memory: memory.client.get_paginator("scan"),
            lambda memory: memory.client.update_item(
                TableName=memory.usage, Key=key("a", "1"), ReturnValues="UPDATED_NEW"
            ),
        ],
    )
    def test_what_it_does_not_know_it_refuses_aloud(self, memory: Engine, call: Callable[[Engine], Any]) -> None:
        with pytest.raises(NotImplementedError):
            call(memory)

    def test_its_errors_are_those_of_boto3(self, memory: Engine) -> None:
        error = aws_error("ThrottlingException", "PutItem", "slow down", status=400)
        assert isinstance(error, ClientError)
        assert str(error) == "An error occurred (ThrottlingException) when calling the PutItem operation: slow down"
        conflict = aws_error(
            "TransactionCanceledException",
            "TransactWriteItems",
            members={"CancellationReasons": [{"Code": "TransactionConflict"}]},
        )
        assert isinstance(conflict, memory.client.exceptions.TransactionCanceledException)


class TestObservedClient:
    def test_hooks_see_every_call_and_every_page(self, engine: Engine) -> None:
        seen: list[str] = []
        observed = Engine(
            cast(
                "DynamoDBClient",
                ObservedClient(
                    engine.client,
                    before=lambda name, arguments: seen.append(f"before {name} {sorted(arguments)[0]}"),
                    after=lambda name, arguments: seen.append(f"after {name}"),
                ),
            ),
            engine.tables,
        )
        observed.put("a", "1")
        pages = observed.client.get_paginator("query").paginate(
            TableName=engine.usage, KeyConditionExpression="pk = :a", ExpressionAttributeValues={":a": s("a")}
        )
        assert [sks(page) for page in pages] == [["1"]]
        with pytest.raises(observed.client.exceptions.ConditionalCheckFailedException):
            observed.client.delete_item(
                TableName=engine.usage, Key=key("a", "1"), ConditionExpression="attribute_not_exists(pk)"
            )
        assert seen == [
            "before put_item Item",
            "after put_item",
            "before query ExpressionAttributeValues",
            "after query",
            "before delete_item ConditionExpression",
        ]

    def test_a_hook_prevents_a_call_or_loses_its_answer(self, memory: Engine) -> None:
        def crash(name: str, arguments: dict[str, Any]) -> None:
            raise ConnectionError(name)

        with pytest.raises(ConnectionError):
            ObservedClient(memory.client, before=crash).put_item(TableName=memory.usage, Item=key("a", "1"))
        assert memory.get("a", "1") is None
        with pytest.raises(ConnectionError):
            ObservedClient(memory.client, after=crash).put_item(TableName=memory.usage, Item=key("a", "1"))
        assert memory.get("a", "1") is not None


# Random requests: the stand-in answers as DynamoDB Local does

SCALARS: st.SearchStrategy[Attribute] = st.sampled_from(
    [s(""), s("a"), s("ab"), s("b"), n(0), n(1), n(2), n(10), n(-1), {"BOOL": True}, {"NULL": True}]
)
VALUES: st.SearchStrategy[Attribute] = SCALARS | st.sampled_from(
    [{"SS": ["a"]}, {"SS": ["b", "a"]}, {"L": []}, {"L": [s("a"), n(1)]}, {"M": {"p": n(1)}}]
)
NAMES = st.sampled_from(["x", "y", "z", "nil"])
ITEMS = st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES, "z": VALUES})


@st.composite
def conditions(draw: st.DrawFn, values: Item, depth: int = 3) -> str:
    """The text of a condition; the values that it refers to are put into `values`."""

    def value() -> str:
        values[f"v{len(values)}"] = draw(VALUES)
        return f":v{len(values) - 1}"

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

    def value() -> str:
        values[f"v{len(values)}"] = draw(VALUES)
        return f":v{len(values) - 1}"

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

    def __init__(self, prefix: str, table: str) -> None:
        self._pks = [f"{prefix}A", f"{prefix}B"]
        self._shards = [f"{prefix}00", f"{prefix}01"]
        self._table = {"TableName": table}
        self._keys = st.builds(key, st.sampled_from(self._pks), st.sampled_from(["HOUR#1", "HOUR#2", "RECORD#a"]))
        self._seals = st.sampled_from([s("-"), s("t1"), s("t2")])
        self._small = st.integers(0, 3).map(n)
        self._due: st.SearchStrategy[Item] = st.fixed_dictionaries(
            {}, optional={"due_shard": st.sampled_from(self._shards).map(s), "due_at": st.sampled_from([n(2), n(10)])}
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
        rest = st.fixed_dictionaries(
            {}, optional={"seal": self._seals, "quantity": self._small, "digest": st.just(s("d"))}
        )
        return st.builds(lambda key, due, rest: {**key, **due, **rest}, self._keys, self._due, rest)

    def _new(self) -> st.SearchStrategy[dict[str, Any]]:
        return self._items().map(
            lambda item: {
                **self._table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(pk)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        )

    def _bookings(self) -> st.SearchStrategy[dict[str, Any]]:
        """Usage added to a metering record while that is unsealed and the sum fits."""

        def booking(key: Item, due: Item, quantity: Attribute, keys: list[str]) -> dict[str, Any]:
            constant = {"seal": s("-"), **due}
            names = {f"#{name}": name for name in [*constant, "quantity", "tag_keys"]}
            values = {**{f":{name}": value for name, value in constant.items()}, ":add": quantity}
            adds = "#quantity :add"
            if keys:
                adds += ", #tag_keys :keys"
                values[":keys"] = {"SS": keys}
            else:
                del names["#tag_keys"]
            sets = ", ".join(f"#{name} = if_not_exists(#{name}, :{name})" for name in constant)
            return {
                **self._table,
                "Key": key,
                "UpdateExpression": f"SET {sets} ADD {adds}",
                "ConditionExpression": "(attribute_not_exists(pk) OR (seal = :seal AND quantity <= :room))",
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {**values, ":room": n(5)},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }

        tag_keys = st.lists(st.sampled_from("abc"), max_size=2, unique=True)
        return st.builds(booking, self._keys, self._due, self._small, tag_keys)

    def _settlements(self) -> st.SearchStrategy[dict[str, Any]]:
        """A record that leaves the index if it still carries the seal that was seen."""
        return st.builds(
            lambda key, seal: {
                **self._table,
                "Key": key,
                "UpdateExpression": "SET #state = :state REMOVE due_shard, due_at",
                "ConditionExpression": "#seal = :seen",
                "ExpressionAttributeNames": {"#seal": "seal", "#state": "state"},
                "ExpressionAttributeValues": {":seen": seal, ":state": s("held")},
            },
            self._keys,
            self._seals,
        )

    def _versions(self) -> st.SearchStrategy[dict[str, Any]]:
        """A subscription written on the condition that it is the version that was read."""
        return st.builds(
            lambda key, read, due: {
                **self._table,
                "Key": key,
                "UpdateExpression": "SET #a = :a, due_at = if_not_exists(due_at, :a) ADD version :one",
                "ConditionExpression": "attribute_not_exists(version) OR version = :read",
                "ExpressionAttributeNames": {"#a": "state"},
                "ExpressionAttributeValues": {":a": due, ":one": n(1), ":read": read},
            },
            self._keys,
            self._small,
            self._small,
        )

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

    def _seal(self, seals: list[tuple[Item, Attribute, Attribute]]) -> tuple[str, dict[str, Any]]:
        text = f'UPDATE "{self._table["TableName"]}" SET seal=? WHERE pk=? AND sk=? AND seal=?'  # noqa: S608
        different = {(key["pk"]["S"], key["sk"]["S"]): (key, new, seen) for key, new, seen in seals}
        statements = [
            {"Statement": text, "Parameters": [new, key["pk"], key["sk"], seen]}
            for key, new, seen in different.values()
        ]
        return "batch_execute_statement", {"Statements": statements}

    def _queries(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        paging = st.fixed_dictionaries(
            {},
            optional={"Limit": st.integers(1, 3), "ScanIndexForward": st.booleans(), "ConsistentRead": st.just(True)},
        )
        return st.builds(
            lambda pk, paging, start: (
                "query",
                {
                    **self._table,
                    **paging,
                    **start,
                    "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
                    "FilterExpression": "attribute_exists(due_shard) AND #state IN (:open, :held)",
                    "ExpressionAttributeNames": {"#state": "state"},
                    "ExpressionAttributeValues": {
                        ":pk": s(pk),
                        ":prefix": s("HOUR#"),
                        ":open": s("open"),
                        ":held": s("held"),
                    },
                },
            ),
            st.sampled_from(self._pks),
            paging,
            st.fixed_dictionaries({}, optional={"ExclusiveStartKey": self._keys}),
        )

    def contents(self) -> list[dict[str, Any]]:
        """Queries that answer everything that an example has stored, and both its shards of the index."""
        return [
            {**self._table, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": s(pk)}}
            for pk in self._pks
        ] + [
            {
                **self._table,
                "IndexName": "due",
                "KeyConditionExpression": "due_shard = :shard AND due_at <= :now",
                "ExpressionAttributeValues": {":shard": s(shard), ":now": n(now)},
            }
            for shard in self._shards
            for now in (5, 10)
        ]

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


@pytest.fixture(scope="module")
def serial() -> Iterator[int]:
    return iter(range(10**9))


@pytest.fixture(scope="module")
def pair(dynamodb_local: str) -> Iterator[tuple[Engine, Engine]]:
    memory, local = MemoryDynamoDB().client, boto3_client(dynamodb_local)
    tables = create_tables(local, prefix="alike-")
    create_tables(memory, prefix="alike-")
    yield Engine(memory, tables), Engine(local, tables)
    local.close()


alike = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.dynamodb_local
class TestAsDynamoDBLocal:
    @alike
    @given(data=st.data(), item=ITEMS)
    def test_any_condition_decides_alike(
        self, pair: tuple[Engine, Engine], serial: Iterator[int], data: st.DataObject, item: Item
    ) -> None:
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
    def test_any_update_writes_alike(
        self, pair: tuple[Engine, Engine], serial: Iterator[int], data: st.DataObject, item: Item
    ) -> None:
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
        self, pair: tuple[Engine, Engine], serial: Iterator[int], data: st.DataObject
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
