"""The schemas of the SQL stores, as numbered steps that every release may find half done or done by a newer one."""

import re
from collections.abc import Sequence
from importlib import resources
from typing import Final, NamedTuple

from onceserve_serving.errors import InvalidSettingsError

NEEDS: Final = re.compile(r"-- needs: (\d+)")


class Migration(NamedTuple):
    """One step; after it, a server must know step `needs` to use the store. Most only add, and need no more than 1."""

    number: int
    needs: int
    sql: str

    @property
    def statements(self) -> Sequence[str]:
        """Return its statements."""
        return [statement for statement in self.sql.split(";\n") if statement.strip()]


def load(store: str) -> Sequence[Migration]:
    """Return a store's steps in order."""
    folder = resources.files(__name__) / store
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [_parse(int(file.name[:4]), file.read_text()) for file in files]


def missing(known: Sequence[Migration], applied: Sequence[tuple[int, int]], name: str) -> Sequence[Migration]:
    """Return the steps to apply, given number and need of those that the store has.

    Raises InvalidSettingsError if the store belongs to a release that this one cannot share it with.
    """
    newest = known[-1].number
    if applied and (needs := max(needs for _, needs in applied)) > newest:
        raise InvalidSettingsError(
            f"{name}: its schema needs a server that knows migration {needs}; this one knows {newest}: upgrade it"
        )
    done = {number for number, _ in applied}
    return [step for step in known if step.number not in done]


def _parse(number: int, sql: str) -> Migration:
    needs = NEEDS.match(sql)
    if needs is None:
        raise ValueError(f"migration {number} does not begin with '-- needs: N'")
    return Migration(number, int(needs[1]), sql)
