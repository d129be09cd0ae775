"""Trials of one engine train together, and each is as it would be alone, whatever befalls the others."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import optuna
import pytest
import ray
import safetensors.torch
import torch
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from harness.execution import engine, engine_actor, ray_cluster, ray_tune
from harness.execution.engine import Engine
from harness.execution.engine_actor import EngineActor
from harness.execution.messages import EpochReport, TrialOrder
from harness.execution.searcher import Searcher
from harness.execution.slots import Slots
from harness.execution.sources import Sampled
from harness.record.study import Record
from harness.record.trials import RecordedTrial, standing_by_key
from harness.schedulers import Full as Unstopped
from sam2lora import files
from sam2lora.adapters import Full, LoRA
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import DiskError
from sam2lora.optimizers import SGD, AdamW
from sam2lora.prompts import Points
from sam2lora.runtime import Runtime
from sam2lora.training import packing
from sam2lora.training.memory import Need
from sam2lora.training.session import Session

Curve = list[dict[str, float]]


@pytest.fixture
def decoder(tiny: TrialConfig) -> TrialConfig:
    """LoRA in the mask decoder alone, which packs on a CPU."""
    return replace(tiny, adapters=(LoRA(encoder="none", rank=2, alpha=4.0),))


def ranks(config: TrialConfig, *ranks: int) -> list[TrialConfig]:
    assert isinstance(config.adapters[0], LoRA)
    return [replace(config, adapters=(replace(config.adapters[0], rank=rank, alpha=2.0 * rank),)) for rank in ranks]


def orders(configs: Sequence[TrialConfig], runtime: Runtime, folder: Path) -> list[TrialOrder]:
    return [
        TrialOrder(f"key-{n}", to_json(config), to_json(Replicate(seed=1)), runtime, str(folder / str(n)))
        for n, config in enumerate(configs)
    ]


def together(engine: Engine, asked: Sequence[TrialOrder]) -> dict[str, list[EpochReport | Exception]]:
    """Every item of every trial, all asking at once until they end."""
    told: dict[str, list[EpochReport | Exception]] = {order.key: [] for order in asked}
    running = {order.key: order for order in asked}
    while running:
        items = engine.advance([(order, len(told[key])) for key, order in running.items()])
        assert items.keys() == running.keys()
        for key, item in items.items():
            told[key].append(item)
            if isinstance(item, Exception) or item["outcome"] is not None:
                del running[key]
    return told


def losses(items: Sequence[EpochReport | Exception]) -> list[float]:
    return [item["entry"]["loss/total"] for item in items if not isinstance(item, Exception) and item["entry"]]


def endings(told: Mapping[str, Sequence[EpochReport | Exception]]) -> list[str]:
    return [items[-1]["outcome"] if not isinstance(items[-1], Exception) else "error" for items in told.values()]


def adapter(order: TrialOrder) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(Path(order.folder) / files.ADAPTER)


def check_alike(ours: TrialOrder, theirs: TrialOrder, tolerance: float = 1e-4) -> None:
    found, expected = adapter(ours), adapter(theirs)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=tolerance)


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many trials every pack had, in the order of their training."""
    sizes: list[int] = []
    true = packing.epoch

    def counted(sessions: Sequence[Session]) -> Any:
        sizes.append(len(sessions))
        return true(sessions)

    monkeypatch.setattr(packing, "epoch", counted)
    return sizes


def test_trials_that_ask_together_train_together_and_as_if_alone(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int]
) -> None:
    configs = [*ranks(decoder, 2, 4, 3), replace(decoder, adapters=()), replace(decoder, adapters=(Full(),))]
    asked, apart = orders(configs, runtime, tmp_path / "pack"), orders(configs, runtime, tmp_path / "alone")
    told = together(Engine(), asked)
    assert packs == [3, 3, 3], "what has no LoRA trains alone"
    assert endings(told) == ["completed"] * 5
    for ours, theirs in zip(asked, apart, strict=True):
        expected = together(Engine(), [theirs])[theirs.key]
        assert losses(told[ours.key]) == pytest.approx(losses(expected), rel=1e-4)
        check_alike(ours, theirs)
        assert (Path(ours.folder) / files.RESULT).exists()


def test_a_prompted_trial_that_begins_later_ends_as_if_alone(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int]
) -> None:
    configs = ranks(replace(decoder, train_prompt=Points(positive=2)), 2, 3)
    (first, later), apart = orders(configs, runtime, tmp_path / "pack"), orders(configs, runtime, tmp_path / "alone")
    engine = Engine()
    engine.advance([(first, 0)])
    items = [engine.advance([(first, done + 1), (later, done)])[later.key] for done in range(2)]
    items.append(engine.advance_one(later, 2))
    assert packs == [], "each draws the prompts of its own epoch"
    assert losses(items) == losses(together(Engine(), apart[1:])[later.key])
    check_alike(later, apart[1], tolerance=0.0)


def test_on_a_cpu_trials_with_encoders_of_their_own_take_turns(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int]
) -> None:
    asked, apart = (
        orders(ranks(tiny, 2, 4), runtime, tmp_path / "a"),
        orders(ranks(tiny, 2, 4), runtime, tmp_path / "b"),
    )
    told = together(Engine(), asked)
    assert packs == []
    for ours, theirs in zip(asked, apart, strict=True):
        assert losses(together(Engine(), [theirs])[theirs.key]) == losses(told[ours.key])
        check_alike(ours, theirs, tolerance=0.0)


def test_full_training_beside_an_adapter_leaves_the_shared_weights_alone(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path
) -> None:
    full = replace(decoder, adapters=(Full(),), optimizer=AdamW(lr=1e-2))
    (alone,) = orders([decoder], runtime, tmp_path / "alone")
    expected = losses(together(Engine(), [alone])[alone.key])
    for turn, configs in enumerate(([full, decoder], [decoder, full])):
        asked = orders(configs, runtime, tmp_path / str(turn))
        place = configs.index(decoder)
        assert losses(together(Engine(), asked)[asked[place].key]) == expected
        check_alike(asked[place], alone, tolerance=0.0)


def test_one_that_diverges_is_told_so_and_the_others_go_on(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path
) -> None:
    wild = replace(decoder, optimizer=SGD(lr=1e30), clip_norm=None)
    asked = orders([*ranks(decoder, 2, 3), wild], runtime, tmp_path / "pack")
    apart = orders([*ranks(decoder, 2, 3), wild], runtime, tmp_path / "alone")
    told = together(Engine(), asked)
    assert endings(told) == ["completed", "completed", "diverged"]
    for ours, theirs in zip(asked[:2], apart[:2], strict=True):
        assert losses(told[ours.key]) == pytest.approx(losses(together(Engine(), [theirs])[theirs.key]), rel=1e-4)


def test_no_room_for_a_pack_halves_it_and_it_stays_so(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = packing.epoch

    def small(sessions: Sequence[Session]) -> Any:
        if len(sessions) > 2:
            for group in sessions[0].optimizer.param_groups:  # it had begun
                for parameter in group["params"]:
                    parameter.data += 1.0
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return true(sessions)

    monkeypatch.setattr(packing, "epoch", small)
    asked, apart = (
        orders(ranks(decoder, 2, 3, 4, 5), runtime, tmp_path / "p"),
        orders(ranks(decoder, 2), runtime, tmp_path),
    )
    told = together(Engine(), asked)
    assert endings(told) == ["completed"] * 4
    assert packs == [2, 2] * 3, "and no further try with four"
    expected = together(Engine(), apart)[apart[0].key]
    assert losses(told[asked[0].key]) == pytest.approx(losses(expected), rel=1e-4)
    check_alike(asked[0], apart[0])


def test_a_trial_that_finds_no_room_to_be_put_back_ends_and_its_neighbour_goes_on(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, asked = engine.restore, orders(ranks(decoder, 2, 3), runtime, tmp_path)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def restore(session: Session, state: Mapping[str, Any]) -> None:
        if session.config == ranks(decoder, 2)[0]:
            full()
        true(session, state)

    monkeypatch.setattr(packing, "epoch", full)
    monkeypatch.setattr(engine, "restore", restore)
    assert endings(together(Engine(), asked)) == ["out_of_memory", "completed"]


def test_halves_keep_no_copies_of_the_whole(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Copy(dict[str, Any]):
        """A dict that can be referred to weakly."""

    true, made, held = engine._host_copy, list[ref[Copy]](), list[tuple[int, int]]()

    def aside(value: dict[str, Any]) -> dict[str, Any]:
        copy = Copy(true(value))
        made.append(ref(copy))
        return copy

    def crowded(sessions: Sequence[Session]) -> Any:
        held.append((len(sessions), sum(copy() is not None for copy in made)))
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(engine, "_host_copy", aside)
    monkeypatch.setattr(packing, "epoch", crowded)
    together(Engine(), orders([replace(one, epochs=1) for one in ranks(decoder, 2, 3, 4, 5)], runtime, tmp_path))
    assert held == [(4, 4), (2, 2), (2, 2)]


def test_a_copy_lies_aside_in_the_memory_of_the_host() -> None:
    rate, step = torch.ones(2), torch.tensor(3)
    copy = engine._host_copy(
        {"optimizer": {"state": {0: {"step": step}}}, "curve": [{"epoch": 1}], "adapter": {"A": rate}}
    )
    rate += 1
    assert copy["curve"] == [{"epoch": 1}]
    assert torch.equal(copy["adapter"]["A"], torch.ones(2))
    assert copy["optimizer"]["state"][0]["step"].device.type == "cpu"


def test_what_is_free_now_bounds_a_pack(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "training_need", lambda config: Need(1000.0, 100.0))
    monkeypatch.setattr(engine, "free_mib", lambda device: 250.0)
    together(Engine(), orders([replace(one, epochs=1) for one in ranks(decoder, 2, 3, 4, 5)], runtime, tmp_path))
    assert packs == [2, 2]


def test_a_trial_that_was_thought_too_large_for_company_is_measured_alone_and_packed_from_then_on(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "training_need", lambda config: Need(0.0, 200.0))
    monkeypatch.setattr(engine, "free_mib", lambda device: 250.0)
    monkeypatch.setattr(engine, "taking", lambda device: lambda: 100.0)
    asked = orders(ranks(decoder, 2, 3), runtime, tmp_path)
    told = together(Engine(), asked)
    assert endings(told) == ["completed"] * 2
    assert packs == [2, 2], "of three epochs, the first alone"


def test_a_fault_in_a_pack_is_owned_by_the_trial_that_has_it_alone(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = engine.epoch

    def packed(sessions: Sequence[Session]) -> Any:
        raise RuntimeError("shapes do not match")

    def alone(session: Any) -> dict[str, float]:
        if session.config.adapters[0].rank == 3:
            raise RuntimeError("rank three is cursed")
        return true(session)

    monkeypatch.setattr(packing, "epoch", packed)
    monkeypatch.setattr(engine, "epoch", alone)
    asked = orders(ranks(decoder, 2, 3, 4), runtime, tmp_path)
    told = together(Engine(), asked)
    assert endings(told) == ["completed", "error", "completed"]
    assert str(told["key-1"][-1]) == "rank three is cursed"


def test_trials_that_end_together_are_judged_together_or_by_halves(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    true = packing.final_scores

    def small(sessions: Sequence[Session]) -> Any:
        sizes.append(len(sessions))
        if len(sessions) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if [session.config.adapters[0].rank for session in sessions] == [6]:  # type: ignore[union-attr]
            raise RuntimeError("rank six is cursed")
        return true(sessions)

    monkeypatch.setattr(packing, "final_scores", small)
    configs = [replace(config, epochs=1) for config in ranks(decoder, 2, 3, 4, 5, 6)]
    asked = orders(configs, runtime, tmp_path)
    told = together(Engine(), asked)
    assert sizes == [5, 2, 3, 1, 2]
    assert endings(told) == ["completed", "completed", "completed", "completed", "completed"]
    assert all((Path(order.folder) / files.RESULT).exists() for order in asked)

    told = together(Engine(), orders([replace(configs[4], epochs=2)], runtime, tmp_path / "alone"))
    assert endings(told) == ["error"]
    assert str(told["key-0"][-1]) == "rank six is cursed"


def test_a_full_disk_is_the_fault_of_no_other_trial(decoder: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    asked = orders(ranks(decoder, 2, 3), runtime, tmp_path)
    Path(asked[1].folder).write_text("a file where the folder must be")
    told = together(Engine(), asked)
    assert endings(told) == ["completed", "error"]
    assert isinstance(told["key-1"][-1], DiskError)


def test_trials_join_late_leave_early_and_move_to_another_engine(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int]
) -> None:
    first, second, third = asked = orders(ranks(decoder, 2, 3, 4), runtime, tmp_path / "pack")
    apart = orders(ranks(decoder, 2, 3, 4), runtime, tmp_path / "alone")
    one = Engine()
    one.advance([(first, 0), (third, 0)])
    one.advance([(first, 1), (second, 0)])  # one joins an epoch later
    one.leave(third.key)
    assert one.residents.keys() == {first.key, second.key}
    again = Engine().advance([(first, 0), (second, 0), (third, 0)])
    assert [item["epoch"] for item in again.values() if not isinstance(item, Exception)] == [1, 1, 1], "told again"
    other = Engine()  # as after the death of the first
    ended = [other.advance_one(first, 2), other.advance([(second, 1), (third, 1)])][0]
    assert not isinstance(ended, Exception)
    assert ended["outcome"] == "completed"
    assert [other.advance_one(order, 2)["outcome"] for order in (second, third)] == ["completed"] * 2
    assert packs == [2, 2, 2]
    for ours, theirs in zip(asked, apart, strict=True):
        together(Engine(), [theirs])
        check_alike(ours, theirs)


def _all_epochs(host: EngineActor, order: TrialOrder) -> list[EpochReport]:
    items: list[EpochReport] = []
    while not items or items[-1]["outcome"] is None:
        items.append(host.advance(order, len(items)))
    return items


def test_residents_in_threads_of_their_own_wait_for_each_other(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, packs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_actor, "PATIENCE", 60.0)
    host, found = EngineActor(), {}
    asked = orders(ranks(decoder, 2, 3, 4), runtime, tmp_path)
    threads = [threading.Thread(target=lambda o=order: found.update({o.key: _all_epochs(host, o)})) for order in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {key: items[-1]["outcome"] for key, items in found.items()} == dict.fromkeys(found, "completed")
    assert len(found) == 3
    assert sum(packs) >= 5, "at most the first to arrive trained an epoch alone, and the last its rest"


def test_one_that_keeps_silent_is_not_waited_for(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_actor, "PATIENCE", 0.01)
    host = EngineActor()
    silent, speaking = orders(ranks(decoder, 2, 3), runtime, tmp_path)
    host.advance(silent, 0)
    assert _all_epochs(host, speaking)[-1]["outcome"] == "completed"
    assert host.advance(silent, 1)["epoch"] == 2, "and is served when it speaks again"


def test_a_fault_reaches_the_thread_that_asked(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(engine, "epoch", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        EngineActor().advance(orders([decoder], runtime, tmp_path)[0], 0)


def test_a_fault_of_the_engine_itself_reaches_everyone_who_asked(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Engine, asked: object) -> None:
        raise RuntimeError("the engine is broken")

    monkeypatch.setattr(Engine, "advance", fail)
    host, told = EngineActor(), list[str]()

    def ask(order: TrialOrder) -> None:
        with pytest.raises(RuntimeError, match="the engine is broken"):
            host.advance(order, 0)
        told.append(order.key)

    threads = [threading.Thread(target=ask, args=[order]) for order in orders(ranks(decoder, 2, 3), runtime, tmp_path)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(told) == ["key-0", "key-1"]


def test_who_asks_again_takes_the_place_of_one_that_died_waiting(
    decoder: TrialConfig, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_actor, "PATIENCE", 60.0)
    host, ended = EngineActor(), threading.Event()
    first, second = orders(ranks(decoder, 2, 3), runtime, tmp_path)
    host.advance(first, 0)
    host.engine.residents[second.key] = host.engine._resident(second)

    def dies() -> None:
        with pytest.raises(CancelledError):
            host.advance(first, 1)
        ended.set()

    waiting = threading.Thread(target=dies)
    waiting.start()
    with host.turn:
        host.turn.wait_for(lambda: first.key in host.asked, 60)
    again = threading.Thread(target=host.advance, args=[first, 1])
    again.start()
    assert ended.wait(60)
    host.leave(second.key)
    again.join(60)
    assert not again.is_alive()


class Murderer:
    """A listener that kills the first engine when a trial has told its first epoch."""

    def __init__(self) -> None:
        self.kills = 0

    def began(self, trial: RecordedTrial) -> None:
        pass

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        if not self.kills:
            self.kills += 1
            (engine,) = ray.util.list_named_actors()
            ray.kill(ray.get_actor(engine), no_restart=False)

    def warned(self, trial: RecordedTrial, text: str) -> None:
        pass

    def ended(self, trial: RecordedTrial) -> None:
        pass


def test_a_real_search_on_one_engine_survives_its_death(
    decoder: TrialConfig, runtime: Runtime, record: Record, tmp_path: Path
) -> None:
    room, murderer = Slots(concurrent=3, cpus=1.0, gpus=0.0, residents=3), Murderer()

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        (config,) = ranks(decoder, trial.suggest_int("rank", 1, 64))
        return config, Replicate()

    searcher = Searcher(
        Sampled(record, 5), propose, standing_by_key(record.trials()), {}, runtime, listeners=[murderer]
    )
    with ray_cluster.cluster(room) as cluster:
        ray_tune.run(searcher, Unstopped().build(3), cluster, retries=0)
    trials = record.trials()
    assert murderer.kills == 1
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5, "no trial so much as noticed"
    assert all([entry["epoch"] for entry in trial.curve] == [1, 2, 3] for trial in trials)
    key = trials[0].key
    (alone,) = orders(ranks(decoder, trials[0].params["rank"]), runtime, tmp_path / "alone")
    alone = replace(alone, replicate=to_json(Replicate()))
    together(Engine(), [alone])
    check_alike(replace(alone, folder=str(record.files(key))), alone)


def test_studies_of_one_command_share_ray_and_not_their_engines() -> None:
    room, seen = Slots(concurrent=2, cpus=1.0, gpus=0.0, residents=2), []
    with ray_cluster.running(1):
        for _ in range(2):
            with ray_cluster.cluster(room) as own:
                seen.append((ray.get_runtime_context().get_job_id(), *own.engines))
                assert set(own.engines) <= set(ray.util.list_named_actors())
        assert ray.is_initialized()
    assert not ray.is_initialized()
    (first, engine), (second, other) = seen
    assert first == second
    assert engine != other


def test_every_machine_of_a_cluster_gets_an_engine(
    decoder: TrialConfig, runtime: Runtime, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        machines.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", machines.address)
        monkeypatch.setattr("harness.execution.slots.usable_cores", lambda: 1)
        short = replace(decoder, epochs=1)

        def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
            return ranks(short, trial.suggest_int("rank", 1, 64))[0], Replicate()

        searcher = Searcher(Sampled(record, 4), propose, standing_by_key(record.trials()), {}, runtime)
        with ray_cluster.cluster(Slots(concurrent=2, cpus=1.0, gpus=0.0, residents=2)) as cluster:
            assert (cluster.slots.concurrent, len(cluster.engines)) == (4, 2)
            ray_tune.run(searcher, Unstopped().build(1), cluster, retries=0)
            found = ray.util.list_named_actors()
            where = {a["Address"]["NodeID"] for a in ray._private.state.actors().values() if a["Name"] in found}
        assert len(where) == 2
        assert [trial.state for trial in record.trials()] == [TrialState.COMPLETE] * 4
    finally:
        ray.shutdown()
        machines.shutdown()
