"""``python -m benchmarks.steps``: one LoRA training step of ours, of peft's and of plain PyTorch's.

All adapt the same Linear layers of the same SAM 2 nano at the same rank, on the same two images with the same loss and
AdamW, on one thread:

- *sam2lora*: ``sam2lora.train``, as a trial takes it; with its prefix and features computed in every step;
- *peft*: the official model with peft's LoRA, dropout in front of the update;
- *plain*: the official model with two matrices beside each Linear layer and no more, the least that LoRA can be.

Rounds of all three take turns, so that a machine that slows down slows all. CPU seconds of the process, the median of
the rounds; ratios are the least noisy part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

from benchmarks.glue import forward
from benchmarks.machine import machine, save
from benchmarks.official import official
from sam2lora.adapters import LoRA
from sam2lora.backbones import Nano, Sam2
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.losses import BCE, SoftDice
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.batches import batches
from sam2lora.training.loop import SingleForward, lockstep
from sam2lora.training.session import Session, precision, start
from sam2lora.transfers import prefetch_on_stream
from sam2lora.weighted_loss import equal

SIDES = ("sam2lora", "peft", "plain")


class Plain(nn.Module):
    """A frozen Linear layer and an update of low rank."""

    def __init__(self, layer: nn.Linear, adapter: LoRA) -> None:
        super().__init__()
        self.layer, self.scale = layer, adapter.alpha / adapter.rank
        self.first = nn.Parameter(torch.randn(adapter.rank, layer.in_features) / layer.in_features**0.5)
        self.second = nn.Parameter(torch.zeros(layer.out_features, adapter.rank))

    def forward(self, x: Tensor) -> Tensor:
        """``W x + b + s B A x``."""
        return cast(Tensor, self.layer(x)) + self.scale * linear(linear(x, self.first), self.second)


def config(adapter: LoRA, size: int) -> TrialConfig:
    """Eighteen photographs of ``size`` pixels, of which the training ones make some ten steps of two images."""
    source = Synthetic(hospital="dogwood", images=18, size=size)
    return TrialConfig(
        protocol=Transfer(sources=(source,)), adapters=(adapter,), loss=equal(BCE(), SoftDice()), image_size=size
    )


def ours(session: Session) -> Callable[[], int]:
    """An epoch of ``sam2lora``, without validation; it returns its number of steps."""

    def run() -> int:
        session.segmenter.train()
        (lane,) = lockstep([session], SingleForward(session))
        return lane.step

    return run


def theirs(session: Session, side: str) -> Callable[[], int]:
    """The same, with the session's settings and batches, on the official modules with peft's LoRA or a plain one."""
    config, runtime = session.config, session.runtime
    assert isinstance(config.backbone, Nano | Sam2)
    assert isinstance(config.adapters[0], LoRA)
    assert isinstance(config.optimizer, AdamW)
    sam = official(config.backbone, config.image_size, runtime)
    names = [target.name for target in config.adapters[0].targets(config.backbone)]
    if side == "peft":
        from peft import LoraConfig, inject_adapter_in_model

        how: dict[str, Any] = {"lora_alpha": config.adapters[0].alpha, "lora_dropout": config.adapters[0].dropout}
        inject_adapter_in_model(LoraConfig(r=config.adapters[0].rank, target_modules=names, **how), sam)
    else:
        for name in names:
            sam.set_submodule(name, Plain(sam.get_submodule(name), config.adapters[0]))
    sam.to(runtime.device)
    trainable = [parameter for parameter in sam.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.optimizer.lr)

    def run() -> int:
        sam.train()
        drawn, steps = batches(session, 1), 0
        if runtime.device.startswith("cuda"):
            drawn = prefetch_on_stream(drawn, runtime.device)
        for images, masks, _ in drawn:
            with precision(config, runtime):
                logits = forward(sam, images)
            logits = interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
            total, _ = config.loss(logits, masks)
            optimizer.zero_grad(set_to_none=True)
            total.mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            steps += 1
        return steps

    return run


def measure(place: str, adapter: LoRA, size: int, rounds: int, cache: Path) -> dict[str, Any]:
    """CPU seconds of a step of every side, a value for each round."""
    torch.set_num_threads(1)
    session = start(config(adapter, size), Replicate(), Runtime(cache=cache, features_mib=0))
    runs = {"sam2lora": ours(session), "peft": theirs(session, "peft"), "plain": theirs(session, "plain")}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(rounds + 1):
        for side, run in runs.items():
            begun = time.process_time()
            steps = run()
            if turn:  # the first one warms up
                seconds[side].append((time.process_time() - begun) / steps)
    return {"place": place, "size": size, "rank": adapter.rank, "dropout": adapter.dropout, "seconds": seconds}


def table(runs: list[dict[str, Any]]) -> Table:
    """A row for each place: medians, and the others' over ours."""
    shown = Table("LoRA in", "dropout", *(f"{side} ms" for side in SIDES), "peft / sam2lora", "plain / sam2lora")
    for run in runs:
        medians = {side: statistics.median(run["seconds"][side]) for side in SIDES}
        shown.add_row(
            run["place"], f"{run['dropout']:g}", *(f"{1000 * medians[side]:.0f}" for side in SIDES),
            f"{medians['peft'] / medians['sam2lora']:.2f}", f"{medians['plain'] / medians['sam2lora']:.2f}",
        )  # fmt: skip
    return shown


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=first)
    command.add_argument("--size", type=int, default=256, metavar="PIXELS", help="side of the images")
    command.add_argument("--rounds", type=int, default=5, metavar="N", help="epochs of each side that count")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/steps.json"), metavar="FILE")
    arguments = command.parse_args()
    described, runs = machine(), []
    with tempfile.TemporaryDirectory() as cache:
        for place, encoder in (("encoder and decoder", "qkv"), ("decoder alone", "none")):
            for dropout in (0.0, 0.1):
                adapter = LoRA(encoder=encoder, dropout=dropout, dropout_site="input", init="kaiming")  # type: ignore[arg-type]
                runs.append(measure(place, adapter, arguments.size, arguments.rounds, Path(cache)))
    Console().print(table(runs))
    save({"machine": described, "runs": runs}, arguments.out)


if __name__ == "__main__":
    main()
