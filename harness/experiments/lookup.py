"""The study that a name on a command line means."""

from __future__ import annotations

import difflib

from harness.experiments import declarations
from harness.record.table import UnknownStudy, studies


def resolve(name: str, storage_url: str) -> str:
    """The study that answers the search ``name``: the latest one, or the study of that very name.

    Raises ``UnknownStudy`` with the nearest name if there is no such study, with the command that makes it if ``name``
    is declared but has not been run, and with the studies that exist and the declarations that can be run.
    """
    askable = {*declarations.names("search_spaces"), *declarations.names("ablations")}
    make = f" Make one:\n  {declarations.command(name)}" if name in askable else f"\n{_runnable()}"
    try:
        recorded = studies(storage_url)
    except UnknownStudy as error:
        raise UnknownStudy(f"{error}{make}") from None
    if name in recorded:
        return name
    if fitting := [study for study, search in recorded.items() if search == name]:
        return fitting[-1]
    if name in askable:
        raise UnknownStudy(f"There is no study of {name!r} in {storage_url} yet.{make}")
    near = difflib.get_close_matches(name, [*recorded, *recorded.values(), *sorted(askable)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownStudy(
        f"Nothing is called {name!r}, neither a search nor a study in {storage_url}.{hint}\n"
        f"Studies there: {', '.join(recorded) or 'none'}.{make}"
    )


def latest(storage_url: str) -> str:
    """The study that began last. Raises ``UnknownStudy`` where there is none, with what can be run."""
    try:
        recorded = list(studies(storage_url))
    except UnknownStudy as error:
        raise UnknownStudy(f"{error}\n{_runnable()}") from None
    if not recorded:
        raise UnknownStudy(f"There is no study in {storage_url} yet.\n{_runnable()}")
    return recorded[-1]


def _runnable() -> str:
    searches, ablations = declarations.names("search_spaces"), declarations.names("ablations")
    return f"What can be run: the searches {', '.join(searches)}; the ablations {', '.join(ablations)}."
