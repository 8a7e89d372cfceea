import dataclasses

import numpy as np
import pytest

from segjax.data.mixture import MixedSource, select_classes
from segjax.data.records import Record
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

NUCLEI = ("background", "nucleus", "micronucleus")


@dataclasses.dataclass
class Listed:
    records: list
    class_names: tuple = ("background", "nucleus")
    leaks: tuple = ()

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]


def record(name, channels=1, classes=(1,)):
    labels = np.zeros((4, 6), np.int32)
    for index in range(len(classes)):
        labels[1:3, 2 * index] = index + 1
    image = np.arange(24 * channels, dtype=np.uint8).reshape(4, 6, channels)
    return Record(
        name, f"group of {name}", image, Segmentation.from_labels(labels, classes=list(classes)), 0.5
    )


def test_records_follow_source_after_source():
    mixed = MixedSource([Listed([record("a"), record("b")]), Listed([]), Listed([record("c")])])
    assert len(mixed) == 3
    assert [mixed[index].name for index in range(3)] == ["a", "b", "c"]
    assert [mixed[index].name for index in (-1, -3)] == ["c", "a"]
    assert (mixed[2].group, mixed[2].pixel_size) == ("group of c", 0.5)
    for index in (3, -4):
        with pytest.raises(IndexError):
            mixed[index]


def test_a_grey_image_becomes_colour_beside_colour_images():
    mixed = MixedSource([Listed([record("a")]), Listed([record("b", channels=3)])])
    np.testing.assert_array_equal(mixed[0].image, record("a").image.repeat(3, axis=-1))
    np.testing.assert_array_equal(mixed[1].image, record("b", channels=3).image)
    alone = MixedSource([Listed([record("a")]), Listed([record("c")])])
    assert alone[0].image.shape == (4, 6, 1)
    asked = MixedSource([Listed([record("a")])], channels=3)
    np.testing.assert_array_equal(asked[0].image, record("a").image.repeat(3, axis=-1))
    with pytest.raises(InputError, match="channels=2 must be 3") as error:
        MixedSource([Listed([record("a")])], channels=2)
    assert error.value.field == "channels"


class Shaped(Listed):
    def shapes(self):
        return [(record.name, record.image.shape) for record in self.records]


@pytest.mark.parametrize("channels", [None, 3])
def test_shapes_that_are_known_are_those_of_the_mixture(channels):
    grey, colour = record("a"), record("b", channels=3)
    for records in ([grey], [grey, colour]):
        mixed = MixedSource([Shaped([one]) for one in records], channels=channels)
        assert mixed.shapes() == [
            (one.name, one.image.shape) for one in map(mixed.__getitem__, range(len(mixed)))
        ]
    assert MixedSource([Listed([grey]), Shaped([grey])]).shapes() == [("a", (4, 6, 1))]


def test_classes_are_found_by_name_and_the_others_are_background():
    other = Listed([record("a", classes=(1, 2, 1))], ("background", "micronucleus", "nucleus"))
    nuclei = Listed([record("b", classes=(1, 2))], NUCLEI)
    mixed = MixedSource([other, nuclei], ("background", "nucleus"))
    assert mixed.class_names == ("background", "nucleus")
    first, second = mixed[0].truth, mixed[1].truth
    np.testing.assert_array_equal(first.labels, (record("a", classes=(1, 2, 1)).truth.labels == 2) * 1)
    assert first.classes.tolist() == second.classes.tolist() == [1]
    np.testing.assert_array_equal(first.semantic, first.labels)


def test_the_order_of_the_classes_is_that_asked_for():
    mixed = MixedSource(
        [Listed([record("a", classes=(1, 2))], NUCLEI)], ("background", "micronucleus", "nucleus")
    )
    truth = mixed[0].truth
    assert truth.classes.tolist() == [2, 1]
    np.testing.assert_array_equal(truth.semantic, np.array([0, 2, 1])[truth.labels])


def test_ignored_pixels_stay_ignored_and_classes_without_instances_follow():
    labels = np.array([[1, 0, 0, 0]], np.int32)
    semantic = np.array([[1, 0, IGNORE, 2]], np.int32)
    truth = Segmentation.from_labels(labels, classes=[1], semantic=semantic)
    chosen = select_classes(truth, NUCLEI, ("background", "micronucleus"))
    assert chosen.num_instances == 0
    assert chosen.semantic.tolist() == [[0, 0, IGNORE, 1]]


def test_sources_of_the_same_classes_need_no_names():
    sources = [Listed([record("a")]), Listed([record("b")])]
    for names in (None, ()):
        assert MixedSource(sources, names).class_names == ("background", "nucleus")
        np.testing.assert_array_equal(MixedSource(sources, names)[1].truth.labels, record("b").truth.labels)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "different classes: name those to learn"),
        ((), "different classes: name those to learn"),
        (("background", "cell"), "names cell, but the data have background, nucleus, micronucleus"),
        (("nucleus", "background"), "name background first"),
        (("nucleus",), "name background first"),
        (("background", "nucleus", "nucleus"), "each class once"),
    ],
)
def test_impossible_classes_are_refused(names, message):
    sources = [Listed([record("a")]), Listed([record("b", classes=(1, 2))], NUCLEI)]
    with pytest.raises(InputError, match=message) as caught:
        MixedSource(sources, names)
    assert caught.value.field == "classes"


def test_leaks_of_all_sources_are_reported():
    sources = [
        Listed([record("a")], leaks=("one",)),
        Listed([record("b")]),
        Listed([record("c")], leaks=("two",)),
    ]
    assert MixedSource(sources).leaks == ("one", "two")


def test_sources_without_records_make_an_empty_mixture():
    assert len(MixedSource([Listed([]), Listed([])])) == 0


@pytest.mark.parametrize("channels", [2, 5])
def test_grey_images_become_no_images_of_other_channels(channels):
    mixed = MixedSource([Listed([record("a")]), Listed([record("b", channels=channels)])])
    assert [one.image.shape[-1] for one in mixed] == [1, channels]
    mixed = MixedSource([Listed([record("a")]), Listed([record("b", channels=c) for c in (3,)])])
    assert [one.image.shape[-1] for one in mixed] == [3, 3]
    mixed = MixedSource([Listed([record("a", c)]) for c in (1, 3, channels)])
    assert [one.image.shape[-1] for one in mixed] == [3, 3, channels]
