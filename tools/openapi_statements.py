"""The statement of a subscription's month, as tools/openapi.py describes it."""

from pydantic import Field

from tools.openapi_document import Answer


class StatementUnits(Answer):
    """Units of usage: `recorded` is `included`, `metered`, `refused`, `open` and `shadow` together."""

    recorded: int = Field(description="What your application has reported")
    included: int = Field(description="A contract includes it")
    metered: int = Field(description="AWS Marketplace bills it")
    refused: int = Field(description="AWS Marketplace refused it, or takes it no more: it is not billed")
    open: int = Field(description="It is not settled yet")
    credit: int = Field(
        description="Of metered: what is to be credited, because the contract includes it or another sender metered it"
    )
    adjusted: int = Field(description="Of metered: what billing adjustments have given back")
    shadow: int = Field(description="Of hours before metering starts, which another meter bills")


class StatementTotal(StatementUnits):
    """The units of one dimension of a day."""

    dimension: str


class StatementLine(StatementTotal):
    """The units of one dimension and tag set of a day."""

    tags: dict[str, str] = Field(description="Empty for usage without tags")


class StatementCorrection(StatementLine):
    """How many units more, or less, a line has now than when its day was closed."""

    day: str = Field(examples=["2026-11-18"])


class StatementDay(Answer):
    """A day in UTC. A closed one has the same lines for good. `totals` are of the whole day, also where the page has
    some of its lines."""

    day: str = Field(examples=["2026-11-18"])
    closed: bool = Field(description="AWS takes no usage of its month any more, and all of it is settled")
    lines: list[StatementLine]
    totals: list[StatementTotal]
    corrections: list[StatementCorrection]


class UsageStatement(Answer):
    """A page, oldest day first. Days without usage are left out."""

    subscription_id: str
    month: str = Field(examples=["2026-11"])
    days: list[StatementDay]
    cursor: str | None
