"""Ray Tune: trials in, outcomes out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import TuneError

from harness.errors import ClusterError, TooManyFailures
from harness.execution.callback import RecordTrials
from harness.execution.ray_cluster import THIN_CPUS, Cluster, check_alive
from harness.execution.searcher import Searcher
from harness.execution.trainable import Trial


def run(
    searcher: Searcher, scheduler: Any, cluster: Cluster, retries: int, trainable: type[tune.Trainable] = Trial
) -> None:
    """Run trials until ``searcher`` has no more, or until SIGINT or SIGTERM.

    Then every open trial can be resumed from its last epoch.

    A trial that crashes is started again from its last epoch up to ``retries`` times. Raises ``TooManyFailures`` when
    trials crash, or proposals are infeasible, one after the other.
    """
    slots, searcher.engines = cluster.slots, cluster.engines
    shares = {"cpu": THIN_CPUS} if cluster.engines else {"cpu": slots.cpus, "gpu": slots.gpus}
    callback = RecordTrials(searcher)
    scratch = Path(tempfile.mkdtemp(prefix="ray-tune-"))  # disposable: the record is what counts
    try:
        # Not Tuner: it pickles its whole configuration for a restore that the record makes needless.
        tune.run(
            trainable,
            name="study",
            resources_per_trial=shares,
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
            storage_path=str(scratch),
            max_failures=retries,
            raise_on_failed_trial=False,
            callbacks=[callback, _WatchRay()],
            stop=_StopOnFailure(callback.failures),
            verbose=0,
        )
    except TuneError as error:
        # Ray turns whatever a callback raises into the text of its own error; the cause is what can be acted on.
        cause = error.__context__ or error
        raise cause from cause.__cause__
    except _RayDied as end:
        raise ClusterError(str(end.__cause__)) from end
    except KeyboardInterrupt:  # SIGTERM, often to Ray's processes as well: nothing can be asked of them any more
        return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for failure in (*callback.failures, searcher.failure):
        if failure is not None:
            raise failure


class _WatchRay(tune.Callback):
    """Ends the run when Ray has died: Tune itself would wait for its trials for ever."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        try:
            check_alive()
        except ClusterError as error:
            raise _RayDied from error


class _RayDied(BaseException):
    """Its cause says why. No ``Exception``: after those Tune stops its trials, which a dead Ray answers in minutes."""


class _StopOnFailure(tune.Stopper):
    """Ends the run once there is a failure. Ray pickles it, so it holds nothing else."""

    def __init__(self, failures: list[TooManyFailures]) -> None:
        self.failures = failures

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.failures)
