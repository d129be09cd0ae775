"""The command-line parser of every command: argparse, with one message per error."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console

from sam2lora.cli.messages import say
from sam2lora.credentials import hide_in_tracebacks


class Parser(argparse.ArgumentParser):
    """Reports what is wrong with the closest valid spelling, and leaves the list of options to ``--help``."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit with status 2."""
        ending = "" if message.endswith(("?", ".")) else "."
        say(Console(stderr=True), f"{message}{ending} --help lists the options.", "error", "bold red")
        self.exit(2)

    def parse_args(  # type: ignore[override]  # no caller passes a namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The parsed arguments; an unknown option is an error that suggests the closest known one."""
        hide_in_tracebacks()
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            unknown = rest[0].partition("=")[0]
            if unknown.startswith("-"):
                self.error(f"unknown option {unknown!r}{_suggestion(unknown, self._option_string_actions)}")
            self.error(f"unexpected argument {unknown!r}")
        return known

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and str(value) not in choices:
            hint = _suggestion(str(value), choices)
            raise argparse.ArgumentError(action, f"must be one of {', '.join(choices)}, but is {str(value)!r}{hint}")


def _suggestion(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.7)
    return f": did you mean {near[0]!r}?" if near else ""
