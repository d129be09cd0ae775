"""Trial packing: several trials train in lock-step on one frozen segmenter, each as if it were alone.

The frozen layers see one batch of all trials' images, trial by trial; where an adapter lies, its packed form
(`sam2lora.adapters.packed`) gives each trial its own. Whatever lies in front of the first site is computed once for
trials that see the same images. The law: a trial's curve is the same alone as in any company, up to rounding, and one
trial's divergence leaves the others as they are. Rounding is 1e-9 in float64 and 1e-4 in float32; in bfloat16, which
keeps three digits, company moves a score by about 1e-3 and the Dice of one image by up to 1e-2.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from sam2lora.adapters import Attachment, NoPackForm, PackForm, Site
from sam2lora.adapters.attachment import Placed
from sam2lora.adapters.dropout import Draws
from sam2lora.adapters.packed import Packed
from sam2lora.backbones import untouched_blocks
from sam2lora.choice import digest
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.evaluate import Predictor, evaluating, single_predictor
from sam2lora.models.segmenter import Segmenter
from sam2lora.training.loop import Lane, Output, Seen, close_epoch, lockstep
from sam2lora.training.scoring import evaluation_key, score_test_images, threshold_each
from sam2lora.training.seeds import derived
from sam2lora.training.session import Session, precision


def signature(config: TrialConfig, replicate: Replicate, training: int) -> str | None:
    """Trials of equal signature can share a pack; None: the trial runs alone.

    Losses, optimizers, schedules, clipping, epochs, augmentations and replicates may differ, and whatever the packed
    forms of the adapters allow; the rest of the model, the shape of a batch, the number of ``training`` images, the
    passes of a step and the kind of prompt may not. Trials with prompts must draw the same ones.
    """
    forms = _forms(config)
    if isinstance(forms, NoPackForm):
        return None
    adapters = [[part.kind, form.key] for part, form in zip(config.parts, forms, strict=True)]
    draws = digest(replicate, config.augment, config.protocol) if config.train_prompt.gives_points else ""
    shape = [config.image_size, config.batch_size, config.accumulate, config.precision, config.prompt_dropout, training]
    passes = [config.sharpness.kind, *config.sharpness.passes]
    model = digest(config.backbone, config.decoder, config.prompter, adapters)
    return digest(model, config.train_prompt, [*shape, *passes, draws])


def _forms(config: TrialConfig) -> list[PackForm] | NoPackForm:
    """The packed forms of a trial's adapters, or what forbids a pack."""
    if config.backbone.why_alone is not None:
        return NoPackForm(config.backbone.why_alone)
    if not config.parts:
        return NoPackForm("nothing is trained")
    forms: list[PackForm] = []
    for part in config.parts:
        form = part.pack_form(config.backbone)
        if isinstance(form, NoPackForm):
            return form
        forms.append(form)
    return forms


def pace(session: Session) -> int:
    """Sessions of one signature can share a pack where this is equal, too: prompts are drawn anew in every epoch.

    The number of finished epochs; 0 without prompts, where the epochs of a pack may differ.
    """
    return session.epoch if session.config.train_prompt.gives_points else 0


def why_alone(config: TrialConfig, device: str) -> str | None:
    """Why trials of such settings train one after the other, as a clause; None where a pack of them is faster.

    On a GPU all are that can share a pack. A CPU is bound by arithmetic, so that only what is shared is gained
    (`benchmarks.packs`): trials are that leave the whole encoder untouched.
    """
    forms = _forms(config)
    if isinstance(forms, NoPackForm):
        return forms.reason
    sites = (site.name for part in config.parts for site in part.sites(config.backbone))
    if device == "cpu" and untouched_blocks(sites, config.backbone) is not None:
        return "on a CPU a pack gains nothing where the image encoder is adapted"
    return None


def is_faster_packed(config: TrialConfig, device: str) -> bool:
    """Whether trials of such settings take less time in a pack than one after the other: see `why_alone`."""
    return why_alone(config, device) is None


def epoch(sessions: Sequence[Session]) -> list[dict[str, float] | Diverged]:
    """Train every session for one epoch, and validate it: the entry of its curve, or how it diverged.

    All must have one `signature` and one `pace` (``ValueError``), and none may have finished. Seconds of a pack are
    divided equally among its sessions.
    """
    begun = time.perf_counter()
    lanes = advance(sessions)
    seconds = (time.perf_counter() - begun) / len(sessions)
    entries: list[dict[str, float] | Diverged | None] = [lane.fault for lane in lanes]
    for places in _alike([place for place, lane in enumerate(lanes) if lane.fault is None], sessions):
        with predictor_of([sessions[place] for place in places]) as predictor:
            closed = close_epoch([lanes[place] for place in places], predictor, seconds)
        for place, entry in zip(places, closed, strict=True):
            entries[place] = entry
    return [entry for entry in entries if entry is not None]


def final_scores(sessions: Sequence[Session]) -> list[pd.DataFrame]:
    """``sam2lora.training.scoring.final_scores`` of every session; their epochs have all run."""
    tables: dict[int, pd.DataFrame] = {}
    for places in _alike(range(len(sessions)), sessions):
        group = [sessions[place] for place in places]
        with predictor_of(group) as predictor:
            rows = score_test_images(group, predictor, threshold_each(group, predictor))
        tables |= dict(zip(places, rows, strict=True))
    return [tables[place] for place in range(len(sessions))]


def _alike(places: Iterable[int], sessions: Sequence[Session]) -> Iterator[list[int]]:
    """``places`` of sessions that are evaluated on the same images."""
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(evaluation_key(sessions[place]), []).append(place)
    yield from groups.values()


def advance(sessions: Sequence[Session]) -> list[Lane]:
    """The training of ``epoch`` alone, as far as each session came. No curve moves on."""
    signatures = {(signature(s.config, s.replicate, len(s.training)), pace(s)) for s in sessions}
    if len(signatures) != 1:
        raise ValueError("Trials of a pack must have one signature and pace, but these differ: pack them apart.")
    with _packed(sessions, Draws()) as forward, forward.gradients():
        forward.segmenter.train()
        return lockstep(sessions, forward)


@contextmanager
def predictor_of(sessions: Sequence[Session]) -> Iterator[Predictor]:
    """The predictor of sessions of one `sam2lora.training.scoring.evaluation_key`, for use within the block."""
    if len(sessions) == 1:
        with single_predictor(sessions[0].segmenter) as predictor:
            yield predictor
        return
    everyone = [0] * len(sessions)
    with _packed(sessions, None) as forward, evaluating(forward.segmenter):
        yield lambda images, points: [output.prediction.logits for output in forward([(images, points)], everyone)]


@contextmanager
def _packed(sessions: Sequence[Session], draws: Draws | None) -> Iterator[PackedForward]:
    """The forward pass of sessions, with the packed forms of their adapters on the segmenter that they share."""
    first = sessions[0]
    forms = _forms(first.config)
    if isinstance(forms, NoPackForm):
        raise ValueError(f"A pack holds trials whose adapters share it, but {forms.reason}: train it alone.")
    packed: list[Packed] = []
    modules: dict[Site, nn.Module] = {}
    for form, *trials in zip(forms, *(session.attachment.placed for session in sessions), strict=True):
        sites = list(zip(*trials, strict=True))
        packed.append(form.build([_modules(site) for site in sites], draws))
        modules |= dict(zip((site[0].site for site in sites), packed[-1].modules, strict=True))
    if draws is not None:
        seeds = [derived(session.replicate, "dropout", session.epoch + 1) for session in sessions]
        draws.seed(seeds, first.runtime.device)
    segmenter = first.attachment.segmenter
    attachment = Attachment(segmenter, (_Company(modules),))
    try:
        yield PackedForward(segmenter, sessions, packed, draws)
    finally:
        attachment.detach()


def _modules(site: Sequence[Placed]) -> list[nn.Module]:
    return [placed.module for placed in site if placed.module is not None]


@dataclass(frozen=True)
class _Company:
    """What a pack puts onto its segmenter: the module of all trials at every site."""

    modules: Mapping[Site, nn.Module]

    def place(self, on: Attachment) -> None:
        """Put every module onto its site."""
        for site, module in self.modules.items():
            on.put(site, module)


@dataclass
class PackedForward:
    """The forward pass of a pack, with the ``packed`` forms of its adapters on the segmenter."""

    segmenter: Segmenter
    sessions: Sequence[Session]
    packed: Sequence[Packed]
    draws: Draws | None

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        images = torch.cat([images for images, _ in given])
        prompts = [points for place in places if (points := given[place][1]) is not None]
        size = len(given[0][0])
        with precision(self.sessions[0].config, self.sessions[0].runtime):
            features = self.segmenter.encode_shared(images, places, size)
            points = (torch.cat([p[0] for p in prompts]), torch.cat([p[1] for p in prompts])) if prompts else None
            prediction = self.segmenter.decode(features, points)
        return [Output(*each) for each in zip(prediction.split(size), features.split(size), strict=True)]

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Room for the gradients of all trials, for the time of the block."""
        with ExitStack() as stack:
            for each in self.packed:
                stack.enter_context(each.gradients())
            yield

    def zero_grad(self) -> None:
        """Forget the gradients of all trials."""
        for each in self.packed:
            each.zero_grad()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """What dropout draws from: one for all trials that draw the same bits."""
        return () if self.draws is None else self.draws.generators
