"""The engine: trials that share one device, each advanced by an epoch when it asks, together where that is faster.

It knows nothing of Tune. A trial is in the same place whoever trains beside it (the law of ``sam2lora.pack``), and its
checkpoint is on disk before an epoch is told: an engine that dies loses no epoch that it told, and its successor
answers the same question in the same way.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.execution.messages import Ending, Item, Order
from sam2lora import pack
from sam2lora.artifacts import CHECKPOINT, finish
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.memory import free_mib, is_out_of_memory, taking, training_need
from sam2lora.train import Session, check_parts, epoch, judge, restore, resume, save, start, state


@dataclass(frozen=True)
class Resident:
    """A trial that an engine has opened. ``apart``: its adapter beside the segmenter that it shares, if it has LoRA."""

    order: Order
    session: Session
    signature: str | None
    apart: pack.Resident | None

    @contextmanager
    def whole(self) -> Iterator[Session]:
        """The session with its adapter in its segmenter."""
        with nullcontext(self.session) if self.apart is None else pack.worn(self.apart) as session:
            yield session


class Engine:
    """The residents of one device. Used by one thread at a time."""

    def __init__(self) -> None:
        self.residents: dict[str, Resident] = {}
        self.most: dict[str, int] = {}
        """How many trials of a signature trained together when memory last ran out, halved."""
        self.needs: dict[str, float] = {}
        """MiB that a trial of a signature adds to its device, as measured when it last trained, or else as computed."""

    def one(self, order: Order, told: int) -> Item:
        """``advance`` for a single trial. Raises what went wrong."""
        item = self.advance([(order, told)])[order.key]
        if isinstance(item, Exception):
            raise item
        return item

    def advance(self, asked: Sequence[tuple[Order, int]]) -> dict[str, Item | Exception]:
        """For each trial what comes after its first ``told`` epochs, by its key, or what went wrong with it.

        A trial that is not resident is opened, and goes on from its checkpoint if it left one; epochs that it has done
        are told again. Test scores are not told: they are written to the trial's folder, where neither a sampler nor a
        scheduler looks. What befalls one trial leaves the others as they are.
        """
        items: dict[str, Item | Exception] = {}
        training: list[Resident] = []
        for order, told in asked:
            try:
                resident = self._resident(order)
                curve = resident.session.curve
                if told < len(curve) and told + 1 < resident.session.config.epochs:
                    items[order.key] = _progress(resident.session, curve[told])
                elif resident.session.finished:
                    items |= self._finished([resident])
                else:
                    training.append(resident)
            except Exception as error:
                items[order.key] = self._ended(order.key, error, told + 1)
        for group in self._groups(training):
            items |= self._train(group)
        return items

    def leave(self, key: str) -> None:
        """Let go of a trial. Its checkpoint stays; a key that is not resident is as good as gone."""
        self.residents.pop(key, None)

    def _resident(self, order: Order) -> Resident:
        if order.key not in self.residents:
            self.residents[order.key] = _open(order)
        return self.residents[order.key]

    def _groups(self, residents: Sequence[Resident]) -> Iterator[list[Resident]]:
        """Residents that train together, in the order of their asking; the rest one by one."""
        kinds: dict[tuple[str, int], list[Resident]] = {}
        for resident in residents:
            session = resident.session
            alone = resident.signature is None or not pack.pays(session.config, session.runtime.device)
            kind = resident.order.key if alone else str(resident.signature)
            kinds.setdefault((kind, pack.pace(session)), []).append(resident)
        for (signature, _), group in kinds.items():
            most = len(group) if len(group) == 1 else self._most(signature, group[0].session)
            yield from (group[begin : begin + most] for begin in range(0, len(group), most))

    def _most(self, signature: str, session: Session) -> int:
        """How many trials of a signature fit into the memory that is free now; one always tries."""
        if signature not in self.needs:
            self.needs[signature] = training_need(session.config).own  # the rest is there: the trial is open
        fit = max(int(free_mib(session.runtime.device) / self.needs[signature]), 1)
        return min(fit, self.most.get(signature, fit))

    def _train(self, group: list[Resident]) -> dict[str, Item | Exception]:
        """One epoch of trials that fit together. Where that fails, halves of them try; one alone owns its fault."""
        if len(group) == 1:
            return self._train_alone(group[0])
        before = [_aside(_state(resident)) for resident in group]
        try:
            with self._measured(group):
                entries = pack.epoch([resident.apart for resident in group if resident.apart is not None])
        except Exception as error:
            signature, half = str(group[0].signature), len(group) // 2
            if is_out_of_memory(error):
                self.most[signature] = half
            _free(error)
            lost: dict[str, Item | Exception] = {}
            for resident, at in zip(group, before, strict=True):
                lost |= self._put_back(resident, at)
            del before, at  # halves copy anew
            halves = [[one for one in part if one.order.key not in lost] for part in (group[:half], group[half:])]
            return lost | {key: item for part in halves if part for key, item in self._train(part).items()}
        return self._told(group, entries)

    def _put_back(self, resident: Resident, before: dict[str, Any]) -> dict[str, Item | Exception]:
        """Bring a trial to where it was: nothing is told. Where even that fails it ends, and its checkpoint stays."""
        try:
            with resident.whole() as session:
                restore(session, before)
        except Exception as error:
            return {resident.order.key: self._ended(resident.order.key, error, resident.session.epoch + 1)}
        return {}

    def _train_alone(self, resident: Resident) -> dict[str, Item | Exception]:
        done, key = resident.session.epoch, resident.order.key
        try:
            with resident.whole() as session, self._measured([resident]):
                entry = epoch(session)
        except Exception as error:
            return {key: self._ended(key, error, done + 1)}
        return self._told([resident], [entry])

    def _told(
        self, group: list[Resident], entries: Sequence[dict[str, float] | Diverged]
    ) -> dict[str, Item | Exception]:
        """What is told of an epoch that was trained and validated; of the last one, once the trial has been judged."""
        items = {
            resident.order.key: self._closed(resident, entry) for resident, entry in zip(group, entries, strict=True)
        }
        over = [resident for resident in group if resident.order.key in self.residents and resident.session.finished]
        return items | self._finished(over)

    def _closed(self, resident: Resident, entry: dict[str, float] | Diverged) -> Item | Exception:
        """An epoch that was trained and validated: on disk before it is told."""
        session, key = resident.session, resident.order.key
        if isinstance(entry, Diverged):
            return self._ended(key, entry, session.epoch + 1)
        try:
            with resident.whole():
                save(session, Path(resident.order.folder) / CHECKPOINT)
            return _progress(session, entry)
        except Exception as error:
            return self._ended(key, error, session.epoch + 1)

    def _finished(self, group: list[Resident]) -> dict[str, Item | Exception]:
        """Judge trials whose epochs have all run: together, or where that fails by halves; one alone owns its fault."""
        try:
            tables = _judged(group)
        except Exception as error:
            if len(group) == 1:
                key = group[0].order.key
                return {key: self._ended(key, error, group[0].session.epoch + 1)}
            if is_out_of_memory(error):
                _free(error)
            half = len(group) // 2
            return self._finished(group[:half]) | self._finished(group[half:])
        return {resident.order.key: self._sealed(resident, rows) for resident, rows in zip(group, tables, strict=True)}

    def _sealed(self, resident: Resident, rows: pd.DataFrame) -> Item | Exception:
        """Write what a judged trial leaves, and let go of it."""
        session, key = resident.session, resident.order.key
        try:
            with resident.whole():
                finish(session, rows, key, Path(resident.order.folder))
        except Exception as error:
            return self._ended(key, error, session.epoch + 1)
        self.leave(key)
        return _progress(session, session.curve[-1]) | {"ending": "completed", "why": "all epochs ran"}

    def _ended(self, key: str, error: Exception, number: int) -> Item | Exception:
        """The ending that an error means for a trial, or the error itself. The trial is let go of."""
        self.leave(key)
        if isinstance(error, Diverged):
            return _end("diverged", number, str(error))
        if is_out_of_memory(error):
            _free(error)
            return _end("out_of_memory", number, str(error).partition("\n")[0])
        return error

    @contextmanager
    def _measured(self, group: list[Resident]) -> Iterator[None]:
        """Learn from trials of one signature what each of them needs, where the block ends well and a device counts."""
        taken = taking(group[0].session.runtime.device)
        yield
        signature, mib = group[0].signature, taken()
        if signature is not None and mib is not None:
            self.needs[signature] = mib / len(group)


def _open(order: Order) -> Resident:
    config, replicate = from_json(TrialConfig, order.config), from_json(Replicate, order.replicate)
    session = start(config, replicate, order.runtime)
    check_parts(session.sources, replicate.fold)
    if (Path(order.folder) / CHECKPOINT).exists():
        resume(session, Path(order.folder) / CHECKPOINT)
    signature = pack.signature(config, replicate, len(session.training))
    return Resident(order, session, signature, pack.admit(session) if signature is not None else None)


def _judged(group: Sequence[Resident]) -> list[pd.DataFrame]:
    """The test scores of every trial of a group."""
    if len(group) > 1:
        return pack.judge([resident.apart for resident in group if resident.apart is not None])
    tables = []
    for resident in group:
        with resident.whole() as session:
            tables.append(judge(session))
    return tables


def _state(resident: Resident) -> dict[str, Any]:
    with resident.whole() as session:
        return state(session)


def _aside(value: dict[str, Any]) -> dict[str, Any]:
    """A copy in the memory of the host: a device that runs out of its own keeps none of it."""

    def copied(part: Any) -> Any:
        return part.detach().to("cpu", copy=True) if isinstance(part, Tensor) else copy.deepcopy(part)

    return cast(dict[str, Any], tree_map(copied, value))


def _free(error: Exception) -> None:
    """Give the memory back that an error's frames hold."""
    traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _progress(session: Session, entry: dict[str, float]) -> Item:
    return {
        "epoch": int(entry["epoch"]),
        "score": entry["score"],
        "entry": entry,
        "cost": asdict(session.cost),
        "ending": None,
        "why": "",
    }


def _end(ending: Ending, number: int, why: str) -> Item:
    return {"epoch": number, "entry": None, "cost": {}, "ending": ending, "why": why}
