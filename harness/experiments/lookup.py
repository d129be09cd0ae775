"""From a name that a person gives to the study that is meant."""

from __future__ import annotations

import difflib

from harness.experiments import declarations
from harness.record.table import UnknownStudy, studies


def resolve(name: str, storage_url: str) -> str:
    """The study that answers the search ``name``: the latest one, or the study of that very name.

    Raises ``UnknownStudy``: with the nearest name if nothing is called so, with the command that makes a study if the
    name is declared but has not been run, and what there is and what could be run.
    """
    askable = {*declarations.names("search_spaces"), *declarations.names("ablations")}
    make = f" Make one:\n  {declarations.command(name)}" if name in askable else f"\n{_runnable()}"
    try:
        found = studies(storage_url)
    except UnknownStudy as error:
        raise UnknownStudy(f"{error}{make}") from None
    fitting = [study for study in found if name in (study.search, study.name)]
    if fitting:
        exact = [study for study in fitting if study.name == name]
        return (exact or fitting)[-1].name
    if name in askable:
        raise UnknownStudy(f"There is no study of {name!r} in {storage_url} yet.{make}")
    recorded = [study.name for study in found]
    near = difflib.get_close_matches(name, [*recorded, *(study.search for study in found), *sorted(askable)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownStudy(
        f"Nothing is called {name!r}, neither a search nor a study in {storage_url}.{hint}\n"
        f"Studies there: {', '.join(recorded) or 'none'}.{make}"
    )


def _runnable() -> str:
    searches, ablations = declarations.names("search_spaces"), declarations.names("ablations")
    return f"What can be run: the searches {', '.join(searches)}; the ablations {', '.join(ablations)}."
