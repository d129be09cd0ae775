"""Short trials, alone and in a pack: prints their curves, adapters and scores as JSON, one value a line.

Trains in the current folder. The only file of the golden record that imports what it records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import runpy
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors.numpy import load_file

from sam2lora.config import Replicate
from sam2lora.runtime import Runtime, default_cache
from sam2lora.settings import read_settings, with_assignments
from sam2lora.training import packing
from sam2lora.training.artifacts import finish
from sam2lora.training.session import start

EPOCHS = 2
SETTINGS = (
    f"--epochs {EPOCHS} --image-size 64 --device cpu --threads 1 "
    "--sources alder:images=8:size=64 --targets birch:images=8:size=64"
)
TRIALS = {
    "lora": "",
    "lora_in_decoder": "--set adapters.0.encoder=none",
    "lora_in_last_blocks": "--set adapters.0.blocks.kind=last --set adapters.0.blocks.count=2 "
    "--set adapters.0.decoder=none",
    "full": "--set adapters.0=full",
    "frozen": "--set adapters=[]",
    "unet": "--backbone unet",
    "points": "--set train_prompt=points --set test_prompt=points --set prompt_dropout=0.3",
    "few_shot": "--protocol few_shot --shots 1",
}
"""Options of ``python -m sam2lora.train`` on top of ``SETTINGS``, by folder."""
PACK = {
    "pack/0": (0, []),
    "pack/1": (0, ["adapters.0.rank=5", "adapters.0.alpha=2.0", "adapters.0.dropout=0.3", "optimizer.lr=0.003"]),
    "pack/2": (1, ["augment=none", "optimizer=sgd", "optimizer.lr=0.05"]),
    "pack/3": (1, ["threshold=chosen_on_validation", "clip_norm=null"]),
}
"""Seeds, and changes of the settings of ``lora``, by folder."""


def train_alone(folder: str) -> None:
    """Train one of ``TRIALS`` as the command does."""
    sys.argv = ["sam2lora.train", *SETTINGS.split(), *TRIALS[folder].split(), "--out", folder]
    try:
        runpy.run_module("sam2lora.train", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def train_pack() -> None:
    """Train all of ``PACK`` in lock-step, with LoRA in the encoder as well: what a GPU does and no command on a CPU."""
    runtime, base = Runtime(cache=default_cache()), read_settings(Path("lora/config.json"))
    residents = [
        start(with_assignments(base, changes), Replicate(seed=seed), runtime) for seed, changes in PACK.values()
    ]
    for _ in range(EPOCHS):
        packing.epoch(residents)
    for folder, resident, rows in zip(PACK, residents, packing.final_scores(residents), strict=True):
        finish(resident, rows, folder, Path(folder))


def machine() -> Iterator[tuple[str, str]]:
    """What the last digits of a curve, a table and a figure depend on."""
    mkl = re.search(r"Math Kernel Library Version (\S+)", torch.__config__.show())
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    yield "processor", cpu[1] if cpu else platform.processor()
    yield "capability", torch.backends.cpu.get_cpu_capability()
    yield "MKL", mkl[1] if mkl else "none"
    packages = ("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib")
    yield from ((package, version(package)) for package in packages)


def values(folder: str) -> Iterator[tuple[str, object]]:
    """What a trial left: curve, mean Dice, and digests of its adapter and of its rows, one for each test image."""
    result = json.loads(Path(folder, "result.json").read_text())
    for entry in result["curve"]:
        yield from (
            (f"epoch {entry['epoch']}: {name}", entry[name]) for name in entry if name not in ("epoch", "seconds")
        )
    yield from ((name, value) for name, value in result["scores"].items() if name.endswith("/dice"))
    rows = pd.read_parquet(Path(folder, "images.parquet"))
    yield "rows", digest(rows.drop(columns="key").to_csv(index=False).encode())
    tensors = sorted(load_file(Path(folder, "adapter.safetensors")).items())
    yield "tensors", len(tensors)
    yield "adapter", digest(*(part for name, array in tensors for part in (f"{name} {array.shape}".encode(), array)))


def key(folder: str) -> str:
    """The identity of a trial, by which it is found again."""
    return str(pd.read_parquet(Path(folder, "images.parquet"), columns=["key"])["key"].iloc[0])


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits over bytes and arrays."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


def main() -> None:
    """Train all, and print."""
    with contextlib.redirect_stdout(sys.stderr):
        for folder in TRIALS:
            train_alone(folder)
        train_pack()
    said = {f"machine: {name}": value for name, value in machine()}
    said |= {f"{folder}: key": key(folder) for folder in TRIALS}
    said |= {f"{folder}: {name}": value for folder in (*TRIALS, *PACK) for name, value in values(folder)}
    print(json.dumps(said, indent=0))


if __name__ == "__main__":
    main()
