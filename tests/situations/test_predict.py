"""Folders, files and settings that a prediction meets."""

import csv
import errno
import itertools
import os
import resource
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from absl import flags
from filelock import FileLock
from PIL import Image
from pyarrow import parquet

from segjax import cli
from segjax.configs import semantic
from segjax.data.channels import match_channels
from segjax.data.preprocess import preprocess_image
from segjax.errors import InputError, Interrupted
from segjax.experiment import methods, prediction
from segjax.experiment.export_formats import FORMATS, STANDARD, Exports
from segjax.experiment.methods import OpenedMethod, make_predictor, open_method
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_inputs import Reading, find_inputs
from segjax.experiment.results_folder import without_temporary
from segjax.experiment.training import train
from segjax.files import atomic_write
from segjax.inference.exports.marks import PARQUET
from segjax.inference.neighbours import Radius
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from tests.experiment.tiny import shrink
from tests.situations.conftest import SHAPE, cells, write_cells


def thresholding(digest="one", channels=None, calls=None):
    """A method that takes bright pixels for one instance, and appends the shape of each image to `calls`."""

    def method(image):
        if calls is not None:
            calls.append(image.shape)
        return Segmentation.from_labels((image[..., 0] > image.max() / 2).astype(int))

    return OpenedMethod(method, ("background", "cell"), channels, digest=digest)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def visible(folder):
    return [name for name in names(folder) if not name.startswith(".")]


# Own results are never inputs.


@pytest.mark.parametrize(
    ("outs", "results"), [(("", ""), 27), (("out", "out"), 27), (("one", "two"), 18)], ids=str
)
def test_a_second_run_segments_the_same_images(images, outs, results):
    runs = []
    for digest, out in zip("ab", outs, strict=True):
        made = predict(
            thresholding(digest), images, images / out, exports=Exports((*STANDARD, "csv", "coco"))
        )
        runs.append([path.name for path, _ in made])
    assert runs[0] == runs[1] == [f"cell{index}.png" for index in range(6)]
    assert f"{results} written by segjax predict" in made.summary


def test_an_image_with_the_name_of_a_result_is_segmented(images):
    Image.fromarray(cells()[0]).save(images / "plate_overlay.png")
    assert list(find_inputs(images, images.parent / "out").images)[-1] == "plate_overlay"


@pytest.mark.parametrize("out", ["", "out"])
def test_an_annotation_is_never_replaced(images, out):
    (images / out).mkdir(exist_ok=True)
    truth = images / out / "cell3_labels.tif"
    tifffile.imwrite(truth, cells(3)[1])
    before = truth.read_bytes()
    with pytest.raises(InputError, match=r"1 of 6 images.*cell3_labels\.tif exists, and was not written by"):
        list(predict(thresholding(), images, images / out))
    assert truth.read_bytes() == before
    assert (images / out / "cell4_labels.tif").exists()


# Subfolders, other files, single images.


def test_subfolders_are_searched_and_mirrored(tmp_path):
    for folder in ("plate", "plate/well 1", "plate/well 2/deep"):
        write_cells(tmp_path / folder, 1)
    (tmp_path / "plate/well 1/loop").symlink_to(tmp_path / "plate")
    made = predict(
        thresholding(), tmp_path / "plate", tmp_path / "out", exports=Exports((*STANDARD, "csv", "coco"))
    )
    counts = dict(made)
    assert len(counts) == 3
    endings = ("classes.tif", "labels.tif", "measurements.csv", "overlay.png")
    stems = ("cell0", "well 1/cell0", "well 2/deep/cell0")
    expected = [f"{stem}_{ending}" for stem in stems for ending in endings]
    common = ["measurements.csv", "measurements.parquet", "predictions.json"]
    assert visible(tmp_path / "out") == sorted(expected + common)
    table = parquet.read_table(tmp_path / "out/measurements.parquet").to_pydict()
    assert table["image"] == [f"{stem}.png" for stem in stems]


LEFT_OUT = {
    "scan.czi": "1 of type .czi",
    "stack.ND2": "1 of type .nd2",
    "notes.txt": "1 of type .txt",
    "README": "1 without a type",
    "cell1_cp_masks.png": "1 named as masks of other images",
    "cell1_gt.png": "1 named as masks of other images",
    "chunks.zarr/0/0": "1 of type .zarr",
    ".cell1.png": "",
    "__MACOSX/cell1.png": "",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_end_counts_what_is_left_out(images, name):
    (images / name).parent.mkdir(parents=True, exist_ok=True)
    (images / name).write_bytes((images / "cell1.png").read_bytes())
    made = predict(thresholding(), images, images.parent / "out")
    list(made)
    summary, _, left_out = made.summary.partition("; ")
    assert summary.startswith("6 instances in 6 images: ")
    assert LEFT_OUT[name] in left_out
    assert bool(left_out) == bool(LEFT_OUT[name])


def test_a_single_image_is_segmented(images):
    made = predict(thresholding(), images / "cell2.png", images.parent / "out")
    assert [path.name for path, _ in made] == ["cell2.png"]
    assert visible(images.parent / "out") == [
        f"cell2_{end}" for end in ("classes.tif", "labels.tif", "overlay.png")
    ]


# Channels and types.

GREY = cells()[0][..., None]
COLOUR = np.stack([GREY[..., 0], GREY[..., 0] // 2, GREY[..., 0] // 3], -1)
EQUAL = np.repeat(GREY, 3, axis=-1)
OPAQUE = np.full((*SHAPE, 1), 255, np.uint8)
CHANNELS = {
    # name: the stored image, the channels of the training images, what the network sees
    "grey for colour": (GREY, 3, EQUAL),
    "equal colours for grey": (EQUAL, 1, GREY),
    "opaque colour for colour": (np.concatenate([COLOUR, OPAQUE], -1), 3, COLOUR),
    "opaque equal colours for grey": (np.concatenate([EQUAL, OPAQUE], -1), 1, GREY),
    "opaque grey for colour": (np.concatenate([GREY, OPAQUE], -1), 3, EQUAL),
    "four for four": (np.concatenate([COLOUR, OPAQUE], -1), 4, np.concatenate([COLOUR, OPAQUE], -1)),
    "two for any": (COLOUR[..., :2], None, COLOUR[..., :2]),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_match_where_nothing_is_lost(tmp_path, name):
    stored, channels, expected = CHANNELS[name]
    np.save(tmp_path / "a.npy", stored)
    np.testing.assert_array_equal(Reading().read(tmp_path / "a.npy", channels), expected)
    seen = []
    opened = OpenedMethod(lambda image: seen.append(image), channels=channels)
    opened(stored)
    np.testing.assert_array_equal(seen[0], expected)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        (3, 1, "has the channels 0, 1, 2, but the network was trained on 1: .*--channels=0$"),
        (2, 3, "has the channels 0, 1, but the network was trained on 3"),
        (4, 3, "has the channels 0, 1, 2, 3, but the network was trained on 3: .*--channels=0,1,2$"),
        (5, 1, "has the channels 0, 1, 2, 3, 4, but the network was trained on 1"),
    ],
)
def test_other_channels_are_refused_by_name(shape, channels, message):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, shape), np.uint8)
    with pytest.raises(InputError, match=message):
        match_channels(image, channels)


@pytest.mark.parametrize(
    ("selected", "trained"), [((0, 2, 1), 3), ((1,), 1), ((2, 2, 2), 3), ((1, 0), None)], ids=str
)
def test_channels_are_chosen(tmp_path, selected, trained):
    np.save(tmp_path / "a.npy", COLOUR)
    image = Reading(selected).read(tmp_path / "a.npy", trained)
    np.testing.assert_array_equal(image, COLOUR[..., list(selected)])


@pytest.mark.parametrize("selected", [(3,), (-1,)])
def test_a_channel_that_is_missing_is_refused(tmp_path, selected):
    np.save(tmp_path / "a.npy", COLOUR)
    with pytest.raises(InputError, match=r"--channels names channel .*only the channels 0, 1, 2"):
        Reading(selected).read(tmp_path / "a.npy", None)


@pytest.mark.parametrize(
    "convert",
    [
        lambda grey: grey.astype(np.uint16) * 257,
        lambda grey: (grey / 255).astype(np.float32),
        lambda grey: grey.astype(np.float32) - 1000,
        lambda grey: np.repeat(grey, 3, axis=-1),
    ],
    ids=["16 bits", "fractions", "below zero", "colour"],
)
def test_types_of_pixels_do_not_change_the_result(tmp_path, convert):
    task = SimpleNamespace(
        stride=1,
        predict=lambda _, windows: {"p": windows[..., 0]},
        segment=lambda outputs: Segmentation.from_labels((outputs["p"] > 0.5).astype(int)),
    )
    network = OpenedMethod(create_predictor(task, jnp.float32(0), prepare=preprocess_image), channels=1)
    for name, pixels in (("a", GREY), ("b", convert(GREY))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels.squeeze(), photometric=None)
    list(predict(network, tmp_path, tmp_path / "out"))
    first, second = (tifffile.imread(tmp_path / f"out/{name}_labels.tif") for name in "ab")
    np.testing.assert_array_equal(first, second)
    assert 0.1 < first.mean() < 0.3


# Planes of stacks.

STACK = np.stack([np.roll(GREY[..., 0], 5 * index, axis=1) for index in range(5)])


def write_stack(path, axes):
    """Writes `STACK`, with further axes of length 2 or, for channels, 3; its plane Z=3, T=0 is STACK[3]."""
    pixels = STACK
    if "T" in axes:
        pixels = np.stack([pixels, 255 - pixels])
    if "C" in axes:
        pixels = np.stack([pixels, pixels // 2, pixels // 3], axis=-3)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        is_ome = path.name.endswith(".ome.tif")
        tifffile.imwrite(path, pixels, metadata={"axes": axes}, ome=is_ome, photometric="minisblack")


@pytest.mark.parametrize(
    ("name", "axes", "planes"),
    [
        ("a.tif", "ZYX", {"Z": 3}),
        ("a.tif", "QYX", {"Q": 3}),
        ("a.tif", "ZYX", {"0": 3}),
        ("a.tif", "TZYX", {"T": 0, "Z": 3}),
        ("a.tif", "ZCYX", {"Z": 3}),
        ("a.ome.tif", "TZCYX", {"T": 0, "Z": 3}),
        ("a.npy", "ZYX", {"0": 3}),
        ("a.npy", "TZYX", {"0": 0, "1": 3}),
    ],
)
def test_a_plane_of_a_stack_is_chosen_and_images_stay_as_they_are(tmp_path, name, axes, planes):
    write_stack(tmp_path / name, axes)
    image = Reading(planes=tuple(planes.items())).read(tmp_path / name, None)
    np.testing.assert_array_equal(image[..., 0], STACK[3])
    assert image.shape[-1] == (3 if "C" in axes else 1)
    tifffile.imwrite(tmp_path / "plain.tif", STACK[0])
    plain = Reading(planes=tuple(planes.items())).read(tmp_path / "plain.tif", None)
    np.testing.assert_array_equal(plain[..., 0], STACK[0])


@pytest.mark.parametrize(
    ("axes", "planes", "message"),
    [
        ("ZYX", {}, r"axes ZYX, not an image: choose one plane.*\(--axis=Z=3 takes plane 3"),
        ("TZYX", {"Z": 3}, "axes TYX, not an image: choose one plane"),
        ("QYX", {}, "axes QYX, not an image: give channel_axis .*--channel_axis=0 takes axis 0 as channels"),
        ("ZYX", {"Z": 5}, "5 planes along its axis Z .*no plane 5: choose one from 0 to 4"),
        ("ZYX", {"Z": -1}, "no plane -1"),
    ],
)
def test_a_stack_without_a_plane_is_refused_with_the_advice_of_this_command(tmp_path, axes, planes, message):
    write_stack(tmp_path / "a.tif", axes)
    with pytest.raises(InputError, match=message):
        Reading(planes=tuple(planes.items())).read(tmp_path / "a.tif", None)


def test_channels_of_a_stack_without_names_are_chosen(tmp_path):
    write_stack(tmp_path / "a.tif", "QYX")
    image = Reading((4, 0, 1), channel_axis=0).read(tmp_path / "a.tif", 3)
    np.testing.assert_array_equal(image, np.stack([STACK[4], STACK[0], STACK[1]], -1))


# Paths and settings of the command line.


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--out=~/x", "--out=HOME/x"),
        ("--images=~", "--images=HOME"),
        ("--workdir=~/runs/a b", "--workdir=HOME/runs/a b"),
        ("--config.dataset.data_dir=~/data", "--config.dataset.data_dir=HOME/data"),
        ("--config=~/my.py:size=3", "--config=HOME/my.py:size=3"),
        ("--out=a~/x", "--out=a~/x"),
        ("--out=./~", "--out=./~"),
    ],
)
def test_the_home_folder_has_a_short_name_in_every_flag(monkeypatch, argument, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert list(cli._by_path(["predict", argument])) == ["predict", expected.replace("HOME", "/home/me")]


def test_the_home_folder_has_a_short_name_in_python(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=rf"--workdir={tmp_path}/a contains no run"):
        open_method("~/a")


def test_an_empty_flag_is_not_the_current_folder(monkeypatch, capsys):
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "", flag_values=values)
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    with pytest.raises(SystemExit, match="2"):
        cli._parse(["predict", "--out="])
    assert "error: --out= is empty" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_pixel_size_is_refused_before_the_first_image(images, size):
    calls = []
    with pytest.raises(InputError, match=r"--pixel_size=.* must be above 0"):
        predict(
            thresholding(calls=calls),
            images,
            images.parent / "out",
            exports=Exports((*STANDARD, "csv"), size),
        )
    assert calls == []
    assert not (images.parent / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 0}, "^tile is 0"),
        ({"tile": -128}, "^tile is -128"),
        ({"tile": 128, "overlap": 128}, "^overlap is 128"),
        ({"tile": 128, "overlap": 500}, "^overlap is 500"),
        ({"overlap": -1}, "^overlap is -1"),
    ],
    ids=str,
)
def test_impossible_tiles_are_refused_by_name(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        PredictConfig(**settings)
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.predict.update(settings)
    with pytest.raises(InputError, match=r"^config\.predict\." + message[1:]):
        make_predictor(config, None, None)
    with pytest.raises(InputError, match=r"^config\.predict\." + message[1:]):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("tile", "expected"), [(128, None), (256, None), (96, "predict.tile=96 is below")])
def test_tiles_below_the_training_patch_are_reported(monkeypatch, tile, expected):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.data.patch_size, config.predict.tile = 128, tile
    warnings = []
    monkeypatch.setattr(methods.logging, "warning", warnings.append)
    task = SimpleNamespace(predict=lambda params, images: images, stride=1)
    make_predictor(config, task, None)
    assert len(warnings) == (expected is not None)
    assert all(expected in warning for warning in warnings)


# What the system refuses.


def test_a_folder_of_results_that_is_a_file_is_refused(images):
    for out in (images / "cell0.png", images / "cell0.png" / "deeper"):
        with pytest.raises(InputError, match=r"cell0\.png.*choose another folder"):
            predict(thresholding(), images, out)
    assert names(images) == [f"cell{index}.png" for index in range(6)]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "choose a folder that can be written"),
        (errno.EACCES, "change its permissions"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["mkdir", "replace"])
def test_what_cannot_be_written_stops_at_once_with_one_sentence(images, monkeypatch, number, remedy, call):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(args[0]))

    calls = []
    monkeypatch.setattr(Path if call == "mkdir" else os, call, refuse)
    with pytest.raises(InputError, match=rf"^--out=.* cannot be written: .*{remedy}"):
        list(predict(thresholding(calls=calls), images, images.parent / "out"))
    monkeypatch.undo()
    assert len(calls) == (call == "replace")
    assert not (images.parent / "out").exists() or visible(images.parent / "out") == []


def test_a_full_disk_leaves_nothing_truncated(images):
    out = images.parent / "out"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(images / "a.png")
    list(predict(thresholding(), images, out))
    before = {name: (out / name).read_bytes() for name in visible(out)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(InputError, match=r"^--out=.*a_overlay\.png.*\(File too large\)"):
            list(predict(thresholding("two"), images, out))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {name: (out / name).read_bytes() for name in visible(out)} == before
    # The finished images, without the one that was being written.
    assert sum(name.startswith(".segjax") and name.endswith(".parquet") for name in names(out)) == 6


def test_an_input_that_cannot_be_read_is_not_blamed_on_the_folder_of_results(images, monkeypatch):
    read = Reading.read

    def refuse(self, path, channels):
        if path.name == "cell2.png":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(self, path, channels)

    monkeypatch.setattr(Reading, "read", refuse)
    made = predict(thresholding(), images, images.parent / "out")
    with pytest.raises(
        InputError, match=r"1 of 6 images .*cell2\.png cannot be read .*check the disk"
    ) as error:
        list(made)
    assert "--out" not in str(error.value)
    assert made.summary.startswith("5 instances in 5 images")


@pytest.mark.parametrize("length", [8, 255])
def test_files_with_names_of_any_length_are_written_beside_and_renamed(tmp_path, length):
    path = tmp_path / "a.txt".rjust(length, "x")

    def write(text, number=None):
        with atomic_write(path) as beside:
            beside.write_text(text)
            if number is not None:
                raise OSError(number, os.strerror(number))

    write("one")
    with pytest.raises(OSError, match="No space left") as caught:
        write("two", errno.ENOSPC)
    assert caught.value.filename == str(path)
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "one")]


def test_every_command_ends_in_one_sentence_on_a_full_disk(capsys):
    def command():
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/log.jsonl")

    with pytest.raises(SystemExit, match="2"):
        cli._guarded(command)
    assert capsys.readouterr().err == (
        "\nerror: runs/a/log.jsonl cannot be used (No space left on device): free some space, then run the"
        " same command again\n"
    )


def test_a_folder_that_cannot_be_read_fails_and_the_others_are_done(images, monkeypatch):
    write_cells(images / "secret", 1)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    made = predict(thresholding(), images, images.parent / "out")
    with pytest.raises(InputError, match=r"secret cannot be read \(Permission denied\)"):
        list(made)
    assert made.summary.startswith("6 instances in 6 images")
    with pytest.raises(InputError, match=r"secret cannot be read"):
        predict(thresholding(), images / "secret", images.parent / "out")


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.png", b"x" * 251 + b".png", b"x" * 242 + b".png", b"damaged.png"],
    ids=["not UTF-8", "255 bytes", "246 bytes", "damaged"],
)
def test_one_impossible_image_costs_none_of_the_others(images, name):
    path = images / os.fsdecode(name)
    path.write_bytes(b"" if name.startswith(b"damaged") else (images / "cell1.png").read_bytes())
    out = images.parent / "out"
    made = predict(thresholding(), images, out, exports=Exports((*STANDARD, "csv")))
    with pytest.raises(InputError, match="1 of 7 images could not be segmented") as caught:
        list(made)
    str(caught.value).encode()
    assert made.summary.startswith("6 instances in 6 images")
    assert "; 1 failed" in made.summary
    with (out / "failed.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["image"].endswith(".png")
    # All results of an image or none.
    counts = Counter(name.rpartition("_")[0] for name in visible(out) if name.startswith("cell"))
    assert counts == {f"cell{index}": 4 for index in range(6)}
    assert len(visible(out)) == 4 * 6 + 3


def test_folders_have_any_name(images):
    folder = images.parent / os.fsdecode(b"caf\xe9 [1]")
    images.rename(folder)
    made = predict(thresholding(), folder, folder / "out", exports=Exports((*STANDARD, "csv", "coco")))
    assert len(list(made)) == 6
    made.summary.encode()
    again = predict(thresholding(), folder, folder / "out", exports=Exports((*STANDARD, "csv", "coco")))
    list(again)
    assert "(6 of them finished before)" in again.summary


def test_all_failed_images_are_listed(images):
    for index in range(12):
        (images / f"bad{index:02}.png").write_bytes(b"no image")
    out = images.parent / "out"
    with pytest.raises(
        InputError, match=r"12 of 18 images .*failed\.csv: .*bad00.*bad09.*; and 2 more$"
    ) as caught:
        list(predict(thresholding(), images, out))
    assert "bad10" not in str(caught.value)
    with (out / "failed.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"bad{index:02}.png" for index in range(12)]
    assert all("cannot be read" in row["reason"] for row in rows)
    for index in range(12):
        (images / f"bad{index:02}.png").unlink()
    list(predict(thresholding(), images, out))
    assert not (out / "failed.csv").exists()


@pytest.mark.parametrize("name", ["failed.csv", "measurements.csv", "predictions.json"])
def test_files_of_other_programs_are_not_replaced(tmp_path, name):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    method = open_method("watershed")
    with pytest.raises(InputError, match=rf"{name} exists, and was not written by segjax predict, or"):
        predict(method, tmp_path / "images", tmp_path / "out", exports=Exports(("csv",)), reading=Reading())
    assert (tmp_path / "out" / name).read_text() == "mine"
    (tmp_path / "out" / name).unlink()
    for _ in range(2):
        list(
            predict(
                method, tmp_path / "images", tmp_path / "out", exports=Exports(("csv",)), reading=Reading()
            )
        )


def test_an_unexpected_error_costs_one_image(images):
    def method(image):
        if len(calls) == 2:
            calls.append(None)
            raise ZeroDivisionError("division by zero")
        return thresholding(calls=calls).method(image)

    calls = []
    with pytest.raises(InputError, match=r"1 of 6 .*cell2\.png could not be segmented \(ZeroDivisionError"):
        list(predict(OpenedMethod(method), images, images.parent / "out"))
    assert len(calls) == 6


# Stopping and resuming.


def test_finished_images_are_not_segmented_again(images):
    out, calls = images.parent / "out", []

    def run(digest, **options):
        calls.clear()
        made = predict(thresholding(digest, calls=calls), images, out, **options)
        assert [count for _, count in made] == [1] * 6
        return len(calls)

    assert run("one", exports=Exports((*STANDARD, "csv", "coco"))) == 6
    before = {name: (out / name).read_bytes() for name in names(out)}
    assert run("one", exports=Exports((*STANDARD, "csv", "coco"))) == 0
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert run("one") == 0
    # Another method, or image.
    assert run("two", exports=Exports((*STANDARD, "csv"))) == 6
    Image.fromarray(cells(99)[0]).save(images / "cell0.png")
    assert run("two", exports=Exports((*STANDARD, "csv"))) == 1
    # Another channel.
    assert run("two", exports=Exports((*STANDARD, "csv")), reading=Reading((0,))) == 6
    # A method whose parameters are unknown.
    assert run("") == 6
    assert run("") == 6


ALL = ("csv", "coco", "ome-tiff", "ome-zarr", "geojson", "imagej", "parquet", "svg", "cutouts", "ctc")


def test_further_formats_are_written_without_segmenting_again(images):
    out, calls = images.parent / "out", []

    def run(*formats, **settings):
        calls.clear()
        made = predict(thresholding(calls=calls), images, out, exports=Exports(formats, **settings))
        assert [count for _, count in made] == [1] * 6
        return made.summary.partition(":")[0]

    run("labels")
    assert len(calls) == 6
    assert len(visible(out)) == 2 * 6  # ids and classes
    before = {name: os.stat(out / name).st_mtime_ns for name in visible(out)}
    assert run("labels", *ALL) == "6 instances in 6 images"
    assert calls == []
    assert {name: os.stat(out / name).st_mtime_ns for name in before} == before
    undisturbed = images.parent / "undisturbed"
    list(predict(thresholding(), images, undisturbed, exports=Exports(("labels", *ALL))))
    assert visible(out) == visible(undisturbed)
    for name in visible(out):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    # Everything is done; a file that is missing is written again.
    assert run("labels", *ALL) == "6 instances in 6 images (6 of them finished before)"
    (out / "cell3_rois.zip").unlink()
    assert run(*ALL) == "6 instances in 6 images (5 of them finished before)"
    assert (out / "cell3_rois.zip").read_bytes() == (undisturbed / "cell3_rois.zip").read_bytes()
    # Another pixel size changes some formats only.
    changed = {name: (out / name).read_bytes() for name in visible(out)}
    run("labels", *ALL, pixel_size=0.5)
    now = {name.partition("_")[2] for name in changed if (out / name).read_bytes() != changed[name]}
    assert now >= {"cells.ome.tif", "cells.parquet", "measurements.csv"}
    assert not now & {"labels.tif", "cells.geojson", "rois.zip"}
    assert parquet.read_table(out / "measurements.parquet")["area_um2"].null_count == 0
    assert calls == []


def stop_at_once(*args):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def test_files_that_were_replaced_when_it_stopped_are_not_taken_for_finished(images, monkeypatch):
    out, formats = images.parent / "out", ("csv", "parquet")
    list(predict(thresholding(), images, out, exports=Exports(formats, 0.5)))
    before = {name: (out / name).read_bytes() for name in visible(out)}

    # The first table has the other pixel size, the second not yet.
    with monkeypatch.context() as patched:
        patched.setitem(FORMATS, "parquet", FORMATS["parquet"]._replace(files={PARQUET: stop_at_once}))
        with pytest.raises(Interrupted):
            list(predict(thresholding(), images, out, exports=Exports(formats, 0.25)))
    assert (out / "cell0_measurements.csv").read_bytes() != before["cell0_measurements.csv"]
    list(predict(thresholding(), images, out, exports=Exports(formats, 0.5)))
    assert {name: (out / name).read_bytes() for name in visible(out)} == before


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_stored_segmentation_that_is_damaged_is_made_again(images, damage):
    out, calls = images.parent / "out", []
    list(predict(thresholding(), images, out))
    (path, *_) = sorted((out / ".segjax").glob("*.npz"))
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    list(predict(thresholding(calls=calls), images, out, exports=Exports(("geojson",))))
    assert len(calls) == 1


def test_frames_of_a_folder_are_numbered_and_all_exports_are_no_inputs(images):
    for _ in range(2):
        made = predict(thresholding(), images, images, exports=Exports((*STANDARD, *ALL)))
        assert [path.name for path, _ in made] == [f"cell{index}.png" for index in range(6)]
    frames = sorted(path.name for path in (images / "01_RES").iterdir())
    assert frames == [f"mask00{index}.tif" for index in range(6)]
    assert "written by segjax predict" in made.summary
    assert "of type" not in made.summary


@pytest.mark.parametrize("name", ["cell3_cells.geojson", "cell3_rois.zip", "cell3_cells.ome.zarr/zarr.json"])
def test_no_file_of_another_program_is_replaced(images, name):
    path = images / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"1 of 6 images.*cell3.* exists, and was not written by"):
        list(predict(thresholding(), images, images, exports=Exports(("geojson", "imagej", "ome-zarr"))))
    assert path.read_text() == "{}"


def test_unknown_formats_and_an_uncertainty_that_no_class_has_are_refused(images):
    with pytest.raises(
        InputError, match=r"--export='geo' is unknown: choose one of labels, overlay, ome-tiff"
    ):
        Exports(("labels", "geo"))
    with pytest.raises(InputError, match=r"--export= is empty"):
        Exports(())
    with pytest.raises(InputError, match=r"^--uncertainty is the entropy of class probabilities"):
        predict(thresholding(), images, images.parent / "out", exports=Exports(("uncertainty",)))


def test_a_radius_in_micrometres_needs_a_pixel_size(images):
    out, radius = images.parent / "out", Radius.parse("20um")
    with pytest.raises(InputError, match=r"cell0\.png states no pixel size"):
        list(predict(thresholding(), images, out, exports=Exports(("csv",), radius=radius)))
    list(predict(thresholding(), images, out, exports=Exports(("csv",), 0.5, radius)))
    assert "neighbours_within_20_um" in parquet.read_table(out / "measurements.parquet").column_names


def test_results_of_two_methods_are_never_mixed(images, monkeypatch):
    out, calls = images.parent / "out", []
    list(predict(thresholding("one"), images, out))
    monkeypatch.setattr(prediction.Prediction, "_write", stop_at_once)
    with pytest.raises(Interrupted):
        list(predict(thresholding("two"), images, out))
    monkeypatch.undo()
    list(predict(thresholding("one", calls=calls), images, out))
    assert len(calls) == 1


def test_a_corrected_result_survives_the_same_command_and_is_not_replaced_by_another(images):
    out = images.parent / "out"
    list(predict(thresholding(), images, out))
    tifffile.imwrite(out / "cell3_labels.tif", cells(3)[1])
    list(predict(thresholding(), images, out))
    with pytest.raises(InputError, match=r"cell3_labels\.tif exists, .* was changed since"):
        list(predict(thresholding("two"), images, out))
    np.testing.assert_array_equal(tifffile.imread(out / "cell3_labels.tif"), cells(3)[1])


def swallowed():
    """Waits, and turns an exception in between into another one, as callbacks of libraries do."""
    try:
        time.sleep(0.01)
    except KeyboardInterrupt as error:
        raise TypeError from error


@pytest.mark.parametrize(
    ("signals", "done"),
    [((signal.SIGINT,), 4), ((signal.SIGTERM,), 4), ((signal.SIGINT, signal.SIGINT), 3)],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"],
)
def test_tables_are_written_after_a_signal_and_the_same_command_resumes(images, signals, done):
    out, calls = images.parent / "out", []

    def method(image):
        if len(calls) == 3:
            for number in signals:
                os.kill(os.getpid(), number)
            swallowed()
        return thresholding(calls=calls).method(image)

    opened = OpenedMethod(method, ("background", "cell"), digest="one")
    with pytest.raises(Interrupted, match=f"stopped after {done} of 6 images; the same command") as stopped:
        list(predict(opened, images, out, exports=Exports((*STANDARD, "csv"))))
    assert stopped.value.exit_code == 128 + signals[0]
    assert parquet.read_table(out / "measurements.parquet").num_rows == done
    calls.clear()
    list(predict(thresholding(calls=calls), images, out, exports=Exports((*STANDARD, "csv"))))
    assert len(calls) == 6 - done
    assert parquet.read_table(out / "measurements.parquet")["image"].to_pylist() == [
        f"cell{index}.png" for index in range(6)
    ]
    undisturbed = images.parent / "undisturbed"
    list(predict(thresholding(), images, undisturbed, exports=Exports((*STANDARD, "csv"))))
    assert (undisturbed / "measurements.csv").read_bytes() == (out / "measurements.csv").read_bytes()


def test_equal_methods_have_equal_digests():
    first, second, other = (open_method(name) for name in ("watershed", "watershed", "kmeans"))
    assert first.digest == second.digest != other.digest
    assert first.digest


@pytest.mark.parametrize("last", [2, 6])
def test_images_in_progress_are_finished_after_a_signal(images, last):
    out, calls, numbers = images.parent / "out", [], itertools.count(1)

    def method(image):
        result = thresholding(calls=calls).method(image)
        if (number := next(numbers)) == last:
            os.kill(os.getpid(), signal.SIGTERM)
        elif number > last:
            time.sleep(1)  # the signal arrives while these are in progress
        return result

    opened = OpenedMethod(method, ("background", "cell"), digest="one")
    made = predict(opened, images, out, workers=3)
    if last == 6:
        assert len(list(made)) == 6
        return
    with pytest.raises(Interrupted, match=r"stopped after [1-5] of 6 images"):
        list(made)
    done = len(calls)
    assert len(list(predict(thresholding(calls=calls), images, out, workers=3))) == 6
    assert len(calls) == 6
    assert done == len(made._done)


def test_workers_change_nothing_and_the_first_image_is_segmented_alone(images):
    (images / "cell3.png").write_bytes(b"damaged")
    together, most, lock = 0, [], threading.Lock()

    def counted(image):
        nonlocal together
        with lock:
            together += 1
            most.append(together)
        time.sleep(0.05)
        with lock:
            together -= 1
        return thresholding().method(image)

    files, opened = {}, OpenedMethod(counted, ("background", "cell"), digest="one")
    for workers in (1, 3):
        out = images.parent / f"out{workers}"
        made = predict(opened, images, out, workers=workers)
        names = []
        with pytest.raises(InputError, match=r"1 of 6 images could not be segmented.*cell3"):
            names.extend(path.name for path, _ in made)
        assert names == [f"cell{index}.png" for index in (0, 1, 2, 4, 5)]
        files[workers] = {name: (out / name).read_bytes() for name in visible(out)}
    assert files[1] == files[3]
    assert most[:5] == [1] * 5
    assert most[5] == 1
    assert max(most[6:]) > 1


def test_temporary_files_of_killed_processes_are_removed_unless_another_prediction_runs(images):
    out = images.parent / "out"
    left = [out / f".{'0a' * 16}.tif", out / ".segjax" / f".{'1b' * 16}.npz"]
    others = [out / ".hidden.tif", images / f".{'2c' * 16}.png"]
    (out / f".{'3d' * 16}.zarr" / "0").mkdir(parents=True)
    (out / ".segjax").mkdir(parents=True)
    for path in (*left, *others):
        path.write_bytes(b"cut off")
    with FileLock(out / ".segjax" / "0_prediction.lock"):
        list(predict(thresholding(), images, out))
        assert all(path.exists() for path in left)
    # The first of two predictions has ended when a third one begins.
    first, second, third = (without_temporary(out, [out]) for _ in range(3))
    with first:
        second.__enter__()
        (out / left[0].name).write_bytes(b"being written")
    with third:
        assert (out / left[0].name).exists()
    second.__exit__(None, None, None)
    list(predict(thresholding(), images, out))
    assert not any(path.exists() for path in left)
    assert not (out / f".{'3d' * 16}.zarr").exists()
    assert all(path.exists() for path in others)
