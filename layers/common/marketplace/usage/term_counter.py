"""How much of a contract's term is used, while a transaction that takes of it is put together."""

from dataclasses import dataclass

from marketplace.dynamodb.attributes import Item
from marketplace.dynamodb.table import Table
from marketplace.dynamodb.transactions import Write
from marketplace.dynamodb.update import Update
from marketplace.usage.overage import Term, included_parts


def used_of(counter: Item) -> int:
    """How much a stored counter says is used; an empty item is a counter that does not exist yet."""
    return int(counter["used"]["N"]) if counter else 0


@dataclass(slots=True)
class TermCounter:
    """How much of a term is used, as read; what jobs take of it, and whether that leaves some usage without."""

    term: Term
    used: int
    taken: int = 0
    exhausted: bool = False

    def take(self, quantity: int) -> int:
        """How much of the quantity is included, after what was taken before."""
        (part,) = included_parts([quantity], self.term.left(self.used + self.taken))
        self.taken += part
        self.exhausted = self.exhausted or part < quantity
        return part

    @property
    def matters(self) -> bool:
        """Whether a transaction depends on the counter: it takes of it, or charges because nothing is left."""
        return bool(self.taken or (self.exhausted and self.term.limit))

    def action(self, table: Table) -> Write:
        """The counter's part of the transaction. Usage is charged only while nothing is left: a void may have given
        units back since the counter was read."""
        if self.taken:
            return table.update_action(self.term.counter, self.use())
        return table.check_action(self.term.counter, "#used >= :limit", {"limit": self.term.limit})

    def use(self) -> Update:
        """Uses up what the jobs take of the term. Where all of their usage is included, it is enough that there is
        room, so reporters do not get into each other's way; where it is used up, nobody else may have taken a unit
        since."""
        term = self.term
        if not self.exhausted:
            condition, bound = "attribute_not_exists(#used) OR #used <= :bound", term.limit - self.taken
        elif self.used:
            condition, bound = "#used = :bound", self.used
        else:
            condition, bound = "attribute_not_exists(#used) OR #used = :bound", 0
        values = {"dimension": term.dimension, "included_dimension": term.included_dimension, "limit": term.limit}
        return Update(
            set=values if term.ends_at is None else {**values, "term_end": term.ends_at},
            add={"used": self.taken},
            condition=condition,
            given={"bound": bound},
        )
