"""What a part works with: the device, how much to measure, a folder for its files, and its time."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.gpu.lines import Broken, Line, Skipped
from sam2lora.adapters import LoRA
from sam2lora.backbones import Backbone, Nano, Sam2, UNet
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.losses import BCE, SoftDice
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.memory import free_mib, is_out_of_memory
from sam2lora.weighted_loss import equal

Name = Literal["nano", "tiny", "small", "base+", "large", "unet"]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Form:
    """How much is measured.

    ``backbones`` are timed at images of ``sizes`` pixels, alone and in ``packs`` of so many trials, each figure by
    repetitions of about ``repeated`` seconds together; ``usual`` are pairs of them as a search has them, the most usual
    one first. The training of ``checked`` is checked at ``checked_size``, in packs of ``companies`` trials, at
    ``crowded_size`` where memory is short. The forward passes of the backbones ``forward`` are compared at
    ``forward_size``.
    """

    name: Literal["small", "full"]
    minutes: float
    forward: tuple[Name, ...]
    forward_size: int
    checked: Name
    checked_size: int
    crowded_size: int
    companies: tuple[int, ...]
    backbones: tuple[Name, ...]
    sizes: tuple[int, ...]
    packs: tuple[int, ...]
    repeated: float
    usual: tuple[tuple[Name, int], ...]


SMALL = Form(
    "small", 2.0, ("nano", "unet"), 64, "nano", 64, 256, (2, 5), ("nano",), (64,), (1, 2), 0.2, (("nano", 64),)
)  # fmt: skip
FULL = Form(
    "full", 8.0, ("nano", "tiny", "small", "base+", "large", "unet"), 256, "tiny", 256, 512, (2, 5, 8),
    ("nano", "tiny", "base+", "large"), (256, 512, 1024), (1, 2, 4, 8, 16), 0.5, (("tiny", 512), ("large", 1024)),
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """``deadline``: when a part must have begun its last case, in seconds of ``time.monotonic``."""

    device: str
    form: Form
    folder: Path
    deadline: float

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def runtime(self, features_mib: int = 0) -> Runtime:
        """Images lie in a folder that all parts share; features are kept only where a part asks for them."""
        return Runtime(cache=self.folder / "cache", device=self.device, features_mib=features_mib)

    def free_mib(self) -> float:
        """MiB of the device that nobody holds, what torch keeps unused included."""
        return free_mib(self.device)

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def empty(self) -> None:
        """Give back the memory of what is no longer used, so that one case leaves nothing to the next."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


Case = tuple[str, Callable[[], Iterable[Line]]]


def lines(bench: Bench, cases: Iterable[Case]) -> Iterator[Line]:
    """The lines of every case. One that breaks or finds no memory or no time leaves a line, and the next one runs."""
    for name, run in cases:
        if time.monotonic() > bench.deadline:
            yield Skipped(name, "no time is left, raise --minutes or name fewer --parts")
            continue
        try:
            yield from run()
        except Exception as error:
            yield _failure(name, error)
            traceback.clear_frames(error.__traceback__)
        bench.empty()


def _failure(case: str, error: Exception) -> Line:
    first = str(error).partition("\n")[0]
    if is_out_of_memory(error):
        return Skipped(case, f"the device has too little memory ({first})")
    text = "".join(traceback.format_exception(error))
    return Broken(case, f"{type(error).__name__}: {first}", text)


def backbone(name: Name) -> Backbone:
    """A backbone with random weights."""
    match name:
        case "nano":
            return Nano(weights="random")
        case "unet":
            return UNet()
        case _:
            return Sam2(size=name)


def config(name: Name, image_size: int, images: int = 8, **changes: Any) -> TrialConfig:
    """A trial on photographs that are drawn: of 8 images 4 train and 2 validate."""
    source = Synthetic(hospital="dogwood", images=images, size=min(image_size, 512))
    settings: dict[str, Any] = {
        "backbone": backbone(name),
        "adapters": (LoRA(rank=8, alpha=16.0, dropout=0.1),),
        "loss": equal(BCE(), SoftDice()),
        "image_size": image_size,
        "epochs": 2,
    }
    return TrialConfig(protocol=Transfer(sources=(source,)), **(settings | changes))
