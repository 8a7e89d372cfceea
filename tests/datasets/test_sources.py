import pytest

from segjax.configs import datasets, rcnn
from segjax.datasets import sources
from segjax.datasets.catalog import DATASETS, PUBLIC, open_source, public_builder
from segjax.datasets.sources import PreparedSource, split_slices
from segjax.errors import InputError
from tests.data import tiny

SIZES = {"train": 30, "validation": 3, "test": 15}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [("train", 0, 30)]),
        ("train[:50%]", [("train", 0, 15)]),
        ("train[-10:]+validation", [("train", 20, 30), ("validation", 0, 3)]),
        ("test[2:4]", [("test", 2, 4)]),
        ("all", [("train", 0, 30), ("validation", 0, 3), ("test", 0, 15)]),
    ],
)
def test_splits_in_the_notation_of_tfds(split, expected):
    assert split_slices("x", split, SIZES) == expected


@pytest.mark.parametrize(
    "split", ["", "val", "train[", "train[:0]", "train[5:5]", "train[20:40]", "train[:200%]"]
)
def test_unknown_and_empty_splits_name_the_known_ones(split):
    with pytest.raises(InputError, match=r"^split '.*' .*train \(30 images\), validation \(3 images\), test"):
        split_slices("x", split, SIZES)


def test_records_on_disk_by_split_and_index(tmp_path):
    whole = PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)
    assert sorted(record.name for record in whole) == [f"cell{index}" for index in range(5)]
    part = PreparedSource(tiny.Fragile, "train[2:4]", data_dir=tmp_path)
    assert [part[0].name, part[1].name] == [whole[2].name, whole[3].name]
    assert int(whole[0].image[0, 0, 0]) == int(whole[0].name[-1])
    assert whole[-1].name == whole[4].name
    with pytest.raises(IndexError):
        whole[5]
    with pytest.raises(InputError, match="fragile has train"):
        PreparedSource(tiny.Fragile, "test", data_dir=tmp_path)


def test_shapes_are_known_without_decoding(tmp_path, monkeypatch):
    source = PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)
    expected = [(record.name, record.image.shape) for record in source]
    monkeypatch.setattr(sources, "decode", lambda example: pytest.fail("decoded"))
    assert source.shapes() == expected


BROKEN = [b"", b"{", b"{}", b"[]", b"null", b'"x"', b"5", b"\xff\xfe", b'{"class_names": 5}']


@pytest.mark.parametrize("name", ["metadata.json", "dataset_info.json"])
@pytest.mark.parametrize("content", BROKEN, ids=repr)
def test_damaged_metadata_are_named(tmp_path, name, content):
    source = PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)
    (source.files[0].parent / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"fragile.* are damaged \(.*{name}: .*\); delete that folder"):
        PreparedSource(tiny.Fragile, "train", data_dir=tmp_path)


def test_opens_by_name_with_options():
    source = open_source("synthetic", "train[:3]", image_size=32, kinds=1)
    assert len(source) == 3
    assert source.class_names == ("background", "nucleus")
    assert source[0].image.shape == (32, 32, 1)


def test_what_configs_know_of_data_sets_is_true():
    for name, defaults in (datasets.DATASETS | datasets.BOXES).items():
        if name not in PUBLIC:
            continue
        builder = public_builder(name)
        assert defaults.headline in (None, *builder.CLASS_NAMES[1:])
        assert rcnn.get_config(f"dataset={name}").dataset.name == name
    assert set(DATASETS) == set(datasets.DATASETS) | set(datasets.BOXES)


def test_every_data_set_on_disk_says_what_it_is():
    for name in PUBLIC:
        builder = public_builder(name)
        assert builder.name == name
        assert builder.CLASS_NAMES[0] == "background"
        assert all((builder.LICENSE, builder.HOMEPAGE.startswith("https://"), builder.DESCRIPTION))
        assert builder.CITATION.startswith("@")


def test_unknown_names_and_options_list_the_known_ones():
    with pytest.raises(InputError, match=f"no data set 'dsb'; there are {', '.join(DATASETS)}"):
        open_source("dsb", "train")
    with pytest.raises(
        InputError, match="synthetic has no option 'colour'; it has bits, channels, image_size"
    ):
        open_source("synthetic", "train", colour=1)
    with pytest.raises(InputError, match="mnfinder has no option 'seed'; it has none"):
        open_source("mnfinder", "train", seed=1)
