"""The parts of the check, in their order: what must hold anywhere, then how fast it runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.lines import Line
from benchmarks.gpu.parts.capture import capture
from benchmarks.gpu.parts.deterministic import deterministic
from benchmarks.gpu.parts.divergence import divergence
from benchmarks.gpu.parts.evaluation import evaluation
from benchmarks.gpu.parts.export import export
from benchmarks.gpu.parts.features import features
from benchmarks.gpu.parts.forward import forward
from benchmarks.gpu.parts.launches import launches
from benchmarks.gpu.parts.makespan import makespan
from benchmarks.gpu.parts.memory import memory
from benchmarks.gpu.parts.out_of_memory import out_of_memory
from benchmarks.gpu.parts.packing import packing
from benchmarks.gpu.parts.peers import peers
from benchmarks.gpu.parts.resume import resume
from benchmarks.gpu.parts.steps import steps


@dataclass(frozen=True)
class Part:
    """``share``: of the minutes, against the others'. ``needs``: packages without which it is skipped."""

    name: str
    title: str
    share: float
    measure: Callable[[Bench], Iterator[Line]]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that it needs and that are not installed."""
        return tuple(package for package in self.needs if not _installed(package))


def _installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # the folder mlflow/ of this repository has none


_SEARCH = ("ray", "optuna", "mlflow", "peft", "monai", "sklearn")

PARTS = (
    Part("forward", "The forward pass of every backbone against float64 on the CPU", 2, forward),
    Part("packing", "A trial alone and in packs", 3, packing),
    Part("resume", "A trial that is killed and goes on from its checkpoint", 5, resume),
    Part("out_of_memory", "A pack that finds too little memory", 1, out_of_memory),
    Part("divergence", "A trial that diverges and its neighbours", 1, divergence),
    Part("features", "Features from files and features computed", 1, features),
    Part("export", "What other tools load of a trained adapter", 1, export),
    Part("memory", "Memory as planned and as taken", 4, memory),
    Part("steps", "A training step, phase by phase, alone and in packs", 9, steps),
    Part("peers", "A training step beside peft's and plain PyTorch's", 2, peers, ("peft",)),
    Part("launches", "Kernels that a step launches; the host must wait for none", 2, launches),
    Part("evaluation", "An image that is validated, beside one that is trained on", 2, evaluation),
    Part("deterministic", "What deterministic algorithms cost a step", 1, deterministic),
    Part("capture", "Steps that are compiled, or captured in a CUDA graph", 3, capture),
    Part("makespan", "A search in packs, beside the glue that people write", 6, makespan, _SEARCH),
)
