"""The cache: built once, safe with several processes, keyed by content and options, honest about what is wrong."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2lora.choice import to_json
from sam2lora.datasets import ChaseDB1, Drive, Stare, Synthetic, cache, cached, to_native
from sam2lora.errors import DataError, DiskError

EYES = Synthetic(hospital="fir", images=4, size=96)


def listing(folder: Path) -> list[str]:
    """What lies in a cache folder, the notes on known files left out."""
    return sorted(path.name for path in folder.iterdir() if path.name != "known")


def test_a_set_in_the_frame(dataset, tree, tmp_path):
    root = tree(dataset.name)
    entries = dataset.find(root).entries
    one = cached(dataset, root, 32, tmp_path / "cache")
    count = len(entries)
    assert len(one) == count
    assert one.dataset == dataset
    assert one.size == 32
    assert one.ids == tuple(entry.id for entry in entries)
    assert one.patients == tuple(entry.patient for entry in entries)
    assert one.splits == tuple(dataset.assignment(entries)[entry.id] for entry in entries)
    assert one.images.shape == (count, 32, 32, 3)
    assert one.masks.shape == (count, 32, 32)
    assert isinstance(one.images, np.memmap)
    assert isinstance(one.masks, np.memmap)
    assert one.images.dtype == one.masks.dtype == np.uint8
    assert set(np.unique(one.masks)) == {0, 1}
    assert not one.images.flags.writeable
    for index, entry in enumerate(entries):
        pair, native = dataset.read(entry), one.native(index)
        np.testing.assert_array_equal(native.mask, pair.mask)
        np.testing.assert_array_equal(native.fov, pair.fov)
        assert max(native.content) == 32
        assert to_native(np.zeros((32, 32), np.float32), native).shape == pair.mask.shape


def test_a_procedural_set_needs_no_root(tmp_path):
    one = cached(EYES, None, 48, tmp_path)
    assert one.ids == ("0000L", "0000R", "0001L", "0001R")
    assert one.images.any()


def test_the_second_opening_reads_no_file_of_the_root(tree, tmp_path):
    """Every file is overwritten by as many zero bytes and dated back: whoever reads it again would notice."""
    root = tree("stare")
    first = cached(Stare(), root, 32, tmp_path / "cache")
    images = np.array(first.images)
    for entry in Stare().find(root).entries:
        for file in entry.files:
            stat = file.stat()
            file.write_bytes(bytes(stat.st_size))
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = cached(Stare(), root, 32, tmp_path / "cache")
    assert second.digest == first.digest
    np.testing.assert_array_equal(second.images, images)
    np.testing.assert_array_equal(second.native(0).mask, first.native(0).mask)


def test_the_digest_names_contents_and_options_alone(tree, tmp_path, drawing):
    root, place = tree("chase_db1"), tmp_path / "cache"
    one = cached(ChaseDB1(), root, 32, place)
    assert cached(ChaseDB1(), root, 48, place).digest == one.digest
    assert cached(ChaseDB1(annotator="second"), root, 32, place).digest != one.digest
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved, copy_function=shutil.copyfile)
    assert cached(ChaseDB1(), moved, 32, place).digest == one.digest
    drawing.save(Image.fromarray(drawing.truth("disc")), root / "CHASEDB1" / "Image_01L_1stHO.png")
    changed = cached(ChaseDB1(), root, 32, place)
    assert changed.digest != one.digest
    assert not np.array_equal(changed.native(0).mask, one.native(0).mask)
    assert int(changed.digest, 16) >= 0
    assert len(changed.digest) == 16


def test_every_option_of_a_hospital_is_in_the_digest(tmp_path):
    variants = [EYES, replace(EYES, seed=1), replace(EYES, target="disc"), replace(EYES, hospital="elm")]
    assert len({cached(one, None, 32, tmp_path).digest for one in variants}) == len(variants)


def _open(place: str) -> tuple[str, int]:
    one = cached(EYES, None, 64, Path(place))
    return one.digest, int(one.images.sum())


def test_two_processes_build_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        results = set(pool.map(_open, [str(tmp_path)] * 4))
    assert results == {_open(str(tmp_path))}
    assert len(listing(tmp_path)) == 1


def test_the_faster_of_two_builders_wins(tmp_path, monkeypatch):
    """A second builder publishes while the first is still at work; the first keeps what is there."""
    fill, builders = cache._fill, []

    def slow(*arguments):
        builders.append(len(builders))
        if len(builders) == 1:
            cached(EYES, None, 32, tmp_path)
        fill(*arguments)

    monkeypatch.setattr(cache, "_fill", slow)
    one = cached(EYES, None, 32, tmp_path)
    assert builders == [0, 1]
    assert listing(tmp_path) == [one.folder.name]
    assert one.images.any()


def test_a_killed_builder_leaves_no_half_cache(tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "letterbox", killed)
        with pytest.raises(KeyboardInterrupt):
            cached(EYES, None, 32, tmp_path)
    assert listing(tmp_path) == []
    assert cached(EYES, None, 32, tmp_path).images.any()


def test_a_full_disk_is_known_before_the_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30, 3 * 2**20))
    text = r"a cache of about 4 MiB must fit, but 3 MiB are free: free some space, or set SAM2LORA_CACHE"
    with pytest.raises(DiskError, match=text) as error:
        cached(EYES, None, 512, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert listing(tmp_path) == []


def test_a_disk_that_fills_up_during_the_work(tmp_path, monkeypatch):
    letterbox, calls = cache.letterbox, []

    def filling(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return letterbox(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "letterbox", filling)
        with pytest.raises(DiskError, match=r"must fit, but \d+ MiB are free"):
            cached(EYES, None, 32, tmp_path)
    assert listing(tmp_path) == []
    assert len(cached(EYES, None, 32, tmp_path)) == 4


def test_other_errors_of_the_disk_pass_through(tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(cache, "letterbox", broken)
    with pytest.raises(OSError, match="input/output error"):
        cached(EYES, None, 32, tmp_path)


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"must be a folder that can be written, but .*: set SAM2LORA_CACHE"):
        cached(EYES, None, 32, tmp_path / "file" / "cache")


@pytest.mark.parametrize("noted", [True, False])
def test_a_cache_that_others_keep_is_used(noted, tree, tmp_path, read_only):
    root = tree("stare")
    built = cached(Stare(), root, 32, tmp_path)
    if not noted:  # built from a copy of the files
        shutil.rmtree(tmp_path / "known")
    read_only(tmp_path)
    assert np.array_equal(cached(Stare(), root, 32, tmp_path).images, built.images)
    with pytest.raises(DiskError, match=r"to add to it, written, but Read-only file system: .* set SAM2LORA_CACHE"):
        cached(Stare(), root, 64, tmp_path)


def test_a_cache_that_cannot_be_read_is_not_to_be_removed(tmp_path, monkeypatch):
    def closed(path, mmap_mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    cached(EYES, None, 32, tmp_path)
    monkeypatch.setattr(np, "load", closed)
    with pytest.raises(DiskError, match=r"can be read .*, but Permission denied: ask its owner for access"):
        cached(EYES, None, 32, tmp_path)


def test_others_can_read_a_cache(tmp_path):
    (tmp_path / "any").mkdir()
    home = cached(EYES, None, 32, tmp_path).folder
    assert home.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_files_that_cannot_be_read_are_named_at_once(tree, tmp_path, monkeypatch):
    root, true = tree("stare"), Path.read_bytes

    def closed(path):
        if path.is_relative_to(root):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return true(path)

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(DataError, match="a file must be readable, but Permission denied") as error:
        cached(Stare(), root, 32, tmp_path)
    assert str(error.value).count("Permission denied") > 2


def truncated(path):
    path.write_bytes(path.read_bytes()[:100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncated, flipped, Path.unlink])
@pytest.mark.parametrize("file", ["ways.json", "images.npy", "masks.npy", "thumbnails.npy", "00000_fov.png"])
def test_a_damaged_cache_is_set_aside_and_built_again(file, damage, tmp_path):
    whole = cached(EYES, None, 32, tmp_path)
    images, home = np.array(whole.images), whole.folder
    damage(home / file)
    with pytest.warns(UserWarning, match=rf"must be as it was written, but .*{file}.* is built again"):
        again = cached(EYES, None, 32, tmp_path)
    assert (again.folder, again.digest) == (home, whole.digest)
    np.testing.assert_array_equal(again.images, images)
    assert len(list(tmp_path.glob(f"{home.name}.damaged.*"))) == 1


@pytest.mark.parametrize("text", ["", "../../elsewhere", "0123456789abcdef", "0123456789abcdef 0123456789abcdef"])
def test_a_note_that_is_not_as_it_was_written_is_passed_over(text, tmp_path):
    first = cached(EYES, None, 32, tmp_path)
    (note,) = (tmp_path / "known").iterdir()
    written = note.read_text()
    note.write_text(text)
    assert cached(EYES, None, 32, tmp_path).folder == first.folder
    assert note.read_text() == written


@pytest.mark.parametrize("file", ["ways.json", "images.npy", "masks.npy"])
def test_a_damaged_cache_without_checksums_says_how_to_mend_it(file, tmp_path):
    home = cached(EYES, None, 32, tmp_path).folder
    (home / "checksums.json").unlink()
    for damage in (truncated, Path.unlink):
        damage(home / file)
        with pytest.raises(
            DiskError, match=r"a cache must be unchanged since it was written, but .*: remove this folder"
        ) as error:
            cached(EYES, None, 32, tmp_path)
        assert str(home) in str(error.value)
    shutil.rmtree(home)
    assert cached(EYES, None, 32, tmp_path).images.any()


def test_every_problem_of_the_files_is_reported_at_once(tree, tmp_path, drawing):
    root = tree("stare", "drive")
    first, second = Stare().find(root).entries
    first.image.write_bytes(b"no image")
    drawing.save(drawing.grey(drawing.truth()[:, 1:]), second.masks[0])
    with pytest.raises(DataError) as error:
        cached(Stare(), root, 32, tmp_path / "cache")
    text = str(error.value)
    assert text.startswith("STARE cannot be used, 2 problems:\n")
    assert f"- {first.image}: an image file must be readable, but" in text
    assert f"- {second.masks[0]}: a mask must have the size of its image, 72x60, but it has 71x60" in text
    assert listing(tmp_path / "cache") == []


def test_every_problem_of_the_layout_is_reported_at_once(tree, tmp_path):
    root = tree("drive")
    entries = Drive().find(root).entries
    for entry in entries[:3:2]:
        entry.masks[0].unlink()
    entries[1].image.write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        cached(Drive(), root, 32, tmp_path / "cache")
    assert str(error.value).count("every image needs its mask") == 2
    assert f"- {entries[1].image}: an image file must be readable, but" in str(error.value)


def test_an_image_that_the_split_does_not_know(tree, tmp_path, drawing):
    root = tree("chase_db1")
    drawing.save(drawing.photograph(), root / "CHASEDB1" / "Image_15L.jpg")
    drawing.save(drawing.grey(drawing.truth()), root / "CHASEDB1" / "Image_15L_1stHO.png")
    text = r"1 problem:\n  - .*Image_15L.jpg: every image must be in the split of its set, but 15L is not: remove"
    with pytest.raises(DataError, match=text):
        cached(ChaseDB1(), root, 32, tmp_path / "cache")


def test_a_value_of_the_cache_is_a_choice_in_json(tmp_path):
    assert to_json(cached(EYES, None, 32, tmp_path).dataset) == to_json(EYES)
