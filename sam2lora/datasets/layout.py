"""Where the files of a set lie: folders by the names used in the wild, files by stem, images joined with masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam2lora.datasets import listing
from sam2lora.datasets.listing import IMAGE_SUFFIXES
from sam2lora.datasets.pairs import Entry, Found, LeftOut, Problem, Unpaired, failure
from sam2lora.errors import DataError

Files = Mapping[str, Path]  # by image id


class MissingFolderError(DataError):
    """A data root that does not hold the folder of a set. ``names``: what the folder may be called."""

    def __init__(self, problem: Problem, names: Sequence[str]) -> None:
        super().__init__(str(problem))
        self.names = tuple(names)


def folder(root: Path | None, names: Sequence[str], title: str, hint: str = "") -> Path:
    """The folder of a set: the one subfolder of ``root`` that bears one of ``names``, in either case.

    Raises ``MissingFolderError`` when ``root`` holds none of ``names`` (``hint`` replaces the remedy "download it"),
    and ``DataError`` when it is None, no folder, or holds several of them: which one is meant would be a guess.
    """
    if root is None:
        raise DataError(
            f"{title} must be read from a data root, but none was named: name one, with --data on a command line."
        )
    if not listing.is_folder(root):
        raise failure(root, "the data root must be a folder", "it is none", "pass the folder of the data sets")
    there = listing.folders(root)
    wanted = {name.lower() for name in names}
    here = [path for path in there if path.name.lower() in wanted]
    if len(here) == 1:
        return here[0]
    if here:
        several = " and ".join(path.name for path in here)
        raise failure(root, f"{title} must lie in one folder", f"there are {several}", "keep one of them")
    for path in listing.contents(root):
        if path.name.lower() in wanted:
            listing.contents(path)  # says of a link to nothing what it is
    seen = ", ".join(listing.printable(path.name) for path in there[:20]) or "nothing"
    remedy = hint or f"download {title} from its owners and unpack it there"
    rule = f"{title} must lie in a folder {' or '.join(names)}"
    raise MissingFolderError(Problem(root, rule, f"there is {seen}", remedy), names)


def by_stem(
    where: Path, prefix: str = "", suffix: str = "", endings: Sequence[str] = IMAGE_SUFFIXES
) -> dict[str, Path]:
    """The image files of a folder by stem, less ``prefix`` and ``suffix``; files without these are passed over.

    ``endings``: of the files that count, in either case; for outlines that are no images. Empty when there is no
    folder. Raises ``DataError`` when the folder cannot be listed, and when two files have the same stem, for then it
    is not known which is meant.
    """
    stems: dict[str, Path] = {}
    for path, stem in listing.files(where, endings).items():
        if stem.startswith(prefix) and stem.endswith(suffix) and len(stem) >= len(prefix) + len(suffix):
            _add(stems, stem[len(prefix) : len(stem) - len(suffix)], path)
    return stems


def merged(*parts: Files) -> dict[str, Path]:
    """The files of several folders as one. Raises ``DataError`` when two of them have the same id."""
    files: dict[str, Path] = {}
    for part in parts:
        for identity, path in part.items():
            _add(files, identity, path)
    return files


def renamed(files: Files, name: Callable[[str], str]) -> Files:
    """The same files by another id. Raises ``DataError`` when two of them would bear the same."""
    named: dict[str, Path] = {}
    for identity, path in files.items():
        _add(named, name(identity), path)
    return named


def _add(files: dict[str, Path], identity: str, path: Path) -> None:
    other = files.setdefault(identity, path)
    if other != path:
        where = other.name if other.parent == path.parent else other
        raise failure(path, "an image must be one file", f"there is {where} as well", "keep one of them")


def pair_up(
    images: Files, masks: Mapping[Path, Files], patient: Callable[[str], str], fovs: Files | None = None
) -> Found:
    """Join images with the masks of every grader by id.

    ``masks``: the files of each grader by the folder in which they were looked for. ``patient``: whose image it is, a
    rule of ``patients``. An image without one of its masks is a problem, and so are masks without an image, once for
    all graders; a part whose images, masks or fields of view are all missing is one problem, not one for each file. A
    field of view that does not ship (None) is computed later.
    """
    halves = _halves(images, masks, fovs)
    if halves:
        return Found((), tuple(halves))
    entries: list[Entry] = []
    problems: list[Problem] = []
    for identity, image in images.items():
        graded = _of(identity, masks)
        fov = fovs.get(identity) if fovs is not None else None
        there = (image, *graded, *([fov] if fov is not None else []))
        absent = [_without(there, place, identity) for place, files in masks.items() if identity not in files]
        if fovs is not None and fov is None:
            rule, remedy = "every image needs its field of view", "copy the set again"
            absent.append(Unpaired(image, rule, "there is none", remedy, there, identity))
        problems += absent
        if not absent:
            entries.append(Entry(identity, patient(identity), image, graded, fov))
    orphans = dict.fromkeys(identity for files in masks.values() for identity in files if identity not in images)
    problems += [_orphan(_of(identity, masks), identity) for identity in orphans]
    return Found(tuple(entries), tuple(problems))


def pair_up_part(part: str, images: Path, masks: Path, patient: Callable[[str], str]) -> Found:
    """Join two folders of one part. All parts of its set count from 1, so that ids name the part: ``train/1``."""
    files, drawn = ({f"{part}/{stem}": path for stem, path in by_stem(place).items()} for place in (images, masks))
    return pair_up(files, {masks: drawn}, patient)


def _of(identity: str, masks: Mapping[Path, Files]) -> tuple[Path, ...]:
    """The masks that are there of an image, in the order of the graders."""
    return tuple(files[identity] for files in masks.values() if identity in files)


def without_unpaired(found: Found) -> Found:
    """What was found less what stands alone, which is left out instead of being a problem.

    A set of which nothing would be left stays as it was, with its problems.
    """
    if not found.entries:
        return found
    alone = sorted({file for problem in found.problems if isinstance(problem, Unpaired) for file in problem.files})
    beside = tuple(one for one in found.left_out if one.path not in alone)
    problems = tuple(problem for problem in found.problems if not isinstance(problem, Unpaired))
    return replace(found, problems=problems, left_out=(*(LeftOut(file, "unpaired") for file in alone), *beside))


def gather(base: Path, title: str, parts: Sequence[Found]) -> Found:
    """The parts of a set as one, sorted by id. A part that is absent is no problem, a set without images is."""
    entries = sorted((entry for part in parts for entry in part.entries), key=lambda entry: entry.id)
    problems = [problem for part in parts for problem in part.problems]
    if not entries and not problems:
        problems = [_nothing(base, title)]
    named = {problem.file for problem in problems}
    beside = listing.others({file for entry in entries for file in entry.files})
    return Found(tuple(entries), tuple(problems), left_out=tuple(one for one in beside if one.path not in named))


def _nothing(base: Path, title: str) -> Problem:
    """A set without images. An archive that was unpacked into a folder of its own name lies one folder too deep."""
    rule = f"the folder of {title} must hold its images"
    there = [path for path in listing.contents(base) if not path.name.startswith((".", "__"))]
    if len(there) == 1 and listing.is_folder(there[0]):
        value, remedy = f"all that it holds is the folder {there[0].name}", f"move the contents of {there[0]} to {base}"
        return Problem(base, rule, value, remedy)
    return Problem(base, rule, "none was found", "unpack it as its owners distribute it")


def _halves(images: Files, masks: Mapping[Path, Files], fovs: Files | None) -> list[Problem]:
    """What is missing altogether: every mask of a grader, every field of view, or every image."""
    if not images:
        rule, remedy = "every mask needs its image", "copy the images as well"
        places = [place for place, files in masks.items() if len(files) > 1]
        return [Problem(place, rule, f"none of its {len(masks[place])} masks has one", remedy) for place in places]
    rule, remedy = "every image needs its mask", "copy the masks as well"
    lacking = [place for place, files in masks.items() if not files]
    value = f"there are {len(images)} images and no mask here"
    if len(images) == 1:
        return []
    problems = [Problem(place, rule, value, remedy) for place in lacking]
    if fovs is not None and fovs.keys().isdisjoint(images):
        rule, value = "every image needs its field of view", f"none of these {len(images)} has one"
        problems.append(Problem(next(iter(images.values())).parent, rule, value, "copy the fields of view as well"))
    return problems


def _without(there: tuple[Path, ...], place: Path, identity: str) -> Unpaired:
    remedy = "add it, or leave such images out with missing=skip"
    return Unpaired(
        there[0], "every image needs its mask", f"{place} holds none for {identity}", remedy, there, identity
    )


def _orphan(masks: tuple[Path, ...], identity: str) -> Unpaired:
    rule, value = "every mask needs its image", f"there is no image {identity}"
    return Unpaired(masks[0], rule, value, "add it or remove the mask, or set missing=skip", masks, identity)
