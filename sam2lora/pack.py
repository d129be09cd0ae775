"""Trial packing: several trials train in lock-step on one frozen segmenter, each as if it were alone.

Each adapter carries a leading trial axis, and the frozen layers see one batch of all trials' images. Whatever lies in
front of the first adapted block is computed once for trials that see the same images. The law: a trial's curve is the
same alone as in any company, up to rounding, and one trial's divergence leaves the others as they are. Rounding is
1e-9 in float64 and 1e-4 in float32; in bfloat16, which keeps three digits, company moves a score by about 1e-3 and the
Dice of one image by up to 1e-2.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from sam2lora.adapters import LoRA, detach
from sam2lora.adapters.low_rank import LoRALinear, lora_layers
from sam2lora.adapters.packed import Draws, PackedLinear, Stack
from sam2lora.choice import digest
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.evaluate import Predictor, alone, evaluating
from sam2lora.model import Features, Sam2Segmenter
from sam2lora.prompts import NoPrompt
from sam2lora.train import (
    Lane,
    Output,
    Seen,
    Session,
    close_epoch,
    derived,
    judge_each,
    lockstep,
    precision,
    sight,
    threshold_each,
)


@dataclass(frozen=True)
class Resident:
    """A session whose adapter lies beside the segmenter that it shares, until it is ``worn``."""

    session: Session
    layers: dict[str, LoRALinear]


def signature(config: TrialConfig, replicate: Replicate, training: int) -> str | None:
    """Trials of equal signature can share a pack; None: the trial runs alone.

    Ranks, scales, dropout, losses, optimizers, schedules, clipping, epochs, augmentations and replicates may differ;
    the backbone, the shape of a batch, the number of ``training`` images, the adapted layers and the kind of prompt
    may not. Trials with prompts must draw the same ones.
    """
    if not isinstance(config.adapter, LoRA):
        return None
    layers = replace(config.adapter, rank=1, alpha=0.0, dropout=0.0, init="normal", scale="standard")
    prompted = not isinstance(config.train_prompt, NoPrompt)
    draws = digest(replicate, config.augment, config.protocol) if prompted else ""
    shape = [config.image_size, config.batch_size, config.accumulate, config.precision, config.prompt_dropout, training]
    return digest(config.backbone, layers, config.train_prompt, [*shape, draws])


def pace(session: Session) -> int:
    """Sessions of one signature can share a pack where this is equal, too: prompts are drawn anew in every epoch.

    The number of finished epochs; 0 without prompts, where the epochs of a pack may differ.
    """
    return 0 if isinstance(session.config.train_prompt, NoPrompt) else session.epoch


def pays(config: TrialConfig, device: str) -> bool:
    """Whether trials of such settings take less time in a pack than one after the other.

    On a GPU all with LoRA do. A CPU is bound by arithmetic, so that only what is shared is gained
    (`benchmarks.packs`): trials do that leave the whole encoder untouched.
    """
    if not isinstance(config.adapter, LoRA):
        return False
    return device != "cpu" or all(layer.block is None for layer in config.adapter.targets(config.backbone))


def admit(session: Session) -> Resident:
    """Take the adapter of a session that has just started off the segmenter, which is then free for the next.

    Raises ``ValueError`` for a session without LoRA.
    """
    if signature(session.config, session.replicate, 0) is None:
        raise ValueError(
            f"A pack holds trials with LoRA, but the adapter is {session.config.adapter.kind!r}: train it alone."
        )
    layers = lora_layers(session.segmenter)
    detach(session.segmenter)
    return Resident(session, layers)


@contextmanager
def worn(resident: Resident) -> Iterator[Session]:
    """The resident's session with its adapter in the segmenter: to validate, judge, save, or load."""
    with _placed(resident.session.segmenter, resident.layers):
        yield resident.session


def epoch(residents: Sequence[Resident]) -> list[dict[str, float] | Diverged]:
    """Train every resident for one epoch, and validate it: the entry of its curve, or how it diverged.

    All must have one `signature` and one `pace` (``ValueError``), and none may have finished. Seconds of a pack are
    divided equally among its residents.
    """
    begun = time.perf_counter()
    lanes = advance(residents)
    seconds = (time.perf_counter() - begun) / len(residents)
    entries: list[dict[str, float] | Diverged | None] = [lane.fault for lane in lanes]
    for places in _alike([place for place, lane in enumerate(lanes) if lane.fault is None], residents):
        with looking([residents[place] for place in places]) as predictor:
            closed = close_epoch([lanes[place] for place in places], predictor, seconds)
        for place, entry in zip(places, closed, strict=True):
            entries[place] = entry
    return [entry for entry in entries if entry is not None]


def judge(residents: Sequence[Resident]) -> list[pd.DataFrame]:
    """The test scores of residents whose epochs have all run, each as ``sam2lora.train.judge`` makes them."""
    tables: dict[int, pd.DataFrame] = {}
    for places in _alike(range(len(residents)), residents):
        group = [residents[place] for place in places]
        sessions = [resident.session for resident in group]
        with looking(group) as predictor:
            rows = judge_each(sessions, predictor, threshold_each(sessions, predictor))
        tables |= dict(zip(places, rows, strict=True))
    return [tables[place] for place in range(len(residents))]


def _alike(places: Iterable[int], residents: Sequence[Resident]) -> Iterator[list[int]]:
    """``places`` of residents that look at the same images."""
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(sight(residents[place].session), []).append(place)
    yield from groups.values()


def advance(residents: Sequence[Resident]) -> list[Lane]:
    """The training of ``epoch`` alone, as far as each resident came. No curve moves on."""
    sessions = [resident.session for resident in residents]
    if len({(signature(s.config, s.replicate, len(s.training)), pace(s)) for s in sessions}) != 1:
        raise ValueError("Residents of a pack must have one signature and pace, but these differ: pack them apart.")
    with _packed(residents, _draws(sessions)) as forward, forward.stack.gradients():
        forward.segmenter.train()
        return lockstep(sessions, forward)


def _draws(sessions: Sequence[Session]) -> Draws:
    seeds = [derived(session.replicate, "dropout", session.epoch + 1) for session in sessions]
    dropouts = [session.config.adapter.dropout for session in sessions if isinstance(session.config.adapter, LoRA)]
    return Draws(seeds, dropouts, sessions[0].runtime.device)


@contextmanager
def looking(residents: Sequence[Resident]) -> Iterator[Predictor]:
    """The predictor of residents that look at the same images (`sam2lora.train.sight`), for use within the block."""
    if len(residents) == 1:
        with worn(residents[0]) as session, alone(session.segmenter) as predictor:
            yield predictor
        return
    everyone = [0] * len(residents)
    with _packed(residents, None) as forward, evaluating(forward.segmenter):
        yield lambda images, points: [logits for logits, _ in forward([(images, points)], everyone)]


@contextmanager
def _packed(residents: Sequence[Resident], draws: Draws | None) -> Iterator[Together]:
    """The forward pass of residents, with their layers in the segmenter that they share."""
    sessions = [resident.session for resident in residents]
    segmenter = sessions[0].segmenter
    assert isinstance(segmenter, Sam2Segmenter)  # LoRA has no layers elsewhere
    stack = Stack([_factors(resident.layers) for resident in residents])
    names = residents[0].layers
    packed = {name: PackedLinear([resident.layers[name] for resident in residents], stack, draws) for name in names}
    with _placed(segmenter, packed):
        yield Together(segmenter, sessions, stack)


def _factors(layers: Mapping[str, LoRALinear]) -> list[nn.Parameter]:
    return [factor for layer in layers.values() for _, update in layer.updates() for factor in (update.A, update.B)]


@dataclass
class Together:
    """The forward pass of a pack, with its `PackedLinear` layers in the segmenter."""

    segmenter: Sam2Segmenter
    sessions: Sequence[Session]
    stack: Stack

    def __post_init__(self) -> None:
        adapter = self.sessions[0].config.adapter
        assert isinstance(adapter, LoRA)
        blocks = [layer.block for layer in adapter.targets(self.segmenter.backbone) if layer.block is not None]
        self.first = min(blocks) if blocks else None

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        images, points = torch.cat([batch[0] for batch in given]), given[0][1]
        size = len(given[0][0])
        with precision(self.sessions[0].config, self.sessions[0].runtime):
            features = self._features(images, places, size)
            if points is not None:
                points = (points[0].repeat(len(places), 1, 1), points[1].repeat(len(places), 1))
            logits, quality = self.segmenter.decode_with_iou(features, points)
        return list(zip(torch.split(logits, size), torch.split(quality, size), strict=True))

    def zero_grad(self) -> None:
        """Set the gradients of all trials zero, in one launch."""
        self.stack.grads.zero_()

    def _features(self, images: Tensor, places: Sequence[int], size: int) -> Features:
        """Of every trial's images: what no adapter has touched yet is computed once for each distinct image."""
        if self.first is None:
            return self.segmenter.encode(images).take(places, size)
        stage = self.segmenter.front(images, self.first)
        return self.segmenter.neck(self.segmenter.run_blocks(stage.take(places, size)))


@contextmanager
def _placed(segmenter: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """``layers`` in the place of the segmenter's own, which come back afterwards."""
    own = {name: segmenter.get_submodule(name) for name in layers}
    _put(segmenter, layers)
    try:
        yield
    finally:
        _put(segmenter, own)


def _put(segmenter: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        segmenter.set_submodule(name, layer)
