"""The command line of every command: argparse, with errors of one message."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape


class Parser(argparse.ArgumentParser):
    """Says what is wrong and the nearest that is right, and leaves the usage of every option to ``--help``."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit with status 2."""
        ending = "" if message.endswith(("?", ".")) else "."
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(message)}{ending} --help lists the options.", highlight=False, soft_wrap=True
        )
        self.exit(2)

    def parse_args(  # type: ignore[override]  # nobody here gives a namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The arguments; an option that there is not is an error with the nearest one."""
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            unknown = rest[0].partition("=")[0]
            near = _nearest(unknown, self._option_string_actions)
            self.error(f"there is no option {unknown!r}{near}" if unknown[:1] == "-" else f"{unknown!r} is too much")
        return known

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and str(value) not in choices:
            near = _nearest(str(value), choices)
            raise argparse.ArgumentError(action, f"must be one of {', '.join(choices)}, but is {str(value)!r}{near}")


def _nearest(wanted: str, there: Iterable[str]) -> str:
    near = difflib.get_close_matches(wanted, list(there), n=1, cutoff=0.7)
    return f": did you mean {near[0]!r}?" if near else ""
