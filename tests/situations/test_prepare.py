"""Folders, files and settings that a preparation meets. A new situation is one line of a table."""

import csv
import errno
import io
import json
import os
import re
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image

from segjax.configs import classical, semantic
from segjax.data.readers import read_image
from segjax.datasets.catalog import open_source
from segjax.datasets.folder import examination
from segjax.datasets.folder.builder import dataset_dir
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import prepare
from segjax.errors import InputError
from segjax.experiment import dataset_report, evaluation, methods, prepare_folder, setup
from segjax.experiment.prepare_inputs import Request
from segjax.experiment.workdir import ModelMetadata
from segjax.report.dataset_page import _file_stems
from tests.data import tiny
from tests.datasets.formats.written import write_dataset
from tests.experiment.tiny import shrink
from tests.situations.conftest import cells

BAD_NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture
def data(images):
    """A folder with `images` and `masks` of six images of cells."""
    write_masks(images.parent / "masks")
    return images.parent


def write_masks(folder, change=lambda labels: labels):
    folder.mkdir(exist_ok=True)
    for index in range(6):
        Image.fromarray(change(cells(index)[1])).save(folder / f"cell{index}.png")


def prepared(data, out="out", **options):
    """Prepares the folder in this process; returns the message."""
    fields = {"images": str(data / "images"), "masks": str(data / "masks"), "out": str(data / out)}
    return prepare_folder.prepare_folder(Request(**fields | options), workers=0, previews=False)


def records(out):
    """The records by name."""
    sizes = FolderSource("train", data_dir=out).sizes
    return {one.name: one for split in sizes for one in FolderSource(split, data_dir=out)}


def contents(folder):
    """The content of each visible file, by its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def failures(out):
    """The rows of failed.csv."""
    with (out / "report" / "failed.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def reads(monkeypatch):
    """The paths of the images that are read."""
    paths = []

    def read(path, **options):
        paths.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(examination, "read_image", read)
    return paths


# The home folder has a short name.


def test_the_home_folder_has_a_short_name_in_a_request(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    monkeypatch.chdir(data.parent)
    (data / "table.csv").write_text("image,patient\ncell0,a\n")
    request = Request("~/images", "~/masks", "~/out", metadata="~/table.csv")
    said = prepare_folder.prepare_folder(request, workers=0, previews=False)
    assert said.startswith("6 kept of 6 images")
    assert sorted(path.name for path in data.iterdir()) == ["images", "masks", "out", "table.csv"]
    assert len(open_source("folder", "all", data_dir="~/out")) == 6
    assert not (data.parent / "~").exists()


METADATA = ModelMetadata(("background", "cell"), 1)
CONFIG_PATHS = {
    "model.weights": lambda config: setup._load_weights(
        config, ModelMetadata(("background", "cell"), 1), {"encoder": {}}
    ),
    "classifier.file": methods.open_method,
    "proposals.workdir": methods.make_proposer,
}


@pytest.mark.parametrize("field", CONFIG_PATHS)
def test_the_home_folder_has_a_short_name_in_a_config(tmp_path, monkeypatch, field):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = classical.get_config("method=watershed")
    if field == "model.weights":
        config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    elif field == "proposals.workdir":
        config = ConfigDict({"proposals": {"method": "rpn"}})
    section, name = field.split(".")
    config[section][name] = "~/a.safetensors"
    with pytest.raises(InputError, match=f"{tmp_path}/a.safetensors|no classifier ~/a"):
        CONFIG_PATHS[field](config)
    (tmp_path / "a.safetensors").write_text("{}")
    with pytest.raises(InputError, match=f"{tmp_path}/a.safetensors|is no classifier"):
        CONFIG_PATHS[field](config)


# What the system refuses.


@pytest.mark.parametrize("out", ["file", "file/deeper"])
def test_a_folder_of_results_that_is_a_file_is_refused_before_the_first_image(data, reads, out):
    (data / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^--out=.*file.* choose another folder"):
        prepared(data, out)
    assert reads == []
    assert (data / "file").read_text() == "mine"


REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "change its permissions",
}


@pytest.mark.parametrize("number", REMEDIES, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["mkdir", "replace", "TemporaryFile"])
def test_what_cannot_be_written_stops_at_once_with_one_sentence(data, monkeypatch, reads, number, call):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(args[0] if args else kwargs["dir"]))

    owner = {"mkdir": Path, "replace": os, "TemporaryFile": tempfile}[call]
    monkeypatch.setattr(owner, call, refuse)
    with pytest.raises(InputError, match=rf"^--out=.* cannot be written: .*{REMEDIES[number]}"):
        prepared(data)
    monkeypatch.undo()
    assert len(reads) == (call == "replace")
    assert not (data / "out").exists() or contents(data / "out") == {}


# The largest file that the system writes, bytes, and the first file that is larger.
LIMITS = {
    "a checked image": (1_000, r"staging.*\.npz"),
    "the shuffled examples": (20_000, "data set folder"),
    "the data set": (60_000, "data set folder"),
    "a picture of the report": (400_000, r"report/large\.png"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_full_disk_leaves_nothing_truncated_and_the_same_command_resumes(data, monkeypatch, name):
    limit, file = LIMITS[name]
    monkeypatch.setattr(prepare_folder, "contact_sheets", lambda *args: [("large", png((900, 900)))])
    (data / "undisturbed").mkdir()

    def run(out):
        request = Request(str(data / "images"), str(data / "masks"), str(data / out))
        return prepare_folder.prepare_folder(request, workers=0, previews=True)

    run("undisturbed/out")
    expected = contents(data / "undisturbed/out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        with pytest.raises(InputError, match=rf"{file}.*File too large"):
            run("out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    written = {path: content for path, content in contents(data / "out").items() if path in expected}
    assert written == {path: expected[path] for path in written}
    assert "report/large.png" not in written
    run("out")
    assert contents(data / "out") == expected


def png(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [{"fractions": (0.34, 0.33, 0.33)}, {"folds": 2}, {"classes": ("nucleus",)}],
    ids=str,
)
def test_data_of_a_run_that_stopped_are_not_taken_for_those_of_another(data, monkeypatch, change):
    """The first run stops after the data set, before the report."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_folder, "write_quality", stop)
    with pytest.raises(KeyboardInterrupt):
        prepared(data)
    monkeypatch.undo()
    assert dataset_dir(data / "out").exists()
    prepared(data, **change)
    (data / "undisturbed").mkdir()
    prepared(data, "undisturbed/out", **change)
    assert contents(data / "out") == contents(data / "undisturbed/out")


def test_folders_of_the_user_in_the_folder_of_results_stay(data):
    mine = [f"{name}/{file}" for name in ("staging", "downloads") for file in ("a.json", "b/paper.pdf")]
    for name in mine:
        (data / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "out" / name).write_text("mine")
    prepared(data)
    assert {path for path in contents(data / "out") if path.startswith(("staging", "downloads"))} == {*mine}


def test_a_data_set_of_another_program_is_not_replaced(data):
    for name in ("folder/1.0.0/cell0.png", "staging/a.txt"):
        (data / "out" / name).parent.mkdir(parents=True)
        (data / "out" / name).write_text("mine")
    before = contents(data / "out")
    with pytest.raises(InputError, match="was not made by this command: choose another --out"):
        prepared(data)
    assert contents(data / "out") == before


@pytest.mark.parametrize("folder", ["images/secret", "masks/secret", "images", "masks"])
def test_a_folder_that_cannot_be_read_is_named(data, monkeypatch, reads, folder):
    for name in ("images", "masks"):
        (data / name / "secret").mkdir()
        shutil.copy(data / name / "cell1.png", data / name / "secret" / "cell9.png")
    scandir = os.scandir

    def refuse(path="."):
        if Path(path) == data / folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=rf"{folder} cannot be .*\(Permission denied\): change its permiss"):
        prepared(data)
    monkeypatch.undo()
    assert reads == []
    assert not (data / "out").exists()


@pytest.mark.parametrize("out", ["images/out", "masks/out", "images", "masks", "out"])
def test_the_same_command_again_is_finished_wherever_the_results_are(data, out):
    assert prepared(data, out).startswith("6 kept of 6 images")
    before = contents(data)
    assert "is prepared already" in prepared(data, out)
    assert contents(data) == before
    with pytest.raises(InputError, match=r"\(--seed was 0\): choose another --out$"):
        prepared(data, out, seed=1)


def test_images_in_a_folder_with_a_name_of_the_results_are_prepared(data):
    (data / "images").rename(data / "report")
    assert prepared(data, "", images=str(data / "report")).startswith("6 kept of 6 images")


COMMANDS = {
    "prepare a public data set": lambda out: dataset_report.inspect_public(
        "x", None, str(out), previews=False
    ),
    "evaluate": lambda out: evaluation.evaluate_classical(classical.get_config(), "test", out),
    "evaluate a network": lambda out: evaluation.evaluate_model("nuclei", semantic.get_config(), "test", out),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_results_that_cannot_be_written_cost_no_time(tmp_path, monkeypatch, name):
    def too_late(*args, **kwargs):
        raise AssertionError("data are opened")

    monkeypatch.setattr(evaluation, "open_split", too_late)
    monkeypatch.setattr(dataset_report, "open_source", too_late)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out=.*/file cannot be written: .* choose another folder"):
        COMMANDS[name](tmp_path / "file")


def test_a_full_disk_ends_the_preparation_of_a_public_data_set(tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError(f"write() failed: {os.strerror(errno.ENOSPC)}; writing a.array_record")

    monkeypatch.setattr(tiny.Fragile, "_generate_examples", lambda self, *args: full(self))
    with pytest.raises(InputError, match=r"fragile cannot be prepared .*\(No space left on device\)"):
        prepare(tiny.Fragile, tmp_path)
    assert [path.name for path in (tmp_path / "fragile").iterdir()] == []


# Images that fail.

IMPOSSIBLE = {
    "damaged": ("bad", r"Unreadable images \(.*cannot identify image file"),
    "not UTF-8": (BAD_NAME, r"not UTF-8 \(caf\\udce9\)"),
    "folder not UTF-8": (f"{BAD_NAME}/cell", r"not UTF-8 \(caf\\udce9/cell\)"),
    "an unexpected error": ("bomb", r"could not be checked \(ZeroDivisionError: by the image\)"),
    "no memory": ("bomb", r"could not be checked \(MemoryError"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_one_impossible_image_costs_none_of_the_others(data, monkeypatch, name):
    stem, reason = IMPOSSIBLE[name]
    for folder in ("images", "masks"):
        path = data / folder / f"{stem}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(data / folder / "cell1.png", path)
    if name == "damaged":
        (data / "images" / "bad.png").write_bytes(b"no image")

    def read(path, **options):
        if path.stem == "bomb":
            raise MemoryError if name == "no memory" else ZeroDivisionError("by the image")
        return read_image(path, **options)

    monkeypatch.setattr(examination, "read_image", read)
    said = prepared(data)
    assert said.startswith("6 kept, 1 quarantined of 7 images")
    said.encode()
    assert sorted(records(data / "out")) == [f"cell{index}" for index in range(6)]
    (row,) = failures(data / "out")
    assert row["reason"].startswith(f"{row['image']}: ")
    assert re.search(reason, row["reason"])
    assert row["reason"] in said


@pytest.mark.parametrize("length", [246, 255])
def test_images_with_names_of_the_largest_length_are_prepared(data, length):
    stem = "x" * (length - len(".png"))
    for folder in ("images", "masks"):
        (data / folder / "cell1.png").rename(data / folder / f"{stem}.png")
    assert prepared(data).startswith("6 kept of 6 images")
    np.testing.assert_array_equal(records(data / "out")[stem].truth.labels, cells(1)[1])
    assert not (data / "out" / "report" / "failed.csv").exists()


def test_folders_of_images_have_any_name(data):
    folder = data / f"{BAD_NAME} [1]"
    folder.mkdir()
    (data / "images").rename(folder / "images")
    shutil.copy(data / "masks" / "cell1.png", data / "masks" / f"{BAD_NAME}.png")  # without an image
    said = prepared(data, images=str(folder / "images"))
    assert said.startswith("6 kept of 6 images")
    said.encode()
    assert "is prepared already" in prepared(data, images=str(folder / "images"))


def test_a_folder_of_results_whose_name_is_not_utf8_is_refused_before_the_first_image(data, reads):
    with pytest.raises(InputError, match="not UTF-8, and cannot hold a data set: choose another") as caught:
        prepared(data, BAD_NAME)
    str(caught.value).encode()
    assert reads == []
    with pytest.raises(InputError, match="not UTF-8, and cannot hold a data set"):
        prepare(tiny.Fragile, data / BAD_NAME)


def test_all_failed_images_are_listed(data):
    for index in range(12):
        (data / "images" / f"bad{index:02}.png").write_bytes(b"no image")
    said = prepared(data)
    assert said.startswith("6 kept, 12 quarantined of 18 images")
    line = next(line for line in said.splitlines() if line.startswith("left out"))
    assert "report/failed.csv: bad00: " in line
    assert "; bad09: " in line
    assert line.endswith("; and 2 more")
    assert "bad10" not in line
    assert [row["image"] for row in failures(data / "out")] == [f"bad{index:02}" for index in range(12)]


# No image can be used.


def classes_of(labels):
    return np.where(labels > 4, 2, (labels > 0).astype(np.uint8)).astype(np.uint8)


def write_stacks(data):
    for index in range(6):
        (data / "images" / f"cell{index}.png").unlink()
        stack = np.stack([cells(index + plane)[0] for plane in range(5)])
        tifffile.imwrite(data / "images" / f"cell{index}.tif", stack, imagej=True, metadata={"axes": "ZYX"})


def write_outlines(data, form, change):
    """Replaces the masks by outlines in one file or in several."""
    shutil.rmtree(data / "masks")
    drawn = {f"cell{index}": (cells(index)[1], {}) for index in range(6)}
    path = write_dataset(form, data / "masks", drawn)
    for file in [path] if path.is_file() else path.iterdir():
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))


def mark_crowds(document):
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1


def add_region(document):
    """The region in which QuPath detected the cells."""
    outline = {"type": "Polygon", "coordinates": [[[0, 0], [128, 0], [128, 96], [0, 96], [0, 0]]]}
    region = {"type": "Feature", "geometry": outline, "properties": {"objectType": "annotation"}}
    for cell in document:
        cell["properties"]["objectType"] = "detection"
    document.append(region)


# Masks or images, the kind of finding, its remedy, and the option that takes the images in.
SET_ASIDE = {
    "foreground": (
        lambda data: write_masks(data / "masks", lambda labels: (labels > 0) * np.uint8(255)),
        "binary_mask",
        "--mask_format=binary",
        {"mask_format": "binary"},
    ),
    "classes": (
        lambda data: write_masks(data / "masks", classes_of),
        "class_map",
        "--mask_format=classes",
        {"mask_format": "classes"},
    ),
    "no cell": (
        lambda data: write_masks(data / "masks", np.zeros_like),
        "empty_mask",
        "--accept=empty_mask",
        {"accept": ("empty_mask",)},
    ),
    "another size": (
        lambda data: write_masks(data / "masks", lambda labels: labels[:50]),
        "size_mismatch",
        "export the mask again at the size of its image",
        None,
    ),
    "crowds": (
        lambda data: write_outlines(data, "coco", mark_crowds),
        "only_crowds",
        "iscrowd=1.*--crowds=cells",
        {"crowds": "cells"},
    ),
    "regions and cells": (
        lambda data: write_outlines(data, "qupath", add_region),
        "invalid_annotation",
        r"such as cell0: .*cell0\.geojson mixes annotations with objects of type detection",
        None,
    ),
    "stacks": (write_stacks, "unclear_axes", "--axis=Z=3", {"axis": (("Z", 0),)}),
}


@pytest.mark.parametrize("name", SET_ASIDE)
def test_if_no_image_can_be_used_the_report_says_why_and_the_message_the_way_out(data, name):
    change, kind, remedy, option = SET_ASIDE[name]
    change(data)
    message = rf"^all 6 images were set aside: 6 for {kind} .*{remedy}.*report/index\.html$"
    with pytest.raises(InputError, match=message):
        prepared(data)
    report = data / "out" / "report"
    assert (
        f"There is no data set: all 6 images were set aside: 6 for {kind}"
        in (report / "index.html").read_text()
    )
    quality = json.loads((report / "quality.json").read_text())
    assert quality["images"] == {"kept": 0, "repaired": 0, "quarantined": 6}
    assert len(quality["findings"][kind]) == len(failures(data / "out")) == 6
    assert not dataset_dir(data / "out").exists()
    if option is not None:
        assert "of 6 images" in prepared(data, **option)
        assert not (report / "failed.csv").exists()
        assert len(records(data / "out")) == 6


def test_too_few_groups_are_reported_with_what_was_set_aside(data):
    Image.fromarray(cells()[1][:50]).save(data / "masks" / "cell0.png")
    rows = [f"cell{index},one" for index in range(6)]
    (data / "table.csv").write_text("\n".join(["image,patient", *rows]))
    message = (
        r"^1 group without a split cannot fill train, validation, test.*; 1 images were set aside: 1 for"
        r" size_mismatch .*; see .*report/index\.html$"
    )
    with pytest.raises(InputError, match=message):
        prepared(data, metadata=str(data / "table.csv"))
    quality = json.loads((data / "out" / "report" / "quality.json").read_text())
    assert quality["images"] == {"kept": 5, "repaired": 0, "quarantined": 1}
    assert [row["image"] for row in failures(data / "out")] == ["cell0"]
    assert prepared(data).startswith("5 kept, 1 quarantined of 6 images")


# Numbers that are refused before the first image.


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "-inf", "1e400", "half"])
def test_an_impossible_pixel_size_is_refused_before_the_first_image(data, reads, size):
    (data / "table.csv").write_text(f"image,pixel_size\ncell0,0.5\ncell1,{size}\n")
    with pytest.raises(InputError, match=rf"cell1 has the pixel_size '{size}': give micrometres, above 0"):
        prepared(data, metadata=str(data / "table.csv"))
    assert reads == []
    assert not (data / "out").exists()


@pytest.mark.parametrize(
    "fractions",
    [
        (0.5, 0.5, 0.5),
        (0.0, 0.0, 0.0),
        (1.5, -0.25, -0.25),
        (float("nan"), 0.5, 0.5),
        (float("inf"), 0.0, 0.0),
    ],
    ids=str,
)
def test_impossible_fractions_are_refused_before_the_first_image(data, reads, fractions):
    with pytest.raises(InputError, match=r"the fractions of splits are .* must be at least 0 and sum to 1"):
        prepared(data, fractions=fractions)
    assert reads == []
    assert not (data / "out").exists()


def test_classes_of_any_name_have_files_of_their_own():
    stems = _file_stems(["class a/b", "class a b", "class A b", "é" * 300, "é" * 301, "\udce9", ""])
    assert len({stem.casefold() for stem in stems}) == len(stems)
    assert all(len(f"{stem}.png".encode()) <= 255 and "/" not in stem for stem in stems)
