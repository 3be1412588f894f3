"""Prices of dimensions, as they are given on the command line or in a file. Pure rules."""

import csv
import io
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from marketplace_saas_cli.exits import RefusedError

type Prices = dict[str, Decimal]
"""The price of a unit by dimension, by `<product code>/<dimension>`, or by `<subscription id>/<dimension>`. The
narrowest counts."""

MAX_BYTES = 1_000_000
CENT = Decimal("0.01")


def prices_of(given: Sequence[str], file: Path | None = None) -> Prices:
    """The prices that `DIMENSION=PRICE` and the lines `dimension,price` of a file name. Raises RefusedError."""
    found: Prices = {}
    for text in given:
        name, equals, price = text.rpartition("=")
        if not name or not equals:
            raise RefusedError(f"{text!r} is not DIMENSION=PRICE")
        found[name] = price_in(price, f"--price {name}")
    if file is None:
        return found
    try:
        content = file.read_bytes()
        lines = list(csv.reader(io.StringIO(content[:MAX_BYTES].decode("utf-8-sig"), newline=""), strict=True))
    except OSError as error:
        raise RefusedError(f"{file} can't be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedError(f"{file} is not CSV in UTF-8: {error}") from error
    if len(content) > MAX_BYTES:
        raise RefusedError(f"{file} is larger than {MAX_BYTES:,} bytes")
    for number, cells in enumerate(lines, 1):
        if not any(cells) or (number == 1 and cells == ["dimension", "price"]):
            continue
        if len(cells) != 2:
            raise RefusedError(f"{file}, line {number}: it is not DIMENSION,PRICE")
        found.setdefault(cells[0].strip(), price_in(cells[1], f"{file}, line {number}"))
    return found


def price_of(prices: Prices, product_code: str, dimension: str, subscription_id: str | None = None) -> Decimal | None:
    """The price of a unit, None where none is given. Without a subscription it is that of the product."""
    names = (f"{subscription_id}/{dimension}", f"{product_code}/{dimension}", dimension)
    return next((prices[name] for name in names if name in prices), None)


def price_in(text: str, where: str) -> Decimal:
    """The price that a text says; `where` names its place in an error. Raises RefusedError."""
    try:
        price = Decimal(text.strip())
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or price < 0 or price > 10**9:
        raise RefusedError(f"{where}: {text.strip()!r} is no price")
    return price
