"""Weights: the files they lie in, by digest, and whether they belong."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeGuard, get_args

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2lora.backbones import Hiera, Nano, Sam2, Size, Version
from sam2lora.backbones.nano import SHIPPED
from sam2lora.checkpoints import fetch, local_files, published_model
from sam2lora.errors import CheckpointError
from sam2lora.models.sam2 import weightless
from sam2lora.runtime import Runtime

_TRUNK = "image_encoder.trunk."


def files_by_digest(paths: Iterable[Path]) -> dict[str, Path]:
    """Files of weights as `Runtime` has them. Raises ``CheckpointError`` for one that cannot be read."""
    return {sha256(path): path for path in paths}


def provide(needed: Mapping[str, str], runtime: Runtime, console: Console) -> None:
    """Download what is missing of the weights that are ``needed`` and that Meta publishes, then `check` them."""
    for digest in needed:
        model = published_model(digest)
        if model is not None and _find(digest, runtime) is None:
            fetch(model, console)
    check(needed, runtime)


def check(needed: Mapping[str, str], runtime: Runtime) -> None:
    """Raise ``CheckpointError`` unless every file that is ``needed`` is there, and no other file was given.

    ``needed``: what needs each file, by its digest, as ``TrialConfig.weights``. All that is wrong is listed at once.
    Contents are checked when they are read.
    """
    missing = [
        f"{what} needs the file of sha256 {digest}, but no such file was given: pass it with --checkpoint or --weights"
        for digest, what in needed.items()
        if _find(digest, runtime) is None
    ]
    surplus = [
        f"{path} has sha256 {digest}, but nothing needs it: leave it out, or name it in the settings"
        for digest, path in runtime.weights.items()
        if digest not in {*needed, *local_files()}
    ]
    if wrong := missing + surplus:
        raise CheckpointError("\n  ".join(["Files of weights must be those that the settings name, but:", *wrong]))


def _find(digest: str, runtime: Runtime) -> Path | None:
    """A file that was given, downloaded or shipped; None if there is none. Its content is not read."""
    paths = {str(Nano().weights_sha256): SHIPPED, **local_files(), **runtime.weights}
    path = paths.get(digest)
    return path if path is not None and path.exists() else None


def read_weights(digest: str, runtime: Runtime) -> Mapping[str, Tensor]:
    """The state dict of the file of this sha256, bare or as ``{"model": state dict}``. Runs no code of the file.

    Raises ``CheckpointError`` if there is no such file, its content has another digest, or it holds something else.
    """
    path = _find(digest, runtime)
    if path is None:
        raise CheckpointError(
            f"Weights must be in a file of sha256 {digest}, but there is none: name it in "
            f"Runtime.weights. Meta's own files are found once python -m sam2lora.checkpoints NAME has downloaded them."
        )
    if (found := sha256(path)) != digest:
        raise CheckpointError(
            f"Weights must have the sha256 that the settings name, {digest}, but {path} has {found}: "
            f"give the right file, or name this one in the settings."
        )
    return read_state(path)


def sha256(path: Path) -> str:
    """The sha256 of a weights file in hexadecimal digits, as a backbone's ``checkpoint`` wants it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"A checkpoint must be a readable file, but {path} is not ({error}).") from error


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict of a file: bare, or ``{"model": state dict}`` as in Meta's. Runs no code of the file."""
    content = _tensors(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not _is_state(state):
        raise CheckpointError(
            f"A file of weights must hold a state dict, bare or as {{'model': state dict}}, but {path} holds "
            f"{_what(content)}: save the state dict."
        )
    return state


def _tensors(path: Path) -> object:
    """What a file of tensors holds: a safetensors file by its suffix, otherwise one of ``torch.save``."""
    unreadable = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*unreadable, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(
            f"A checkpoint must be a file of tensors written by torch.save, but {path} is not "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): download it again."
        ) from error


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())


def _what(content: object) -> str:
    return f"a dict with the keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__


def recognise(state: Mapping[str, Tensor]) -> Sam2 | None:
    """The published backbone whose trunk and version ``state`` has; None if it is none of them.

    The trunk tells the size, and an embedding that only 2.1 has tells the version.
    """
    version: Version = "2.1" if "no_obj_embed_spatial" in state else "2.0"
    trunk = {name: tensor.shape for name, tensor in state.items() if name.startswith(_TRUNK)}
    candidates = (Sam2(size=size, version=version) for size in get_args(Size))
    return next((candidate for candidate in candidates if _trunk_shapes(candidate) == trunk), None)


@cache
def _trunk_shapes(backbone: Hiera) -> dict[str, torch.Size]:
    state = weightless(backbone).state_dict()
    return {name: tensor.shape for name, tensor in state.items() if name.startswith(_TRUNK)}


def load(sam: SAM2Base, state: Mapping[str, Tensor], backbone: Hiera) -> None:
    """Copy ``state`` into ``sam``. Raises ``CheckpointError`` unless names and shapes agree exactly."""
    if mismatches := compare(sam.state_dict(), state):
        raise CheckpointError(
            f"Weights must have the names and shapes of the backbone, {backbone.title}, but {mismatches}. "
            f"{_remedy(state, backbone)}"
        )
    sam.load_state_dict(dict(state))


def _remedy(state: Mapping[str, Tensor], backbone: Hiera) -> str:
    similar = recognise(state)
    if similar is None:
        return "They look like no published SAM 2: give the official file."
    if similar.title == backbone.title:
        return "They look like a changed file of this backbone: give the official one."
    return f"They look like {similar.title}: name it in the backbone, or give another file."


def compare(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Which names and shapes of ``given`` are not those that are expected, in words; empty if all agree."""
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & given.keys())
        if expected[name].shape != given[name].shape
    ]
    few = (
        _first_few("missing", sorted(expected.keys() - given.keys())),
        _first_few("unexpected", sorted(given.keys() - expected.keys())),
        _first_few("of another shape", shapes),
    )
    return "; ".join(filter(None, few))


def _first_few(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"
