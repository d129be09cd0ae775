"""NAME on a command line -> the one declaration in ``search_spaces/NAME.py`` or ``ablations/NAME.py``."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UnknownName

if TYPE_CHECKING:
    from harness.ablation import Ablation
    from harness.study import Search

Package = Literal["search_spaces", "ablations"]
_WHAT: dict[Package, str] = {"search_spaces": "search", "ablations": "ablation"}


def _folder(package: Package) -> Path:
    """The package of that name that Python finds first: a folder where the command runs, or ours."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UnknownName(
            f"What can be asked is declared in a package {package}/, but there is none: make it, with __init__.py."
        )
    return Path(spec.origin).parent


def names(package: Package) -> list[str]:
    """The names of all that a package declares, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_folder(package))]))


def question_of(name: str, package: Package) -> str:
    """What a declaration asks: the first line of its docstring. The name must be one of ``names(package)``."""
    text = (_folder(package) / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def check(name: str, package: Package) -> None:
    """Raise ``UnknownName``, with all names and the nearest one, unless ``package`` declares ``name``."""
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        what = _WHAT[package]
        raise UnknownName(f"There is no {what} named {name!r} in {package}/.{hint} There are: {', '.join(known)}.")


def search(name: str) -> Search:
    """The search that ``search_spaces/<name>.py`` declares as ``SEARCH``. Raises ``UnknownName``."""
    from harness.study import Search  # loads torch: naming the searches must not

    found: Search = _declared(name, "search_spaces", "SEARCH", Search)
    return found


def ablation(name: str) -> Ablation:
    """The ablation that ``ablations/<name>.py`` declares as ``ABLATION``. Raises ``UnknownName``."""
    from harness.ablation import Ablation

    found: Ablation = _declared(name, "ablations", "ABLATION", Ablation)
    return found


def _declared(name: str, package: Package, variable: str, kind: type[Any]) -> Any:
    check(name, package)
    declared = getattr(importlib.import_module(f"{package}.{name}"), variable, None)
    if not isinstance(declared, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise UnknownName(
            f"{package}/{name}.py must set {variable} to {article} {kind.__name__}, but sets it to {declared!r}."
        )
    return declared
