"""The models that a command line asks for: a protocol of several models is one study for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam2lora.datasets import Dataset, Target, aimed
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Protocol, Transfer


@dataclass(frozen=True)
class Asked:
    """What a command line says of the protocol; None is what it leaves out."""

    kind: str
    datasets: tuple[Dataset, ...] | None = None
    sources: tuple[Dataset, ...] | None = None
    targets: tuple[Dataset, ...] | None = None
    shots: int | None = None
    structure: Target | None = None

    def models(self, declared: Protocol) -> tuple[Protocol, ...]:
        """Every model of the protocol; data sets that are not named are those of the ``declared`` one.

        Raises ``ValueError`` when an option belongs to another protocol, ``DataError`` and ``OverlapError`` as the
        protocols do.
        """
        self._check()
        if self.kind in ("transfer", "few_shot"):
            sources = self._aim(declared.sources if self.sources is None else self.sources)
            kept = declared.targets if self.sources is None else ()
            targets = self._aim(kept if self.targets is None else self.targets)
            if self.shots is None:
                return Transfer(sources=sources, targets=targets).every()
            if not targets:
                raise ValueError(
                    "few_shot needs a target that gives patients, but there is none: name it by --targets."
                )
            return FewShot(sources=sources, targets=targets, shots=self.shots).every()
        datasets = self._aim((*declared.sources, *declared.targets) if self.datasets is None else self.datasets)
        if not datasets:
            raise ValueError("--datasets must name data sets, but it is empty: name them, separated by commas.")
        match self.kind:
            case "pooled":
                return Pooled(datasets=datasets).every()
            case "per_dataset":
                return PerDataset(datasets=datasets, dataset=datasets[0].name).every()
            case _ if len(datasets) < 2:
                raise ValueError(
                    f"leave_one_dataset_out needs two sets or more, but has {datasets[0].name}: name more."
                )
            case _:
                return LeaveOneDatasetOut(datasets=datasets, held_out=datasets[0].name).every()

    def _check(self) -> None:
        ends = self.kind in ("transfer", "few_shot")
        foreign = {"--datasets": self.datasets if ends else None}
        foreign |= {} if ends else {"--sources": self.sources, "--targets": self.targets}
        for option, value in foreign.items():
            if value is not None:
                instead = "--sources and --targets" if ends else "--datasets"
                raise ValueError(
                    f"The data sets of {self.kind} are named by {instead}, but {option} was given: use these."
                )
        if (self.kind == "few_shot") != (self.shots is not None):
            raise ValueError(
                "few_shot needs --shots, how many patients each target gives, but it was left out: add it."
                if self.shots is None
                else f"--shots belongs to few_shot, but the protocol is {self.kind}: leave it out."
            )

    def _aim(self, datasets: Sequence[Dataset]) -> tuple[Dataset, ...]:
        return tuple(one if self.structure is None else aimed(one, self.structure) for one in datasets)


def study_name(study: str, protocol: Protocol) -> str:
    """The study of one model: ``study`` itself, or with what tells it from the protocol's others behind a slash."""
    match protocol:
        case PerDataset(dataset=name):
            return f"{study}/dataset={name}"
        case LeaveOneDatasetOut(held_out=name):
            return f"{study}/held_out={name}"
        case _:
            return study
