"""Where does an adapter serve best on an unseen hospital: in encoder, decoder or both, and in which of their layers?"""

from __future__ import annotations

from dataclasses import replace

from harness.designs import Crossed, setting
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE

_RANK = 8


def encoder(config: TrialConfig) -> TrialConfig:
    """In the encoder alone."""
    return _only(config, decoder="none")


def decoder(config: TrialConfig) -> TrialConfig:
    """In the decoder alone."""
    return _only(config, encoder="none")


def both(config: TrialConfig) -> TrialConfig:
    """In both."""
    return config


def _only(config: TrialConfig, **places: str) -> TrialConfig:
    assert isinstance(config.adapters[0], LoRA)
    return replace(config, adapters=(replace(config.adapters[0], **places),))  # type: ignore[arg-type]


def _layers(encoder: str, decoder: str) -> LoRA:
    return LoRA(encoder=encoder, decoder=decoder, rank=_RANK, alpha=2.0 * _RANK)  # type: ignore[arg-type]


ABLATION = Ablation(
    BASE,
    Crossed(
        factor=("adapters.0.encoder", "adapters.0.decoder"),
        first={
            "qkv": setting(adapters=(_layers("qkv", "attention"),)),
            "qv": setting(adapters=(_layers("qv", "qv"),)),
            "mlp": setting(adapters=(_layers("mlp", "mlp"),)),
            "all": setting(adapters=(_layers("all", "all"),)),
        },
        second={"in both": both, "in encoder": encoder, "in decoder": decoder},
        reference=("qkv", "in both"),
    ),
    replicates(5),
    primary="dice",
    smallest_of_interest=0.005,
)
