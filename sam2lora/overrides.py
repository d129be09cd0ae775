"""Settings from a command line: data sets, a protocol and a backbone, read alike by every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from sam2lora.adapters import Full
from sam2lora.backbones import Backbone, Encoder, Nano, Size, UNet, published
from sam2lora.checkpoints import published_file
from sam2lora.choice import kinds
from sam2lora.cli.options import RANDOM
from sam2lora.config import TrialConfig
from sam2lora.datasets import Dataset, Target, parse_dataset, with_target
from sam2lora.errors import CheckpointError
from sam2lora.models.weights import sha256
from sam2lora.protocols import Protocol

_MODEL_FIELD = {"per_dataset": "dataset", "leave_one_dataset_out": "held_out"}  # names one model among the protocol's
_SIZES: tuple[str, ...] = get_args(Size)
_ENCODERS: tuple[str, ...] = get_args(Encoder)


def parse_datasets(names: str | None) -> tuple[Dataset, ...] | None:
    """The data sets of ``NAME[:FIELD=VALUE],...``; None without a text. Raises ``DataError``."""
    return None if names is None else tuple(parse_dataset(name) for name in names.split(",") if name.strip())


@dataclass(frozen=True)
class ProtocolOptions:
    """The protocol's options on a command line; None leaves the declared value.

    ``kind``: of the protocol. ``structure``: what to segment in every data set. Every other field is the field of that
    name in the protocols that have one.
    """

    kind: str | None = None
    datasets: tuple[Dataset, ...] | None = None
    sources: tuple[Dataset, ...] | None = None
    targets: tuple[Dataset, ...] | None = None
    shots: int | None = None
    dataset: str | None = None
    held_out: str | None = None
    structure: Target | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ProtocolOptions:
        """The options of a command line (`sam2lora.protocol_options`). Raises ``DataError``."""
        return cls(
            kind=arguments.protocol,
            datasets=parse_datasets(arguments.datasets),
            sources=parse_datasets(arguments.sources),
            targets=parse_datasets(arguments.targets),
            shots=arguments.shots,
            dataset=getattr(arguments, "dataset", None),
            held_out=getattr(arguments, "held_out", None),
            structure=arguments.structure,
        )

    def apply(self, declared: Protocol) -> Protocol:
        """``declared`` with the options in place. Sources without targets mean no targets.

        A protocol of another kind takes over the data sets of ``declared`` and nothing else. Raises ``ValueError`` for
        an option that belongs to another protocol and for one that is missing, ``DataError`` when a data set holds no
        outlines of ``structure``, and what the protocols raise.
        """
        protocol = kinds(Protocol)[self.kind or declared.kind]
        names = [field.name for field in fields(protocol) if field.name != "kind"]
        values = {name: getattr(declared, name) for name in names} if isinstance(declared, protocol) else {}
        values |= self._set_options(names, protocol.kind)
        values |= {name: self._with_structure(sets) for name, sets in self._sets(declared).items() if name in names}
        try:
            return cast("Protocol", protocol(**values))
        except ValidationError as error:
            raise ValueError(f"Protocol {protocol.kind} must be complete and valid, but {_describe(error)}.") from error

    def models(self, declared: Protocol) -> tuple[ProtocolOptions, ...]:
        """The options of every model of a protocol that is named by its kind. Raises as ``apply`` does."""
        field = _MODEL_FIELD.get(self.kind or "")
        if field is None:
            self.apply(declared)
            return (self,)
        names = [dataset.name for dataset in self._sets(declared)["datasets"]]
        first = self._model(field, names[0] if names else "").apply(declared)
        return tuple(self._model(field, getattr(model, field)) for model in first.every())

    def _model(self, field: str, name: str) -> ProtocolOptions:
        return replace(self, held_out=name) if field == "held_out" else replace(self, dataset=name)

    def _set_options(self, names: Sequence[str], kind: str) -> dict[str, Any]:
        options = [field.name for field in fields(self) if field.name not in ("kind", "structure")]
        values = {name: value for name in options if (value := getattr(self, name)) is not None}
        if foreign := next((name for name in values if name not in names), None):
            takes = ", ".join(_option(name) for name in options if name in names and name not in _MODEL_FIELD.values())
            raise ValueError(
                f"Protocol {kind} takes {takes}, but {_option(foreign)} was given: leave it out, or choose the "
                f"protocol that takes it with --protocol."
            )
        return values

    def _sets(self, declared: Protocol) -> dict[str, tuple[Dataset, ...]]:
        """The data sets by field, for every field that some protocol has."""
        pool = getattr(declared, "datasets", (*declared.sources, *declared.targets))
        kept = declared.targets if self.sources is None else ()
        return {
            "datasets": pool if self.datasets is None else self.datasets,
            "sources": declared.sources if self.sources is None else self.sources,
            "targets": kept if self.targets is None else self.targets,
        }

    def _with_structure(self, datasets: Sequence[Dataset]) -> tuple[Dataset, ...]:
        if self.structure is None:
            return tuple(datasets)
        return tuple(with_target(dataset, self.structure) for dataset in datasets)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _describe(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        match fault:
            case {"type": "missing"}:
                why = "is missing: add it"
            case {"type": "too_short", "ctx": {"min_length": least, "actual_length": count}}:
                why = f"lists {count} where {least} or more are needed: add more"
            case _:
                why = fault["msg"].removeprefix("Value error, ").removesuffix(".")
        faults.append(" ".join((*(_option(str(field)) for field in fault["loc"][:1]), why)))
    return "; ".join(faults)


def parse_backbone(name: str, checkpoint: str | None) -> Backbone:
    """The backbone that ``--backbone`` and ``--checkpoint`` (a file, ``random``, or None: published weights) name.

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
    return replace(model, checkpoint=published_file(model).sha256 if checkpoint is None else _digest(checkpoint))


def with_backbone(config: TrialConfig, backbone: Backbone) -> TrialConfig:
    """``config`` on another backbone. A U-Net is trained whole: its only adapter is ``Full``."""
    return replace(config, backbone=backbone, adapters=(Full(),) if backbone.trained_whole else config.adapters)


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
            f"nano comes with its weights, but --checkpoint {checkpoint} was given: leave it out, or name its "
            f"SAM 2 with --backbone ({', '.join(_SIZES)})."
        )
    return Nano(weights="random" if checkpoint == RANDOM else "shipped")
