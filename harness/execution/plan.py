"""The plan of a command line: which declaration runs with which overrides, where, and how."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import RecordError
from harness.experiments import declarations
from harness.experiments.overrides import Overrides
from harness.experiments.search import Search
from harness.record.locations import default_storage, same_database, study_folder
from harness.samplers import Sampler
from harness.schedulers import Scheduler
from harness.tracking.selection import tracking_of
from harness.tracking.tracker import Tracking
from sam2lora.backbones import Backbone
from sam2lora.checkpoints import local_files
from sam2lora.choice import kinds
from sam2lora.cli.options import given_files
from sam2lora.models.weights import files_by_digest
from sam2lora.overrides import ProtocolOptions, parse_backbone
from sam2lora.protocols import Protocol
from sam2lora.runtime import Runtime, default_cache


@dataclass(frozen=True)
class Plan:
    """One study to run: the ``name`` of its declaration, its overrides, its machine, its databases and its folder.

    ``gpus_per_trial``, ``pack``: None leaves the choice to `harness.execution.slots`. ``command``: as it was typed.
    """

    name: str
    study: str
    overrides: Overrides
    runtime: Runtime
    gpus_per_trial: float | None
    pack: bool | None
    storage: str
    tracking: Tracking
    out: Path
    command: str

    @property
    def folder(self) -> Path:
        """Where the study's files lie."""
        return study_folder(self.out, self.study)


def plan_studies(arguments: argparse.Namespace, command: str, protocol: Protocol) -> tuple[Plan, ...]:
    """The plans of a command line, ``command`` as it was typed: one, or one for each model of the protocol.

    ``protocol``: the declared one, whose data sets stand where the command line names none. Raises before anything is
    opened or written.
    """
    plan = _plan(arguments, command)
    return tuple(
        replace(plan, study=study_name(plan.study, model), overrides=replace(plan.overrides, protocol=model))
        for model in plan.overrides.protocol.models(protocol)
    )


def study_name(study: str, options: ProtocolOptions) -> str:
    """The study of one model: ``study`` itself, or followed by a slash and the name of the model."""
    if options.held_out is not None:
        return f"{study}/held_out={options.held_out}"
    return study if options.dataset is None else f"{study}/dataset={options.dataset}"


def _plan(arguments: argparse.Namespace, command: str) -> Plan:
    """The plan of a command line as if its protocol had one model: the study that ``plan_studies`` divides."""
    backbone = _backbone(arguments.backbone, arguments.checkpoint)
    overrides = Overrides(
        protocol=ProtocolOptions.of(arguments),
        backbone=backbone,
        epochs=arguments.epochs,
        image_size=arguments.image_size,
    )
    given = files_by_digest(path.resolve() for path in given_files(arguments))
    out = arguments.out.resolve()
    storage, tracking = arguments.storage or default_storage(out), tracking_of(arguments, out)
    if same_database(storage, tracking.address):
        raise RecordError(
            f"The record and MLflow must have a database each, since both keep the version of their tables in a table "
            f"of the same name, but {storage} is meant for both: name another with --storage or MLFLOW_TRACKING_URI, "
            f"on the same server if you like."
        )
    return Plan(
        name=arguments.name,
        study=arguments.study or arguments.name,
        overrides=overrides,
        runtime=Runtime(
            # Workers run in folders of their own, where a relative path means something else.
            data=arguments.data and arguments.data.resolve(),
            weights={**local_files(), **given},
            cache=default_cache().resolve(),
        ),
        gpus_per_trial=arguments.gpus_per_trial,
        pack=arguments.pack,
        storage=storage,
        tracking=tracking,
        out=out,
        command=command,
    )


def plan_search(arguments: argparse.Namespace) -> Search:
    """The declared search with the sampler, scheduler, trials and seed of the command line, where it names them."""
    search = declarations.search(arguments.name)
    if arguments.sampler is not None and arguments.sampler != search.sampler.kind:
        search = replace(search, sampler=kinds(Sampler)[arguments.sampler]())
    if arguments.scheduler is not None and arguments.scheduler != search.scheduler.kind:
        search = replace(search, scheduler=kinds(Scheduler)[arguments.scheduler]())
    seed = search.replicate.seed if arguments.seed is None else arguments.seed
    return replace(
        search,
        trials=search.trials if arguments.trials is None else arguments.trials,
        probe=search.probe if arguments.probe is None else arguments.probe,
        references=search.references and not arguments.no_references,
        replicate=replace(search.replicate, seed=seed),
    )


def _backbone(name: str | None, checkpoint: str | None) -> Backbone | None:
    return None if name is None and checkpoint is None else parse_backbone(name or "nano", checkpoint)
