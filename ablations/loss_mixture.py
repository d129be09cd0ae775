"""Does a mixture of losses beat its parts on an unseen hospital, and which one is best?"""

from __future__ import annotations

from harness.designs import Mixture
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.defaults import BASE
from sam2lora.losses import BCE, FocalTversky, SoftDice

ABLATION = Ablation(
    BASE,
    Mixture({"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": FocalTversky()}, inside=True),
    replicates(5),
    primary="dice",
    smallest_of_interest=0.005,
)
