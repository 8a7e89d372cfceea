"""Files of the user, and tables of all images, in a folder of results that several runs use."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import zarr
from PIL import Image
from pyarrow import parquet

from segjax.errors import InputError, Interrupted
from segjax.experiment import written_files
from segjax.experiment.export_formats import Exports
from segjax.experiment.finished_images import FinishedImages
from segjax.experiment.prediction import predict
from segjax.experiment.written_files import WrittenFiles
from tests.situations.test_predict import thresholding, visible

FORMATS = ("csv", "coco")


def run(images, out, digest="one", formats=FORMATS, **settings):
    made = predict(thresholding(digest), images, out, exports=Exports(formats, **settings))
    list(made)
    return made


def stop(prediction):
    """Stops a prediction after its first image."""
    for _ in prediction:
        os.kill(os.getpid(), signal.SIGINT)


def listed(out):
    """The images of each file of all images together, which are the same."""
    table = parquet.read_table(out / "measurements.parquet")["image"].to_pylist()
    with (out / "measurements.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == table
    images = json.loads((out / "predictions.json").read_text())["images"]
    assert [image["file_name"] for image in images] == table
    return table


def edit_geojson(path):
    content = json.loads(path.read_text())
    content["features"][0]["properties"]["classification"]["name"] = "corrected"
    path.write_text(json.dumps(content))


def edit_parquet(path):
    table = parquet.read_table(path)
    parquet.write_table(table.set_column(0, "id", pc.add(table["id"], 1)), path)


def edit_zarr(path):
    labels = zarr.open_group(path / "labels/cells", mode="r+")["0"]
    labels[:5] = 7


def edit_text(path):
    path.write_text(path.read_text() + "\n")


EDITS = {
    "cell3_cells.geojson": ("geojson", edit_geojson),
    "cell3_overlay.svg": ("svg", edit_text),
    "cell3_cells.parquet": ("parquet", edit_parquet),
    "cell3_cells.ome.zarr": ("ome-zarr", edit_zarr),
    "cell3_measurements.csv": ("csv", edit_text),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_was_changed_in_place_is_not_replaced(images, name):
    out, (form, edit) = images.parent / "out", EDITS[name]
    for digest in ("one", "two"):
        run(images, out, digest, (form,))
    edit(out / name)
    # It survives the same command.
    assert "(6 of them finished before)" in run(images, out, "two", (form,)).summary
    with pytest.raises(InputError, match=rf"1 of 6 images.*{name} exists, and was changed since segjax pre"):
        run(images, out, "three", (form,))


@pytest.mark.parametrize("name", ["measurements.csv", "measurements.parquet", "predictions.json"])
def test_a_table_of_all_images_that_was_changed_is_not_replaced(images, name):
    out = images.parent / "out"
    run(images, out)
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    with pytest.raises(InputError, match=rf"{name} exists, and was changed since segjax predict wrote it"):
        run(images, out)
    # Other formats do not need it.
    run(images, out, formats=("labels",))


def test_a_table_of_the_user_is_not_replaced(images):
    out = images.parent / "out"
    run(images, out, formats=("labels",))
    (out / "cell3_measurements.csv").write_text("mine")
    with pytest.raises(InputError, match=r"cell3_measurements\.csv exists, and was not written by segjax"):
        run(images, out)
    assert (out / "cell3_measurements.csv").read_text() == "mine"


def test_results_in_a_folder_of_results_are_known_in_both(images):
    """As of one day, and of all days together."""
    day = images / "day"
    day.mkdir()
    (images / "cell5.png").rename(day / "cell5.png")
    out = images.parent / "out"
    run(day, out / "day", formats=("csv",))
    run(images, out, "two", formats=("csv",))
    run(day, out / "day", "three", formats=("csv",))
    edit_text(out / "day/cell5_measurements.csv")
    with pytest.raises(InputError, match=r"cell5_measurements\.csv exists, and was changed since"):
        run(images, out, "four", ("csv",))


def test_results_without_their_hidden_folder_are_not_replaced(images):
    out = images.parent / "out"
    run(images, out)
    (out / ".segjax").rename(images.parent / "elsewhere")
    with pytest.raises(InputError, match=r"or the hidden folder \.segjax that says so is missing: move it"):
        run(images, out)


def test_a_table_that_is_changed_during_a_prediction_is_not_replaced(images):
    out = images.parent / "out"
    run(images, out)
    made = predict(thresholding("two"), images, out, exports=Exports(FORMATS))
    steps = iter(made)
    next(steps)
    edit_text(out / "measurements.csv")
    edited = (out / "measurements.csv").read_text()
    with pytest.raises(InputError, match=r"measurements\.csv exists, and was changed since"):
        list(steps)
    assert (out / "measurements.csv").read_text() == edited


def test_a_file_that_could_not_be_replaced_is_still_known(tmp_path):
    written, path = WrittenFiles(tmp_path), tmp_path / "table.csv"
    written.open()
    with written.replacing(path):
        path.write_text("first")
    with pytest.raises(OSError, match="full"), written.replacing(path):
        raise OSError("the disk is full")
    written.check(path)
    edit_text(path)
    with pytest.raises(InputError, match="was changed since"):
        written.check(path)


def test_a_file_that_two_predictions_write_at_once_stays_known(tmp_path, monkeypatch):
    written, path, digest = WrittenFiles(tmp_path), tmp_path / "table.csv", written_files._digest
    written.open()
    texts = ["of the other"]

    def late(one):
        result = digest(one)
        if texts:
            other = tmp_path / "other"
            other.write_text(texts.pop())
            other.rename(path)
        return result

    with monkeypatch.context() as patched, written.replacing(path):
        path.write_text("of one")
        patched.setattr(written_files, "_digest", late)
    assert path.read_text() == "of the other"
    written.check(path)


def test_an_image_by_two_paths_is_listed_once(images, monkeypatch):
    out, day = images.parent / "out", images / "day"
    day.mkdir()
    (images / "cell5.png").rename(day / "cell5.png")
    monkeypatch.chdir(day)
    run(Path(".."), out)
    (images.parent / "link").symlink_to(day)
    run(images.parent / "link", out)
    assert listed(out) == [f"cell{index}.png" for index in range(6)]


def test_folders_of_an_earlier_version_are_used(images):
    out = images.parent / "out"
    run(images, out)
    for note in (out / ".segjax/written").iterdir():
        note.unlink()
    (out / ".segjax/written").rmdir()
    finished = FinishedImages(out)
    for index in range(6):
        finished.write(f"cell{index}", finished.read(f"cell{index}")._replace(origin=None))
    assert "(6 of them finished before)" in run(images, out).summary
    # It knows the images now.
    run(images / "cell2.png", out)
    assert len(listed(out)) == 6
    run(images, out, "two")
    assert len(listed(out)) == 6


def test_a_file_that_a_killed_process_wrote_is_replaced(images, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(path):
        if path.name == "cell2_measurements.csv" and b"_um" in path.read_bytes():
            raise Killed
        return digest(path)

    out, digest = images.parent / "out", written_files._digest
    run(images, out)
    with monkeypatch.context() as patched:
        patched.setattr(written_files, "_digest", killed)
        with pytest.raises(Killed):
            run(images, out, "two", pixel_size=0.5)
    run(images, out, "two", pixel_size=0.5)
    assert b"_um" in (out / "cell2_measurements.csv").read_bytes()


def test_images_of_several_commands_are_in_one_table(images):
    out, names = images.parent / "out", [f"cell{index}.png" for index in range(6)]
    (images / "cell1.png").write_bytes(b"damaged")
    for name in reversed(names):
        if name == "cell1.png":
            with pytest.raises(InputError, match="1 of 1 images"):
                run(images / name, out)
        else:
            run(images / name, out)
    assert listed(out) == [name for name in names if name != "cell1.png"]
    with (out / "failed.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["cell1.png"]
    # What was removed is not listed, nor is an image twice, as a part of another folder.
    for name in ("cell1.png", "cell4.png"):
        (images / name).unlink()
    (images.parent / "other").mkdir()
    Image.fromarray(np.eye(30, dtype=np.uint8)).save(images.parent / "other/a.png")
    run(images.parent / "other", out)
    assert listed(out) == ["a.png", "cell0.png", "cell2.png", "cell3.png", "cell5.png"]
    assert not (out / "failed.csv").exists()
    # Tables of all images are those of one method.
    run(images / "cell0.png", out, "two")
    assert listed(out) == ["cell0.png"]


def test_an_image_of_two_folders_is_listed_once(images):
    out = images.parent / "out"
    run(images, out)
    (images / "bad.png").write_bytes(b"damaged")
    with pytest.raises(InputError):
        run(images / "bad.png", out)
    Image.fromarray(np.eye(30, dtype=np.uint8)).save(images / "bad.png")
    run(images.parent, out)
    assert listed(out) == ["images/bad.png", *(f"images/cell{index}.png" for index in range(6))]
    assert not (out / "failed.csv").exists()


def test_a_stopped_repetition_leaves_the_table_complete(images):
    out = images.parent / "out"
    run(images, out)
    before = {name: (out / name).read_bytes() for name in visible(out)}
    made = predict(thresholding(), images, out, exports=Exports(FORMATS))
    with pytest.raises(Interrupted, match=r"stopped after [12] of 6 images"):
        stop(made)
    assert {name: (out / name).read_bytes() for name in visible(out)} == before
    # Another pixel size: the rows of the other images do not have it yet.
    made = predict(thresholding(), images, out, exports=Exports(FORMATS, 0.5))
    with pytest.raises(Interrupted):
        stop(made)
    assert 1 <= len(listed(out)) <= 2
    run(images, out, pixel_size=0.5)
    assert len(listed(out)) == 6
