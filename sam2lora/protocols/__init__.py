"""Protocols: which hospitals train a model and which ones test it. One value is one model.

Every choice has ``sources`` (they train, validate, and score in domain), ``targets`` (they test), ``target_images``
(all of a target or its test part), ``shots`` (how many patients of each target join the training, mostly 0), and
``every()``: the values of all models of the protocol, of which it is itself one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.protocols.few_shot import FewShot
from sam2lora.protocols.leave_one_dataset_out import LeaveOneDatasetOut
from sam2lora.protocols.per_dataset import PerDataset
from sam2lora.protocols.pooled import Pooled
from sam2lora.protocols.transfer import Transfer

Protocol = Annotated[Transfer | Pooled | PerDataset | LeaveOneDatasetOut | FewShot, Field(discriminator="kind")]

__all__ = ["FewShot", "LeaveOneDatasetOut", "PerDataset", "Pooled", "Protocol", "Transfer"]
