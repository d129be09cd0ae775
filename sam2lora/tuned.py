"""A trained adapter: found by file, folder, study or MLflow run, and put back onto its backbone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from sam2lora.adapters import merge
from sam2lora.artifacts import ADAPTER
from sam2lora.choice import from_json, told
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import AdapterError
from sam2lora.model import Segmenter, build
from sam2lora.runtime import Runtime

_RUN = re.compile(r"runs:/.+|[0-9a-f]{32}")


@dataclass(frozen=True)
class Tuned:
    """What training left: ``tensors`` by name, as ``adapter.state`` gave them, and the settings they belong to.

    ``threshold``: the probability above which a pixel was predicted when the trial was judged, 0.5 where it was judged
    on nothing. ``file`` is where they were read from, for an MLflow run a copy that is not kept, and ``digest`` sixteen
    hexadecimal digits over its contents.
    """

    config: TrialConfig
    replicate: Replicate
    tensors: Mapping[str, Tensor]
    threshold: float
    file: Path
    digest: str


def find(where: str, results: Path = Path("runs"), storage: str | None = None) -> Tuned:
    """The adapter at ``where``: a file, a trial's folder, a study's folder or name (its best trial), or an MLflow run.

    Names and runs are looked for in the record ``storage`` and the tracking server that belong to ``results``, unless
    ``$MLFLOW_TRACKING_URI`` names another. Of a study, the completed trial with the best validation on the sources is
    taken: no test score has a say. What exists as a path is a path. Raises ``AdapterError``.
    """
    path = Path(where)
    if path.is_file():
        return read(path)
    if (path / ADAPTER).is_file():
        return read(path / ADAPTER)
    if path.is_dir() and not (path / "trials").is_dir():
        raise AdapterError(
            f"A trained trial's folder must hold {ADAPTER}, but {path} holds none: let its training end, or name "
            f"another folder."
        )
    if path.suffix == ".safetensors":
        raise AdapterError(f"An adapter must be a file that exists, but {where} does not: check the path.")
    with _recorded(where, results, storage) as file:
        return read(file)


def is_run(where: str) -> bool:
    """Whether ``where`` is written as an MLflow run: ``runs:/ID`` or the 32 digits of a run."""
    return _RUN.fullmatch(where) is not None


def _recorded(where: str, results: Path, storage: str | None) -> AbstractContextManager[Path]:
    # The one place where sam2lora asks the harness: only it knows the record and MLflow, and only names need them.
    from harness.tracking.adapters import locate

    return locate(where, results, storage)


def read(file: Path) -> Tuned:
    """The adapter of a safetensors file that training wrote. Raises ``AdapterError`` for any other file."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, not a mapping
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"An adapter must be a readable safetensors file, but {file} is not: {error}.") from error
    if not {"config", "replicate"} <= metadata.keys():
        raise AdapterError(
            f"An adapter must carry its settings, but the metadata of {file} have no config and replicate: give the "
            f"{ADAPTER} that training wrote."
        )
    try:
        config = from_json(TrialConfig, metadata["config"])
        replicate = from_json(Replicate, metadata["replicate"])
    except ValidationError as error:
        raise AdapterError(
            f"The settings of an adapter must be ones that this version knows, but in {file}:\n{told(error)}\n"
            f"Use the version that trained it, or train it again."
        ) from error
    return Tuned(config, replicate, tensors, float(metadata.get("threshold", 0.5)), file, digest)


def attached(tuned: Tuned, runtime: Runtime) -> Segmenter:
    """The segmenter with the trained adapter, on the CPU, in evaluation mode.

    Raises ``CheckpointError`` unless the weights are those that the adapter was trained on, by their digest.
    """
    segmenter = build(tuned.config.backbone, tuned.config.image_size, runtime)
    tuned.config.adapter.attach(segmenter, torch.Generator())
    tuned.config.adapter.load(segmenter, tuned.tensors)
    return segmenter.requires_grad_(False).eval()


def merged(tuned: Tuned, runtime: Runtime) -> Segmenter:
    """``attached`` with low-rank updates merged into the weights: the same logits (to 1e-5) at the frozen price."""
    segmenter = attached(tuned, runtime)
    merge(segmenter)
    return segmenter
