"""NAME on a command line -> the one declaration in ``search_spaces/NAME.py`` or ``ablations/NAME.py``."""

from __future__ import annotations

import ast
import difflib
import importlib
import shlex
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from harness.errors import BadDeclaration, HarnessError, UnknownName
from sam2lora.choice import describe
from sam2lora.errors import Sam2LoraError

if TYPE_CHECKING:
    import optuna

    from harness.experiments.ablation import Ablation
    from harness.experiments.search import Search
    from harness.experiments.space import Space
    from sam2lora.config import TrialConfig

Package = Literal["search_spaces", "ablations"]
_WHAT: dict[Package, str] = {"search_spaces": "search", "ablations": "ablation"}


def _folders(package: Package) -> list[Path]:
    """The folders of declarations: that of the working folder, then ours."""
    places = (Path.cwd() / package, Path(__file__).resolve().parents[2] / package)
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def names(package: Package) -> list[str]:
    """The names of all declarations of a package, sorted; files that begin with an underscore declare nothing."""
    stems = {file.stem for folder in _folders(package) for file in folder.glob("*.py")}
    return sorted(name for name in stems if not name.startswith("_"))


def question_of(name: str, package: Package) -> str:
    """The question of a declaration: the first line of its docstring. The name must be one of ``names(package)``."""
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
    """The search that ``search_spaces/<name>.py`` declares as ``SEARCH``. Raises ``UnknownName``, ``BadDeclaration``.

    Its space raises ``BadDeclaration`` in place of any error, and when it returns no ``TrialConfig``.
    """
    from harness.experiments.search import Search  # loads torch: naming the searches must not

    declared: Search = _load(name, "search_spaces", "SEARCH", Search, "Search(space, trials=30)")
    return replace(declared, space=_checked_space(declared.space, f"search_spaces/{name}.py"))


def ablation(name: str) -> Ablation:
    """The ablation that ``ablations/<name>.py`` declares as ``ABLATION``. Raises as ``search`` does."""
    from harness.experiments.ablation import Ablation

    declared: Ablation = _load(name, "ablations", "ABLATION", Ablation, "Ablation(BASE, ...)")
    return declared


def _load(name: str, package: Package, variable: str, kind: type[Any], example: str) -> Any:
    check(name, package)
    # The files of the working folder come first, and import each other and ours as if they lay in one package.
    importlib.import_module(package).__path__ = [str(folder) for folder in _folders(package)]
    with _naming_errors(f"{package}/{name}.py"):
        declared = getattr(importlib.import_module(f"{package}.{name}"), variable, None)
    if not isinstance(declared, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise BadDeclaration(
            f"{package}/{name}.py must set {variable} to {article} {kind.__name__}, but sets it to {declared!r}: end "
            f"it with {variable} = {example}."
        )
    return declared


def _checked_space(space: Callable[[optuna.Trial], object], file: str) -> Space:
    @wraps(space)
    def watched(trial: optuna.Trial) -> TrialConfig:
        from sam2lora.config import TrialConfig

        with _naming_errors(file):
            config = space(trial)
        if not isinstance(config, TrialConfig):
            name = getattr(space, "__name__", "space")
            raise BadDeclaration(
                f"{name}() of {file} must return a TrialConfig, but returned {config!r}: end it with return "
                f"replace(BASE, ...)."
            )
        return config

    return watched


@contextmanager
def _naming_errors(file: str) -> Iterator[None]:
    """Raise ``BadDeclaration`` for any error of ``file``, as a person knows it, with the line of the error."""
    try:
        yield
    except SyntaxError as error:
        line = "" if error.lineno is None else f"{_other(file, error.filename)}line {error.lineno}: "
        raise BadDeclaration(
            f"{file} cannot be read: {line}{error.msg}. Fix it and run the same command again."
        ) from error
    except Exception as error:  # a declaration may raise anything
        places = {folder.resolve() for package in _WHAT for folder in _folders(package)}
        frames = traceback.extract_tb(error.__traceback__)
        own = next((frame for frame in reversed(frames) if Path(frame.filename).resolve().parent in places), None)
        place = "it" if own is None else f"{_other(file, own.filename)}line {own.lineno}"
        source = "" if own is None else f"  {own.line}\n"
        raise BadDeclaration(
            f"{file} must run without an error, but {place} raises one:\n{source}{_message(error)}\n"
            f"Fix it and run the same command again."
        ) from error


def _other(file: str, path: str | None) -> str:
    """The file of a line, where that is not ``file`` but one that it imports."""
    return "" if path is None or Path(path).name == Path(file).name else f"{path}, "


def _message(error: Exception) -> str:
    """The message of an exception, as Python prints it; of our errors, the rule that they state."""
    if isinstance(error, ValidationError):
        return describe(error)
    if isinstance(error, ValueError | HarnessError | Sam2LoraError):
        return f"  {error}"
    said = f"  {type(error).__name__}: {error}"
    if isinstance(error, AttributeError) and (near := difflib.get_close_matches(error.name or "", dir(error.obj), n=1)):
        said += f". Did you mean {near[0]!r}?"
    return said


def command(name: str) -> str:
    """The command that runs the declaration ``name``: an ablation if only ``ablations/`` has it, else a search."""
    ablation = name in names("ablations") and name not in names("search_spaces")
    return f"python -m harness.{'ablate' if ablation else 'search'} {shlex.quote(name)}"
