"""Does each component of the loss earn its place on an unseen hospital?"""

from __future__ import annotations

from harness.designs import Factorial
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.defaults import BASE
from sam2lora.losses import BCE, FocalTversky, SoftDice

ABLATION = Ablation(
    BASE,
    Factorial({"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": FocalTversky()}, empty=True),
    replicates(5),
    primary="dice",
    smallest_of_interest=0.005,
)
