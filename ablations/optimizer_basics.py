"""Do a learning-rate schedule, weight decay and clipping each earn their place on an unseen hospital?"""

from __future__ import annotations

from dataclasses import replace

from harness.designs import Factorial, setting
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE
from sam2lora.optimizers import AdamW
from sam2lora.schedules import Constant, Cosine

BARE = replace(BASE, schedule=Constant(), optimizer=AdamW(lr=2e-3, weight_decay=0.0), clip_norm=None)


def decay(config: TrialConfig) -> TrialConfig:
    """With AdamW's usual weight decay."""
    return replace(config, optimizer=replace(config.optimizer, weight_decay=1e-2))


ABLATION = Ablation(
    BARE,
    Factorial({"schedule": setting(schedule=Cosine()), "weight_decay": decay, "clipping": setting(clip_norm=1.0)}),
    replicates(5),
    primary="dice",
    smallest_of_interest=0.005,
)
