"""BBBC039, TNBC, NuInsSeg and StarDist's subset of DSB2018: a picture of labels beside each picture."""

import numpy as np
import pytest

from segjax.datasets.public.hash_split import hash_fraction, split_groups
from segjax.errors import InputError
from tests.datasets.public import tree

SHAPE = (20, 24)


def labels_of(seed):
    """Two cells that touch and a third apart, not the same for two seeds."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:6, 2 : 6 + seed % 5] = 1
    labels[6:9, 2:7] = 2
    labels[14:18, 14:20] = 9
    labels[18, 20] = 9  # at the corner
    return labels


def bbbc039(data_dir, form="zip", **changes):
    names = [f"IXMtest_A0{index}_s1_w1AB" for index in range(6)]
    images = {
        f"images/{name}.tif": tree.tif(tree.colours(i)[..., 0] * np.uint16(200))
        for i, name in enumerate(names)
    }
    masks = {}
    for index, name in enumerate(names):
        # Touching nuclei differ in the first channel; equal values apart are different nuclei.
        first = np.array([0, 1, 2, 1], np.uint8)[np.minimum(labels_of(index), 3)]
        rgba = np.stack([first, 0 * first, 0 * first, np.full(SHAPE, 255, np.uint8)], -1)
        masks[f"masks/{name}.png"] = tree.png(rgba)
    listed = {"training": names[:3], "validation": names[3:4], "test": names[4:]}
    lists = {
        f"metadata/{key}.txt": "\n".join(f"{n}.png" for n in ns).encode() + b"\r\n\n"
        for key, ns in listed.items()
    }
    for archive, members in (("images", images), ("masks", masks), ("metadata", lists)):
        selected = {
            key: value for key, value in (members | changes).items() if key in members and value is not None
        }
        tree.put(data_dir, f"bbbc039/{archive}.zip", selected, form)
    return {
        split: listed[key]
        for split, key in (("train", "training"), ("validation", "validation"), ("test", "test"))
    }


@pytest.mark.parametrize("form", tree.FORMS)
def test_bbbc039(tmp_path, form):
    listed = bbbc039(tmp_path, form)
    splits = tree.read("bbbc039", tmp_path)
    assert {split: sorted(r.name for r in records) for split, records in splits.items()} == listed
    for records in splits.values():
        for record in records:
            seed = int(record.name[10])
            assert record.group == f"bbbc039/{record.name}"
            assert record.image.dtype == np.uint16
            np.testing.assert_array_equal(record.image[..., 0], tree.colours(seed)[..., 0] * np.uint16(200))
            np.testing.assert_array_equal(record.truth.labels, np.minimum(labels_of(seed), 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks/IXMtest_A00_s1_w1AB.png": None}, r"A00.*\.tif has no label picture"),
        ({"images/IXMtest_A04_s1_w1AB.tif": None}, r"holds no IXMtest_A04.*\.tif, which test\.txt lists"),
        ({"metadata/validation.txt": None}, r"metadata\.zip holds no validation\.txt"),
        ({"masks/IXMtest_A01_s1_w1AB.png": b"damaged"}, r"A01.*\.png cannot be read"),
        (
            {"masks/IXMtest_A01_s1_w1AB.png": tree.png(np.zeros((4, 4), np.uint8))},
            r"A01.*\.png is \(4, 4\), but",
        ),
    ],
)
def test_bbbc039_that_is_not_whole(tmp_path, changes, message):
    bbbc039(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        list(tree.stream("bbbc039", tmp_path))


def tnbc():
    members = {}
    for slide in range(1, 12):
        for picture in (1, 2):
            seed = 10 * slide + picture
            mask = np.where(labels_of(seed) > 0, np.uint8(255), np.uint8(0))
            alpha = np.full((*SHAPE, 1), 255, np.uint8)
            rgba = np.concatenate([tree.colours(seed), alpha], -1)
            members[f"TNBC_NucleiSegmentation/Slide_{slide:02d}/{slide:02d}_{picture}.png"] = tree.png(rgba)
            members[f"TNBC_NucleiSegmentation/GT_{slide:02d}/{slide:02d}_{picture}.png"] = tree.png(mask)
    return members


@pytest.mark.parametrize("form", tree.FORMS)
def test_tnbc_keeps_slides_together(tmp_path, form):
    tree.put(tmp_path, "TNBC_NucleiSegmentation.zip", tnbc(), form)
    splits = tree.read("tnbc", tmp_path)
    assert {split: len(records) for split, records in splits.items()} == {
        "train": 14,
        "validation": 4,
        "test": 4,
    }
    # sha256 of these two ids begins highest of the eleven.
    assert {record.group for record in splits["test"]} == {"tnbc/Slide_02", "tnbc/Slide_05"}
    for record in splits["train"] + splits["validation"] + splits["test"]:
        slide, picture = int(record.name[6:8]), int(record.name[-1])
        assert record.name == f"Slide_{slide:02d}_{slide:02d}_{picture}"
        assert record.group == f"tnbc/Slide_{slide:02d}"
        np.testing.assert_array_equal(record.image, tree.colours(10 * slide + picture))
        # Two nuclei that touch are one, for the mask is binary.
        expected = np.array([0, 1, 1, 2])[np.minimum(labels_of(10 * slide + picture), 3)]
        np.testing.assert_array_equal(record.truth.labels, expected)


def nuinsseg():
    members = {}
    for index, organ in enumerate(
        ("human bladder", "human brain", "mouse fat (white and brown)", "mouse liver")
    ):
        for picture in (1, 2):
            seed, stem = 10 * index + picture, f"{organ.replace(' ', '_')}_{picture}"
            members[f"{organ}/tissue images/{stem}.png"] = tree.png(tree.colours(seed))
            members[f"{organ}/label masks modify/{stem}.tif"] = tree.tif(labels_of(seed))
            members[f"{organ}/mask binary/{stem}.png"] = b"not read"
    return members


@pytest.mark.parametrize("form", tree.FORMS)
def test_nuinsseg_keeps_organs_together(tmp_path, form):
    members = nuinsseg()
    top = "" if form == "zip" else "NuInsSeg/"
    tree.put(tmp_path, "NuInsSeg.zip", {top + name: content for name, content in members.items()}, form)
    splits = tree.read("nuinsseg", tmp_path)
    assert {split: len(records) for split, records in splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 2,
    }
    record = next(r for records in splits.values() for r in records if r.name == "human_brain_2")
    assert record.group == "nuinsseg/human brain"
    np.testing.assert_array_equal(record.image, tree.colours(12))
    np.testing.assert_array_equal(record.truth.labels, np.minimum(labels_of(12), 3))
    assert record.truth.classes.tolist() == [1, 1, 1]


def dsb2018():
    members = {}
    for index in range(12):
        folder = "test" if index >= 9 else "train"
        members[f"dsb2018/{folder}/images/id{index:02d}.tif"] = tree.tif(tree.colours(index)[..., 0])
        members[f"dsb2018/{folder}/masks/id{index:02d}.tif"] = tree.tif(labels_of(index))
    return members


@pytest.mark.parametrize("form", tree.FORMS)
def test_dsb2018_holds_out_some_of_the_training_images(tmp_path, form):
    tree.put(tmp_path, "dsb2018.zip", dsb2018(), form)
    splits = tree.read("dsb2018", tmp_path)
    assert sorted(r.name for r in splits["test"]) == ["id09", "id10", "id11"]
    held_out = [f"id{index:02d}" for index in range(9) if hash_fraction(f"id{index:02d}") >= 0.85]
    assert held_out
    assert sorted(r.name for r in splits["validation"]) == held_out
    assert len(splits["train"]) == 9 - len(held_out)
    for record in splits["train"]:
        seed = int(record.name[2:])
        assert record.group == f"bbbc038/{record.name}"
        np.testing.assert_array_equal(record.image[..., 0], tree.colours(seed)[..., 0])
        np.testing.assert_array_equal(record.truth.labels, np.minimum(labels_of(seed), 3))


ARCHIVES = {
    "tnbc": ("TNBC_NucleiSegmentation.zip", r"holds no Slide_<n>/<name>\.png"),
    "nuinsseg": ("NuInsSeg.zip", r"holds no <organ>/tissue images/<name>\.png"),
    "dsb2018": ("dsb2018.zip", r"holds no train/images/<id>\.tif"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_one_archive_that_is_missing_damaged_or_another(tmp_path, name):
    archive, wrong_layout = ARCHIVES[name]
    with pytest.raises(
        InputError, match=rf"could not be downloaded \(.*no network.*put {archive}, .*/manual$"
    ):
        list(tree.stream(name, tmp_path))
    tree.put(tmp_path, archive, {"pictures/1.png": b"x"})
    with pytest.raises(InputError, match=wrong_layout):
        list(tree.stream(name, tmp_path))
    (tmp_path / "downloads" / "manual" / archive).write_bytes(b"PK")
    with pytest.raises(InputError, match=f"{archive} is damaged"):
        list(tree.stream(name, tmp_path))


def test_groups_are_split_by_a_hash_and_no_split_is_empty():
    # sha256("a") begins with ca978112, sha256("b") with 3e23e816.
    assert round(hash_fraction("a"), 6) == round(0xCA978112 / 2**32, 6)
    assert split_groups(["a", "b", "a"]) == {"b": "train", "a": "validation"}
    for count in range(3, 40):
        split_of = split_groups(map(str, range(count)))
        sizes = [list(split_of.values()).count(split) for split in ("train", "validation", "test")]
        assert min(sizes) >= 1
        assert sum(sizes) == count
        assert abs(sizes[0] - 0.6 * count) <= 1
    assert split_groups(["x", "y", "z"]) == split_groups(["z", "y", "x"])
