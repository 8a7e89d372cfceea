"""Folders of images and masks as people and programs arrange them. A new layout is one line of a table."""

import unicodedata
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from skimage.measure import find_contours

from segjax.datasets.checks.collection import check_pairs
from segjax.datasets.folder.builder import dataset_dir
from segjax.datasets.sources import FolderSource, PreparedSource
from segjax.errors import InputError
from segjax.experiment.prediction_inputs import find_inputs
from segjax.experiment.prepare_folder import prepare_folder
from segjax.experiment.prepare_inputs import Request, open_inputs
from segjax.inference.exports.label_images import class_image, label_image, write_tiff
from segjax.inference.exports.pictures import write_picture
from segjax.segmentation import Segmentation
from tests.data import tiny
from tests.datasets.formats.written import write_dataset
from tests.situations.conftest import cells

COUNT = 6
ACCENT = "zellk\u00f6rper"
DECOMPOSED = unicodedata.normalize("NFD", ACCENT)

# Name: image and mask of the number {}, then --images and --masks.
LAYOUTS = {
    "two folders": ("images/{}.png", "masks/{}.png", "images", "masks"),
    "one folder": ("{}.png", "{}_mask.png", "", ""),
    "both below one folder": ("images/{}.png", "masks/{}.png", "", ""),
    "images in the folder of masks": ("images/{}.png", "masks/{}.png", "images", ""),
    "images below masks": ("images/{}.png", "{}_mask.png", "images", ""),
    "images below masks of one name": ("raw/{}.png", "{}.png", "raw", ""),
    "images beside masks of another name": ("raw/{}.png", "truth/{}.png", "raw", ""),
    "masks below images": ("{}.png", "masks/{}.png", "", "masks"),
    "a pattern, and masks below": ("p1/{}.png", "masks/p1/{}.png", "**/*.png", "masks"),
    "brackets": ("set [v2]/images/{}.png", "set [v2]/masks/{}.png", "set [v2]/images", "set [v2]/masks"),
    "brackets in the folder of both": ("[1]/images/{}.png", "[1]/masks/{}.png", "[1]", "[1]"),
    "brackets and a pattern": ("[a]/p1/[b]/{}.png", "m/p1/[b]/{}.png", "[a]/*/[b]/*.png", "m"),
    "a pattern with a class of characters": ("p1/{}.png", "m/p1/{}.png", "p[12]/*.png", "m"),
    "braces, stars and question marks": ("{{a}} *?/i/{}.png", "{{a}} *?/m/{}.png", "{a} *?/i", "{a} *?/m"),
    "OME images": ("images/{}.ome.tif", "masks/{}.tif", "images", "masks"),
    "OME masks": ("images/{}.tif", "masks/{}.ome.tif", "images", "masks"),
    "OME masks with a suffix": ("images/{}.png", "masks/{}_mask.ome.tif", "images", "masks"),
    "OME images, masks with a suffix": ("{}.ome.tif", "{}_labels.tif", "", ""),
    "OME for both": ("images/{}.ome.tiff", "masks/{}.ome.tif", "images", "masks"),
    "_image and _mask": ("{}_image.png", "{}_mask.png", "", ""),
    "_image and _mask in two folders": ("images/{}_image.png", "masks/{}_mask.png", "images", "masks"),
    "_raw and _labels": ("{}_raw.tif", "{}_labels.tif", "", ""),
    "_img and nothing": ("images/{}_img.png", "masks/{}.png", "images", "masks"),
    "nnU-Net": ("imagesTr/{}_0000.png", "labelsTr/{}.png", "imagesTr", "labelsTr"),
    "_gt": ("{}.png", "{}_gt.png", "", ""),
    "-labelled": ("images/{}.png", "masks/{}-labelled.tif", "images", "masks"),
    "_instances": ("{}.png", "{}_instances.png", "", ""),
    "composed and decomposed": (f"i/{ACCENT}{{}}.png", f"m/{DECOMPOSED}{{}}.png", "i", "m"),
    "decomposed, with a suffix": (f"{DECOMPOSED}{{}}.png", f"{ACCENT}{{}}_mask.png", "", ""),
    "capitals": ("images/Cell_{}.PNG", "masks/cell_{}.png", "images", "masks"),
    "VOC": ("JPEGImages/{}.png", "SegmentationObject/{}.png", "JPEGImages", ""),
    "VOC, all of it": ("JPEGImages/{}.png", "SegmentationObject/{}.png", "", ""),
}


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".tif" in path.name:
        tifffile.imwrite(path, pixels, ome=".ome." in path.name, photometric="minisblack")
    elif path.suffix == ".npy":
        np.save(path, pixels, allow_pickle=True)
    else:
        Image.fromarray(pixels).save(path)


def prepared(tmp_path, images, masks, **options):
    """The label images of the prepared data set, by name."""
    out = tmp_path.parent / f"{tmp_path.name} out"
    request = Request(images=str(images), masks=str(masks), out=str(out), **options)
    prepare_folder(request, workers=0, previews=False)
    return {
        record.name: record.truth.labels
        for split in ("train", "validation", "test")
        for record in FolderSource(split, data_dir=out)
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_image_gets_its_own_mask(tmp_path, name):
    image, mask, images, masks = LAYOUTS[name]
    names = {}
    for index in range(COUNT):
        pixels, labels = cells(index)
        path = tmp_path / image.format(index)
        write(path, pixels)
        write(tmp_path / mask.format(index), labels)
        if "SegmentationObject" in mask:
            write(tmp_path / f"SegmentationClass/{index}.png", (labels > 0).astype(np.uint8))
        names[index] = path
    truth = prepared(tmp_path, tmp_path / images, tmp_path / masks)
    assert len(truth) == COUNT
    for index, path in names.items():
        (key,) = [key for key in truth if key.endswith(path.with_suffix("").name)]
        np.testing.assert_array_equal(truth[key], cells(index)[1])


# What is a link to a folder elsewhere.
LINKS = ("images", "masks", "images/p1", "masks/p1", "images/p1 and masks/p1", "images/masks")


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("form", ["labels", "instances", "labelme"])
def test_linked_folders_are_searched(tmp_path, name, form):
    images = tmp_path / "images"
    masks = images / "masks" if name == "images/masks" else tmp_path / "masks"
    for index in range(COUNT):
        write(images / f"p1/{index}.png", cells(index)[0])
    write_dataset(form, masks, {f"p1/{index}": (cells(index)[1], {}) for index in range(COUNT)})
    for number, linked in enumerate(name.split(" and ")):
        (tmp_path / linked).rename(tmp_path / f"elsewhere{number}")
        (tmp_path / linked).symlink_to(tmp_path / f"elsewhere{number}")
    # Such links have no end.
    (images / "p1/above").symlink_to(images)
    inputs = open_inputs(Request(images=str(images), masks=str(masks), out=str(tmp_path / "out")))
    assert [item.key for item in inputs.items] == [f"p1/{index}" for index in range(COUNT)]
    for index in range(COUNT):
        labels = inputs.annotations.read(f"p1/{index}", cells()[1].shape).labels
        np.testing.assert_array_equal(labels > 0, cells(index)[1] > 0)
    assert list(find_inputs(images / "p1", tmp_path / "predicted").images) == list(map(str, range(COUNT)))


def rois(path, labels):
    outlines = [find_contours(labels == index, 0.5)[0][:, ::-1] + 0.5 for index in range(1, 9)]
    roifile.roiwrite(path, [roifile.ImagejRoi.frompoints(outline) for outline in outlines], mode="w")


class Bomb:
    """Python object that raises if it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


# What Cellpose writes for an image of one name.
CELLPOSE = {
    "_seg.npy": lambda path, labels: write(path, np.array({"masks": Bomb()}, object)),
    "_cp_masks.png": write,
    "_cp_masks.tif": write,
    "_rois.zip": rois,
    "_flows.tif": lambda path, labels: write(path, np.zeros((3, *labels.shape), np.float32)),
    "_dP.tif": lambda path, labels: write(path, np.zeros((2, *labels.shape), np.float32)),
    "_cp_ncolor_masks.png": lambda path, labels: write(path, labels % 4),
    "_cp_output.png": lambda path, labels: write(path, np.zeros((50, 70, 3), np.uint8)),
    "_outlines.png": lambda path, labels: write(path, np.zeros((*labels.shape, 3), np.uint8)),
    "_cp_outlines.txt": lambda path, labels: path.write_text("1,1,2,2"),
}
READABLE = ("_cp_masks.png", "_cp_masks.tif", "_rois.zip")
SELECTIONS = {
    "all": tuple(CELLPOSE),
    "two label images": ("_cp_masks.png", "_cp_masks.tif"),
    "label images and outlines": ("_cp_masks.png", "_outlines.png", "_seg.npy"),
    "ROIs": ("_rois.zip", "_seg.npy", "_flows.tif", "_cp_output.png"),
}


def write_cellpose(images, masks, selection):
    for index in range(COUNT):
        pixels, labels = cells(index)
        write(images / f"{index}.tif", pixels)
        masks.mkdir(parents=True, exist_ok=True)
        for ending in selection:
            CELLPOSE[ending](masks / f"{index}{ending}", labels)


@pytest.mark.parametrize("masks", ["", "masks"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_what_cellpose_writes_is_read_or_passed_over(tmp_path, name, masks):
    write_cellpose(tmp_path / "images", tmp_path / "images" / masks, SELECTIONS[name])
    truth = prepared(tmp_path, tmp_path / "images", tmp_path / "images" / masks)
    assert sorted(truth) == [str(index) for index in range(COUNT)]
    for index in range(COUNT):
        assert (truth[str(index)] != cells(index)[1]).sum() < 8 * 4


def test_what_cellpose_leaves_is_no_image_if_the_masks_are_elsewhere(tmp_path):
    write_cellpose(tmp_path / "images", tmp_path / "images", SELECTIONS["all"])
    for index in range(COUNT):
        write(tmp_path / f"masks/{index}.png", cells(index)[1])
    truth = prepared(tmp_path, tmp_path / "images", tmp_path / "masks")
    assert sorted(truth) == [str(index) for index in range(COUNT)]


def test_predict_passes_over_what_cellpose_leaves(tmp_path):
    write_cellpose(tmp_path / "images", tmp_path / "images", SELECTIONS["all"])
    found = find_inputs(tmp_path / "images", tmp_path / "out")
    assert list(found.images) == [str(index) for index in range(COUNT)]
    assert found.left_out.total() == len(CELLPOSE) * COUNT


def test_objects_alone_are_refused_with_the_way_out(tmp_path):
    write_cellpose(tmp_path, tmp_path, ["_seg.npy"])
    for form in ("auto", "labels"):
        with pytest.raises(InputError, match=r"0_seg\.npy holds Python objects.*save the masks as PNG"):
            prepared(tmp_path, tmp_path, tmp_path, mask_format=form)


def test_two_masks_that_differ_are_named(tmp_path):
    write_cellpose(tmp_path, tmp_path, SELECTIONS["two label images"])
    write(tmp_path / "3_cp_masks.png", cells(5)[1])
    truth = prepared(tmp_path, tmp_path, tmp_path)
    assert sorted(truth) == ["0", "1", "2", "4", "5"]


def test_names_that_fit_two_images_fit_none(tmp_path):
    for index in range(COUNT):
        pixels, labels = cells(index)
        write(tmp_path / f"images/{index}.png", pixels)
        write(tmp_path / f"masks/{index}.png", labels)
    write(tmp_path / "images/x_image.png", cells(8)[0])
    write(tmp_path / "images/x_raw.png", cells(9)[0])
    write(tmp_path / "masks/x.png", cells(8)[1])
    truth = prepared(tmp_path, tmp_path / "images", tmp_path / "masks")
    assert sorted(truth) == [str(index) for index in range(COUNT)]


def test_pictures_named_like_flows_with_masks_of_their_own_are_images(tmp_path):
    for index in range(COUNT):
        pixels, labels = cells(index)
        write(tmp_path / f"images/{index}_flows.png", pixels)
        write(tmp_path / f"masks/{index}_flows.png", labels)
    assert len(prepared(tmp_path, tmp_path / "images", tmp_path / "masks")) == COUNT
    assert len(find_inputs(Path(tmp_path / "images"), tmp_path / "out").images) == COUNT


# The folder of images, the folder of masks, and the format of the masks; results are written below them.
TOGETHER = {
    "masks beside the images": ("data", "data", "labels"),
    "masks below the images": ("data", "data/masks", "labels"),
    "masks elsewhere": ("data", "masks", "labels"),
    "JSON beside the images": ("data", "data", "labelme"),
    "one JSON file": ("data", "data", "coco"),
    "a pattern": ("data/**/cell*.*", "masks", "labels"),
}


def write_together(tmp_path, masks, form):
    """Writes six images into `data`, and their masks."""
    for index in range(COUNT):
        write(tmp_path / f"data/cell{index}.png", cells(index)[0])
    write_dataset(form, tmp_path / masks, {f"cell{index}": (cells(index)[1], {}) for index in range(COUNT)})


def prepare_into(tmp_path, out, images, masks, **options):
    request = Request(
        images=str(tmp_path / images), masks=str(tmp_path / masks), out=str(tmp_path / out), **options
    )
    return prepare_folder(request, workers=0, previews=False)


@pytest.mark.parametrize("name", TOGETHER)
def test_results_of_other_preparations_are_no_inputs(tmp_path, name):
    images, masks, form = TOGETHER[name]
    write_together(tmp_path, masks, form)
    outs = ("data/deep/first", "data")
    for out in outs:
        assert prepare_into(tmp_path, out, images, masks).startswith("6 kept of 6 images")
    # The results of the second do not count as a change of the files of the first.
    for out in outs:
        assert "is prepared already" in prepare_into(tmp_path, out, images, masks)


@pytest.mark.parametrize("is_possible", [True, False], ids=["prepared", "set aside"])
def test_predict_passes_over_results_of_preparations(tmp_path, is_possible):
    write_together(tmp_path, "data/masks", "labels")
    if not is_possible:
        for index in range(COUNT):
            tifffile.imwrite(tmp_path / f"data/masks/cell{index}_masks.tif", np.zeros((9, 9), np.uint8))
    with nullcontext() if is_possible else pytest.raises(InputError, match="all 6 images were set aside"):
        prepare_into(tmp_path, "data/out", "data", "data/masks")
    (tmp_path / "data/out/report/mine.png").write_bytes(b"")  # a picture, as with previews
    found = find_inputs(tmp_path / "data", tmp_path / "predicted")
    assert [key for key in found.images if "out" in key] == []
    assert "written by segjax prepare" in found.left_out


@pytest.mark.parametrize("name", TOGETHER)
def test_results_of_a_prediction_are_no_inputs(tmp_path, name):
    images, masks, form = TOGETHER[name]
    write_together(tmp_path, masks, form)
    prepare_into(tmp_path, "first", images, masks)
    for index in range(COUNT):
        # What is predicted differs from the masks.
        predicted = Segmentation.from_labels(np.flipud(cells(index)[1]).astype(np.int32))
        write_tiff(label_image(predicted), tmp_path / f"data/cell{index}_labels.tif")
        write_tiff(class_image(predicted), tmp_path / f"data/cell{index}_classes.tif")
        write_picture(np.stack([cells(index)[0]] * 3, -1), tmp_path / f"data/cell{index}_overlay.png")
    (tmp_path / "data/predictions.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert prepare_into(tmp_path, "second", images, masks).startswith("6 kept of 6 images")
    assert "is prepared already" in prepare_into(tmp_path, "first", images, masks)
    for split in ("train", "validation", "test"):
        for record in FolderSource(split, data_dir=tmp_path / "second"):
            expected = cells(int(record.name[-1]))[1]
            np.testing.assert_array_equal(record.truth.labels > 0, expected > 0)


def test_predictions_in_a_folder_of_their_own_can_be_masks(tmp_path):
    for index in range(COUNT):
        write(tmp_path / f"data/cell{index}.png", cells(index)[0])
        (tmp_path / "predicted").mkdir(exist_ok=True)
        truth = Segmentation.from_labels(cells(index)[1].astype(np.int32))
        write_tiff(label_image(truth), tmp_path / f"predicted/cell{index}_labels.tif")
    assert prepare_into(tmp_path, "out", "data", "predicted").startswith("6 kept of 6 images")


# An image without mask, the masks without image, and the end of the finding.
SUGGESTIONS = {
    "leading zeros": ("img0", ["img000", "img005", "img010"], "; did you mean img000?"),
    "the mask with leading zeros is taken": ("img0", ["img005", "img009"], ""),
    "no leading zeros": ("img007", ["img7", "img70", "img17"], "; did you mean img7?"),
    "another number is another image": ("img1", ["img2", "img3"], ""),
    "another number, long names": ("experiment_2021_well_3", ["experiment_2021_well_4"], ""),
    "a spelling mistake": ("nucleus_12", ["nuclaus_12", "nucleus_13"], "; did you mean nuclaus_12?"),
    "capitals": ("Plate/A1", ["plate/a1", "plate/a2"], "; did you mean plate/a1?"),
    "an ending": ("img3", ["img3_final"], ""),
    "several": ("img5", ["img05", "img005"], "; did you mean img005 or img05?"),
    "another folder": ("p1/img5", ["p2/img5"], ""),
    "many masks": ("img0", [f"img{index:05}" for index in range(2000)], "; did you mean img00000?"),
}


@pytest.mark.parametrize("name", SUGGESTIONS)
def test_a_partner_of_another_number_is_not_suggested(name):
    image, masks, end = SUGGESTIONS[name]
    (finding,) = check_pairs([image], masks)[image]
    assert finding == ("missing_mask", f"no mask is called {image}{end}")


DAMAGED = {
    "a folder": (dataset_dir, lambda root: FolderSource("train", data_dir=root)),
    "a public data set": (
        lambda root: root / "fragile" / "1.0.0",
        lambda root: PreparedSource(tiny.Fragile, "train", data_dir=root),
    ),
}


@pytest.mark.parametrize("mine", [None, "cell0.png", "more/cell0.tif", "notes.json"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_folder_with_files_of_the_user_is_never_to_be_deleted(tmp_path, name, mine):
    home, opened = DAMAGED[name]
    folder = home(tmp_path)
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    for own in ("features.json", "x-train.array_record-00000-of-00001"):
        (folder / own).touch()
    if mine is not None:
        (folder / mine).parent.mkdir(exist_ok=True)
        (folder / mine).touch()
    with pytest.raises(InputError, match="are damaged") as caught:
        opened(tmp_path)
    assert ("delete that folder" in str(caught.value)) == (mine is None)
    if mine is not None:
        assert f"holds {mine}" in str(caught.value)
        assert "choose another data_dir" in str(caught.value)
