"""What the statements are called."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from cms.persistence import statements
from cms.persistence.statements import Statement


def named() -> Iterator[tuple[str, Statement]]:
    """Yield every statement with its name, which no two share."""
    for module in iter_modules(statements.__path__, f"{statements.__name__}."):
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, Statement):
                yield name, value
