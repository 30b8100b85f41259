"""A store that loses statements, for what becomes of a request meanwhile."""

from cms.domain.errors import ServiceUnavailable
from cms.persistence.connection import Row
from cms.persistence.statements import Statement
from cms.persistence.store import Store


class Losing(Store):
    """A store that loses one statement, or with *late* only the answer to it."""

    turn = 0
    """How many statements from now; 0 for none."""
    late = False

    def lose(self, turn: int, *, late: bool) -> None:
        self.turn, self.late = turn, late

    async def run(self, statement: Statement, **parameters: object) -> list[Row]:
        self.turn -= 1
        rows = []
        if self.turn != 0 or self.late:
            rows = await super().run(statement, **parameters)
        if self.turn == 0:
            raise ServiceUnavailable
        return rows
