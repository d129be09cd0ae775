"""The engine: trials that share one device, each advanced by an epoch when it asks, together where that is faster.

It knows nothing of Tune. A trial is in the same place whatever trains with it (the law of
``sam2lora.training.packing``), and its checkpoint is on disk before an epoch is reported: an engine that dies loses no
epoch that it reported, and its successor answers the same question in the same way.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.execution.messages import EpochReport, TrialOrder
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.files import CHECKPOINT
from sam2lora.training import packing
from sam2lora.training.artifacts import finish
from sam2lora.training.checkpoint import open_session, restore, save, state
from sam2lora.training.loop import epoch
from sam2lora.training.memory import free_mib, is_out_of_memory, taking, training_need
from sam2lora.training.parts import check_parts
from sam2lora.training.session import Session


@dataclass(frozen=True)
class Resident:
    """A trial that an engine has opened. ``warning``: why its checkpoint could not be used, if so."""

    order: TrialOrder
    session: Session
    signature: str | None
    warning: str | None


class Engine:
    """The residents of one device. Used by one thread at a time."""

    def __init__(self) -> None:
        self.residents: dict[str, Resident] = {}
        self.most: dict[str, int] = {}
        """How many trials of a signature trained together when memory last ran out, halved."""
        self.needs: dict[str, float] = {}
        """MiB that a trial of a signature adds to its device, as measured when it last trained, or else as computed."""

    def advance_one(self, order: TrialOrder, reported: int) -> EpochReport:
        """``advance`` for a single trial. Raises what went wrong."""
        item = self.advance([(order, reported)])[order.key]
        if isinstance(item, Exception):
            raise item
        return item

    def advance(self, requests: Sequence[tuple[TrialOrder, int]]) -> dict[str, EpochReport | Exception]:
        """For each trial what comes after its first ``reported`` epochs, by its key, or what went wrong with it.

        A trial that is not resident is opened, and resumed from its checkpoint if it left one; epochs that it has done
        are reported again. Test scores are not reported: they are written to the trial's folder, where neither a
        sampler nor a scheduler looks. What happens to one trial leaves the others as they are.
        """
        items: dict[str, EpochReport | Exception] = {}
        training: list[Resident] = []
        warned: dict[str, str] = {}
        for order, reported in requests:
            try:
                new = order.key not in self.residents
                resident = self._resident(order)
                if new and resident.warning is not None:
                    warned[order.key] = resident.warning
                curve = resident.session.curve
                if reported < len(curve) and reported + 1 < resident.session.config.epochs:
                    items[order.key] = _progress(resident.session, curve[reported])
                elif resident.session.finished:
                    items |= self._test([resident])
                else:
                    training.append(resident)
            except Exception as error:
                items[order.key] = self._end(order.key, error, reported + 1)
        for group in self._groups(training):
            items |= self._train(group)
        for key, warning in warned.items():
            if isinstance(item := items[key], dict):
                item["warning"] = warning
        return items

    def leave(self, key: str) -> None:
        """Let go of a trial. Its checkpoint stays. A key that is not resident changes nothing."""
        self.residents.pop(key, None)

    def _resident(self, order: TrialOrder) -> Resident:
        if order.key not in self.residents:
            self.residents[order.key] = _open(order)
        return self.residents[order.key]

    def _groups(self, residents: Sequence[Resident]) -> Iterator[list[Resident]]:
        """Residents that train together, in the order of their asking; the rest one by one."""
        kinds: dict[tuple[str, int], list[Resident]] = {}
        for resident in residents:
            session = resident.session
            alone = not packing.is_faster_packed(session.config, session.runtime.device)
            kind = resident.order.key if alone else str(resident.signature)
            kinds.setdefault((kind, packing.pace(session)), []).append(resident)
        for (signature, _), group in kinds.items():
            most = len(group) if len(group) == 1 else self._most(signature, group[0].session)
            yield from (group[begin : begin + most] for begin in range(0, len(group), most))

    def _most(self, signature: str, session: Session) -> int:
        """How many trials of a signature fit into the memory that is free now; one always tries."""
        if signature not in self.needs:
            self.needs[signature] = training_need(session.config).own  # the rest is there: the trial is open
        fit = max(int(free_mib(session.runtime.device) / self.needs[signature]), 1)
        return min(fit, self.most.get(signature, fit))

    def _train(self, group: list[Resident]) -> dict[str, EpochReport | Exception]:
        """One epoch of trials that fit together. Where that fails, halves of them try; a single trial ends by it."""
        if len(group) == 1:
            return self._train_alone(group[0])
        before = [_host_copy(state(resident.session)) for resident in group]
        try:
            with self._measured(group):
                entries = packing.epoch([resident.session for resident in group])
        except Exception as error:
            signature, half = str(group[0].signature), len(group) // 2
            if is_out_of_memory(error):
                self.most[signature] = half
            _free(error)
            lost: dict[str, EpochReport | Exception] = {}
            for resident, at in zip(group, before, strict=True):
                lost |= self._put_back(resident, at)
            del before, at  # halves copy anew
            halves = [[one for one in part if one.order.key not in lost] for part in (group[:half], group[half:])]
            return lost | {key: item for part in halves if part for key, item in self._train(part).items()}
        return self._reports(group, entries)

    def _put_back(self, resident: Resident, before: dict[str, Any]) -> dict[str, EpochReport | Exception]:
        """Bring a trial to where it was; nothing is reported. Where that fails it ends, and its checkpoint stays."""
        try:
            restore(resident.session, before)
        except Exception as error:
            return {resident.order.key: self._end(resident.order.key, error, resident.session.epoch + 1)}
        return {}

    def _train_alone(self, resident: Resident) -> dict[str, EpochReport | Exception]:
        done, key = resident.session.epoch, resident.order.key
        try:
            with self._measured([resident]):
                entry = epoch(resident.session)
        except Exception as error:
            return {key: self._end(key, error, done + 1)}
        return self._reports([resident], [entry])

    def _reports(
        self, group: list[Resident], entries: Sequence[dict[str, float] | Diverged]
    ) -> dict[str, EpochReport | Exception]:
        """The reports on an epoch that was trained and validated; of the last one, once the trial has been tested."""
        items = {
            resident.order.key: self._save(resident, entry) for resident, entry in zip(group, entries, strict=True)
        }
        trained = [one for one in group if one.order.key in self.residents and one.session.finished]
        return items | self._test(trained)

    def _save(self, resident: Resident, entry: dict[str, float] | Diverged) -> EpochReport | Exception:
        """The report on an epoch that was trained and validated, whose checkpoint is on disk before."""
        session, key = resident.session, resident.order.key
        if isinstance(entry, Diverged):
            return self._end(key, entry, session.epoch + 1)
        try:
            save(session, Path(resident.order.folder) / CHECKPOINT)
            return _progress(session, entry)
        except Exception as error:
            return self._end(key, error, session.epoch + 1)

    def _test(self, group: list[Resident]) -> dict[str, EpochReport | Exception]:
        """Test trials whose epochs have all run: together, or where that fails by halves; a single trial ends by it."""
        try:
            tables = packing.final_scores([resident.session for resident in group])
        except Exception as error:
            if len(group) == 1:
                key = group[0].order.key
                return {key: self._end(key, error, group[0].session.epoch + 1)}
            if is_out_of_memory(error):
                _free(error)
            half = len(group) // 2
            return self._test(group[:half]) | self._test(group[half:])
        return {
            resident.order.key: self._complete(resident, rows) for resident, rows in zip(group, tables, strict=True)
        }

    def _complete(self, resident: Resident, rows: pd.DataFrame) -> EpochReport | Exception:
        """Write what a tested trial leaves, and let go of it."""
        session, key = resident.session, resident.order.key
        try:
            finish(session, rows, key, Path(resident.order.folder))
        except Exception as error:
            return self._end(key, error, session.epoch + 1)
        self.leave(key)
        return _progress(session, session.curve[-1]) | {"outcome": "completed", "why": "all epochs ran"}

    def _end(self, key: str, error: Exception, number: int) -> EpochReport | Exception:
        """The outcome that an error means for a trial, or the error itself. The trial is let go of."""
        self.leave(key)
        report: EpochReport = {"epoch": number, "entry": None, "cost": {}, "why": str(error).partition("\n")[0]}
        if isinstance(error, Diverged):
            return report | {"outcome": "diverged"}
        if is_out_of_memory(error):
            _free(error)
            return report | {"outcome": "out_of_memory"}
        return error

    @contextmanager
    def _measured(self, group: list[Resident]) -> Iterator[None]:
        """Learn from trials of one signature what each of them needs, where the block ends well and a device counts."""
        taken = taking(group[0].session.runtime.device)
        yield
        signature, mib = group[0].signature, taken()
        if signature is not None and mib is not None:
            self.needs[signature] = mib / len(group)


def _open(order: TrialOrder) -> Resident:
    config, replicate = from_json(TrialConfig, order.config), from_json(Replicate, order.replicate)
    session, warning = open_session(config, replicate, order.runtime, Path(order.folder) / CHECKPOINT)
    check_parts(session.sources, replicate.fold)
    return Resident(order, session, packing.signature(config, replicate, len(session.training)), warning)


def _host_copy(value: dict[str, Any]) -> dict[str, Any]:
    """A copy in the memory of the host: a device that runs out of its own keeps none of it."""

    def copied(part: Any) -> Any:
        return part.detach().to("cpu", copy=True) if isinstance(part, Tensor) else copy.deepcopy(part)

    return cast(dict[str, Any], tree_map(copied, value))


def _free(error: Exception) -> None:
    """Give the memory back that an error's frames hold."""
    traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _progress(session: Session, entry: dict[str, float]) -> EpochReport:
    return {
        "epoch": int(entry["epoch"]),
        "score": entry["score"],
        "entry": entry,
        "cost": asdict(session.cost),
        "outcome": None,
        "why": "",
    }
