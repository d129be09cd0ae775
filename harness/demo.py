"""``python -m harness.demo``: a simulated ablation and its report, without training, in less than a minute.

Shows what ``python -m harness.ablate`` ends with. The true effects are known: see `harness.simulation.examples`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from rich.console import Console

from harness.cli import fast_exit
from harness.errors import HarnessError
from harness.record.locations import RECORD, default_storage, study_folder
from harness.record.table import read
from harness.reports import build
from harness.simulation.examples import loss_components, loss_mixture, rank, tuned_loss_components
from harness.simulation.study import SimulatedStudy, write
from harness.stats.complete_cases import FEWEST
from harness.tracking.mlflow_tracking import MlflowTracking, local_tracking
from sam2lora.cli.options import path_option, refuse, seed, whole
from sam2lora.cli.parser import Parser

_STUDIES: dict[str, Callable[[int, int], tuple[SimulatedStudy, ...]]] = {
    "loss_components": lambda replicates, seed: (loss_components(replicates, seed),),
    "loss_mixture": lambda replicates, seed: (loss_mixture(replicates, seed),),
    "rank": lambda replicates, seed: (rank(replicates, seed),),
    "tuned": lambda replicates, seed: (
        loss_components(replicates, seed),
        tuned_loss_components(replicates=replicates, seed=seed),
    ),
}
"""The last study of each is reported; that of ``tuned`` is compared with the one with fixed settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the record and its report, and print the result. Returns the exit status."""
    summary = "Simulate an ablation and write its report, without training, in less than a minute."
    parser = Parser(prog="python -m harness.demo", description=summary)
    parser.add_argument(
        "name", nargs="?", choices=list(_STUDIES), default="loss_components", help="the study to simulate"
    )
    parser.add_argument(
        "--replicates", type=whole(FEWEST), default=7, metavar="N", help="replicates of each arm (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of the simulated scores (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=path_option,
        default=Path("runs/demo"),
        metavar="DIR",
        help="folder of the results, replaced (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = arguments.out
    url = default_storage(out)
    try:
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        studies = _STUDIES[arguments.name](arguments.replicates, arguments.seed)
        for study in studies:
            write(study, url, out)
        table = read(url, studies[-1].name, out)
        build.write(table, out, MlflowTracking(local_tracking(out)).hint(table.name), console=Console())
    except HarnessError as error:
        return refuse(Console(stderr=True), error)
    return 0


def _clear(out: Path) -> None:
    """Delete the results of an earlier demonstration, and nothing else."""
    if (out / RECORD).is_file():
        for name in _STUDIES:
            shutil.rmtree(study_folder(out, name), ignore_errors=True)
    (out / RECORD).unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(fast_exit.run(main))
