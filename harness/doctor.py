"""``python -m harness.doctor [STUDY]``: examine the machine, the stores and a study, and repair them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.cli.options import carried_out
from harness.errors import UnknownName
from harness.health.finding import Finding, Problem
from harness.record.locations import default_storage, study_folder
from harness.tracking.selection import add_tracking, tracking_of
from sam2lora.cli.messages import say
from sam2lora.cli.options import add_results
from sam2lora.cli.parser import Parser
from sam2lora.credentials import hide


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = Parser(
        prog="python -m harness.doctor",
        description="Examine this machine, the record and MLflow, and a study: record, journal, MLflow and files "
        "compared. Exit status 0: all is well; 1: something is not.",
    )
    command.add_argument("study", nargs="?", metavar="STUDY", help="a study to examine (default: the machine alone)")
    command.add_argument(
        "--repair",
        action="store_true",
        help="rebuild a lost record from the journals and results, complete MLflow, set damaged files aside; without "
        "STUDY: of all studies",
    )
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, which are examined too")
    add_results(command, "--out")
    add_tracking(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0 if all is well, 1 if something is not, 2 with one message if it cannot be examined."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    out = arguments.out.resolve()
    storage = arguments.storage or default_storage(out)
    mlflow = tracking_of(arguments, out).address
    findings: dict[str, list[Finding]] = {}

    def run() -> bool:
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness.health import environment, repair, stores, study, tracking  # seconds, so after misuse

        if arguments.repair:
            for done in repair.repair(storage, mlflow, out, arguments.study):
                say(console, done, "repaired")
        with console.status("examining"):
            findings["environment"] = list(environment.examine(out, arguments.data))
            findings["stores"] = list(stores.examine(storage, mlflow))
            if (name := arguments.study) is not None:
                if not study_folder(out, name).is_dir():
                    known = ", ".join(repair.studies(out)) or "none"
                    raise UnknownName(
                        f"A study must have a folder among the results, but {study_folder(out, name)} is none: name "
                        f"one of {out} ({known}), or another --out."
                    )
                findings[name] = [*study.examine(storage, out, name), *tracking.examine(storage, mlflow, out, name)]
        return True

    if status := carried_out(run, console):
        return status
    if arguments.json:
        sys.stdout.write(hide(json.dumps(_plain(findings), indent=2)) + "\n")
    else:
        _show(findings, Console())
    return int(any(isinstance(finding, Problem) for finding in _all(findings)))


def _all(findings: Mapping[str, Iterable[Finding]]) -> list[Finding]:
    return [finding for group in findings.values() for finding in group]


def _plain(findings: Mapping[str, Iterable[Finding]]) -> dict[str, list[dict[str, object]]]:
    return {
        group: [{**vars(finding), "sound": not isinstance(finding, Problem)} for finding in found]
        for group, found in findings.items()
    }


def _show(findings: Mapping[str, Iterable[Finding]], console: Console) -> None:
    for group, found in findings.items():
        console.print(Text(group, "bold"))
        for finding in found:
            mark, style = ("wrong", "bold red") if isinstance(finding, Problem) else ("ok   ", "green")
            line = Text.assemble("  ", (mark, style), "  ", (finding.subject, "bold"), ": ", hide(str(finding)))
            console.print(line, soft_wrap=True)
    problems = [finding for finding in _all(findings) if isinstance(finding, Problem)]
    console.print(f"{len(problems)} wrong." if problems else "All is well.")


if __name__ == "__main__":
    raise SystemExit(main())
