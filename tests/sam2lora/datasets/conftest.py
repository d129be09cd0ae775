"""Tiny copies of the published sets, in their owners' layouts and codings, drawn for every test anew."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sam2lora.datasets import DATASETS, Dataset

HEIGHT, WIDTH = 60, 72


def truth(structure: str = "vessel", grader: int = 1) -> np.ndarray:
    """The masks of every tiny image: a line or a disc, its cup, its rim. The second grader sees less of each."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - 30, columns - 40)
    if structure == "rim":
        return truth("disc", grader) & ~truth("cup", grader)
    if structure in ("disc", "cup"):
        return distance < (6 if structure == "disc" else 3.5) - (grader - 1)
    return (abs(rows - 30) < 2) & (abs(columns - 36) < (20 if grader == 1 else 10))


def lit() -> np.ndarray:
    """The field of view of every tiny image."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - 30) ** 2 + (columns - 36) ** 2 < 27**2


def photograph() -> Image.Image:
    """An orange circle with a dark line on black."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[lit()] = (180, 90, 40)
    pixels[truth()] = (120, 30, 20)
    return Image.fromarray(pixels)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    """Write an image, making its folder; ``.ppm.gz`` is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        raw = io.BytesIO()
        image.save(raw, "ppm")
        path.write_bytes(gzip.compress(raw.getvalue()))
    else:
        image.save(path, **options)
    return path


def grey(mask: np.ndarray, white: int = 255) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(white))


def palette(mask: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(colours)
    return image


def _drive(root: Path) -> None:
    for part, number in (("training", "21"), ("training", "22"), ("test", "01"), ("test", "02")):
        base = root / "DRIVE" / part
        save(photograph(), base / "images" / f"{number}_{part}.tif")
        save(grey(truth()), base / "1st_manual" / f"{number}_manual1.gif")
        save(grey(lit()), base / "mask" / f"{number}_{part}_mask.gif")
    for number in ("01", "02"):
        second = palette(truth(grader=2), [4, 2, 4, 252, 254, 252])
        save(second, root / "DRIVE" / "test" / "2nd_manual" / f"{number}_manual2.gif")


def _stare(root: Path) -> None:
    for identity, ending in (("im0001", "ppm"), ("im0255", "ppm.gz")):
        save(photograph(), root / "STARE" / "stare-images" / f"{identity}.{ending}")
        for number, grader in ((1, "ah"), (2, "vk")):
            mask = grey(truth(grader=number))
            save(mask, root / "STARE" / f"labels-{grader}" / f"{identity}.{grader}.{ending}")


def _chase(root: Path) -> None:
    for identity in ("01L", "01R", "14L"):
        save(photograph(), root / "CHASEDB1" / f"Image_{identity}.jpg", quality=95)
        for number, grader in ((1, "1st"), (2, "2nd")):
            one_bit = Image.fromarray(truth(grader=number))
            save(one_bit, root / "CHASEDB1" / f"Image_{identity}_{grader}HO.png")


def _hrf(root: Path) -> None:
    for identity, ending in (("01_dr", "JPG"), ("01_g", "jpg"), ("06_h", "jpg")):
        save(photograph(), root / "HRF" / "images" / f"{identity}.{ending}", format="jpeg", quality=95)
        save(grey(truth()), root / "HRF" / "manual1" / f"{identity}.tif")
        save(grey(lit()).convert("RGB"), root / "HRF" / "mask" / f"{identity}_mask.tif")


def _fives(root: Path) -> None:
    for part in ("train", "test"):
        save(photograph(), root / "FIVES" / part / "Original" / "1_A.png")
        save(grey(truth()).convert("RGB"), root / "FIVES" / part / "Ground truth" / "1_A.png")


def _les_av(root: Path) -> None:
    for number in ("275", "276"):
        save(photograph(), root / "LES-AV" / "images" / f"{number}.png")
        save(Image.fromarray(truth()), root / "LES-AV" / "vessel-segmentations" / f"{number}.png")
        save(grey(lit()), root / "LES-AV" / "masks" / f"{number}_mask.gif")
        for place in ("arteries", "veins"):
            save(Image.fromarray(truth(grader=2)), root / "LES-AV" / place / f"{number}.png")


def arteries_and_veins() -> Image.Image:
    """The left half of the line is a red artery, the right half a blue vein, green between, white at the end."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    columns = np.mgrid[:HEIGHT, :WIDTH][1]
    pixels[truth()] = (0, 255, 0)
    pixels[truth() & (columns < 34)] = (255, 0, 0)
    pixels[truth() & (columns > 38)] = (0, 0, 255)
    pixels[truth() & (columns > 50)] = (255, 255, 255)
    return Image.fromarray(pixels)


def _rite(root: Path) -> None:
    for part, number in (("training", "21"), ("test", "01")):
        base, name = root / "RITE" / part, f"{number}_{part}"
        save(photograph(), base / "images" / f"{name}.tif")
        save(grey(truth()), base / "vessel" / f"{name}.png")
        save(arteries_and_veins(), base / "av" / f"{name}.png")


def _iostar(root: Path) -> None:
    base = root / "IOSTAR"
    for stem, written in (("STAR 01_OSC", "STAR 01_OSC"), ("STAR 34_ODC", "STAR34_ODC")):
        save(photograph(), base / "image" / f"{stem}.jpg", quality=95)
        save(grey(truth()), base / "GT" / f"{written}_GT.tif")
        save(grey(lit()), base / "mask" / f"{stem}_Mask.tif")
        for place in ("mask_OD", "GT"):
            save(grey(~truth("disc")), base / place / f"{stem}_ODMask.tif")


def _orvs(root: Path) -> None:
    """The masks are as wide as the blocks of a JPEG, so that all of them survive."""
    for part, number in (("Train", "1"), ("Train", "2"), ("Test", "1")):
        base = root / "ORVS" / part / "Original"
        save(photograph(), base / "Images" / f"{number}.jpg", quality=95)
        save(grey(truth()).convert("RGB"), base / "Labels" / f"{number}.jpg", quality=90)


def _dr_hagis(root: Path) -> None:
    base = root / "DRHAGIS"
    for number in (1, 24, 32, 40):
        save(photograph(), base / "Fundus_Images" / f"{number}.jpg", quality=95)
        save(Image.fromarray(truth()), base / "Manual_Segmentations" / f"{number}_manual_orig.png")
        save(Image.fromarray(lit()), base / "Mask_images" / f"{number}_mask_orig.png")


def _av_wide(root: Path) -> None:
    for number in ("01", "02"):
        save(photograph(), root / "AV-WIDE" / f"wide_image_{number}.png")
        save(grey(truth()), root / "AV-WIDE" / f"wide_image_{number}_vessels.png")
        save(arteries_and_veins(), root / "AV-WIDE" / f"wide_image_{number}_AV.png")


def _aria(root: Path) -> None:
    for letter, count, inner in (("a", "(0001) ", ""), ("c", "", ""), ("d", "", "aria_d_markups")):
        base = root / "ARIA" / f"aria_{letter}_markups" / inner
        save(photograph(), base / f"{count}aria_{letter}_1.tif")
        masks = root / "ARIA" / f"aria_{letter}_markup_vessel" / inner.replace("markups", "markup_vessel")
        for number, grader in ((1, "BDP"), (2, "BSS")):
            save(grey(truth(grader=number)), masks / f"aria_{letter}_1_{grader}.tif")


def _drishti(root: Path) -> None:
    base = root / "DRISHTI-GS1" / "Drishti-GS1_files"
    for part, maps, number in (("Training", "GT", "002"), ("Test", "Test_GT", "001")):
        name = f"drishtiGS_{number}"
        save(photograph(), base / part / "Images" / f"{name}.png")
        for structure, what in (("disc", "OD"), ("cup", "cup")):
            save(soft_map(structure), base / part / maps / name / "SoftMap" / f"{name}_{what}segSoftmap.png")


def soft_map(structure: str) -> Image.Image:
    """Two experts and more see the truth, all four its left half, one of them something to the right of it."""
    soft, mask = np.zeros((HEIGHT, WIDTH), np.uint8), truth(structure)
    soft[mask] = 128
    soft[mask & (np.mgrid[:HEIGHT, :WIDTH][1] < 40)] = 255
    soft[np.roll(mask, 2, axis=1) & ~mask] = 64
    return Image.fromarray(soft)


def _idrid(root: Path) -> None:
    base = root / "IDRiD" / "A. Segmentation"
    for part, number in (("a. Training Set", "01"), ("b. Testing Set", "55")):
        save(photograph(), base / "1. Original Images" / part / f"IDRiD_{number}.jpg", quality=95)
        place = base / "2. All Segmentation Groundtruths" / part / "5. Optic Disc"
        save(palette(truth("disc"), [0, 0, 0, 255, 0, 0]), place / f"IDRiD_{number}_OD.tif")


def codes(cup: int, rim: int, rest: int) -> Image.Image:
    """Disc and cup in one mask."""
    values = np.full((HEIGHT, WIDTH), rest, np.uint8)
    values[truth("rim")] = rim
    values[truth("cup")] = cup
    return Image.fromarray(values)


def contour(structure: str, grader: int = 1) -> np.ndarray:
    """Points on the edge of ``truth``, (N, 2), x and y."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = (6 if structure == "disc" else 3.5) - (grader - 1) - 1e-3
    return np.stack([40 + radius * np.cos(angle), 30 + radius * np.sin(angle)], axis=1)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def points(path: Path, structure: str, grader: int, delimiter: str) -> Path:
    return text(path, "".join(f"{x:.4f}{delimiter}{y:.4f}\n" for x, y in contour(structure, grader)))


def polygons(path: Path, **labels: str) -> Path:
    """A labelme file with an outline of each label's structure."""
    shapes = [
        {"label": label, "points": contour(structure).tolist(), "shape_type": "polygon"}
        for label, structure in labels.items()
    ]
    return text(path, json.dumps({"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH}))


def _refuge1(root: Path) -> None:
    base = root / "REFUGE"
    for folder, maps, name in (
        ("Training400/Glaucoma", "Annotation-Training400/Disc_Cup_Masks/Glaucoma", "g0001"),
        ("Training400/Non-Glaucoma", "Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma", "n0360"),
        ("REFUGE-Validation400", "REFUGE-Validation400-GT/Disc_Cup_Masks", "V0001"),
        ("Test400", "REFUGE-Test-GT/Disc_Cup_Masks/G", "T0001"),
        ("Test400", "REFUGE-Test-GT/Disc_Cup_Masks/N", "T0002"),
    ):
        save(photograph(), base / folder / f"{name}.jpg", quality=95)
        save(codes(0, 128, 255), base / maps / f"{name}.bmp")


def _refuge2(root: Path) -> None:
    for part, name in (("train", "g0001"), ("train", "n0001"), ("val", "V0001"), ("test", "T0001"), ("test", "T0002")):
        save(photograph(), root / "REFUGE2" / part / "images" / f"{name}.jpg", quality=95)
        save(codes(0, 128, 255), root / "REFUGE2" / part / "mask" / f"{name}.bmp")


def _origa(root: Path) -> None:
    base, rows = root / "ORIGA", ["Eye,Filename,ExpCDR,Set,Glaucoma"]
    for name, part in (("001", "A"), ("002", "B"), ("003", "A")):
        save(photograph(), base / "Images" / f"{name}.jpg", quality=95)
        save(codes(2, 1, 0), base / "Masks" / f"{name}.png")
        (base / "Semi-automatic-annotations").mkdir(exist_ok=True)
        savemat(base / "Semi-automatic-annotations" / f"{name}.mat", {"mask": np.asarray(codes(2, 1, 0))})
        rows.append(f"OD,{name}.jpg,0.6,{part},0")
    text(base / "OrigaList.csv", "\n".join(rows) + "\n")


def _g1020(root: Path) -> None:
    base = root / "G1020"
    for name in ("image_0", "image_1", "image_12"):
        save(photograph(), base / "Images" / f"{name}.jpg", quality=95)
        polygons(base / "Images" / f"{name}.json", disc="disc", cup="cup")
        save(codes(2, 1, 0), base / "Masks" / f"{name}.png")


def _rim_one_r3(root: Path) -> None:
    half = np.asarray(photograph().crop((4, 0, WIDTH, HEIGHT)).resize((WIDTH, HEIGHT)))
    tall = Image.fromarray(np.hstack([half, half[:, ::-1]]))
    for group, name in (("Healthy", "N-10-R"), ("Healthy", "N-1-L"), ("Glaucoma and suspects", "S-2-L")):
        base = root / "RIM-ONE r3" / group
        save(tall, base / "Stereo Images" / f"{name}.jpg", quality=95)
        for structure, what in (("disc", "Disc"), ("cup", "Cup")):
            for grader in (1, 2):
                place = base / f"Expert{grader}_masks"
                save(grey(truth(structure, grader)), place / f"{name}-1-{what}-exp{grader}.png")
            save(grey(truth(structure, 2)), base / "Average_masks" / f"{name}-{what}-Avg.png")


def _rim_one_dl(root: Path) -> None:
    base = root / "RIM-ONE DL"
    for name, group, random, hospital in (
        ("r1_Im001", "normal", "training_set", "test_set"),
        ("r2_Im002", "glaucoma", "training_set", "training_set"),
        ("r3_N-10-R", "normal", "test_set", "training_set"),
    ):
        for how, part in (("randomly", random), ("by_hospital", hospital)):
            save(photograph(), base / "RIM-ONE_DL_images" / f"partitioned_{how}" / part / group / f"{name}.png")
        for structure, what in (("disc", "Disc"), ("cup", "Cup")):
            place = base / "RIM-ONE_DL_reference_segmentations" / group
            save(grey(truth(structure)), place / f"{name}-1-{what}-T.png")


def _papila(root: Path) -> None:
    base = root / "PapilaDB-PAPILA-17f8fa7746adb20275b5b6a0d99dc9dfe3007e9f"
    for name in ("RET002OD", "RET002OS", "RET004OD"):
        save(photograph(), base / "FundusImages" / f"{name}.jpg", quality=95)
        for structure in ("disc", "cup"):
            for grader in (1, 2):
                place = base / "ExpertsSegmentations" / "Contours"
                points(place / f"{name}_{structure}_exp{grader}.txt", structure, grader, " ")


def _grape(root: Path) -> None:
    base = root / "GRAPE"
    for name in ("1_OD_1", "1_OS_2", "20_OD_1"):
        save(photograph(), base / "ROI images" / f"{name}.jpg", quality=95)
        save(photograph().resize((2 * WIDTH, 2 * HEIGHT)), base / "CFPs" / f"{name}.jpg", quality=95)
        polygons(base / "json" / f"{name}.json", OD="disc", OC="cup")


def _drions_db(root: Path) -> None:
    base = root / "DRIONS-DB"
    for name in ("001", "061", "101"):
        save(photograph(), base / "images" / f"image_{name}.jpg", quality=95)
        for grader in (1, 2):
            points(base / "experts_anotation" / f"anotExpert{grader}_{name}.txt", "disc", grader, " , ")


WRITERS: dict[str, Callable[[Path], None]] = {
    "drive": _drive,
    "stare": _stare,
    "chase_db1": _chase,
    "hrf": _hrf,
    "fives": _fives,
    "les_av": _les_av,
    "rite": _rite,
    "iostar": _iostar,
    "orvs": _orvs,
    "dr_hagis": _dr_hagis,
    "av_wide": _av_wide,
    "aria": _aria,
    "drishti_gs1": _drishti,
    "idrid": _idrid,
    "refuge1": _refuge1,
    "refuge2": _refuge2,
    "origa": _origa,
    "g1020": _g1020,
    "rim_one_r3": _rim_one_r3,
    "rim_one_dl": _rim_one_dl,
    "papila": _papila,
    "grape": _grape,
    "drions_db": _drions_db,
}


@pytest.fixture
def drawing() -> object:
    """The helpers of this file, for tests that draw files of their own."""

    class Drawing:
        height, width = HEIGHT, WIDTH
        truth = staticmethod(truth)
        lit = staticmethod(lit)
        photograph = staticmethod(photograph)
        save = staticmethod(save)
        grey = staticmethod(grey)
        palette = staticmethod(palette)
        arteries_and_veins = staticmethod(arteries_and_veins)
        codes = staticmethod(codes)
        polygons = staticmethod(polygons)

    return Drawing


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """``tree("drive", ...)`` writes the tiny sets of these names and returns their root."""

    def write(*names: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name in names:
            WRITERS[name](root)
        return root

    return write


@pytest.fixture(params=DATASETS, ids=lambda dataset: dataset.name)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    """Every published set with its default options."""
    return request.param


@pytest.fixture(scope="session")
def fundus() -> Path:
    """The folder of the real images. Skips where there is none."""
    beside = Path(__file__).parents[4] / "shared" / "fundus"
    root = Path(os.environ.get("SAM2LORA_FUNDUS", beside))
    if not root.is_dir():
        pytest.skip("no real images: $SAM2LORA_FUNDUS names no folder")
    return root
