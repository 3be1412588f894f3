"""DynamoDB's condition and update expressions, parsed once and compiled into closures.

Grammar and meaning: DynamoDB Developer Guide, "Condition and filter expressions, operators, and functions" and "Using
update expressions". What the language knows and this module does not (list elements, a parenthesised operand) raises
NotImplementedError with the expression; what DynamoDB would refuse raises InvalidExpressionError or UpdateError.

The closures take items and values whose attributes are in the one form that `owned` gives them (numbers canonical, sets
sorted), so equal attributes are equal dicts. They never change an attribute in place.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache, lru_cache
from typing import Any

from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

type Attribute = dict[str, Any]
type Item = dict[str, Attribute]
type Names = Mapping[str, str]
type Path = tuple[str, ...]
type Test = Callable[[Item, Item], bool]
"""Takes the item (empty when there is none) and the expression's values."""
type Operand = Callable[[Item, Item], Attribute | None]
type Check = Callable[[Item], None]
"""Takes the expression's values; raises InvalidExpressionError when one is not allowed in its place."""
type KindCheck = tuple[str, frozenset[str], str]
"""A value, the types that its place allows, and the operator or function there."""

_SETS = ("SS", "NS", "BS")
_ORDERED = ("S", "N", "B")
_TYPES = frozenset({"S", "N", "B", "SS", "NS", "BS", "BOOL", "NULL", "L", "M"})
_PYTHON_TYPES: dict[str, type[Any]] = {"BOOL": bool, "NULL": bool, "B": bytes, "M": dict}
_PYTHON_TYPES |= dict.fromkeys(("L", *_SETS), list)
_MAX_IN = 100
_EXACT = Context(prec=80)
_DIGITS = 38
_SHORT = 30
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class InvalidExpressionError(Exception):
    """DynamoDB would refuse the expression whatever the item holds."""


class InvalidValueError(Exception):
    """DynamoDB would refuse the attribute value."""


class UpdateError(Exception):
    """DynamoDB would refuse the update for what the item holds."""


# Attributes


def number(text: str) -> int | Decimal:
    """The value of a number attribute."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def number_text(value: int | Decimal) -> str:
    """A number as DynamoDB prints it: no exponent, no trailing zeros."""
    if isinstance(value, int):
        text = str(value)
        if len(text) <= _DIGITS:
            return text
        value = Decimal(value)
    if not value:
        return "0"
    digits = value.normalize(_EXACT)
    if len(digits.as_tuple().digits) > _DIGITS:
        raise InvalidValueError("DynamoDB only supports precision up to 38 digits")
    return format(digits, "f")


@lru_cache(maxsize=65536)
def canonical(text: str) -> str:
    """A number attribute's text in the one form that equal numbers share."""
    if text.isdecimal() and text.isascii() and len(text) <= _DIGITS and (text[0] != "0" or len(text) == 1):
        return text
    if not _NUMBER.fullmatch(text):
        raise InvalidValueError("A value provided cannot be converted into a number")
    return number_text(Decimal(text))


def _member_key(kind: str) -> Callable[[Any], Any] | None:
    return number if kind == "NS" else None


def _owned_set(kind: str, members: Sequence[Any]) -> list[Any]:
    if not members:
        raise InvalidValueError("One or more parameter values were invalid: An set may not be empty")
    given = [canonical(member) for member in members] if kind == "NS" else list(members)
    if len(set(given)) < len(given):
        raise InvalidValueError("One or more parameter values were invalid: Input collection contains duplicates")
    return sorted(given, key=_member_key(kind))


def owned(attribute: Attribute) -> Attribute:
    """A copy of an attribute that shares nothing with it, in canonical form.

    Raises InvalidValueError for what DynamoDB refuses, TypeError for what boto3 refuses.
    """
    if len(attribute) != 1:
        said = "has more than one datatypes set" if attribute else "is empty"
        raise InvalidValueError(f"Supplied AttributeValue {said}, must contain exactly one of the supported datatypes")
    kind: str
    value: Any
    ((kind, value),) = attribute.items()
    if kind not in _TYPES or not isinstance(value, _PYTHON_TYPES.get(kind, str)):
        raise TypeError(f"{kind}: {value!r} is no attribute value")
    match kind:
        case "N":
            return {"N": canonical(value)}
        case "L":
            return {"L": [owned(member) for member in value]}
        case "M":
            return {"M": {name: owned(member) for name, member in value.items()}}
        case "SS" | "NS" | "BS":
            return {kind: _owned_set(kind, value)}
        case "NULL" if not value:
            raise InvalidValueError(
                "One or more parameter values were invalid: Null attribute value types must be true"
            )
    return {kind: value}


def _kind(attribute: Attribute) -> str:
    return next(iter(attribute))


def _ordinal(attribute: Attribute) -> tuple[str, Any]:
    ((kind, value),) = attribute.items()
    return kind, number(value) if kind == "N" else value


# Parsing

_TOKEN = re.compile(
    r"\s*(?:(?P<name>\#[A-Za-z0-9_]+)|(?P<value>:[A-Za-z0-9_]+)|(?P<word>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<digits>[0-9]+)|(?P<mark><=|>=|<>|[=<>(),.+\-\[\]]))"
)
_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "SET", "REMOVE", "ADD", "DELETE"})
_CONDITION_FUNCTIONS = {"attribute_exists": 1, "attribute_not_exists": 1, "attribute_type": 2, "begins_with": 2}
_CONDITION_FUNCTIONS["contains"] = 2
_UPDATE_FUNCTIONS = {"if_not_exists": 2, "list_append": 2}
_FUNCTIONS = frozenset({*_CONDITION_FUNCTIONS, *_UPDATE_FUNCTIONS, "size"})


@cache
def _reserved() -> frozenset[str]:
    """DynamoDB Developer Guide, "Reserved words in DynamoDB", as moto lists them."""
    return frozenset(ReservedKeywords.get_reserved_keywords())


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand: a path, or a reference to a value, or the size of one of these."""

    evaluate: Operand
    path: Path | None = None
    ref: str | None = None
    sized: bool = False


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison of a path with values, as a key condition is made of; `function` is an operator's or function's
    name."""

    path: Path
    function: str
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. `clauses` are its parts when it is comparisons of paths with values joined by AND, as a key
    condition is; None otherwise. `attributes` are the top-level attributes that it names."""

    holds: Test
    kinds: tuple[KindCheck, ...]
    checks: tuple[Check, ...]
    names: frozenset[str]
    values: frozenset[str]
    attributes: frozenset[str]
    clauses: tuple[Clause, ...] | None


@dataclass(frozen=True, slots=True)
class Update:
    """A compiled update: `apply` answers the new item and leaves the old one as it is. `targets` are the top-level
    attributes that it writes."""

    apply: Callable[[Item, Item], Item]
    kinds: tuple[KindCheck, ...]
    checks: tuple[Check, ...]
    names: frozenset[str]
    values: frozenset[str]
    targets: frozenset[str]


def _at(path: Path) -> Operand:
    if len(path) == 1:
        name = path[0]
        return lambda item, values: item.get(name)

    def find(item: Item, values: Item) -> Attribute | None:
        found = item.get(path[0])
        for name in path[1:]:
            if found is None:
                return None
            found = found.get("M", {}).get(name)
        return found

    return find


class _Parser:
    def __init__(self, text: str, names: Names) -> None:
        if not text.strip():
            raise InvalidExpressionError("The expression can not be empty;")
        self._text = text
        self._given = names
        self._tokens = list(self._scan())
        self._place = 0
        self.names: set[str] = set()
        self.values: set[str] = set()
        self.attributes: set[str] = set()
        self.kinds: list[KindCheck] = []
        self.checks: list[Check] = []

    def _scan(self) -> Iterator[tuple[str, str]]:
        place, text = 0, self._text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise InvalidExpressionError(f"Syntax error; near: {text[place : place + 10]!r}")
            kind = str(match.lastgroup)
            token = match[kind]
            if kind == "word" and token.upper() in _KEYWORDS:
                kind, token = "keyword", token.upper()
            yield kind, token
            place = match.end()
        yield "end", "<EOF>"

    def unknown(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{what}: {self._text}")

    @property
    def token(self) -> str:
        return self._tokens[self._place][1]

    @property
    def kind(self) -> str:
        return self._tokens[self._place][0]

    def next(self) -> str:
        token = self.token
        self._place += 1
        return token

    def is_mark(self, *marks: str) -> bool:
        return self.kind in {"mark", "keyword", "end"} and self.token in marks

    def expect(self, mark: str) -> None:
        if not self.is_mark(mark):
            raise self.syntax_error()
        self.next()

    def take(self, mark: str) -> bool:
        if self.is_mark(mark):
            self.next()
            return True
        return False

    def syntax_error(self) -> InvalidExpressionError:
        return InvalidExpressionError(f'Syntax error; token: "{self.token}"')

    def is_function(self) -> bool:
        return self.kind == "word" and self._tokens[self._place + 1] == ("mark", "(")

    # Operands

    def path(self) -> Path:
        parts = [self._path_part()]
        while self.take("."):
            parts.append(self._path_part())
        if self.is_mark("["):
            raise self.unknown("list elements")
        self.attributes.add(parts[0])
        return tuple(parts)

    def _path_part(self) -> str:
        if self.kind == "name":
            name = self.next()
            self.names.add(name)
            if name not in self._given:
                raise InvalidExpressionError(
                    f"An expression attribute name used in the document path is not defined; attribute name: {name}"
                )
            return self._given[name]
        if self.kind != "word":
            raise self.syntax_error()
        name = self.next()
        if name.upper() in _reserved():
            raise InvalidExpressionError(f"Attribute name is a reserved keyword; reserved keyword: {name}")
        return name

    def ref(self) -> str:
        if self.kind != "value":
            raise self.syntax_error()
        name = self.next()
        self.values.add(name)
        return name

    def plain_term(self) -> _Term:
        """A path or a value."""
        if self.kind == "value":
            ref = self.ref()
            return _Term(lambda item, values: values[ref], ref=ref)
        path = self.path()
        return _Term(_at(path), path=path)

    def allow(self, term: _Term, kinds: Sequence[str], function: str) -> None:
        """A value in this place must be of one of these types."""
        if term.sized and "N" not in kinds:
            raise InvalidExpressionError(f"Incorrect operand type for operator or function: {function}, type: N")
        if term.ref is not None and not term.sized:
            self.kinds.append((term.ref, frozenset(kinds), function))

    def distinct(self, function: str, first: _Term, *rest: _Term) -> None:
        plain = first.path is not None and not first.sized
        if plain and any(first.path == other.path and not other.sized for other in rest):
            raise InvalidExpressionError(
                "The first operand must be distinct from the remaining operands for this operator or function; "
                f"operator: {function}"
            )

    def function_name(self, known: Mapping[str, int] | frozenset[str], kind: str) -> str:
        name = self.next()
        if name not in _FUNCTIONS:
            raise InvalidExpressionError(f"Invalid function name; function: {name}")
        if name not in known:
            raise InvalidExpressionError(f"The function is not allowed {kind}; function: {name}")
        self.expect("(")
        return name


# Conditions

_EMPTY: Item = {}
_FLIPPED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _size(attribute: Attribute | None) -> Attribute | None:
    if attribute is None:
        return None
    ((kind, value),) = attribute.items()
    return None if kind in {"N", "BOOL", "NULL"} else {"N": str(len(value))}


def _contains(whole: Attribute | None, part: Attribute | None) -> bool:
    if whole is None or part is None:
        return False
    ((kind, members),) = whole.items()
    ((part_kind, value),) = part.items()
    if kind == "L":
        return part in members
    return kind in {part_kind, part_kind + "S"} and kind in {"S", "B", *_SETS} and value in members


def _begins_with(whole: Attribute | None, part: Attribute | None) -> bool:
    if whole is None or part is None or _kind(whole) != _kind(part) or _kind(part) not in {"S", "B"}:
        return False
    return bool(whole[_kind(whole)].startswith(part[_kind(part)]))


def _less(first: Attribute | None, second: Attribute | None, allow_equal: bool) -> bool:
    if first is None or second is None:
        return False
    ((kind, one),) = first.items()
    other = second.get(kind)
    if other is None or kind not in _ORDERED:
        return False
    if kind == "N":
        one, other = number(one), number(other)
    return bool(one <= other if allow_equal else one < other)


def _comparison(operator: str, first: _Term, second: _Term) -> Test:
    one, other = first.evaluate, second.evaluate
    if operator == "=":
        if first.path is not None and len(first.path) == 1 and second.ref is not None and not (first.sized):
            name, ref = first.path[0], second.ref
            return lambda item, values: item.get(name) == values[ref]
        return lambda item, values: (found := one(item, values)) is not None and found == other(item, values)
    if operator == "<>":
        return lambda item, values: (found := one(item, values)) is None or found != other(item, values)
    if operator in {"<", "<="}:
        return lambda item, values: _less(one(item, values), other(item, values), operator == "<=")
    return lambda item, values: _less(other(item, values), one(item, values), operator == ">=")


class _ConditionParser(_Parser):
    def __init__(self, text: str, names: Names) -> None:
        super().__init__(text, names)
        self._clauses: list[Clause] = []
        self._only_clauses = True

    def condition(self) -> Condition:
        test = self._any()
        if self.kind != "end":
            raise self.syntax_error()
        return Condition(
            test,
            tuple(self.kinds),
            tuple(self.checks),
            frozenset(self.names),
            frozenset(self.values),
            frozenset(self.attributes),
            tuple(self._clauses) if self._only_clauses else None,
        )

    def _any(self) -> Test:
        test = self._all()
        while self.take("OR"):
            self._only_clauses = False
            test = self._or(test, self._all())
        return test

    @staticmethod
    def _or(first: Test, second: Test) -> Test:
        return lambda item, values: first(item, values) or second(item, values)

    def _all(self) -> Test:
        test = self._negation()
        while self.take("AND"):
            test = self._and(test, self._negation())
        return test

    @staticmethod
    def _and(first: Test, second: Test) -> Test:
        return lambda item, values: first(item, values) and second(item, values)

    def _negation(self) -> Test:
        if not self.take("NOT"):
            return self._primary()
        self._only_clauses = False
        test = self._negation()
        return lambda item, values: not test(item, values)

    def _primary(self) -> Test:
        if self.is_mark("("):
            return self._group()
        if self.is_function() and self.token != "size":
            return self._function()
        first = self._term()
        if self.take("IN"):
            return self._membership(first)
        if self.take("BETWEEN"):
            return self._range(first)
        if self.token not in {"=", "<>", "<", "<=", ">", ">="}:
            if first.sized:
                raise InvalidExpressionError("The function is not allowed to be used this way; function: size")
            if self.is_mark(")"):
                raise self.unknown("an operand in parentheses")
            raise self.syntax_error()
        operator = self.next()
        second = self._term()
        self.distinct(operator, first, second)
        if operator not in {"=", "<>"}:
            self.allow(first, _ORDERED, operator)
            self.allow(second, _ORDERED, operator)
        self._clause(first, operator, second)
        return _comparison(operator, first, second)

    def _clause(self, first: _Term, function: str, *rest: _Term) -> None:
        if first.ref is not None and function in _FLIPPED:
            (first,), function, rest = rest, _FLIPPED[function], (first,)
        refs = tuple(term.ref for term in rest if term.ref is not None and not term.sized)
        if first.path is None or first.sized or len(refs) < len(rest):
            self._only_clauses = False
        else:
            self._clauses.append(Clause(first.path, function, refs))

    def _group(self) -> Test:
        """A parenthesised condition. DynamoDB refuses a second pair around it."""
        self.expect("(")
        start = self._place
        doubled = self.is_mark("(")
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

    def _term(self) -> _Term:
        if not self.is_function():
            return self.plain_term()
        if self.token in _CONDITION_FUNCTIONS:
            raise InvalidExpressionError(f"The function is not allowed to be used this way; function: {self.token}")
        self.function_name(frozenset({"size"}), "in a condition expression")
        inner = self.plain_term()
        self.expect(")")
        measured = inner.evaluate
        return _Term(lambda item, values: _size(measured(item, values)), inner.path, inner.ref, sized=True)

    def _function(self) -> Test:
        name = self.function_name(_CONDITION_FUNCTIONS, "in a condition expression")
        first = self.plain_term()
        rest = []
        while self.take(","):
            rest.append(self._term())
        self.expect(")")
        if len(rest) + 1 != _CONDITION_FUNCTIONS[name]:
            raise InvalidExpressionError(f"Incorrect number of operands for operator or function; function: {name}")
        if self.token in {"=", "<>", "<", "<=", ">", ">="}:
            raise InvalidExpressionError(f"The function is not allowed to be used this way; function: {name}")
        self.distinct(name, first, *rest)
        if name == "begins_with":
            self._clause(first, name, *rest)
        else:
            self._only_clauses = False
        return self._function_test(name, first, rest)

    def _function_test(self, name: str, first: _Term, rest: list[_Term]) -> Test:
        one = first.evaluate
        if name in {"attribute_exists", "attribute_not_exists"}:
            return self._existence(first, wanted=name == "attribute_exists")
        other = rest[0].evaluate
        match name:
            case "begins_with":
                self.allow(first, ("S", "B"), name)
                self.allow(rest[0], ("S", "B"), name)
                return lambda item, values: _begins_with(one(item, values), other(item, values))
            case "contains":
                return lambda item, values: _contains(one(item, values), other(item, values))
            case _:
                ref = rest[0].ref
                if ref is None or rest[0].sized:
                    raise InvalidExpressionError(f"Incorrect operand type for operator or function; function: {name}")
                self.allow(rest[0], ("S",), name)
                self.checks.append(lambda values: _check_type_name(values[ref]["S"]))
                return lambda item, values: values[ref]["S"] in (one(item, values) or _EMPTY)

    def _existence(self, term: _Term, *, wanted: bool) -> Test:
        if term.path is None:
            raise InvalidExpressionError("Operator or function requires a document path")
        if len(term.path) == 1:
            name = term.path[0]
            if wanted:
                return lambda item, values: name in item
            return lambda item, values: name not in item
        find = term.evaluate
        return lambda item, values: (find(item, values) is not None) is wanted

    def _membership(self, first: _Term) -> Test:
        self.expect("(")
        members = [self._term()]
        while self.take(","):
            members.append(self._term())
        self.expect(")")
        self._only_clauses = False
        if len(members) > _MAX_IN:
            raise InvalidExpressionError(
                f"The IN operator is provided with too many operands; number of operands: {len(members)}"
            )
        self.distinct("IN", first, *members)
        one, others = first.evaluate, [member.evaluate for member in members]

        def holds(item: Item, values: Item) -> bool:
            found = one(item, values)
            return found is not None and any(found == other(item, values) for other in others)

        return holds

    def _range(self, first: _Term) -> Test:
        low = self._term()
        self.expect("AND")
        high = self._term()
        self.distinct("BETWEEN", first, low, high)
        for term in (first, low, high):
            self.allow(term, _ORDERED, "BETWEEN")
        if low.ref is not None and high.ref is not None and not low.sized and not high.sized:
            low_ref, high_ref = low.ref, high.ref
            self.checks.append(lambda values: _check_bounds(values[low_ref], values[high_ref]))
        self._clause(first, "BETWEEN", low, high)
        one, least, most = first.evaluate, low.evaluate, high.evaluate

        def holds(item: Item, values: Item) -> bool:
            found = one(item, values)
            return _less(least(item, values), found, True) and _less(found, most(item, values), True)

        return holds


def _check_type_name(name: str) -> None:
    if name not in _TYPES:
        raise InvalidExpressionError(f"Invalid attribute type name found; type: {name}")


def _check_bounds(low: Attribute, high: Attribute) -> None:
    (low_kind, least), (high_kind, most) = _ordinal(low), _ordinal(high)
    if low_kind != high_kind:
        raise InvalidExpressionError("The BETWEEN operator requires same data type for lower and upper bounds")
    if most < least:
        raise InvalidExpressionError(
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound"
        )


# Updates

_MISSING = "The provided expression refers to an attribute that does not exist in the item"
_WRONG_TYPE = "An operand in the update expression has an incorrect data type"
_NO_PARENT = "The document path provided in the update expression is invalid for update"

type _Action = Callable[[Item, Item, Item], None]
"""Takes the old item, the new one and the values, and writes to the new one."""


def _write(new: Item, path: Path, value: Attribute | None) -> None:
    """Puts a value at a path, or removes what is there; the maps on the way are replaced, not changed."""
    if len(path) == 1:
        if value is None:
            new.pop(path[0], None)
        else:
            new[path[0]] = value
        return
    parent = new.get(path[0])
    if parent is None or "M" not in parent:
        raise UpdateError(_NO_PARENT)
    inner = dict(parent["M"])
    _write(inner, path[1:], value)
    new[path[0]] = {"M": inner}


def _check_parent(item: Item, path: Path) -> None:
    parent: Attribute | None = {"M": item}
    for name in path[:-1]:
        parent = None if parent is None or "M" not in parent else parent["M"].get(name)
    if parent is None or "M" not in parent:
        raise UpdateError(_NO_PARENT)


def _existing(found: Attribute | None, default: Attribute | None) -> Attribute:
    """What if_not_exists gives; its default must exist even where it isn't needed."""
    if default is None:
        raise UpdateError(_MISSING)
    return default if found is None else found


def _added(found: Attribute | None, value: Attribute) -> Attribute:
    if found is None:
        return value
    if "N" in value and "N" in found:
        return {"N": _sum(found["N"], value["N"], 1)}
    ((kind, members),) = value.items()
    if kind not in found:
        raise UpdateError(_WRONG_TYPE)
    return {kind: sorted({*found[kind], *members}, key=_member_key(kind))}


def _sum(first: str, second: str, sign: int) -> str:
    if len(first) < _SHORT and len(second) < _SHORT:
        try:
            return str(int(first) + sign * int(second))
        except ValueError:
            pass
    one, other = number(first), number(second)
    if isinstance(one, int) and isinstance(other, int):
        return number_text(one + sign * other)
    return number_text(_EXACT.add(Decimal(one), sign * Decimal(other)))


class _UpdateParser(_Parser):
    def __init__(self, text: str, names: Names) -> None:
        super().__init__(text, names)
        self._paths: list[Path] = []
        self._plain: list[tuple[str, str]] = []
        self._defaults: list[tuple[str, str]] = []
        self._sums: list[tuple[str, str]] = []
        self._actions: list[_Action] = []

    def update(self) -> Update:
        seen: set[str] = set()
        clauses = {"SET": self._set, "REMOVE": self._remove, "ADD": self._add, "DELETE": self._delete}
        while self.kind == "keyword" and self.token in clauses:
            clause = self.next()
            if clause in seen:
                raise InvalidExpressionError(f'The "{clause}" section can only be used once in an update expression;')
            seen.add(clause)
            clauses[clause]()
            while self.take(","):
                clauses[clause]()
        if self.kind != "end":
            raise self.syntax_error()
        return Update(
            self._application(),
            tuple(self.kinds),
            tuple(self.checks),
            frozenset(self.names),
            frozenset(self.values),
            frozenset(path[0] for path in self._paths),
        )

    def _application(self) -> Callable[[Item, Item], Item]:
        """The commonest actions, on top-level attributes, are plain loops; a metering record's update has twenty."""
        plain, defaults, sums, actions = self._plain, self._defaults, self._sums, self._actions

        def apply(old: Item, values: Item) -> Item:
            new = dict(old)
            for name, ref in plain:
                new[name] = values[ref]
            for name, ref in defaults:
                if name not in old:
                    new[name] = values[ref]
            for name, ref in sums:
                new[name] = _added(old.get(name), values[ref])
            for action in actions:
                action(old, new, values)
            return new

        return apply

    def _target(self) -> Path:
        path = self.path()
        for other in self._paths:
            shorter = min(len(path), len(other))
            if path[:shorter] == other[:shorter]:
                raise InvalidExpressionError(
                    "Two document paths overlap with each other; must remove or rewrite one of these paths; "
                    f"path one: {list(other)}, path two: {list(path)}"
                )
        self._paths.append(path)
        return path

    def _set(self) -> None:
        path = self._target()
        self.expect("=")
        start = self._place
        value = self._value()
        if self.is_mark("+", "-"):
            value = self._arithmetic(value)
        elif len(path) == 1 and self._is_simple_default(start, path[0]):
            self._defaults.append((path[0], self._tokens[start + 4][1]))
            return
        elif len(path) == 1 and value.ref is not None:
            self._plain.append((path[0], value.ref))
            return
        evaluate = value.evaluate

        def action(old: Item, new: Item, values: Item) -> None:
            found = evaluate(old, values)
            if found is None:
                raise UpdateError(_MISSING)
            _check_parent(old, path)
            _write(new, path, found)

        self._actions.append(action)

    def _is_simple_default(self, start: int, name: str) -> bool:
        """Whether the tokens from here are `if_not_exists(<name>, <value>)`."""
        tokens = self._tokens[start : self._place]
        if [kind for kind, _ in tokens[3:]] != ["mark", "value", "mark"] or tokens[0] != ("word", "if_not_exists"):
            return False
        kind, token = tokens[2]
        return (self._given[token] if kind == "name" else token) == name

    def _arithmetic(self, first: _Term) -> _Term:
        operator = self.next()
        second = self._value()
        for term in (first, second):
            self.allow(term, ("N",), operator)
        one, other, sign = first.evaluate, second.evaluate, 1 if operator == "+" else -1

        def evaluate(item: Item, values: Item) -> Attribute:
            left, right = one(item, values), other(item, values)
            if left is None or right is None:
                raise UpdateError(_MISSING)
            if "N" not in left or "N" not in right:
                raise UpdateError(_WRONG_TYPE)
            return {"N": _sum(left["N"], right["N"], sign)}

        return _Term(evaluate)

    def _value(self) -> _Term:
        if self.is_mark("("):
            raise self.unknown("an operand in parentheses")
        if not self.is_function():
            return self.plain_term()
        name = self.function_name(_UPDATE_FUNCTIONS, "in an update expression")
        first = self._value()
        self.expect(",")
        second = self._value()
        self.expect(")")
        one, other = first.evaluate, second.evaluate
        if name == "if_not_exists":
            if first.path is None:
                raise InvalidExpressionError("Operator or function requires a document path; function: if_not_exists")
            self.distinct(name, first, second)
            return _Term(lambda item, values: _existing(one(item, values), other(item, values)))
        for term in (first, second):
            self.allow(term, ("L",), name)

        def append(item: Item, values: Item) -> Attribute:
            left, right = one(item, values), other(item, values)
            if left is None or right is None:
                raise UpdateError(_MISSING)
            if "L" not in left or "L" not in right:
                raise UpdateError(_WRONG_TYPE)
            return {"L": [*left["L"], *right["L"]]}

        return _Term(append)

    def _remove(self) -> None:
        path = self._target()

        def action(old: Item, new: Item, values: Item) -> None:
            _check_parent(old, path)
            _write(new, path, None)

        self._actions.append(action)

    def _operand_of(self, clause: str, kinds: Sequence[str]) -> str:
        ref = self.ref()
        self.allow(_Term(_at((ref,)), ref=ref), kinds, clause)
        return ref

    def _add(self) -> None:
        path = self._target()
        ref = self._operand_of("ADD", ("N", *_SETS))
        if len(path) == 1:
            self._sums.append((path[0], ref))
            return
        find = _at(path)

        def action(old: Item, new: Item, values: Item) -> None:
            _check_parent(old, path)
            _write(new, path, _added(find(old, values), values[ref]))

        self._actions.append(action)

    def _delete(self) -> None:
        path = self._target()
        ref = self._operand_of("DELETE", _SETS)
        find = _at(path)

        def action(old: Item, new: Item, values: Item) -> None:
            _check_parent(old, path)
            found = find(old, values)
            if found is None:
                return
            ((kind, members),) = values[ref].items()
            if kind not in found:
                raise UpdateError(_WRONG_TYPE)
            rest = [member for member in found[kind] if member not in members]
            _write(new, path, {kind: rest} if rest else None)

        self._actions.append(action)


# Compiling, once per texts and names


@dataclass(frozen=True, slots=True)
class Compiled:
    """The expressions of one request. `first` is its (key) condition, `second` its filter."""

    first: Condition | None
    second: Condition | None
    update: Update | None
    kinds: tuple[KindCheck, ...]
    checks: tuple[Check, ...]
    names: frozenset[str]
    values: frozenset[str]

    def check(self, values: Item) -> None:
        """Raises InvalidExpressionError unless exactly the expressions' values are given, each of a type that its place
        allows."""
        if values.keys() != self.values:
            if undefined := sorted(self.values - values.keys()):
                raise InvalidExpressionError(
                    f"An expression attribute value used in expression is not defined; attribute value: {undefined}"
                )
            unused = sorted(values.keys() - self.values)
            raise InvalidExpressionError(
                f"Value provided in ExpressionAttributeValues unused in expressions: keys: {unused}"
            )
        for ref, kinds, function in self.kinds:
            for kind in values[ref]:
                if kind not in kinds:
                    raise InvalidExpressionError(
                        "Incorrect operand type for operator or function; "
                        f"operator or function: {function}, operand type: {kind}"
                    )
        for check in self.checks:
            check(values)


type _Texts = tuple[str | None, str | None, str | None]

_NO_NAMES: Names = {}
_known: dict[_Texts, tuple[Names | None, Compiled]] = {}


def compiled(first: str | None, second: str | None, updating: str | None, names: Names | None) -> Compiled:
    """The expressions of a request: a (key) condition, a filter, an update; None for those it does not have.

    Raises InvalidExpressionError, NotImplementedError for what isn't known here.
    """
    texts = (first, second, updating)
    known = _known.get(texts)
    if known is not None and known[0] == names:
        return known[1]
    given = _NO_NAMES if names is None else names
    one = None if first is None else _ConditionParser(first, given).condition()
    other = None if second is None else _ConditionParser(second, given).condition()
    update = None if updating is None else _UpdateParser(updating, given).update()
    parts = [part for part in (one, other, update) if part is not None]
    together = Compiled(
        one,
        other,
        update,
        tuple(check for part in parts for check in part.kinds),
        tuple(check for part in parts for check in part.checks),
        frozenset[str]().union(*(part.names for part in parts)),
        frozenset[str]().union(*(part.values for part in parts)),
    )
    if names is not None and (not names or names.keys() - together.names):
        unused = sorted(names.keys() - together.names)
        raise InvalidExpressionError(
            f"Value provided in ExpressionAttributeNames unused in expressions: keys: {unused}"
        )
    _known[texts] = (None if names is None else dict(names), together)
    return together
