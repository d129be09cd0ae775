"""What a command line asks for in words: data sets, a protocol, a backbone. Every command reads them alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from sam2lora.adapters import Full
from sam2lora.backbones import Backbone, Encoder, Nano, Size, UNet, published
from sam2lora.checkpoints import file_of
from sam2lora.choice import kinds
from sam2lora.config import TrialConfig
from sam2lora.datasets import Dataset, Target, aimed, named
from sam2lora.errors import CheckpointError
from sam2lora.model import sha256
from sam2lora.protocols import Protocol

RANDOM = "random"
"""What --checkpoint says in place of a file."""
_ONE = {"per_dataset": "dataset", "leave_one_dataset_out": "held_out"}  # the field that tells one model from the next
_SIZES: tuple[str, ...] = get_args(Size)
_ENCODERS: tuple[str, ...] = get_args(Encoder)


def datasets(names: str | None) -> tuple[Dataset, ...] | None:
    """The data sets of ``NAME[:FIELD=VALUE],...``; None where nothing was said. Raises ``DataError``."""
    return None if names is None else tuple(named(name) for name in names.split(",") if name.strip())


@dataclass(frozen=True)
class Asked:
    """What a command line says of the protocol; None is what it leaves as it is declared.

    ``kind``: of the protocol. ``structure``: what every data set is to be segmented for. Each of the others is the
    field of that name in the protocols that have one.
    """

    kind: str | None = None
    datasets: tuple[Dataset, ...] | None = None
    sources: tuple[Dataset, ...] | None = None
    targets: tuple[Dataset, ...] | None = None
    shots: int | None = None
    dataset: str | None = None
    held_out: str | None = None
    structure: Target | None = None

    def model(self, declared: Protocol) -> Protocol:
        """``declared`` with what is asked in its place. Naming sources without targets means no targets.

        A protocol of another kind begins with the data sets of ``declared`` and nothing else of it. Raises
        ``ValueError`` for an option that belongs to another protocol and for one that is missing, ``DataError`` when a
        data set holds no outlines of ``structure``, and what the protocols raise.
        """
        protocol = kinds(Protocol)[self.kind or declared.kind]
        takes = [field.name for field in fields(protocol) if field.name != "kind"]
        values = {name: getattr(declared, name) for name in takes} if isinstance(declared, protocol) else {}
        values |= self._given(takes, protocol.kind)
        values |= {name: self._aim(sets) for name, sets in self._sets(declared).items() if name in takes}
        try:
            return cast("Protocol", protocol(**values))
        except ValidationError as error:
            raise ValueError(
                f"The protocol {protocol.kind} must be given what it is made of, but {_told(error)}."
            ) from error

    def each(self, declared: Protocol) -> tuple[Asked, ...]:
        """What is asked, once for every model of a protocol that is named by its kind. Raises as ``model`` does."""
        one = _ONE.get(self.kind or "")
        if one is None:
            self.model(declared)
            return (self,)
        names = [dataset.name for dataset in self._sets(declared)["datasets"]]
        first = self._of(one, names[0] if names else "").model(declared)
        return tuple(self._of(one, getattr(model, one)) for model in first.every())

    def _of(self, one: str, name: str) -> Asked:
        return replace(self, held_out=name) if one == "held_out" else replace(self, dataset=name)

    def _given(self, takes: Sequence[str], kind: str) -> dict[str, Any]:
        options = [field.name for field in fields(self) if field.name not in ("kind", "structure")]
        given = {name: value for name in options if (value := getattr(self, name)) is not None}
        if foreign := next((name for name in given if name not in takes), None):
            own = ", ".join(_option(name) for name in options if name in takes and name not in _ONE.values())
            raise ValueError(
                f"The protocol {kind} is told by {own}, but {_option(foreign)} was given: leave it out, or name the "
                f"protocol that takes it with --protocol."
            )
        return given

    def _sets(self, declared: Protocol) -> dict[str, tuple[Dataset, ...]]:
        """The data sets by field, whichever of the fields the protocol has."""
        pool = getattr(declared, "datasets", (*declared.sources, *declared.targets))
        kept = declared.targets if self.sources is None else ()
        return {
            "datasets": pool if self.datasets is None else self.datasets,
            "sources": declared.sources if self.sources is None else self.sources,
            "targets": kept if self.targets is None else self.targets,
        }

    def _aim(self, datasets: Sequence[Dataset]) -> tuple[Dataset, ...]:
        return tuple(one if self.structure is None else aimed(one, self.structure) for one in datasets)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(error: ValidationError) -> str:
    told = []
    for one in error.errors(include_url=False):
        match one:
            case {"type": "missing"}:
                why = "is left out: name it"
            case {"type": "too_short", "ctx": {"min_length": least, "actual_length": given}}:
                why = f"names {given} where {least} or more are needed: name more"
            case _:
                why = one["msg"].removeprefix("Value error, ").removesuffix(".")
        told.append(" ".join((*(_option(str(field)) for field in one["loc"][:1]), why)))
    return "; ".join(told)


def backbone(name: str, checkpoint: str | None) -> Backbone:
    """The backbone of ``--backbone`` and ``--checkpoint``: a file, ``random``, or None for the published weights.

    A published SAM 2 carries the digest of Meta's file, which need not be here yet. Raises ``CheckpointError``.
    """
    if name == "nano":
        return _nano(checkpoint)
    if name.partition(":")[0] == "unet":
        return _unet(name, checkpoint)
    model = published(name)
    if model is None:
        raise CheckpointError(
            f"--backbone must be one of nano, {', '.join(_SIZES)}, the last four with @2.0 for SAM 2 instead of 2.1, "
            f"or unet, but is {name!r}: choose one of them."
        )
    return replace(model, checkpoint=file_of(model).sha256 if checkpoint is None else _digest(checkpoint))


def on(config: TrialConfig, backbone: Backbone) -> TrialConfig:
    """``config`` on another backbone. A U-Net is trained whole: it takes the adapter ``Full`` with it."""
    return replace(config, backbone=backbone, adapter=Full() if isinstance(backbone, UNet) else config.adapter)


def _digest(checkpoint: str | None) -> str | None:
    """The sha256 of the file that --checkpoint names; None for random weights."""
    if checkpoint in (None, RANDOM):
        return None
    if not Path(checkpoint).is_file():
        raise CheckpointError(f"--checkpoint must be a file, but {checkpoint} is not: check the path.")
    return sha256(Path(checkpoint))


def _unet(name: str, checkpoint: str | None) -> UNet:
    encoder = name.partition(":")[2] or UNet().encoder
    if encoder not in _ENCODERS:
        raise CheckpointError(
            f"--backbone unet:ENCODER must name one of {', '.join(_ENCODERS)}, but is {name!r}: choose one of them."
        )
    return UNet(encoder=cast("Encoder", encoder), checkpoint=_digest(checkpoint))


def _nano(checkpoint: str | None) -> Nano:
    if checkpoint not in (None, RANDOM):
        raise CheckpointError(
            f"nano comes with weights of its own, but --checkpoint {checkpoint} was given: leave it out, or name the "
            f"size that the file belongs to with --backbone ({', '.join(_SIZES)})."
        )
    return Nano(weights="random" if checkpoint == RANDOM else "shipped")
