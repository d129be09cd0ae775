"""NAME on a command line -> the one declaration in ``search_spaces/NAME.py`` or ``ablations/NAME.py``."""

from __future__ import annotations

import ast
import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UnknownName

if TYPE_CHECKING:
    from harness.ablation import Ablation
    from harness.study import Search

Package = Literal["search_spaces", "ablations"]
_WHAT: dict[Package, str] = {"search_spaces": "search", "ablations": "ablation"}


def _folders(package: Package) -> list[Path]:
    """Where declarations lie: in a folder of that name where the command runs, then in ours."""
    places = (Path.cwd() / package, Path(__file__).resolve().parents[1] / package)
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def names(package: Package) -> list[str]:
    """The names of all that a package declares, sorted; files that begin with an underscore declare nothing."""
    found = {file.stem for folder in _folders(package) for file in folder.glob("*.py")}
    return sorted(name for name in found if not name.startswith("_"))


def question_of(name: str, package: Package) -> str:
    """What a declaration asks: the first line of its docstring. The name must be one of ``names(package)``."""
    file = next(file for folder in _folders(package) if (file := folder / f"{name}.py").is_file())
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


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
    # One's own files are found first, and import each other and ours as if they lay in one package.
    importlib.import_module(package).__path__ = [str(folder) for folder in _folders(package)]
    declared = getattr(importlib.import_module(f"{package}.{name}"), variable, None)
    if not isinstance(declared, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise UnknownName(
            f"{package}/{name}.py must set {variable} to {article} {kind.__name__}, but sets it to {declared!r}."
        )
    return declared
