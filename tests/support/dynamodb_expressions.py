"""DynamoDB's expressions as far as the product writes them, parsed once and compiled into closures.

Known are conditions of AND, OR and parentheses over comparisons of an attribute with a value, key conditions, and
updates with SET, REMOVE and ADD of top-level attributes. Grammar and meaning: DynamoDB Developer Guide, "Condition and
filter expressions, operators, and functions" and "Using update expressions". Everything else raises
NotImplementedError with the expression, mistakes of syntax included.

The closures take items and values whose attributes are in the one form that `owned` gives them (numbers without leading
zeros, sets sorted), so equal attributes are equal dicts. They never change an attribute in place.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

type Attribute = dict[str, Any]
type Item = dict[str, Attribute]
type Names = Mapping[str, str]
type Test = Callable[[Item, Item], bool]
"""Takes the item (empty when there is none) and the expression's values."""
type KindCheck = tuple[str, frozenset[str], str]
"""A value, the types that its place allows, and the operator or function there."""

_DIGITS = 38
_WHOLE_NUMBER = re.compile(rf"-?[0-9]{{1,{_DIGITS}}}")


class InvalidExpressionError(Exception):
    """DynamoDB would refuse the expression whatever the item holds."""


class InvalidValueError(Exception):
    """DynamoDB would refuse the attribute value."""


class UpdateError(Exception):
    """DynamoDB would refuse the update for what the item holds."""


# Attributes


def canonical(text: str) -> str:
    """A number attribute's text in the one form that equal numbers share. Only whole numbers are known."""
    if not isinstance(text, str):
        raise TypeError(f"N: {text!r} is no attribute value")
    if text.isdecimal() and text.isascii() and text[0] != "0" and len(text) <= _DIGITS:
        return text
    if not _WHOLE_NUMBER.fullmatch(text):
        if re.fullmatch(r"[-+.0-9eE]+", text):
            raise NotImplementedError(f"the number {text}")
        raise InvalidValueError("A value provided cannot be converted into a number")
    return str(int(text))


def owned(attribute: Attribute) -> Attribute:
    """A copy of an attribute that shares nothing with it, in canonical form.

    Raises InvalidValueError for what DynamoDB refuses, TypeError for what boto3 refuses.
    """
    kind: str
    value: Any
    ((kind, value),) = attribute.items()
    match kind, value:
        case "N", _:
            return {"N": canonical(value)}
        case "L", list():
            return {"L": [owned(member) for member in value]}
        case "M", dict():
            return {"M": {name: owned(member) for name, member in value.items()}}
        case "SS", list():
            if not value:
                raise InvalidValueError("One or more parameter values were invalid: An set may not be empty")
            if len(set(value)) < len(value):
                raise InvalidValueError("Input collection contains duplicates")
            return {"SS": sorted(value)}
        case ("S", str()) | ("BOOL", bool()) | ("NULL", True):
            return {kind: value}
        case (("B" | "BS" | "NS"), _):
            raise NotImplementedError(f"attributes of the type {kind}")
    raise TypeError(f"{kind}: {value!r} is no attribute value")


# Parsing

_TOKEN = re.compile(
    r"\s*(?:(?P<name>#[A-Za-z0-9_]+)|(?P<value>:[A-Za-z0-9_]+)|(?P<word>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<mark><=|>=|<>|[=>(),]))"
)
_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "SET", "REMOVE", "ADD"})


@cache
def _reserved() -> frozenset[str]:
    """DynamoDB Developer Guide, "Reserved words in DynamoDB", as moto lists them."""
    return frozenset(ReservedKeywords.get_reserved_keywords())


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition or filter, and the attributes that it names."""

    holds: Test
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class KeyCondition:
    """`partition` = `value`, and for the sort key, if it is named, a function or operator with its values."""

    partition: str
    value: str
    sort: str = ""
    function: str = ""
    refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """A compiled update: `apply` takes the old item and the values and answers the new item. `targets` are the
    attributes that it writes."""

    apply: Callable[[Item, Item], Item]
    targets: frozenset[str]


class _Parser:
    def __init__(self, text: str, names: Names) -> None:
        self._text = text
        self._given = names
        self._tokens = list(self._scan())
        self._place = 0
        self.names: set[str] = set()
        self.values: set[str] = set()
        self.attributes: set[str] = set()
        self.kinds: list[KindCheck] = []

    def _scan(self) -> Iterator[tuple[str, str]]:
        place, text = 0, self._text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self.unknown()
            kind = str(match.lastgroup)
            yield ("mark" if match[kind] in _KEYWORDS else kind), match[kind]
            place = match.end()
        yield "end", ""

    def unknown(self) -> NotImplementedError:
        at = self._tokens[self._place][1] if hasattr(self, "_place") else "a character"
        return NotImplementedError(f"{at!r} in this place of the expression: {self._text}")

    def is_kind(self, kind: str) -> bool:
        return self._tokens[self._place][0] == kind

    def next(self, kind: str) -> str:
        found, token = self._tokens[self._place]
        if found != kind:
            raise self.unknown()
        self._place += 1
        return token

    def take(self, mark: str) -> bool:
        taken = self._tokens[self._place] == ("mark", mark)
        self._place += taken
        return taken

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.unknown()

    def function(self) -> str:
        """The name of the function that begins here, its parenthesis included; empty when none does."""
        if not self.is_kind("word") or self._tokens[self._place + 1] != ("mark", "("):
            return ""
        self._place += 2
        return self._tokens[self._place - 2][1]

    def attribute(self) -> str:
        if self.is_kind("name"):
            name = self.next("name")
            self.names.add(name)
            if name not in self._given:
                raise InvalidExpressionError(
                    f"An expression attribute name used in the document path is not defined; attribute name: {name}"
                )
            found = self._given[name]
        else:
            found = self.next("word")
            if found.upper() in _reserved():
                raise InvalidExpressionError(f"Attribute name is a reserved keyword; reserved keyword: {found}")
        self.attributes.add(found)
        return found

    def ref(self, function: str = "", *kinds: str) -> str:
        """A value, which must be of one of these types if any are named."""
        name = self.next("value")
        self.values.add(name)
        if kinds:
            self.kinds.append((name, frozenset(kinds), function))
        return name


# Conditions

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<=": operator.le, ">": operator.gt, ">=": operator.ge}


def plain(attribute: Attribute, kind: str) -> Any:
    """The value of an attribute of this type, as Python compares it."""
    return int(attribute[kind]) if kind == "N" else attribute[kind]


def _ordered(function: str, name: str, ref: str) -> Test:
    compare = _ORDERS[function]

    def holds(item: Item, values: Item) -> bool:
        ((kind, value),) = values[ref].items()
        found = item.get(name, {})
        return kind in found and compare(plain(found, kind), int(value) if kind == "N" else value)

    return holds


def _contains(name: str, ref: str) -> Test:
    def holds(item: Item, values: Item) -> bool:
        ((kind, whole),) = item.get(name, {"L": []}).items()
        if kind == "L":
            return values[ref] in whole
        return kind in {"S", "SS"} and "S" in values[ref] and values[ref]["S"] in whole

    return holds


class _ConditionParser(_Parser):
    def condition(self) -> Condition:
        test = self._any()
        self.next("end")
        return Condition(test, frozenset(self.attributes))

    def _any(self) -> Test:
        test = self._all()
        while self.take("OR"):
            test = self._or(test, self._all())
        return test

    @staticmethod
    def _or(first: Test, second: Test) -> Test:
        return lambda item, values: first(item, values) or second(item, values)

    def _all(self) -> Test:
        test = self._primary()
        while self.take("AND"):
            test = self._and(test, self._primary())
        return test

    @staticmethod
    def _and(first: Test, second: Test) -> Test:
        return lambda item, values: first(item, values) and second(item, values)

    def _primary(self) -> Test:
        if self.take("("):
            return self._group()
        if function := self.function():
            return self._function(function)
        name = self.attribute()
        if self.take("IN"):
            return self._membership(name)
        function = self.next("mark")
        if function in _ORDERS:
            return _ordered(function, name, self.ref(function, "S", "N"))
        ref = self.ref()
        if function == "=":
            return lambda item, values: item.get(name) == values[ref]
        if function == "<>":
            return lambda item, values: item.get(name) != values[ref]
        raise self.unknown()

    def _group(self) -> Test:
        """A condition whose parenthesis is open. DynamoDB refuses a second pair around it."""
        start = self._place
        doubled = self._tokens[start] == ("mark", "(")
        test = self._any()
        if doubled and self._closes(start) == self._place - 1:
            raise InvalidExpressionError("The expression has redundant parentheses;")
        self.expect(")")
        return test

    def _closes(self, opening: int) -> int:
        """Where the parenthesis that opens here is closed."""
        depth = 0
        for place in range(opening, len(self._tokens)):
            depth += {"(": 1, ")": -1}.get(self._tokens[place][1], 0)
            if not depth:
                return place
        return -1

    def _function(self, function: str) -> Test:
        if function not in {"attribute_exists", "attribute_not_exists", "contains"}:
            raise NotImplementedError(f"{function} in the condition: {self._text}")
        name = self.attribute()
        if function == "contains":
            self.expect(",")
            ref = self.ref()
            self.expect(")")
            return _contains(name, ref)
        self.expect(")")
        if function == "attribute_exists":
            return lambda item, values: name in item
        return lambda item, values: name not in item

    def _membership(self, name: str) -> Test:
        self.expect("(")
        refs = [self.ref()]
        while self.take(","):
            refs.append(self.ref())
        self.expect(")")
        return lambda item, values: name in item and any(item[name] == values[ref] for ref in refs)


class _KeyConditionParser(_Parser):
    def key_condition(self) -> KeyCondition:
        """The partition's part stands first; DynamoDB itself takes them in either order."""
        partition = self.attribute()
        self.expect("=")
        value = self.ref()
        if self.is_kind("end"):
            return KeyCondition(partition, value)
        self.expect("AND")
        if function := self.function():
            sort = self.attribute()
            self.expect(",")
            refs = [self.ref(function, "S")]
            self.expect(")")
        else:
            sort, function = self.attribute(), self.next("mark")
            refs = [self.ref()]
            if function == "BETWEEN":
                self.expect("AND")
                refs.append(self.ref())
        if function not in {"begins_with", "BETWEEN", "=", *_ORDERS}:
            raise self.unknown()
        self.next("end")
        return KeyCondition(partition, value, sort, function, tuple(refs))


# Updates


def _added(found: Attribute | None, value: Attribute) -> Attribute:
    if found is None:
        return value
    if "N" in value and "N" in found:
        return {"N": str(int(found["N"]) + int(value["N"]))}
    if "SS" in value and "SS" in found:
        return {"SS": sorted({*found["SS"], *value["SS"]})}
    raise UpdateError("An operand in the update expression has an incorrect data type")


class _UpdateParser(_Parser):
    def __init__(self, text: str, names: Names) -> None:
        super().__init__(text, names)
        self._targets: list[str] = []
        self._sets: list[tuple[str, str]] = []
        self._defaults: list[tuple[str, str]] = []
        self._removed: list[str] = []
        self._adds: list[tuple[str, str]] = []

    def update(self) -> Update:
        for verb, clause in (("SET", self._set), ("REMOVE", self._remove), ("ADD", self._add)):
            if self.take(verb):
                clause()
                while self.take(","):
                    clause()
        self.next("end")
        if len(set(self._targets)) < len(self._targets):
            raise InvalidExpressionError("Two document paths overlap with each other")
        return Update(self._application(), frozenset(self._targets))

    def _application(self) -> Callable[[Item, Item], Item]:
        sets, defaults, removed, adds = self._sets, self._defaults, self._removed, self._adds

        def apply(old: Item, values: Item) -> Item:
            new = dict(old)
            for name, ref in sets:
                new[name] = values[ref]
            for name, ref in defaults:
                if name not in old:
                    new[name] = values[ref]
            for name in removed:
                new.pop(name, None)
            for name, ref in adds:
                new[name] = _added(old.get(name), values[ref])
            return new

        return apply

    def _target(self) -> str:
        self._targets.append(self.attribute())
        return self._targets[-1]

    def _set(self) -> None:
        name = self._target()
        self.expect("=")
        function = self.function()
        if not function:
            self._sets.append((name, self.ref()))
            return
        if function != "if_not_exists" or self.attribute() != name:
            raise self.unknown()
        self.expect(",")
        self._defaults.append((name, self.ref()))
        self.expect(")")

    def _remove(self) -> None:
        self._removed.append(self._target())

    def _add(self) -> None:
        self._adds.append((self._target(), self.ref("ADD", "N", "SS")))


# Compiling, once per texts and names


@dataclass(frozen=True, slots=True)
class Compiled:
    """The expressions of one request; None for those that it does not have."""

    key: KeyCondition | None
    condition: Condition | None
    update: Update | None
    kinds: tuple[KindCheck, ...]
    names: frozenset[str]
    values: frozenset[str]

    def check(self, values: Item) -> None:
        """Raises InvalidExpressionError unless exactly the expressions' values are given, each of a type that its place
        allows."""
        if undefined := self.values - values.keys():
            raise InvalidExpressionError(f"An expression attribute value is not defined: {sorted(undefined)}")
        if unused := values.keys() - self.values:
            raise InvalidExpressionError(f"ExpressionAttributeValues unused in expressions: {sorted(unused)}")
        for ref, kinds, function in self.kinds:
            if values[ref].keys().isdisjoint(kinds):
                raise InvalidExpressionError(
                    f"Incorrect operand type for operator or function: {function}, operand: {values[ref]}"
                )


type _Texts = tuple[str | None, str | None, str | None]

_NO_NAMES: Names = {}
_known: dict[_Texts, tuple[Names | None, Compiled]] = {}


def compiled(key: str | None, condition: str | None, update: str | None, names: Names | None) -> Compiled:
    """The expressions of a request: a key condition, a condition or filter, an update.

    Raises InvalidExpressionError, and NotImplementedError for what isn't known here.
    """
    texts = (key, condition, update)
    known = _known.get(texts)
    if known is not None and known[0] == names:
        return known[1]
    given = _NO_NAMES if names is None else names
    parsers: list[_Parser] = []
    keys = conditions = updates = None
    if key is not None:
        parsers.append(key_parser := _KeyConditionParser(key, given))
        keys = key_parser.key_condition()
    if condition is not None:
        parsers.append(condition_parser := _ConditionParser(condition, given))
        conditions = condition_parser.condition()
    if update is not None:
        parsers.append(update_parser := _UpdateParser(update, given))
        updates = update_parser.update()
    together = Compiled(
        keys,
        conditions,
        updates,
        tuple(check for parser in parsers for check in parser.kinds),
        frozenset[str]().union(*(parser.names for parser in parsers)),
        frozenset[str]().union(*(parser.values for parser in parsers)),
    )
    if names is not None and (not names or names.keys() - together.names):
        raise InvalidExpressionError(f"ExpressionAttributeNames unused in expressions: {sorted(names)}")
    _known[texts] = (None if names is None else dict(names), together)
    return together
