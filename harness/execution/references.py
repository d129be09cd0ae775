"""What a search has to beat: its declared defaults, and the frozen model, one trial each in the same study.

They are apart from the sampler's trials as a probe is (`harness.execution.probe`): no sampler sees them, no scheduler
stops them, and they are none of ``--trials``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.experiments.overrides import Overrides
from harness.experiments.search import Search
from harness.record.study import Record
from sam2lora.choice import to_json
from sam2lora.config import TrialConfig, frozen
from sam2lora.defaults import BASE
from sam2lora.overrides import with_backbone

DEFAULTS, FROZEN = "defaults", "frozen"


def references(search: Search, overrides: Overrides, typical: TrialConfig) -> dict[str, TrialConfig]:
    """The settings of every reference, by name; none where the search wants none.

    Where the search names no ``base``, the defaults are `BASE` on the data sets, backbone, frame and epochs of
    ``typical``, a trial of the search with the overrides in place. A U-Net has no frozen model: untrained, its decoder
    is random.
    """
    if not search.references:
        return {}
    if search.base is not None:
        defaults = overrides.apply(search.base)
    else:
        alike = {name: getattr(typical, name) for name in ("protocol", "image_size", "epochs")}
        defaults = replace(with_backbone(BASE, typical.backbone), **alike)
    if defaults.backbone.trained_whole:
        return {DEFAULTS: defaults}
    return {DEFAULTS: defaults, FROZEN: frozen(defaults)}


def missing(record: Record, wanted: Mapping[str, TrialConfig]) -> list[str]:
    """The references without an outcome that stands and without a trial that an earlier run left open."""
    there = {(trial.reference, trial.config) for trial in record.trials() if trial.stands or trial.resumable}
    return [name for name, config in wanted.items() if (name, to_json(config)) not in there]
