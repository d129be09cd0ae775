"""NAME on a command line -> the one declaration in ``search_spaces/NAME.py``."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UnknownName

if TYPE_CHECKING:
    from harness.study import Search


def _folder() -> Path:
    """The package ``search_spaces`` that Python finds first: a folder of that name where the command runs, or ours."""
    spec = importlib.util.find_spec("search_spaces")
    if spec is None or spec.origin is None:
        raise UnknownName(
            "Searches are declared in a package search_spaces/, but there is none: make it, with __init__.py."
        )
    return Path(spec.origin).parent


def searches() -> list[str]:
    """The names of all declared searches, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_folder())]))


def question_of(name: str) -> str:
    """What a declared search asks: the first line of its docstring. The name must be one of ``searches()``."""
    text = (_folder() / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def check(name: str) -> None:
    """Raise ``UnknownName``, with all names and the nearest one, unless ``name`` is a declared search."""
    names = searches()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownName(f"There is no search named {name!r} in search_spaces/.{hint} There are: {', '.join(names)}.")


def search(name: str) -> Search:
    """The search that ``search_spaces/<name>.py`` declares as ``SEARCH``. Raises ``UnknownName``."""
    from harness.study import Search  # loads torch: naming the searches must not

    check(name)
    declared = importlib.import_module(f"search_spaces.{name}").SEARCH
    if not isinstance(declared, Search):
        raise UnknownName(f"search_spaces/{name}.py must set SEARCH to a Search, but sets it to {declared!r}.")
    return declared
