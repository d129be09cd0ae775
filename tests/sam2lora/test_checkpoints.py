"""Downloads from a server of our own: whole, resumed, refused, and once for everybody."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
import torch
from rich.console import Console

from sam2lora import checkpoints
from sam2lora.backbones import Sam2, Size, Version, published
from sam2lora.checkpoints import CHECKPOINTS, Published, fetch, local_files, local_path, main, published_file
from sam2lora.errors import CheckpointError, DiskError
from sam2lora.models.build import build
from sam2lora.models.sam2 import weightless
from sam2lora.models.weights import read_state, sha256
from sam2lora.runtime import Runtime

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 3000
TINY = Sam2(size="tiny")
PATH = "092824/sam2.1_hiera_tiny.pt"
QUIET = Console(quiet=True)
Usage = namedtuple("Usage", "total used free")


class Server(ThreadingHTTPServer):
    """Serves ``content`` at ``PATH`` and remembers the range that every request asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.knows_ranges = True
        self.sent = len(CONTENT)  # bytes after which the connection is closed
        self.status = 200
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.asked.append(wanted)
        if server.status != 200 or self.path != f"/{PATH}":
            return self.send_error(404 if server.status == 200 else server.status)
        ranged = wanted is not None and server.knows_ranges
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(server.content) - begin))
        self.end_headers()
        self.wfile.write(server.content[begin : begin + server.sent])
        return None

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A mirror of Meta's folder with one small file, which the table names in place of the true one."""
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("SAM2LORA_CHECKPOINTS", str(tmp_path / "checkpoints"))
        monkeypatch.setenv("SAM2LORA_CHECKPOINTS_URL", f"http://127.0.0.1:{serving.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        small = Published(PATH, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        monkeypatch.setitem(CHECKPOINTS, ("tiny", "2.1"), small)
        yield serving
        serving.shutdown()
        thread.join()


def part() -> Path:
    return local_path(TINY).with_name(f"{local_path(TINY).name}.part")


def test_a_file_is_downloaded_once_and_found_again(server: Server) -> None:
    digest = published_file(TINY).sha256
    assert not local_files()[digest].exists()
    path = fetch(TINY, QUIET)
    assert path == local_path(TINY) == local_files()[digest]
    assert sha256(path) == digest
    assert not part().exists()
    assert fetch(TINY, QUIET) == path
    assert server.asked == [None]


def test_a_file_in_a_folder_that_others_keep_is_found(server: Server, read_only: Callable[[Path], None]) -> None:
    path = fetch(TINY, QUIET)
    path.with_name(f".{path.name}.lock").unlink()
    read_only(path.parent)
    assert fetch(TINY, QUIET) == path
    with pytest.raises(DiskError, match=r"Read-only file system.*name another folder"):
        fetch(Sam2(size="small"), QUIET)


def test_an_interrupted_download_goes_on_where_it_was(server: Server) -> None:
    server.sent = 200_000
    with pytest.raises(CheckpointError, match=r"connection failed .* Run the same command again to resume"):
        fetch(TINY, QUIET)
    kept = part().stat().st_size
    assert 100_000 < kept <= 200_000
    assert not local_path(TINY).exists()

    server.sent = len(CONTENT)
    assert sha256(fetch(TINY, QUIET)) == published_file(TINY).sha256
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges_sends_everything_again(server: Server) -> None:
    server.knows_ranges = False
    part().parent.mkdir()
    part().write_bytes(b"something else" * 100)
    assert sha256(fetch(TINY, QUIET)) == published_file(TINY).sha256
    assert server.asked == ["bytes=1400-"]


def test_a_complete_part_is_only_checked(server: Server) -> None:
    part().parent.mkdir()
    part().write_bytes(CONTENT)
    assert sha256(fetch(TINY, QUIET)) == published_file(TINY).sha256
    assert server.asked == []


def test_a_part_that_is_too_long_is_begun_again(server: Server) -> None:
    part().parent.mkdir()
    part().write_bytes(CONTENT + b"more")
    assert sha256(fetch(TINY, QUIET)) == published_file(TINY).sha256
    assert server.asked == [None]


@pytest.mark.parametrize("begun", [0, 1000])
def test_wrong_bytes_are_refused_and_not_gone_on_with(server: Server, begun: int) -> None:
    if begun:
        part().parent.mkdir()
        part().write_bytes(b"x" * begun)
    else:
        server.content = CONTENT[::-1]
    with pytest.raises(CheckpointError, match=f"must have sha256 {published_file(TINY).sha256}, but .* it was removed"):
        fetch(TINY, QUIET)
    assert not part().exists()
    assert not local_path(TINY).exists()


def test_a_file_of_another_length_is_refused_before_it_is_read(server: Server) -> None:
    server.content = b"<html>sign in first</html>"
    with pytest.raises(CheckpointError, match=r"must have 768,000 bytes, but .* offers 26: it is another file"):
        fetch(TINY, QUIET)
    assert not part().exists()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_of_the_server_names_the_way_out(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(CheckpointError, match=rf"answers {status} .*elsewhere and pass it with --checkpoint"):
        fetch(TINY, QUIET)


def test_no_network_names_the_way_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS_URL", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"connection failed \(ConnectionError\).*--checkpoint"):
        fetch(TINY, QUIET)


def test_too_little_room_is_said_before_anything_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 1000))
    with pytest.raises(DiskError, match=r"768,000 bytes are needed.*free some space, or name another folder"):
        fetch(TINY, QUIET)
    assert server.asked == []


def test_a_disk_that_fills_up_keeps_what_arrived(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(answer: object, out: object, file: Published, have: int, console: Console) -> None:
        out.write(CONTENT[:5000])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_copy", full)
        with pytest.raises(DiskError, match=r"No space left.*The downloaded part is kept"):
            fetch(TINY, QUIET)
    assert part().stat().st_size == 5000
    assert sha256(fetch(TINY, QUIET)) == published_file(TINY).sha256
    assert server.asked == [None, "bytes=5000-"]


def test_a_folder_that_cannot_be_made_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS", "/proc/nowhere")
    with pytest.raises(DiskError, match=r"written to /proc/nowhere/sam2\.1_hiera_tiny\.pt"):
        fetch(TINY, QUIET)


def test_a_damaged_file_in_the_folder_is_refused(server: Server) -> None:
    fetch(TINY, QUIET).write_bytes(b"short")
    with pytest.raises(CheckpointError, match="must have 768,000 bytes, but has 5: delete it"):
        fetch(TINY, QUIET)


def test_processes_that_ask_together_download_once(server: Server) -> None:
    size, digest = len(CONTENT), published_file(TINY).sha256
    code = (
        "from rich.console import Console\n"
        "from sam2lora.backbones import Sam2\n"
        "from sam2lora.checkpoints import CHECKPOINTS, Published, fetch\n"
        f"CHECKPOINTS['tiny', '2.1'] = Published({PATH!r}, {size}, {digest!r})\n"
        "fetch(Sam2(size='tiny'), Console(quiet=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert sha256(local_path(TINY)) == digest
    assert server.asked == [None]


def test_the_command_prints_where_the_file_is(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(local_path(TINY))
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(file.name in listed for file in CHECKPOINTS.values())


def test_the_command_refuses_an_unknown_name(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["huge"]) == 2
    assert "must be one of tiny, small, base+, large, tiny@2.0" in " ".join(capsys.readouterr().err.split())
    assert server.asked == []


def test_every_published_model_has_a_file_of_its_own() -> None:
    models = [(size, version) for version in get_args(Version) for size in get_args(Size)]
    assert set(CHECKPOINTS) == set(models)
    assert len({file.sha256 for file in CHECKPOINTS.values()}) == len({file.path for file in CHECKPOINTS.values()}) == 8
    for size, version in models:
        file = CHECKPOINTS[size, version]
        assert Sam2(size=size, version=version, checkpoint=file.sha256).checkpoint == file.sha256
        folder, stem = ("092824", "sam2.1_hiera") if version == "2.1" else ("072824", "sam2_hiera")
        assert file.path == f"{folder}/{stem}_{size.replace('+', '_plus')}.pt"


@pytest.mark.parametrize(("size", "version"), CHECKPOINTS)
def test_a_file_has_room_for_its_weights_and_little_else(size: Size, version: Version) -> None:
    """Four bytes for every number of the state dict, and names: the lengths belong to these models."""
    numbers = sum(tensor.numel() for tensor in weightless(Sam2(size=size, version=version)).state_dict().values())
    assert 0 < CHECKPOINTS[size, version].size - 4 * numbers < 400_000


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("tiny", Sam2(size="tiny")),
        ("base+@2.0", Sam2(size="base+", version="2.0")),
        ("large@2.1", Sam2(size="large")),
        ("tiny@", None),
        ("tiny@3", None),
        ("nano", None),
        ("", None),
    ],
)
def test_names_as_typed(name: str, model: Sam2 | None) -> None:
    assert published(name) == model


def test_downloaded_weights_are_found_by_their_digest(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = local_path(TINY).with_name("weights.pt")
    weights.parent.mkdir()
    state = build(TINY, 64, Runtime()).sam.state_dict()
    torch.save({"model": {name: tensor + 0.5 for name, tensor in state.items()}}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setitem(CHECKPOINTS, ("tiny", "2.1"), Published(PATH, weights.stat().st_size, digest))
    shutil.move(weights, local_path(TINY))

    loaded = build(Sam2(size="tiny", checkpoint=digest), 64, Runtime()).sam.state_dict()

    assert all(torch.equal(tensor, state[name] + 0.5) for name, tensor in loaded.items())


class Malicious:
    """A pickle that leaves a trace when it is run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("archive", [True, False], ids=["torch.save", "bare pickle"])
def test_a_pickle_that_runs_code_is_refused_without_running_it(tmp_path: Path, archive: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    content = {"model": {"weight": Malicious(trace)}}
    torch.save(content, path) if archive else path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="must be a file of tensors"):
        read_state(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists(), "this pickle does run code where it is let"
