"""Series that a prediction meets: folders of frames, stacks in one file, and what is wrong with them."""

import csv
import os
import signal

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from pyarrow import parquet
from scipy import ndimage

from segjax.data.readers import StackAxis, find_stack_axis
from segjax.errors import InputError, Interrupted
from segjax.experiment.export_formats import Exports
from segjax.experiment.prediction import predict
from segjax.experiment.prediction_inputs import Reading
from segjax.experiment.series_inputs import FRAMES, STACK
from segjax.experiment.series_prediction import SeriesRequest, predict_series
from segjax.segmentation import Segmentation
from segjax.tracking import TrackingConfig
from tests.situations.test_predict import OpenedMethod, names, visible

ALL = ("ctc", "labels", "overlay", "csv")


def labelling(digest="one", calls=None):
    """A method whose cells are the connected bright pixels, of class 2; it counts its calls."""

    def method(image):
        if calls is not None:
            calls.append(image.shape)
        cells = Segmentation.from_labels(ndimage.label(image[..., 0] > 100)[0])
        return Segmentation.from_labels(cells.labels, classes=np.full(cells.num_instances, 2))

    return OpenedMethod(method, ("background", "debris", "cell"), None, digest=digest)


def movie(frames=4):
    """A cell that moves right and divides in frame 2, and another that rests, [T, 40, 48] uint8."""
    pixels = np.full((frames, 40, 48), 10, np.uint8)
    for number in range(frames):
        if number < 2:
            pixels[number, 10:18, 10 + number : 18 + number] = 200
        else:
            pixels[number, 5:11, 13:19] = pixels[number, 17:23, 13:19] = 200
        pixels[number, 30:36, 30:36] = 150
    return pixels


IDS = [[0, 1, 2], [0, 1, 2], [0, 2, 3, 4], [0, 2, 3, 4]]


def write_frames(folder, pixels, pattern="t{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / pattern.format(number))


def request(kind=FRAMES, formats=None, reading=None, **settings):
    formats = (ALL if kind is FRAMES else ("labels", "overlay", "csv")) if formats is None else formats
    return SeriesRequest(kind, formats, TrackingConfig(**settings), reading or Reading())


def test_a_file_with_a_time_axis_is_tracked(tmp_path):
    path, out = tmp_path / "movie.tif", tmp_path / "out"
    tifffile.imwrite(path, movie(), imagej=True, metadata={"axes": "TYX"})
    made = predict_series(labelling(), path, out, request())
    assert list(made) == [("movie.tif", 4)]
    assert made.summary == f"4 tracks in 1 series: {out}"
    frames = [tifffile.imread(out / f"movie/01_RES/mask{number:03}.tif") for number in range(4)]
    assert [np.unique(frame).tolist() for frame in frames] == IDS
    assert all(frame.dtype == np.uint16 for frame in frames)
    np.testing.assert_array_equal(frames[2] > 0, movie()[2] > 100)
    assert (out / "movie/01_RES/res_track.txt").read_text() == "1 0 1 0\n2 0 3 0\n3 2 3 1\n4 2 3 1\n"
    with tifffile.TiffFile(out / "movie/tracks_labels.tif") as tiff:
        assert tiff.series[0].axes == "TYX"
        np.testing.assert_array_equal(tiff.asarray(), frames)
    table = parquet.read_table(out / "movie/tracks.parquet").to_pydict()
    assert table["parent"] == [0, 0, 1, 1]
    assert table["class_name"] == ["cell"] * 4
    with (out / "movie/measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["track"]) for row in rows] == [
        (str(number), str(one))
        for number, ids in enumerate([[1, 2], [1, 2], [3, 4, 2], [3, 4, 2]])
        for one in ids
    ]
    overlay = np.asarray(Image.open(out / "movie/frame002_overlay.png"))
    assert (overlay[5, 13] != overlay[17, 13]).any()  # daughters differ
    assert overlay[12, 13:17].any()
    assert not overlay[12, 24:].any()


def test_each_folder_is_a_series_in_natural_order(tmp_path):
    pixels = movie(12)
    write_frames(tmp_path / "in/a", pixels)
    write_frames(tmp_path / "in", pixels[:2])
    tifffile.imwrite(tmp_path / "in/b.tif", pixels[:3], imagej=True, metadata={"axes": "TYX"})
    out = tmp_path / "out"
    made = predict_series(labelling(), tmp_path / "in", out, request(formats=("ctc", "overlay")))
    assert dict(made) == {"b.tif": 4, "in": 2, "a": 4}
    # t10 and t11 do not come before t2, so the division is in frame 2.
    assert (out / "a/01_RES/res_track.txt").read_text() == "1 0 1 0\n2 0 11 0\n3 2 11 1\n4 2 11 1\n"
    assert (out / "a/t10_overlay.png").exists()
    np.testing.assert_array_equal(tifffile.imread(out / "01_RES/mask001.tif") > 0, pixels[1] > 100)


def test_a_stack_becomes_cells_in_3d(tmp_path):
    volume = np.zeros((3, 20, 30), np.uint8)
    volume[0:2, 4:10, 4:10] = volume[1:3, 4:10, 18:26] = 200
    path, out = tmp_path / "stack.tif", tmp_path / "out"
    tifffile.imwrite(path, volume, imagej=True, metadata={"axes": "ZYX"})
    assert list(predict_series(labelling(), path, out, request(STACK))) == [("stack.tif", 2)]
    expected = np.zeros_like(volume)
    expected[0:2, 4:10, 4:10], expected[1:3, 4:10, 18:26] = 1, 2
    with tifffile.TiffFile(out / "stack/cells_labels.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tiff.asarray(), expected)
    table = parquet.read_table(out / "stack/cells.parquet").to_pydict()
    assert (table["volume"], table["first_slice"]) == ([72, 96], [0, 1])


def test_a_series_and_a_prediction_of_its_images_replace_files_of_each_other(tmp_path):
    write_frames(tmp_path / "in", movie())
    out = tmp_path / "out"
    exports = Exports(("ctc", "overlay"))

    def contents():
        return {path.name: path.read_bytes() for path in [*out.glob("*_overlay.png"), *out.glob("01_RES/m*")]}

    def plain():
        made = predict(labelling(), tmp_path / "in", out, exports=exports)
        assert len(list(made)) == 4
        return made.summary

    def series():
        made = predict_series(labelling(), tmp_path / "in", out, request())
        assert len(list(made)) == 1
        return made.summary

    plain()
    single = contents()
    series()
    tracked = contents()
    assert all(single[name] != tracked[name] for name in single if name.endswith(".png"))
    assert "finished before" in series()
    assert contents() == tracked
    plain()
    assert contents() == single
    assert "(4 of them finished before)" in plain()
    series()
    assert contents() == tracked


def test_the_same_command_repeats_nothing_and_goes_on_after_a_stop(tmp_path):
    write_frames(tmp_path / "in", movie())
    out, calls = tmp_path / "out", []

    def stopping(image):
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return labelling(calls=calls)(image)

    opened = labelling()._replace(method=stopping)
    with pytest.raises(Interrupted, match="stopped after 3 of 4 frames"):
        list(predict_series(opened, tmp_path / "in", out, request()))
    assert not (out / "01_RES").exists()
    made = predict_series(opened, tmp_path / "in", out, request())
    assert list(made) == [("in", 4)]
    assert len(calls) == 4
    before = {name: (out / name).stat().st_mtime_ns for name in visible(out)}
    again = predict_series(opened, tmp_path / "in", out, request())
    assert list(again) == [("in", 4)]
    assert "(1 of them finished before)" in again.summary
    assert {name: (out / name).stat().st_mtime_ns for name in visible(out)} == before
    # Other settings link again, and segment nothing; nor does a prediction without the flag.
    list(predict_series(opened, tmp_path / "in", out, request(divisions=False)))
    list(predict(opened, tmp_path / "in", out))
    assert len(calls) == 4
    assert "3 2 3 0" in (out / "01_RES/res_track.txt").read_text()


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    write_frames(tmp_path / "in" / "a", movie())
    left = [tmp_path / "out/a" / folder / f".{'0a' * 16}.tif" for folder in ("", "01_RES")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"cut off")
    list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))
    assert not any(path.exists() for path in left)


def test_results_are_no_frames(tmp_path):
    write_frames(tmp_path, movie())
    for _ in range(2):
        made = predict_series(labelling(digest=""), tmp_path, tmp_path, request())
        assert [tracks for _, tracks in made] == [4]
        assert "01_RES/mask003.tif" in names(tmp_path)
        assert "01_RES/mask004.tif" not in names(tmp_path)


def test_a_foreign_result_is_never_replaced(tmp_path):
    write_frames(tmp_path / "in", movie())
    lineage = tmp_path / "out/01_RES/res_track.txt"
    lineage.parent.mkdir(parents=True)
    lineage.write_text("1 0 3 0\n")
    with pytest.raises(InputError, match=r"res_track\.txt exists, and was not written by segjax predict, or"):
        list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))
    assert lineage.read_text() == "1 0 3 0\n"
    tifffile.imwrite(lineage.with_name("mask002.tif"), movie()[2])
    with pytest.raises(InputError, match=r"mask002\.tif exists, and was not written by segjax"):
        list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (FRAMES, "tracks.csv"),
        (FRAMES, "tracks.parquet"),
        (FRAMES, "measurements.parquet"),
        (STACK, "cells.csv"),
        (STACK, "cells.parquet"),
    ],
    ids=str,
)
def test_a_table_of_the_user_is_never_replaced(tmp_path, kind, name):
    write_frames(tmp_path / "in/a", movie())
    table = tmp_path / "out/a" / name
    table.parent.mkdir(parents=True)
    table.write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"{name} exists, and was not written by segjax predict"):
        list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request(kind)))
    assert table.read_bytes() == b"mine"
    table.unlink()
    for digest in ("one", "two"):
        list(predict_series(labelling(digest), tmp_path / "in", tmp_path / "out", request(kind)))
    table.write_bytes(table.read_bytes() + b"corrected")
    with pytest.raises(InputError, match=rf"{name} exists, and was changed since"):
        list(predict_series(labelling("three"), tmp_path / "in", tmp_path / "out", request(kind)))


def test_the_table_of_a_series_that_a_plain_prediction_replaced_is_made_again(tmp_path):
    write_frames(tmp_path / "in", movie())
    table = tmp_path / "out/measurements.csv"

    def series():
        list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))
        return table.read_text()

    def plain():
        list(predict(labelling(), tmp_path / "in", tmp_path / "out", exports=Exports(("csv",))))
        return table.read_text()

    tracked, single = series(), plain()
    assert "track" in tracked
    assert "track" not in single
    assert series() == tracked
    assert plain() == single
    assert series() == tracked


GRIDS = {
    "time and channel": (["t{}_c{}", (3, 2)], True),
    "time and plane": (["img_{}_{}", (3, 2)], True),
    "one channel": (["t{}_c{}", (4, 1)], False),
    "hours and minutes": (["00d{:02}h{:02}m", (2, 2)], False),
    "dates and hours": (["2024-01-{:02}_{:02}", (2, 3)], False),
    "dates, hours and minutes": (["{}_{:02}00", (2, 3)], True),
    "dates without dashes": (["2024010{}_{:02}00", (2, 3)], False),
    "days and hours": (["day{}_hour{:02}", (2, 3)], False),
    "fields and frames": (["field{}_{:02}", (2, 3)], True),
    "hours and minutes with a dash": (["at 2026-11-27 {:02}-{:02}", (2, 2)], False),
}


@pytest.mark.parametrize("name", GRIDS)
def test_two_numbers_in_names_are_not_one_series(tmp_path, name):
    (pattern, counts), is_refused = GRIDS[name]
    for first, second in np.ndindex(*counts):
        (image,) = movie(1)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / f"{pattern.format(first, second)}.png")
    if not is_refused:
        assert len(list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))) == 1
        return
    with pytest.raises(
        InputError,
        match=r"2 numbers in their names, (3 x 2|2 x 3): put the frames of each",
    ):
        list(predict_series(labelling(), tmp_path / "in", tmp_path / "out", request()))


def test_an_ome_zarr_of_several_frames_gets_advice_that_works(tmp_path):
    path = tmp_path / "movie.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=(4, 40, 48), chunks=(1, 40, 48), dtype="u1")[:] = movie()
    axes = [{"name": "t", "type": "time"}, *({"name": one, "type": "space"} for one in "yx")]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    with pytest.raises(InputError, match=r"there is no --frames: save it as TIFF, or .* --axis=T=0"):
        list(predict_series(labelling(), path, tmp_path / "out", request()))
    with pytest.raises(InputError, match=r"movie\.zarr.*--axis=Z=3 takes plane") as error:
        list(predict(labelling(), path, tmp_path / "out"))
    assert "--frames" not in str(error.value)
    list(predict(labelling(), path, tmp_path / "out", reading=Reading(planes=(("T", 0),))))


def _other_size(folder):
    write_frames(folder, movie())
    Image.fromarray(movie()[0][:20]).save(folder / "t2.png")


def _gap(folder):
    write_frames(folder, movie())
    (folder / "t2.png").unlink()


def _damaged(folder):
    write_frames(folder, movie())
    (folder / "t2.png").write_bytes(b"\x89PNG")


WRONG = {
    # What is in the folder, and the words of the error.
    "one frame": (
        lambda folder: write_frames(folder, movie(1)),
        "t0.png is a single image: give --frames a folder",
    ),
    "two sizes": (
        _other_size,
        r"t2\.png has 20 x 48 pixels, but .*t0\.png has 40 x 48: give frames of one size",
    ),
    "a gap": (_gap, r"t1\.png is followed by t3\.png, so that frame 2 is missing: add it"),
    "a damaged frame": (_damaged, r"1 of 1 series failed.*t2\.png cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_frames_is_one_sentence(name, tmp_path):
    write, message = WRONG[name]
    write(tmp_path)
    with pytest.raises(InputError, match=message):
        list(predict_series(labelling(), tmp_path, tmp_path.with_name("out"), request()))


def test_a_series_that_fails_does_not_cost_the_others(tmp_path):
    _other_size(tmp_path / "in/bad")
    write_frames(tmp_path / "in/good", movie())
    write_frames(tmp_path / "in/single", movie(1))
    made = predict_series(labelling(), tmp_path / "in", tmp_path / "out", request())
    with pytest.raises(InputError, match="2 of 3 series failed"):
        list(made)
    assert made.summary.startswith("4 tracks in 1 series: ")
    with (tmp_path / "out/failed.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["bad", "single"]


def test_numbers_that_are_times_have_no_gap(tmp_path):
    for time, image in zip((100, 203, 311, 390), movie(), strict=True):
        Image.fromarray(image).save(tmp_path / f"t{time}.png")
    made = predict_series(labelling(), tmp_path, tmp_path / "out", request())
    assert [tracks for _, tracks in made] == [4]


def test_a_time_axis_needs_the_flag(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", movie(), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(InputError, match="--frames tracks cells over the images of a stack"):
        list(predict(labelling(), tmp_path, tmp_path / "out"))


def test_a_format_that_series_do_not_have():
    with pytest.raises(InputError, match=r"--export=geojson is not written with --frames: choose among ctc"):
        request(formats=("geojson",))
    with pytest.raises(InputError, match="--export=ctc is not written with --stack"):
        request(STACK, formats=("ctc",))


def test_a_plane_of_the_other_axis_is_chosen(tmp_path):
    pixels = np.zeros((4, 2, 40, 48), np.uint8)
    pixels[:, 1] = movie()
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match=r"a\.tif.*choose one plane along"):
        list(predict_series(labelling(), tmp_path, tmp_path / "out", request()))
    chosen = request(reading=Reading(planes=(("Z", 1),)))
    assert list(predict_series(labelling(), tmp_path, tmp_path / "out", chosen)) == [("a.tif", 4)]


STACKS = {
    # Axes, shape, letter, options; number and length.
    "time": ("TYX", (5, 20, 30), "T", {}, ("0", 5)),
    "depth and time": ("TZYX", (5, 3, 20, 30), "Z", {}, ("1", 3)),
    "the only axis, of another name": ("ZYX", (5, 20, 30), "T", {}, ("0", 5)),
    "with channels": ("TCYX", (5, 2, 20, 30), "T", {}, ("0", 5)),
    "channels alone": ("CYX", (5, 20, 30), "T", {}, None),
    "a plane is chosen": ("TZYX", (5, 3, 20, 30), "T", {"chosen": ["T"]}, ("1", 3)),
    "no names": (None, (5, 20, 30), "T", {}, ("0", 5)),
    "no names, channels last": (None, (5, 20, 30, 3), "T", {}, ("0", 5)),
    "no names, channels first": (None, (5, 2, 20, 30), "T", {"channel_axis": 1}, ("0", 5)),
    "a colour image without names": (None, (20, 30, 3), "T", {}, None),
    "a grey image without names": (None, (20, 30), "T", {}, None),
}


def test_several_axes_without_names_are_a_question(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 20, 30), np.uint8))
    with pytest.raises(InputError, match=r"may be T: 0 of 4 planes and 1 of 5 planes; choose .*--axis=1=0"):
        list(predict_series(labelling(), tmp_path, tmp_path / "out", request()))
    assert find_stack_axis(tmp_path / "a.npy", "T", chosen=["1"]) == StackAxis("0", 4)


@pytest.mark.parametrize("name", STACKS)
def test_the_axis_of_a_stack(name, tmp_path):
    axes, shape, letter, options, expected = STACKS[name]
    pixels = np.zeros(shape, np.uint8)
    if axes is None:
        path = tmp_path / "a.npy"
        np.save(path, pixels)
    else:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": axes})
    assert find_stack_axis(path, letter, **options) == (expected and StackAxis(*expected))
