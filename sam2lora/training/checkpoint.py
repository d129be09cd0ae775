"""Checkpoints: what is saved of an interrupted trial, and what a resumed trial restores from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import DamagedFile, DiskError
from sam2lora.files import write_atomically
from sam2lora.integrity import check_archive
from sam2lora.runtime import Runtime
from sam2lora.training.memory import is_out_of_memory
from sam2lora.training.session import Cost, Session, start


def state(session: Session) -> dict[str, Any]:
    """Where the session stands, for ``restore``. Tensors may be the session's own: copy what must outlast an epoch."""
    return {
        "config": to_json(session.config),
        "replicate": to_json(session.replicate),
        "adapter": session.attachment.state(),
        "optimizer": session.optimizer.state_dict(),
        "schedule": session.schedule.state_dict(),
        "memory": session.memory,
        "curve": session.curve,
        "cost": asdict(session.cost),
    }


def restore(session: Session, state: Mapping[str, Any]) -> None:
    """Bring the session of a trial to where ``state`` found it."""
    session.attachment.load(state["adapter"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.schedule.load_state_dict(state["schedule"])
    device = session.runtime.device
    session.memory = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in state["memory"].items()}
    session.curve[:] = state["curve"]
    session.cost = Cost(**state["cost"])


def save(session: Session, path: Path) -> None:
    """Write where the session stands, so that ``resume`` continues as if it had never stopped. Atomic."""
    now = state(session)
    write_atomically(path, lambda temporary: torch.save(now, temporary))


def resume(session: Session, path: Path) -> None:
    """Bring a session that has just started to where ``save`` left the same trial.

    Raises ``DamagedFile`` where a checksum in the file is not that of its contents, where another trial wrote it, or
    where the contents do not fit; the session is then in no known state.
    """
    check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if (found["config"], found["replicate"]) != (to_json(session.config), to_json(session.replicate)):
            raise DamagedFile("it was written by other settings")
        setup = session.cost.setup_seconds
        restore(session, found)
        session.cost.setup_seconds += setup
    except DamagedFile:
        raise
    except Exception as error:  # whole, yet of another program or version, which can break the reader anywhere
        if is_out_of_memory(error):
            raise
        raise DamagedFile(f"it does not fit ({type(error).__name__}: {error})") from error


class Opened(NamedTuple):
    """A session, and the ``warning`` (a sentence) where a checkpoint could not be used: None otherwise."""

    session: Session
    warning: str | None


def open_session(config: TrialConfig, replicate: Replicate, runtime: Runtime, path: Path) -> Opened:
    """Start the session of a trial, and bring it to where ``save`` left it in ``path``; without a file it is new.

    A file that `resume` finds damaged is set aside under the name ``path`` + ``.damaged``, and the trial starts again
    from its first epoch, which makes the same trial. Raises what `start` does, and ``DiskError``.
    """
    session = start(config, replicate, runtime)
    if not path.exists():
        return Opened(session, None)
    try:
        resume(session, path)
        return Opened(session, None)
    except DamagedFile as error:
        aside = path.with_name(f"{path.name}.damaged")
        why = f"{path} must be as this trial wrote it, but {error}: it is now {aside.name}, and the trial starts again."
    except PermissionError as error:
        raise DiskError(
            f"A checkpoint must be readable, but {path} is not: {error}. Correct its permissions."
        ) from error
    path.replace(aside)
    return Opened(start(config, replicate, runtime), why)
