from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from harness.execution.preparation import prepare
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Drive, Folder, Incomplete, Stare, Synthetic
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime

Memory = namedtuple("Memory", "available")


def test_what_is_prepared_names_images_and_weights(tiny: TrialConfig, runtime: Runtime) -> None:
    prepared = prepare([tiny], [Replicate()], runtime, 2, Console(quiet=True))
    assert set(prepared.digests) == {"data/alder", "data/cedar", "weights/nano"}
    assert prepared.digests["weights/nano"] == "random"
    assert {(m.name, m.context, m.images) for m in prepared.materials} == {
        ("alder", "training", 14),
        ("cedar", "testing", 4),
    }
    assert (prepared.training, prepared.validation) == (8, 4)


def test_a_fold_without_images_is_refused(tiny: TrialConfig, runtime: Runtime) -> None:
    few = replace(tiny, protocol=Transfer(sources=(Synthetic(hospital="alder", images=4, size=64),)))
    with pytest.raises(DataError, match=r"needs validation images, but 'alder' has none in fold 4 among its 4 images"):
        prepare([few], [Replicate(), Replicate(fold=4)], runtime, 2, Console(quiet=True))


def test_a_published_set_without_a_data_root_is_refused(tiny: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    drive = replace(tiny, protocol=Transfer(sources=(Drive(),)))
    for where in (runtime, replace(runtime, data=tmp_path)):
        with pytest.raises(DataError, match="DRIVE"):
            prepare([drive], [Replicate()], where, 2, Console(quiet=True))


def test_what_is_wrong_with_any_set_is_told_at_once(tiny: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    absent = replace(tiny, protocol=Transfer(sources=(Drive(),), targets=(Stare(),)))
    with pytest.raises(DataError) as error:
        prepare([absent], [Replicate()], replace(runtime, data=tmp_path), 2, Console(quiet=True))
    drive, stare = str(error.value).splitlines()
    assert "DRIVE must lie in a folder" in drive
    assert "STARE must lie in a folder" in stare


def test_images_that_were_left_out_are_named_and_counted(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for index in range(14):
        image = np.pad(rng.integers(60, 200, (56, 56, 3), np.uint8), ((4, 4), (4, 4), (0, 0)))
        for part, pixels in (("images", image), ("masks", np.pad(np.eye(56, dtype=np.uint8) * 255, 4))):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / part / f"{index}.png")
    (tmp_path / "images/3.png").write_bytes(b"")
    (tmp_path / "images/._3.png").write_bytes(b"")
    clinic = Folder(path=str(tmp_path), unreadable="skip")
    config = replace(tiny, protocol=Transfer(sources=(clinic,)))
    prepared = prepare([config], [Replicate()], runtime, 2, Console(stderr=True))
    ((name, (why,)),) = prepared.left_out.items()
    assert (name, why.partition(":")[0]) == (clinic.name, str(tmp_path / "images/3.png"))
    said = capsys.readouterr().err
    assert f"warning: 1 of 14 images of {clinic.name} cannot be read and were left out:" in said
    (line,) = [line for line in said.splitlines() if f"left out of the folders of {clinic.name}: " in line]
    assert "1 hidden file" in line


def test_what_an_incomplete_set_lacks_is_recorded_and_an_empty_part_refused(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """STARE's only test image loses its mask: what stands alone is recorded without its path, and judges nothing."""
    alder = Synthetic(hospital="alder", images=4, size=64)
    for name, entry in zip(("im0001", "im0255", "im0291"), alder.find(None).entries, strict=False):
        pair = alder.read(entry)
        for part, pixels, grader in (("stare-images", pair.image, ""), ("labels-ah", pair.mask, ".ah")):
            (tmp_path / "STARE" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "STARE" / part / f"{name}{grader}.png")
    test = [name for name in ("im0001", "im0255", "im0291") if Stare().assignment(())[name] == "test"]
    for name in test[1:]:
        (tmp_path / "STARE/labels-ah" / f"{name}.ah.png").unlink()
    stare = Incomplete(dataset=Stare(), missing="skip")
    elm = Synthetic(hospital="elm", images=14, size=64)
    config = replace(tiny, protocol=Transfer(sources=(elm,), targets=(stare,), target_images="test"))
    here = replace(runtime, data=tmp_path)
    prepared = prepare([config], [Replicate()], here, 2, Console(stderr=True))
    alone = [f"stare-images/{name}.png: it is unpaired" for name in test[1:]]
    assert prepared.remarks["left_out"] == {"stare": alone}
    said = capsys.readouterr().err
    assert f"left out of the folders of stare: {len(alone)} unpaired file" in said
    (tmp_path / "STARE/labels-ah" / f"{test[0]}.ah.png").unlink()
    with pytest.raises(DataError, match="Every target needs test images, but 'stare' has no test part among its"):
        prepare([config], [Replicate()], here, 2, Console(quiet=True))


def eyes(folder: Path, turned: Sequence[int] = ()) -> Folder:
    """The photographs of the hospital alder as a folder; those of ``turned`` mirrored, the others as they are."""
    alder = Synthetic(hospital="alder", images=14, size=64)
    lines = ["image,patient,split"]
    entries = alder.find(None).entries
    for index in turned or range(len(entries)):
        pair = alder.read(entries[index])
        for part, pixels in (("images", pair.image), ("masks", pair.mask), ("fov", pair.fov)):
            (folder / part).mkdir(exist_ok=True)
            Image.fromarray(pixels[:, :: -1 if turned else 1]).save(folder / part / f"{index}.png")
        lines.append(f"{index},{index},test")
    (folder / "patients.csv").write_text("\n".join(lines))
    return Folder(path=str(folder))


def test_photographs_of_a_source_in_a_target_are_refused(tiny: TrialConfig, runtime: Runtime, tmp_path: Path) -> None:
    clinic = eyes(tmp_path)
    config = replace(tiny, protocol=Transfer(sources=tiny.protocol.sources, targets=(clinic,)))
    with pytest.raises(OverlapError, match=f"14 pairs of photographs of 'alder' and '{clinic.name}' are identical"):
        prepare([tiny, config], [Replicate()], runtime, 2, Console(quiet=True))


def test_what_may_be_a_copy_is_said_and_recorded(
    tiny: TrialConfig, runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = eyes(tmp_path, turned=(2, 5))
    config = replace(tiny, protocol=Transfer(sources=tiny.protocol.sources, targets=(clinic,)))
    prepared = prepare([config, tiny], [Replicate()], runtime, 2, Console(stderr=True))
    (line,) = prepared.remarks["copies"]
    assert line == f"alike: alder 0001L and {clinic.name} 2, alder 0002R and {clinic.name} 5"
    assert "warning: 2 pairs of photographs of 'alder' and" in capsys.readouterr().err
    assert prepare([tiny], [Replicate()], runtime, 2, Console(quiet=True)).remarks == {}
