"""The file of customers that a seller brings along: comma-separated, one customer a line, below a line that names the
columns.

| column | holds |
|---|---|
| product_code | one of the deployment's product codes |
| customer_identifier | of a legacy customer: AWS Marketplace's identifier. Either this or the next |
| license_arn | of a customer with a licence |
| account_id | the customer's AWS account, twelve digits; may be left out or empty |

Pure rules: the file is read whole, and every line that is wrong is named.
"""

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from marketplace.subscriptions.identity import Identity, LegacyIdentity, LicenseIdentity, normalised_license_arn
from marketplace.subscriptions.model import Subscription

REQUIRED = "product_code"
NAMING = ("customer_identifier", "license_arn")
COLUMNS = (REQUIRED, *NAMING, "account_id")

_IDENTIFIER = re.compile(r"[!-~]{1,255}")
_ACCOUNT = re.compile(r"[0-9]{12}")


class CustomerFileError(ValueError):
    """The file can't be used; `problems` says what is wrong in which line."""

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, and the line of the file that names them."""

    line: int
    product_code: str
    identity: Identity
    account_id: str | None = None

    @property
    def subscription(self) -> Subscription:
        """The customer's subscription as it is before anything is known of it."""
        licence = self.identity if isinstance(self.identity, LicenseIdentity) else None
        legacy = self.identity if isinstance(self.identity, LegacyIdentity) else None
        return Subscription(
            id=self.identity.subscription_id,
            integration="legacy" if licence is None else "license",
            product_code=self.product_code,
            license_arn=None if licence is None else licence.license_arn,
            customer_identifier=None if legacy is None else legacy.customer_identifier,
            account_id=self.account_id,
        )


def customers_of(content: bytes, product_codes: Collection[str]) -> list[Customer]:
    """The customers of a file, in its order. Raises CustomerFileError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CustomerFileError([f"the file is not UTF-8 (byte {error.start + 1})"]) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[str] = []
    found: dict[str, Customer] = {}
    names: list[str] | None = None
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if names is None:
                names = values
                _check_names(names, reader.line_num)
                continue
            try:
                customer = _customer(reader.line_num, names, values, product_codes)
            except ValueError as error:
                problems.append(f"line {reader.line_num}: {error}")
                continue
            known = found.setdefault(customer.identity.subscription_id, customer)
            if known is not customer:
                problems.append(f"line {customer.line}: the customer of line {known.line} again")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    if not found and not problems:
        problems.append("the file names no customer")
    if problems:
        raise CustomerFileError(problems)
    return list(found.values())


def _check_names(names: list[str], line: int) -> None:
    problems = [
        f"line {line}: there is no column {name!r}; the columns are {', '.join(COLUMNS)}"
        for name in names
        if name not in COLUMNS
    ]
    if len(set(names)) < len(names):
        problems.append(f"line {line}: a column is there twice")
    if REQUIRED not in names or not set(NAMING) & set(names):
        problems.append(f"line {line}: the columns {REQUIRED} and {' or '.join(NAMING)} are required")
    if problems:
        raise CustomerFileError(problems)


def _customer(line: int, names: list[str], cells: list[str], product_codes: Collection[str]) -> Customer:
    """The customer of a line. Raises ValueError that says what is wrong with it."""
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} values for {len(names)} columns")
    given = dict(zip(names, cells, strict=True))
    product_code, account_id = given[REQUIRED], given.get("account_id", "")
    if product_code not in product_codes:
        raise ValueError(f"the product code {product_code!r} is not one of this deployment's")
    if account_id and not _ACCOUNT.fullmatch(account_id):
        raise ValueError(f"the account {account_id!r} is not twelve digits (a spreadsheet drops leading zeros)")
    return Customer(line, product_code, _identity(product_code, given), account_id or None)


def _identity(product_code: str, given: Mapping[str, str]) -> Identity:
    customer_identifier, license_arn = (given.get(name, "") for name in NAMING)
    if bool(customer_identifier) == bool(license_arn):
        raise ValueError(f"give either {' or '.join(NAMING)}")
    if customer_identifier and not _IDENTIFIER.fullmatch(customer_identifier):
        raise ValueError(f"{customer_identifier!r} is not a customer identifier")
    if customer_identifier:
        return LegacyIdentity(product_code, customer_identifier)
    # The ARN of a licence ends with its id, which stands for it (marketplace.subscriptions.identity).
    if not license_arn.startswith("arn:") or normalised_license_arn(license_arn) == license_arn:
        raise ValueError(f"{license_arn!r} is not the ARN of a licence")
    return LicenseIdentity(license_arn)
