"""The training loop: epochs of one trial, or of several in lock-step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_, get_total_norm

from sam2lora import evaluate
from sam2lora.choice import digest
from sam2lora.errors import Diverged
from sam2lora.evaluate import Predictor
from sam2lora.metrics import NotNumbers
from sam2lora.models.segmenter import Batch, Features, Points, Prediction, joined
from sam2lora.optimizers import Group
from sam2lora.sharpness import Ask, Passes
from sam2lora.training.batches import batches
from sam2lora.training.objective import Terms, objective, terms_of
from sam2lora.training.scoring import validate_each
from sam2lora.training.seeds import derived
from sam2lora.training.session import Session, groups_of, peak_mib, precision
from sam2lora.transfers import prefetch_on_stream, to_device, to_host


def epoch(session: Session) -> dict[str, float]:
    """Train one pass over the training images, validate, and append the result to ``session.curve``.

    Raises ``Diverged`` a batch after a loss or a gradient was not finite, and at the end of the epoch if a weight is
    not or a validation logit is NaN.
    """
    begun = time.perf_counter()
    session.segmenter.train()
    # Dropout draws from torch's global generator: one seed per epoch makes a resumed trial equal an uninterrupted one.
    torch.manual_seed(derived(session.replicate, "dropout", session.epoch + 1))
    (lane,) = lockstep([session], SingleForward(session))
    seconds = time.perf_counter() - begun
    if lane.fault is not None:
        raise lane.fault
    with evaluate.single_predictor(session.segmenter) as predictor:
        (entry,) = close_epoch([lane], predictor, seconds)
    if isinstance(entry, Diverged):
        raise entry
    return entry


def close_epoch(lanes: Sequence[Lane], predictor: Predictor, seconds: float) -> list[dict[str, float] | Diverged]:
    """Validate lanes that have run their epoch, and append the entry that is returned for each to its session's curve.

    All have one `evaluation_key` and are validated by ``predictor``; each was trained for ``seconds``, and none has a
    fault. Where a logit is NaN the lane has diverged, and its curve stays as it is.
    """
    begun = time.perf_counter()
    scores = validate_each([lane.session for lane in lanes], predictor)
    validated = (time.perf_counter() - begun) / len(lanes)
    entries: list[dict[str, float] | Diverged] = []
    for lane, score in zip(lanes, scores, strict=True):
        session = lane.session
        if isinstance(score, NotNumbers):
            entries.append(Diverged("a validation logit is not a number", lane.number, lane.step))
            continue
        first = session.optimizer.param_groups[0]
        entry: dict[str, float] = {"epoch": lane.number, "lr": float(first["lr"] / first["lr_scale"])}
        entry |= {f"loss/{name}": value for name, value in lane.losses().items()}
        entry |= {**score, "seconds": seconds + validated}
        session.cost.train_seconds += seconds
        session.cost.evaluate_seconds += validated
        session.cost.peak_mib = max(session.cost.peak_mib, peak_mib(session.runtime))
        session.curve.append(entry)
        entries.append(entry)
    return entries


@dataclass
class Lane:
    """A trial on its way through one epoch: the epoch's ``number``, steps begun, sums of losses over the images seen.

    ``groups``: all that is trained, by name. ``terms`` of its objective and their ``weights``, on the device. ``rng``:
    what its sharpness draws from. ``fault``: why it can go no further; it then takes no part in the rest of the epoch.
    """

    session: Session
    number: int
    trainable: list[nn.Parameter]
    groups: tuple[Group, ...]
    terms: Terms
    weights: Tensor
    rng: np.random.Generator
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    fault: Diverged | None = None

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Count the losses of a batch."""
        self.sums = {name: self.sums[name] + value if self.sums else value for name, value in sums.items()}

    def losses(self) -> dict[str, float]:
        """Mean losses over the training images by name."""
        return {name: float(value) / len(self.session.training) for name, value in self.sums.items()}


Step = tuple[Batch, ...]
"""The batches of one optimizer step: as many as the trial accumulates, or fewer at the end of an epoch."""


class Output(NamedTuple):
    """What a model makes of a batch."""

    prediction: Prediction
    features: Features


Seen = tuple[Tensor, Points | None]
"""What a model sees of a batch: images and prompts."""


class Forward(Protocol):
    """The forward pass of trials in lock-step."""

    def __call__(self, given: Sequence[Seen], places: Sequence[int], /) -> Sequence[Output]:
        """The output of each trial, for distinct batches and for each trial the place of its batch among them."""

    def zero_grad(self) -> None:
        """Forget the gradients of the pass before."""

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """What dropout draws from."""


@dataclass
class SingleForward:
    """The forward pass of one trial that has its segmenter to itself."""

    session: Session

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        """The output of the one trial."""
        images, points = given[places[0]]
        session, segmenter = self.session, self.session.segmenter
        with precision(session.config, session.runtime):
            features = segmenter.encode(images)
            return [Output(segmenter.decode(features, points), features)]

    def zero_grad(self) -> None:
        """Drop them: what the step does not reach then has none, and stays as it is."""
        self.session.optimizer.zero_grad(set_to_none=True)

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """Torch's own for the device."""
        if not self.session.runtime.device.startswith("cuda"):
            return [torch.default_generator]
        place = torch.device(self.session.runtime.device).index
        return [torch.cuda.default_generators[torch.cuda.current_device() if place is None else place]]


@contextmanager
def _flushed() -> Iterator[None]:
    """Denormal numbers are 0 for the time of the block: gradients below 1e-38 take a CPU a hundred times as long."""
    before = torch.tensor(1e-40).item() == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@_flushed()
def lockstep(sessions: Sequence[Session], forward: Forward) -> list[Lane]:
    """Train each session for its next epoch, step by step together, with one ``forward`` pass for all.

    All need batches and steps of equal sizes. A lane's losses, gradients and steps are its own: trials that share their
    draws share their batches, and nothing else passes from one to another. A lane whose loss or gradient is not
    finite gets its ``fault`` one step later, when a GPU has work again, and at the end of the epoch at the latest, as
    one does whose weights are not finite.
    """
    lanes = [enter(session) for session in sessions]
    streams = {_draws(lane): _steps(lane) for lane in lanes}
    places = [list(streams).index(_draws(lane)) for lane in lanes]
    together = zip(*streams.values(), strict=True)
    device = sessions[0].runtime.device
    verdict = _stop_unless_finite([])
    for given in prefetch_on_stream(together, device) if device.startswith("cuda") else together:
        for lane in lanes:
            lane.step += lane.fault is None
        advanced = step(lanes, forward, given, places)
        for each in advanced:
            for sums in each.sums:
                each.lane.add(sums)
            each.lane.session.schedule.step()
        objectives = [(each.lane, "the loss", each.objective) for each in advanced]
        norms = [(each.lane, "the gradient", each.norm) for each in advanced if each.norm is not None]
        verdict()  # on the step before
        verdict = _stop_unless_finite([*objectives, *norms])
        if all(lane.fault for lane in lanes):
            break
    verdict()
    # What the last step did to the weights has shown in no loss.
    sound = [lane for lane in lanes if lane.fault is None]
    _stop_unless_finite([(lane, "a weight", get_total_norm(lane.trainable, float("inf"))) for lane in sound])()
    return lanes


def _steps(lane: Lane) -> Iterator[Step]:
    coming = batches(lane.session, lane.number)
    while batched := tuple(islice(coming, lane.session.config.accumulate)):
        yield batched


def enter(session: Session) -> Lane:
    """The lane of a session in front of its next epoch."""
    attachment = session.attachment
    trainable = list(attachment.parameters.values())
    terms, weights = terms_of(session.config.loss, session.config.auxiliary)
    weights = to_device(weights, session.runtime.device)
    # Like dropout's: one seed per epoch makes a resumed trial equal an uninterrupted one.
    rng = np.random.default_rng(derived(session.replicate, "sharpness", session.epoch + 1))
    groups = groups_of(session.config, attachment)
    return Lane(session, session.epoch + 1, trainable, groups, terms, weights, rng)


class Advanced(NamedTuple):
    """What a step came to in a lane, on its device.

    ``objective`` (): what was minimised, at the weights that the step began with; ``sums`` (): losses by name, summed
    over the images of each batch, at the same weights; ``norm`` (): the norm of the gradient before it was clipped,
    where the step trains anything.
    """

    lane: Lane
    objective: Tensor
    sums: Sequence[Mapping[str, Tensor]]
    norm: Tensor | None


def step(lanes: Sequence[Lane], forward: Forward, given: Sequence[Step], places: Sequence[int]) -> list[Advanced]:
    """One step of every lane without a fault: the passes that its sharpness asks for, clipping, and the optimizer's.

    Lanes that ask alike share a pass. Nothing in here asks for the value of a tensor or copies from the host, so that
    the host runs ahead of a GPU and a CUDA graph can hold all of a step that has one pass; the graph would keep the
    learning rate of its capture, which is a float. The schedule moves on afterwards.
    """
    numbered = enumerate(zip(lanes, places, strict=True))
    turns = [_Turn(number, lane, given[place]) for number, (lane, place) in numbered if lane.fault is None]
    several = any(turn.lane.session.config.sharpness.passes != Passes(1, 1) for turn in turns)
    states = [generator.get_state() for generator in forward.generators] if several else []
    _pass(turns, forward, given, places)
    with _again(forward.generators, lanes[0].session.attachment.segmenter.body) if several else nullcontext():
        while asking := [turn for turn in turns if turn.ask is not None]:
            for generator, state in zip(forward.generators, states, strict=True):
                generator.set_state(state)
            alike = [turn for turn in asking if turn.size == asking[0].size]
            _pass(alike, forward, *_selected(alike, given, places))
    return [Advanced(turn.lane, turn.objective, turn.sums, turn.norm) for turn in turns]


@contextmanager
def _again(generators: Sequence[torch.Generator], body: nn.Module) -> Iterator[None]:
    """Passes after the first leave no trace, neither in the statistics of BatchNorm nor in what is drawn next."""
    moving = [module for module in body.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    states = [generator.get_state() for generator in generators]
    for module in moving:
        module.track_running_stats = False  # it then normalises by the batch, as in any training, and counts nothing
    try:
        yield
    finally:
        for module in moving:
            module.track_running_stats = True
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


class _Turn:
    """A lane's step in the making. ``ask``: the pass that it waits for; None once the step is taken.

    ``objective``, ``sums``, ``norm``: see `Advanced`.
    """

    ask: Ask | None
    objective: Tensor
    norm: Tensor | None = None

    def __init__(self, number: int, lane: Lane, batches: Step) -> None:
        """``number``: the lane's place among all."""
        self.number, self.lane, self.batches = number, lane, batches
        self.sums: list[Mapping[str, Tensor]] = []
        session = lane.session
        self.plan = session.config.sharpness.step(lane.groups, session.memory, lane.rng)
        self._resume(None)

    @property
    def size(self) -> tuple[int | None, bool]:
        """What asks alike have in common: how many images they select, if they do, and whether they go backward."""
        assert self.ask is not None
        return None if self.ask.images is None else len(self.ask.images), self.ask.backward

    def add(self, mean: Tensor, sums: Mapping[str, Tensor]) -> None:
        """Count a batch of the first pass."""
        self.objective = self.objective + mean if self.sums else mean
        self.sums.append(sums)

    def end_pass(self, losses: Tensor) -> None:
        """Tell the sharpness its ``losses`` (N,), and take the step if it asks for nothing more."""
        grads = [parameter.grad for parameter in self.lane.trainable]
        self._resume(losses)
        if self.ask is None:
            self.norm = _update(self.lane)
            for parameter, grad in zip(self.lane.trainable, grads, strict=True):
                if parameter.grad is None:  # left out of the step; a pack's gradients keep their place
                    parameter.grad = grad

    def _resume(self, losses: Tensor | None) -> None:
        with torch.no_grad():
            try:
                self.ask = self.plan.send(losses)  # type: ignore[arg-type]  # None starts it
            except StopIteration:
                self.ask = None


def _pass(turns: Sequence[_Turn], forward: Forward, given: Sequence[Step], places: Sequence[int]) -> None:
    """One pass for all of ``turns``, which ask alike: forward, losses, and backward if they do."""
    count, backward = sum(len(images) for images, _, _ in given[0]), turns[0].size[1]
    losses: dict[int, list[Tensor]] = {turn.number: [] for turn in turns}
    first = not turns[0].sums
    forward.zero_grad()
    with torch.set_grad_enabled(backward):
        for together in zip(*given, strict=True):
            outputs = forward([(images, points) for images, _, points in together], places)
            running = [(turn, together[places[turn.number]], outputs[turn.number]) for turn in turns]
            objectives = _objectives(running, count)
            _backward([found.mean for found in objectives])
            for turn, mean, sums, each in objectives:
                losses[turn.number].append(each)
                if first:
                    turn.add(mean.detach(), sums)
    for turn in turns:
        turn.lane.session.cost.forward_images += count
        turn.lane.session.cost.backward_images += count * backward
        turn.end_pass(joined(losses[turn.number]))


def _selected(
    turns: Sequence[_Turn], given: Sequence[Step], places: Sequence[int]
) -> tuple[Sequence[Step], Sequence[int]]:
    """What the forward pass is given for the images that ``turns`` ask for; lanes without a turn see any."""
    if turns[0].size[0] is None:
        return given, places
    seen = {turn.number: number for number, turn in enumerate(turns)}
    return [_selection(turn) for turn in turns], [seen.get(number, 0) for number in range(len(places))]


def _selection(turn: _Turn) -> Step:
    """The images that a turn asks for, in batches of the usual size. All of the step have a prompt, or none has one."""
    assert turn.ask is not None
    assert turn.ask.images is not None
    chosen = turn.ask.images
    images, masks, points = zip(*turn.batches, strict=True)

    def selected(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.split(joined(tensors).index_select(0, chosen), turn.lane.session.config.batch_size)

    if points[0] is None:
        return tuple(map(Batch, selected(images), selected(masks), repeat(None)))
    marks = zip(*(selected(part) for part in zip(*points, strict=True)), strict=True)
    return tuple(map(Batch, selected(images), selected(masks), marks))


def _draws(lane: Lane) -> str:
    """What an epoch's batches depend on: lanes of equal draws see equal batches."""
    session, config = lane.session, lane.session.config
    names = [[opened.dataset.name, opened.digest] for opened in session.sets]
    what = [names, config.image_size, config.batch_size, config.prompt_dropout, lane.number, session.training]
    return digest(session.replicate, config.augment, config.train_prompt, what)


class _Objective(NamedTuple):
    """What a turn's batch comes to: what its gradient is of, sums of losses by name, and each image's total (N,)."""

    turn: _Turn
    mean: Tensor
    sums: dict[str, Tensor]
    each: Tensor


def _objectives(running: Sequence[tuple[_Turn, Batch, Output]], count: int) -> list[_Objective]:
    """The objectives of turns: means over all ``count`` images of the pass, however many batches bring them.

    ``running``: turns with their batches and outputs. A loss is of each image by itself, so that lanes of the same
    terms have them computed in one go, whatever their weights.
    """
    alike: dict[Terms, list[tuple[_Turn, Batch, Output]]] = {}
    for one in running:
        alike.setdefault(one[0].lane.terms, []).append(one)
    return [each for group in alike.values() for each in _of_same_terms(group, count)]


def _of_same_terms(group: Sequence[tuple[_Turn, Batch, Output]], count: int) -> Iterator[_Objective]:
    lanes = [turn.lane for turn, _, _ in group]
    terms = lanes[0].terms
    prediction = Prediction.joined([output.prediction for _, _, output in group])
    features, batch = _inputs(group, terms)
    images = len(batch.masks) // len(lanes)
    weights = torch.stack([lane.weights for lane in lanes], 1)[:, :, None].expand(-1, -1, images).flatten(1)
    total, values = objective(terms, weights, prediction, features, batch)
    total, values = total.view(len(lanes), -1), values.view(-1, len(lanes), images)
    sums = torch.cat([total[None], values]).detach().sum(2).T
    means, each = (total.sum(1) / count).unbind(), total.detach().unbind()
    for (turn, _, _), mean, own, own_images in zip(group, means, sums, each, strict=True):
        yield _Objective(turn, mean, dict(zip(("total", *terms.names), own.unbind(), strict=True)), own_images)


def _inputs(group: Sequence[tuple[_Turn, Batch, Output]], terms: Terms) -> tuple[Features, Batch]:
    """The features and the batches of a group in a row; without auxiliary losses, which read all, the masks alone.

    At 1024 pixels the rest of a pack is a gigabyte.
    """
    batches, features = [batch for _, batch, _ in group], [output.features for _, _, output in group]
    if terms.auxiliary:
        return Features.joined(features), Batch.joined(batches)
    return features[0], batches[0]._replace(masks=joined([batch.masks for batch in batches]))


def _backward(objectives: Sequence[Tensor]) -> None:
    """The gradient of every objective, in one pass: no parameter is in two of them."""
    if kept := [objective for objective in objectives if objective.requires_grad]:
        torch.stack(kept).sum().backward()  # type: ignore[no-untyped-call]


def _update(lane: Lane) -> Tensor | None:
    """Take the lane's step; the norm of its gradient, if it has one."""
    limit = lane.session.config.clip_norm
    norm = clip_grad_norm_(lane.trainable, limit if limit is not None else float("inf"))
    lane.session.optimizer.step()
    return norm if any(parameter.grad is not None for parameter in lane.trainable) else None


def _stop_unless_finite(values: Sequence[tuple[Lane, str, Tensor]]) -> Callable[[], None]:
    """Ask whether each lane's value, named for a message, is a finite number: one question for all.

    The call that is returned waits for the answer and stops the lanes that it is no for, each by its first fault.
    """
    if not values:
        return lambda: None
    finite = to_host(torch.stack([torch.isfinite(value) for _, _, value in values]))
    asked = [(lane, what, lane.step) for lane, what, _ in values]

    def stop() -> None:
        for (lane, what, step), fine in zip(asked, finite().tolist(), strict=True):
            if not fine and lane.fault is None:
                lane.fault = Diverged(f"{what} is not finite", lane.number, step)

    return stop
