"""A trained adapter: located by file, folder, study or MLflow run, and attached to its backbone again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import safetensors
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from sam2lora.adapters import Attachment, merge
from sam2lora.choice import describe, from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import AdapterError
from sam2lora.files import ADAPTER, TRIALS
from sam2lora.models.build import build
from sam2lora.models.segmenter import Segmenter
from sam2lora.models.weights import check
from sam2lora.runtime import Runtime
from sam2lora.tensors import checksum

LOOKUPS = "sam2lora.adapters"
"""The group of the entry point that a package with a record of trials offers, called as ``locate(where, results,
storage)``: a context with the adapter's file."""
_RUN = re.compile(r"runs:/.+|[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainedAdapter:
    """The result of a training: ``tensors`` by name, as ``Attachment.state`` returns them, and their settings.

    ``threshold``: the probability above which a pixel was predicted on the test images, 0.5 if there were none.
    ``file``: where it was read from, for an MLflow run a copy that is not kept. ``digest``: sixteen hexadecimal digits
    of its contents.
    """

    config: TrialConfig
    replicate: Replicate
    tensors: Mapping[str, Tensor]
    threshold: float
    file: Path
    digest: str


def find(where: str, results: Path = Path("runs"), storage: str | None = None) -> TrainedAdapter:
    """The adapter at ``where``: a file, a trial's folder, a study's folder or name (its best trial), or an MLflow run.

    Names and runs are looked up in the record ``storage`` and the tracking server that belong to ``results``, unless
    ``$MLFLOW_TRACKING_URI`` names another. A study stands for its completed trial with the best validation score on the
    sources: test scores play no part. A name that exists as a path is a path. Raises ``AdapterError``.
    """
    path = Path(where)
    if path.is_file():
        return read(path)
    if (path / ADAPTER).is_file():
        return read(path / ADAPTER)
    if path.is_dir() and not (path / TRIALS).is_dir():
        raise AdapterError(
            f"A trained trial's folder must contain {ADAPTER}, but {path} does not: let its training finish, or "
            f"name another folder."
        )
    if path.suffix == ".safetensors":
        raise AdapterError(f"An adapter must be a file that exists, but {where} does not: check the path.")
    with _recorded(where, results, storage) as file:
        return read(file)


def is_run(where: str) -> bool:
    """Whether ``where`` is written as an MLflow run: ``runs:/ID`` or the 32 digits of a run."""
    return _RUN.fullmatch(where) is not None


def _recorded(where: str, results: Path, storage: str | None) -> AbstractContextManager[Path]:
    """The file of a study or a run, which only the package that keeps records can look up."""
    for entry in entry_points(group=LOOKUPS):
        try:
            locate = entry.load()
        except (ImportError, AttributeError) as error:
            raise AdapterError(
                f"Names of studies and runs must be looked up by {entry.value}, but it cannot be imported ({error}): "
                f"install its package again, or name the adapter's file."
            ) from error
        located: AbstractContextManager[Path] = locate(where, results, storage)
        return located
    raise AdapterError(
        f"Names of studies and runs are looked up by an installed package, but none offers {LOOKUPS!r}, and {where} is "
        f"neither a file nor a folder: check the path, or install the harness."
    )


def read(file: Path) -> TrainedAdapter:
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
            f"An adapter must contain its settings, but the metadata of {file} have no config and replicate: name the "
            f"{ADAPTER} that a training wrote."
        )
    # An earlier version wrote no checksum.
    if "checksum" in metadata and metadata.pop("checksum") != checksum(tensors, metadata):
        raise AdapterError(
            f"An adapter must be as it was written, but the checksum of {file} differs: use a copy of it."
        )
    try:
        config = from_json(TrialConfig, metadata["config"])
        replicate = from_json(Replicate, metadata["replicate"])
    except ValidationError as error:
        raise AdapterError(
            f"An adapter's settings must be valid in this version, but those of {file} are not:\n{describe(error)}\n"
            f"Use the version that trained it, or train it again."
        ) from error
    return TrainedAdapter(config, replicate, tensors, float(metadata.get("threshold", 0.5)), file, digest)


def attached(adapter: TrainedAdapter, runtime: Runtime) -> Segmenter:
    """The segmenter with the trained adapter, on the CPU, in evaluation mode.

    Raises ``CheckpointError`` unless the weights of ``runtime`` are those that the adapter was trained on.
    """
    check(adapter.config.weights, runtime)
    segmenter = build(adapter.config.backbone, adapter.config.image_size, runtime)
    Attachment(segmenter, adapter.config.parts, runtime=runtime).load(adapter.tensors)
    return segmenter.requires_grad_(False).eval()


def merged(adapter: TrainedAdapter, runtime: Runtime) -> Segmenter:
    """``attached`` with low-rank updates merged into the weights: the same logits (to 1e-5), no slower than frozen."""
    segmenter = attached(adapter, runtime)
    merge(segmenter)
    return segmenter
