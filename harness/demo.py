"""``python -m harness.demo``: a simulated ablation and its report, without training, in less than a minute.

Shows what ``python -m harness.ablate`` ends with. The true effects are known: see `harness.simulation.examples`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from rich.console import Console

from harness.cli import fast_exit
from harness.errors import HarnessError
from harness.record.table import read
from harness.reports import build
from harness.simulation.examples import loss_components, loss_mixture, rank, tuned_loss_components
from harness.simulation.study import Simulated, write
from harness.stats.complete_cases import FEWEST
from sam2lora.commands.options import refuse, seed
from sam2lora.commands.parser import Parser

_STUDIES: dict[str, Callable[[int, int], tuple[Simulated, ...]]] = {
    "loss_components": lambda replicates, seed: (loss_components(replicates, seed),),
    "loss_mixture": lambda replicates, seed: (loss_mixture(replicates, seed),),
    "rank": lambda replicates, seed: (rank(replicates, seed),),
    "tuned": lambda replicates, seed: (
        loss_components(replicates, seed),
        tuned_loss_components(replicates=replicates, seed=seed),
    ),
}
"""The last study of each is reported; ``tuned`` sets it beside the one with fixed settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the record, report it, print where the page lies. Returns the exit status."""
    parser = Parser(prog="python -m harness.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", choices=list(_STUDIES), default="loss_components", help="which study")
    parser.add_argument("--replicates", type=_replicates, default=7, metavar="N", help="of each arm (%(default)s)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the simulated scores (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="made anew (%(default)s)")
    given = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{given.out / 'optuna.db'}"
    try:
        _clear(given.out)
        given.out.mkdir(parents=True, exist_ok=True)
        studies = _STUDIES[given.name](given.replicates, given.seed)
        for study in studies:
            write(study, url, given.out)
        made = build.write(read(url, studies[-1].name, given.out), given.out, f"sqlite:///{given.out / 'mlflow.db'}")
    except HarnessError as error:
        return refuse(Console(stderr=True), error)
    build.show(made, Console())
    return 0


def _replicates(text: str) -> int:
    if not text.isdecimal() or int(text) < FEWEST:
        raise argparse.ArgumentTypeError(f"must be a whole number of {FEWEST} or more, but is {text!r}")
    return int(text)


def _clear(out: Path) -> None:
    """Take away what an earlier demonstration left, and nothing else."""
    for name in _STUDIES:
        if (out / "optuna.db").is_file():
            shutil.rmtree(out / name, ignore_errors=True)
    (out / "optuna.db").unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(fast_exit.run(main))
