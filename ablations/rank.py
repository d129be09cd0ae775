"""Does more rank help on an unseen hospital?"""

from __future__ import annotations

from harness.designs import Change, Levels, setting
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.adapters import LoRA
from sam2lora.defaults import BASE


def _rank(rank: int) -> Change:
    return setting(adapters=(LoRA(rank=rank, alpha=2.0 * rank),))


# On nano the larger ranks exceed the widths of most layers: ask this of --backbone large.
ABLATION = Ablation(
    BASE,
    Levels(
        factor=("adapters.0.rank", "adapters.0.alpha"),
        levels={f"rank {rank}": _rank(rank) for rank in (4, 8, 16, 32, 64, 128, 256)},
        reference="rank 8",
    ),
    replicates(5),
    primary="dice",
    smallest_of_interest=0.005,
)
