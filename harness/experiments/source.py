"""What a declaration says: the definitions that a search space names, whatever their comments and layout.

Seeded draws of a space miss a branch that is rarely taken; its source does not.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sam2lora.choice import digest

PACKAGES = ("search_spaces", "ablations")
"""Where declarations lie. What they import from the harness has versions of its own."""
_DEFINED = (ast.FunctionDef, ast.ClassDef)

Definitions = dict[tuple[str, str], list[ast.AST]]
"""Statements by module and the name that they define."""


def definitions(space: Callable[..., Any]) -> dict[str, str]:
    """Digests of what ``space`` consists of, by name: itself, and what it names in files of declarations.

    Comments, layout and docstrings are left out. Empty for a space that no file of declarations defines.
    """
    space = inspect.unwrap(space)
    module = sys.modules.get(getattr(space, "__module__", ""))
    if module is None or not _is_declaration(module) or not inspect.isfunction(space):
        return {}
    met: Definitions = {}
    name = space.__qualname__.partition(".")[0]
    if name == "<lambda>":
        _add(module, name, _lambdas(module, space.__code__.co_firstlineno), met)
    else:
        _collect(module, name, met)
    return {
        name if origin == module.__name__ else f"{origin}.{name}": digest([_plain(part) for part in parts])
        for (origin, name), parts in sorted(met.items())
    }


def _is_declaration(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] in PACKAGES


def _collect(module: ModuleType, name: str, met: Definitions) -> None:
    """Add what defines ``name`` in ``module``, and what that names in turn."""
    if (module.__name__, name) in met:
        return
    statements = ast.parse(inspect.getsource(module)).body
    _add(module, name, [statement for statement in statements if name in _defined_by(statement)], met)
    for statement in statements:
        if isinstance(statement, ast.ImportFrom):
            origin = sys.modules.get(statement.module or "")
            for alias in statement.names:
                if origin and _is_declaration(origin) and name == (alias.asname or alias.name):
                    _collect(origin, alias.name, met)


def _add(module: ModuleType, name: str, parts: list[ast.AST], met: Definitions) -> None:
    if parts:
        met[module.__name__, name] = parts
    for part in parts:
        for node in ast.walk(part):
            if isinstance(node, ast.Name):
                _collect(module, node.id, met)


def _defined_by(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, _DEFINED):
        return {statement.name}
    nodes = list(ast.walk(statement))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in nodes if isinstance(node, _DEFINED)}


def _lambdas(module: ModuleType, line: int) -> list[ast.AST]:
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return [node for node in nodes if isinstance(node, ast.Lambda) and node.lineno == line]


def _plain(part: ast.AST) -> str:
    """A definition as text, without its docstrings."""
    for node in ast.walk(part):
        if isinstance(node, _DEFINED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(part)
