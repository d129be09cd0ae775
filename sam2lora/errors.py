"""Every error that a person can cause or mend. A message states the rule, the value that broke it, and the remedy.

Sam2LoraError
├── DataError          a data root, an image, a mask or a split that cannot be used
├── CheckpointError    weights that do not belong to the backbone that was asked for
├── SettingError       settings that no trial can have
├── AdapterError       a trained adapter that cannot be found, read or written in the form that was asked for
├── OverlapError       a source that shares patients or photographs with a target
├── OutOfMemory        a batch that cannot fit
├── DiskError          a cache or a result that cannot be written
├── DamagedFile        a file that is not as it was written
├── AddressError       an address of a database or a server without its secret
└── Diverged           a loss, a gradient, a weight or a logit that is no longer a number
"""

from __future__ import annotations


class Sam2LoraError(Exception):
    """Base of every error of this package. Commands print it as one message, without a traceback."""


class DataError(Sam2LoraError):
    """A data root, an image, a mask or a split that cannot be used."""


class CheckpointError(Sam2LoraError):
    """Weights that do not belong to the backbone that was asked for."""


class SettingError(Sam2LoraError):
    """Settings that no trial can have."""


class AdapterError(Sam2LoraError):
    """A trained adapter that cannot be found, read, or written in the form that was asked for."""


class OverlapError(Sam2LoraError):
    """A source data set that shares patients or photographs with a target, or a set whose parts share photographs."""


class OutOfMemory(Sam2LoraError):
    """A batch that does not fit into the memory of its device."""


class DiskError(Sam2LoraError):
    """A cache or a result that cannot be written."""


class DamagedFile(Sam2LoraError):
    """A file that is not as it was written, or that another trial wrote."""


class AddressError(Sam2LoraError, ValueError):
    """An address of a database or a server whose secret is masked."""


class Diverged(Sam2LoraError):
    """A loss, a gradient or a weight is not finite any more, or a logit NaN: the trial ends, its settings are at fault.

    ``epoch`` and ``step`` count from 1; ``step`` is the optimizer step within the epoch.
    """

    def __init__(self, what: str, epoch: int, step: int) -> None:
        super().__init__(
            f"Training must stay finite, but {what} in epoch {epoch}, step {step}: "
            f"lower the learning rate or clip the gradient."
        )
        self.what, self.epoch, self.step = what, epoch, step
