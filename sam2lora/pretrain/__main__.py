"""The command line of the pretraining."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import cv2
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file

from sam2lora.backbones import Nano
from sam2lora.cli.options import path_option
from sam2lora.cli.parser import Parser
from sam2lora.datasets import PRETRAINING_HOSPITALS
from sam2lora.errors import Sam2LoraError
from sam2lora.models.build import build
from sam2lora.models.weights import sha256
from sam2lora.pretrain.recipe import Ask, Recipe, Where, score, train
from sam2lora.runtime import Runtime


def main(arguments: list[str] | None = None) -> int:
    """Train nano and write its weights and, beside them, how they were made. Returns the exit status."""
    parser = Parser(prog="python -m sam2lora.pretrain", description=__doc__)
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="of the scenes (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    parser.add_argument("--out", type=path_option, required=True, help="file to write, *.safetensors")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    try:
        make(Recipe(seed=options.seed), options.out, options.device)
    except Sam2LoraError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make(recipe: Recipe, out: Path, device: str = "cpu") -> None:
    """Train by ``recipe`` and write ``out`` (float16) and its card ``<out>.json``.

    An interrupted run leaves ``<out>.pt``, from which the same command goes on.
    """
    checkpoint = out.with_suffix(".pt")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn())
    mean = 1.0
    with Progress(*columns) as progress:
        task = progress.add_task("", total=recipe.steps, loss=mean)
        for step, loss in train(recipe, checkpoint, device):
            mean += (loss - mean) / min(step, 100)
            progress.update(task, completed=step, loss=mean)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, out)
    out.with_suffix(".json").write_text(json.dumps(_card(recipe, out, state), indent=2) + "\n")


def _card(recipe: Recipe, out: Path, state: dict[str, torch.Tensor]) -> dict[str, object]:
    """How the weights were made and what they reach, as shipped, that is rounded to float16."""
    segmenter = build(Nano(weights="random"), recipe.stages[-1].size, Runtime())
    segmenter.sam.load_state_dict({name: tensor.half().float() for name, tensor in state.items()})
    return {
        "command": f"python -m sam2lora.pretrain --seed {recipe.seed} --out {out.name}",
        "recipe": asdict(recipe),
        "data": "procedural scenes (sam2lora/pretrain/scenes.py) and the hospitals "
        f"{', '.join(PRETRAINING_HOSPITALS)} (sam2lora/datasets/hospitals.py); no photograph",
        "held_out_dice": {
            f"{where}, {ask}": round(score(segmenter, recipe.seed, ask, where), 4)
            for where in get_args(Where)[:2]
            for ask in get_args(Ask)[:4]
        },
        "torch": torch.__version__,
        "sha256": sha256(out),
    }


if __name__ == "__main__":
    sys.exit(main())
