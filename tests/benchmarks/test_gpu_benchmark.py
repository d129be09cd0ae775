"""The check of the GPU in its small form, and what it does with bad luck: no GPU, no packages, no memory, no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from rich.console import Console
from rich.text import Text

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import device
from benchmarks.gpu.bench import SMALL, Bench, config, lines
from benchmarks.gpu.document import Document, Found, read, summary
from benchmarks.gpu.lines import Broken, Law, Line, Measured, Skipped, from_json, table, to_json
from benchmarks.gpu.memory import limited, peak
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.parts.memory import memory
from benchmarks.gpu.process import Ended, results
from sam2lora.training.memory import is_out_of_memory

ROOT = Path(__file__).parents[2]
WITHOUT = ("ray", "optuna", "mlflow")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("cpu", SMALL, tmp_path, time.monotonic() + 60)


def environment(folder: Path) -> dict[str, str]:
    """One in which Ray, Optuna and MLflow cannot be imported."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({WITHOUT}))\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def test_the_small_form_runs_on_a_cpu_without_ray_optuna_and_mlflow(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "gpu.json"
    asked = [sys.executable, "-m", "benchmarks.gpu", "--form", "small", "--minutes", "20", "--out", str(out)]
    ran = subprocess.run(asked, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = read(out)
    assert found.sound
    assert list(found.parts) == [part.name for part in PARTS]
    for part in PARTS:
        state = "skipped" if set(part.needs) & set(WITHOUT) else "ended"
        assert (part.name, found.parts[part.name].state) == (part.name, state)
        assert f"{part.name}: {state}" in ran.stdout, "a line for every part"
    skipped = [line.why for part in found.parts.values() for line in part.lines if isinstance(line, Skipped)]
    assert not [why for why in skipped if "no time" in why]
    about = json.loads(out.read_text())
    assert about["gpu"] is None
    assert about["no_gpu"]
    assert {"torch", "git", "date"} <= about["machine"].keys()
    assert about["machine"]["ray"] != "", "what is installed is not what can be imported"


@pytest.mark.parametrize(
    ("sign", "state"), [(signal.SIGKILL, "running"), (signal.SIGINT, "cut"), (signal.SIGTERM, "cut")]
)
def test_a_run_that_is_cut_keeps_what_it_has_and_leaves_no_process(
    sign: signal.Signals, state: str, tmp_path: Path
) -> None:
    out = tmp_path / "gpu.json"
    asked = [sys.executable, "-m", "benchmarks.gpu", "--form", "small", "--out", str(out)]
    asked += ["--parts", "divergence", "features"]
    with subprocess.Popen(asked, cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for text in running.stdout:
            if text.startswith("[1/2]"):
                break
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(sign)
        printed = running.stdout.read()
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running()]
    found = read(out)
    first, second = found.parts.values()
    assert [first.state, second.state] == ["ended", state]
    assert first.lines
    assert sign == signal.SIGKILL or (running.returncode == 130 and "Interrupted" in printed)


def test_its_tables_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {"packing": Found("A trial alone and in packs", "ended", lines=[Law("a pack of 2", True, {"loss": 1e-7})])}
    Document({"form": "full"}, parts).save(tmp_path / "gpu.json")
    assert command.main(["--show", str(tmp_path / "gpu.json")]) == 0
    assert "a pack of 2" in capsys.readouterr().out
    parts["packing"].lines.append(Law("a pack of 5", False, {"loss": 0.2}))
    Document({"form": "full"}, parts).save(tmp_path / "gpu.json")
    assert command.main(["--show", str(tmp_path / "gpu.json")]) == 1
    assert "does not hold" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts", "nothing"], "invalid choice: 'nothing'"),
        (["--minutes", "0"], "must be above 0, but is 0"),
        (["--minutes", "soon"], "must be a number"),
        (["--show", "no-such-file"], "must be a result that this command wrote"),
        (["--out", os.devnull], "must be a file or not exist, but is /dev/null"),
        (["--out", "/"], "must be a file or not exist, but is /"),
    ],
)
def test_an_unusable_option_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(words)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '"words"', '{"parts": []}', '{"parts": {"a": {"title": "A part", "li',
        '{"parts": {"a": {"title": "A part", "lines": [{"kind": "measured", "case": "b", "values": [1]}]}}}',
    ],
)  # fmt: skip
def test_what_is_no_result_is_not_shown(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(SystemExit) as refused:
        command.main(["--show", str(tmp_path / "gpu.json")])
    assert refused.value.code == 2
    assert "must be a result that this command wrote" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_watch", lambda: lambda: None)
    (tmp_path / "file").touch()
    assert command.main(["--parts", "deterministic", "--out", str(tmp_path / "file" / "gpu.json")]) == 1
    printed = capsys.readouterr().out
    assert "Results must be written" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "line",
    [
        Measured("tiny, 512 px", {"seconds": 0.25, "works": True, "error": None}),
        Law("a pack of 2", False, {"loss": 0.1}),
        Skipped("large, 1024 px", "the device has too little memory"),
        Broken("nano", "RuntimeError: no", "Traceback"),
    ],
    ids=lambda line: type(line).__name__,
)
def test_a_line_comes_back_from_its_file(line: Line) -> None:
    assert from_json(json.loads(json.dumps(to_json(line)))) == line
    assert table("a part", [line]).row_count == 1


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    wild = "no [/bold] here"
    for line in (Measured(wild, {"works": wild}), Law(wild, True), Skipped(wild, wild), Broken(wild, wild, wild)):
        Console(width=200).print(table("a part", [line]))
        assert wild in capsys.readouterr().out
    Console(width=200).print(summary(Document({}, {"idle": Found("A part", "broken", f"Traceback\n{wild}")})))
    assert wild in capsys.readouterr().out


def test_a_case_that_breaks_or_finds_no_memory_leaves_a_line_and_the_next_one_runs(bench: Bench) -> None:
    def no_memory() -> Iterator[Line]:
        yield Measured("before", {})
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")

    def fault() -> Iterator[Line]:
        raise ValueError("a fault")

    found = list(lines(bench, [("a", no_memory), ("b", fault), ("c", lambda: [Measured("c", {})])]))
    assert found[0] == Measured("before", {})
    assert found[1] == Skipped("a", "the device has too little memory (CUDA out of memory. Tried to allocate 2 GiB)")
    assert isinstance(found[2], Broken)
    assert found[2].error == "ValueError: a fault"
    assert "in fault" in found[2].traceback
    assert found[3] == Measured("c", {})


def test_cases_for_which_no_time_is_left_are_named(bench: Bench) -> None:
    over = replace(bench, deadline=time.monotonic() - 1)
    found = list(lines(over, [("a", lambda: [Measured("a", {})])]))
    assert found == [Skipped("a", "no time is left, raise --minutes or name fewer --parts")]


def test_a_backbone_for_which_too_little_memory_is_free_is_skipped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "free_mib", lambda self: 5.0)
    assert [type(line) for line in memory(bench)] == [Skipped, Skipped]


def yielding(*values: object) -> Iterator[object]:
    yield from values


def test_results_come_one_by_one_and_then_the_end() -> None:
    assert list(results(lambda: yielding(1, "two"), 60.0)) == [1, "two", Ended(None)]


def test_an_error_and_a_crash_end_their_process_alone(tmp_path: Path) -> None:
    def fault() -> Iterator[int]:
        yield 1
        raise ValueError("a fault")

    def crash() -> Iterator[int]:
        yield 1
        os.write(2, b"what the library said\n")
        os.kill(os.getpid(), signal.SIGKILL)

    first, ended = results(fault, 60.0)
    assert first == 1
    assert "ValueError: a fault" in ended.why
    log = tmp_path / "log"
    assert list(results(crash, 60.0, log)) == [1, Ended("its process ended with SIGKILL")]
    assert log.read_text() == "what the library said\n"


def test_a_process_that_hangs_is_killed_when_its_time_is_over() -> None:
    def hang() -> Iterator[int]:
        yield os.getpid()
        signal.pause()

    pid, ended = results(hang, 1.0)
    assert ended == Ended("its time is over", cut=True)
    assert not psutil.pid_exists(pid)


def test_what_a_part_begins_ends_with_it() -> None:
    def nested() -> Iterator[int]:
        inner = results(lambda: waiting(), 600.0)
        yield next(inner)
        signal.pause()

    def waiting() -> Iterator[int]:
        yield os.getpid()
        signal.pause()

    outer = results(nested, 600.0)
    inner = psutil.Process(next(outer))
    outer.close()  # type: ignore[attr-defined]
    assert not psutil.wait_procs([inner], timeout=30)[1]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi, to be written."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "nvidia-smi"
    file.touch(mode=0o755)
    return file


def test_clocks_and_load_are_what_nvidia_smi_says_of_the_first_device(smi: Path) -> None:
    smi.write_text(
        "#!/bin/sh\ncase $2 in\n"
        "--query-gpu=clocks*) echo '1980, 3201, 41, 9000, 55, [N/A]'; echo '1, 1, 1, 1, 1, 1';;\n"
        "--query-compute-apps*) printf '11\\n12\\n';;\nesac\n"
    )
    assert device.load() == {
        "clocks.sm": 1980.0, "clocks.mem": 3201.0, "utilization.gpu": 41.0, "memory.used": 9000.0,
        "temperature.gpu": 55.0,
    }  # fmt: skip
    assert device.others() == 2


@pytest.mark.parametrize(("visible", "asked"), [(None, "0"), ("", "0"), ("2,0", "2"), ("GPU-8d2a", "GPU-8d2a")])
def test_the_device_that_is_looked_at_is_the_one_that_torch_uses(
    visible: str | None, asked: str, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi.write_text(f"#!/bin/sh\n[ $1 = --id={asked} ] && echo 1980\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.load() == {"clocks.sm": 1980.0}


@pytest.mark.parametrize(
    "script",
    ["#!/bin/sh\nexit 9\n", "#!/no/such/shell\n", "#!/bin/sh\necho nonsense\n", "#!/bin/sh\nprintf '\\377'\n"],
)
def test_without_an_answer_of_nvidia_smi_there_is_no_load(script: str, smi: Path) -> None:
    smi.write_text(script)
    assert device.load() == {}


def test_clocks_are_recorded_while_a_part_runs(smi: Path, bench: Bench) -> None:
    smi.write_text("#!/bin/sh\necho '1980, 3201, 41, 9000, 55, 300'\n")
    part = Part("idle", "A part that needs no GPU", 1, lambda bench: iter([Measured("a", {})]))
    document = Document({}, {"idle": Found(part.title)})
    out = bench.folder / "gpu.json"
    command._run(part, document.parts["idle"], replace(bench, device="cuda:0"), document, out, lambda: None)
    assert read(out).parts["idle"].load["clocks.sm"] == [1980.0, 1980.0, 1980.0]


def test_the_load_of_a_part_is_told_by_its_least_median_and_largest() -> None:
    samples = [{"clocks.sm": 300.0, "power.draw": 70.0}, {"clocks.sm": 1980.0}, {"clocks.sm": 1700.0}]
    assert device.summary(samples) == {"clocks.sm": [300.0, 1700.0, 1980.0], "power.draw": [70.0, 70.0, 70.0]}
    assert device.summary([]) == {}


@pytest.mark.parametrize(
    "fault", [RuntimeError("The NVIDIA driver is too old\n(found 11040)."), AssertionError("no CUDA")]
)
def test_no_gpu_is_told_in_the_words_of_torch(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise fault

    monkeypatch.setattr(torch.cuda, "init", init)
    assert device.describe() == device.NoGpu(" ".join(str(fault).split()))


def test_this_process_is_none_of_the_others_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    computing = {1}
    monkeypatch.setattr(torch.cuda, "init", lambda: computing.add(2))
    properties = SimpleNamespace(name="A GPU", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (2**30, 2**31))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(device, "others", lambda: len(computing))
    found, ended = results(lambda: iter([device.describe()]), 60.0)
    assert ended == Ended(None)
    assert found["others"] == 1


def test_a_gpu_without_any_memory_left_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(device: int) -> tuple[int, int]:
        raise torch.OutOfMemoryError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", full)
    assert device.describe() == device.NoGpu("CUDA error: out of memory")


@pytest.mark.parametrize(("others", "busy", "said"), [(0, 2.0, False), (3, 0.0, True), (0, 41.0, True)])
def test_a_device_in_use_by_others_is_said(others: int, busy: float, said: bool) -> None:
    found = {
        "name": "NVIDIA H200", "free_mib": 1e5, "memory_mib": 1.4e5, "driver": "no [/bold]", "cuda": "13.0",
        "others": others, "load": {"utilization.gpu": busy},
    }  # fmt: skip
    document = Document({"gpu": found, "machine": {"torch": "2.11"}}, {})
    assert ("in use by others" in Text.from_markup(command._headline(document, SMALL)).plain) is said


def test_a_limit_leaves_as_much_memory_as_it_says_and_then_all_again(bench: Bench) -> None:
    def work() -> Iterator[object]:
        megabytes = 40
        with limited(bench, 2.0 * megabytes):
            yield torch.empty(megabytes, 2**18).numel()
            try:
                torch.empty(3 * megabytes, 2**18)
            except Exception as error:
                yield is_out_of_memory(error)
        yield torch.empty(3 * megabytes, 2**18).numel()  # nothing is filled: threads do not survive a fork

    assert list(results(work, 60.0)) == [40 * 2**18, True, 120 * 2**18, Ended(None)]


def test_the_peak_of_a_block_is_that_of_its_tensors(bench: Bench) -> None:
    def work() -> None:
        first = torch.ones(8, 2**18)
        second = torch.ones(4, 2**18)
        del first
        torch.ones(6, 2**18)
        del second

    assert peak(bench, work) == pytest.approx(12.0, abs=0.1)
    assert peak(bench, lambda: None) == 0.0


def test_the_workload_has_two_batches_of_training_images_and_images_that_judge(bench: Bench) -> None:
    from sam2lora.training.parts import test_images, training_images, validation_images
    from sam2lora.training.session import open_sets

    (source,) = open_sets(config("nano", 64).protocol.sources, 64, bench.runtime())
    assert len(training_images((source,), 0)) == 4
    assert len(validation_images(source, 0)) == 2
    assert len(test_images(source, "test")) == 2


def test_what_the_check_needs_is_part_of_what_the_project_needs() -> None:
    needed = (ROOT / "benchmarks" / "gpu" / "requirements.txt").read_text().splitlines()
    packages = {line for line in needed if line and not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert packages <= set(project)
    assert not [package for package in packages if package.startswith(("ray", "optuna", "mlflow"))]


def test_the_documents_name_every_part() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    section = text.partition("## The check of a GPU")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip(" `") for line in section.splitlines() if "|" in line]
    assert rows[2:] == [part.name for part in PARTS]
