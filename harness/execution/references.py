"""What a search has to beat: its declared defaults, and the frozen model, one trial each in the same study.

They are apart from the sampler's trials as a probe is (`harness.execution.probe`): no sampler sees them, no scheduler
stops them, and they are none of ``--trials``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from optuna.trial import TrialState

from harness.experiments.search import Overrides, Search
from harness.record.study import Record, is_reference
from sam2lora.adapters import Frozen
from sam2lora.backbones import UNet
from sam2lora.base import BASE
from sam2lora.choice import to_json
from sam2lora.commands.asked import on
from sam2lora.config import TrialConfig

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
        defaults = replace(on(BASE, typical.backbone), **alike)
    if isinstance(defaults.backbone, UNet):
        return {DEFAULTS: defaults}
    return {DEFAULTS: defaults, FROZEN: replace(defaults, adapter=Frozen(), epochs=1)}


def missing(book: Record, wanted: Mapping[str, TrialConfig]) -> list[str]:
    """The references without an ending that stands and without a trial that an earlier run left open."""
    standing = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    there = {
        (trial.user_attrs["reference"], trial.user_attrs["config"])
        for trial in book.trials()
        if is_reference(trial) and trial.state in standing and "replicate" in trial.user_attrs
    }
    return [name for name, config in wanted.items() if (name, to_json(config)) not in there]
