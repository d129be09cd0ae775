"""The question of a study as JSON: whatever decides what its numbers mean.

Studies with equal questions may share a record. Devices, folders, the number of workers and the number of trials are
not part of a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.experiments.ablation import Ablation
from harness.experiments.overrides import Overrides
from harness.experiments.search import Search
from harness.experiments.source import definitions
from harness.experiments.space import fingerprint, typical_settings
from harness.record.objectives import DIRECTIONS
from sam2lora.choice import to_json
from sam2lora.config import TrialConfig
from sam2lora.settings import differences


def search_question(name: str, search: Search, overrides: Overrides, materials: Mapping[str, str]) -> dict[str, Any]:
    """The question of the study ``name`` of a search. ``materials``: digests of data and weights by name."""
    source = definitions(search.space)
    return {
        **_common(name, overrides.apply(typical_settings(search.space)), materials),
        "space": fingerprint(search.space),
        **({"source": source} if source else {}),
        "sampler": json.loads(to_json(search.sampler)),
        "scheduler": json.loads(to_json(search.scheduler)),
        "objectives": list(search.objectives),
        "directions": [DIRECTIONS[objective] for objective in search.objectives],
        "constraints": [json.loads(to_json(constraint)) for constraint in search.constraints],
        "seed": search.replicate.seed,
        "fold": search.replicate.fold,
    }


def ablation_question(
    name: str,
    ablation: Ablation,
    materials: Mapping[str, str],
    settings: Mapping[str, TrialConfig] | None = None,
    tuning_trials: int = 0,
) -> dict[str, Any]:
    """The question of the study ``name`` of an ablation. ``materials`` as for ``search_question``.

    ``settings``: those of the arms after ``tuning_trials`` each; None takes them as declared.
    """
    return {
        **_common(name, ablation.base, materials),
        "ablation": comparison(ablation, settings, tuning_trials),
        "objectives": ["val/dice"],
        "directions": ["maximize"],
    }


def comparison(
    ablation: Ablation, settings: Mapping[str, TrialConfig] | None = None, tuning_trials: int = 0
) -> dict[str, Any]:
    """The arms and how they are compared, as JSON: a report needs neither the declaration nor torch.

    ``settings`` and ``tuning_trials`` as for ``ablation_question``; ``chosen`` holds what tuning put in place of the
    declared settings.
    """
    ran = settings or ablation.settings
    chosen = {name: differences(ablation.settings[name], config) for name, config in ran.items()}
    return {
        "design": ablation.design.describe(),
        "base": json.loads(to_json(ablation.base)),
        "arms": {name: differences(ablation.base, config) for name, config in ran.items()},
        "contrasts": {contrast.name: dict(contrast.weights) for contrast in ablation.contrasts},
        "components": ablation.design.membership(),
        "replicates": [[replicate.seed, replicate.fold] for replicate in ablation.replicates.all()],
        "primary": ablation.primary,
        "smallest_of_interest": ablation.smallest_of_interest,
        "tuned": tuning_trials,
        **({"chosen": chosen} if tuning_trials else {}),
    }


def _common(name: str, config: TrialConfig, materials: Mapping[str, str]) -> dict[str, Any]:
    """The common part of the questions of searches and ablations; ``config``: settings that all trials share."""
    return {
        "search": name,
        "sources": [dataset.name for dataset in config.protocol.sources],
        "targets": [dataset.name for dataset in config.protocol.targets],
        "protocol": json.loads(to_json(config.protocol)),
        "backbone": json.loads(to_json(config.backbone)),
        "image_size": config.image_size,
        "epochs": config.epochs,
        "materials": dict(sorted(materials.items())),
    }
