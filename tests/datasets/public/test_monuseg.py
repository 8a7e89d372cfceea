import numpy as np
import pytest

from segjax.datasets.public.hash_split import hash_fraction
from segjax.datasets.public.monuseg import patient_of, read_outlines
from segjax.errors import InputError
from tests.datasets.public import tree

TRAINING = [f"TCGA-A7-A1{index:02d}-01Z-00-DX1" for index in range(9)]
TEST = ["TCGA-2Z-A9J9-01A-01-TS1", "TCGA-2Z-A9J9-01A-01-TS2"]


def xml(*outlines):
    regions = "".join(
        f"<Region Id='{index}'><Vertices>"
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in outline)
        + "</Vertices></Region>"
        for index, outline in enumerate(outlines)
    )
    return f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>".encode()


def box(left, top, right, bottom):
    """An outline through the middles of pixels, which belong to it."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


OUTLINES = xml(box(2, 3, 7, 5), box(6, 4, 9, 9), [(1.5, 1.5), (2, 2)])


def put(data_dir, form="zip", **changes):
    home = "MoNuSeg 2018 Training Data"
    training = {
        f"{home}/{folder}/{name}.{suffix}": content
        for index, name in enumerate(TRAINING)
        for folder, suffix, content in (
            ("Tissue Images", "tif", tree.tif(tree.colours(index))),
            ("Annotations", "xml", OUTLINES),
        )
    }
    test = {
        f"MoNuSegTestData/{name}.{suffix}": content
        for name in TEST
        for suffix, content in (("tif", tree.tif(tree.colours(99))), ("xml", OUTLINES))
    }
    for name, members in ((home, training), ("MoNuSegTestData", test)):
        selected = {key: changes.get(key.split("/")[-1], content) for key, content in members.items()}
        tree.put(data_dir, f"{name}.zip", {k: v for k, v in selected.items() if v is not None}, form)


@pytest.mark.parametrize("form", tree.FORMS)
def test_outlines_become_nuclei_and_patients_stay_together(tmp_path, form):
    put(tmp_path, form)
    splits = tree.read("monuseg", tmp_path)
    held_out = [name for name in TRAINING if hash_fraction(name[:12]) >= 0.8]
    assert sorted(r.name for r in splits["validation"]) == held_out
    assert sorted(r.name for r in splits["train"]) == sorted(set(TRAINING) - set(held_out))
    assert 0 < len(held_out) < len(TRAINING)
    assert sorted(r.name for r in splits["test"]) == TEST
    assert {r.group for r in splits["test"]} == {"monuseg/TCGA-2Z-A9J9"}
    expected = np.zeros((20, 24), np.int32)
    expected[3:6, 2:8] = 1
    expected[4:10, 6:10] = 2  # the later one wins
    for record in splits["train"]:
        np.testing.assert_array_equal(record.truth.labels, expected)
        np.testing.assert_array_equal(record.image, tree.colours(TRAINING.index(record.name)))


def test_the_patient_of_a_barcode():
    assert patient_of("TCGA-A7-A13E-01Z-00-DX1") == "TCGA-A7-A13E"


def test_what_is_missing_names_the_licence(tmp_path):
    message = r"does not download MoNuSeg 2018 Training Data\.zip, whose licence is CC BY-NC-SA .*manual$"
    with pytest.raises(InputError, match=message):
        list(tree.stream("monuseg", tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{TRAINING[0]}.xml": None}, rf"holds no {TRAINING[0]}\.xml for"),
        ({f"{TRAINING[0]}.tif": b"damaged"}, rf"{TRAINING[0]}\.tif cannot be read"),
        (dict.fromkeys([f"{name}.tif" for name in TEST]), r"MoNuSegTestData\.zip holds no <barcode>\.tif"),
    ],
)
def test_an_archive_that_is_not_whole(tmp_path, changes, message):
    put(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        list(tree.stream("monuseg", tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<Region><Vertex X='1'/></Region>", "a vertex without X and Y"),
        (b"<Region><Vertex X='1' Y='one'/></Region>", "a vertex without X and Y"),
        (b"<Region><Vertex X='1' Y='nan'/></Region>", "a vertex that is not finite"),
    ],
)
def test_outlines_that_are_none(tmp_path, content, message):
    (tmp_path / "x.xml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_outlines(tmp_path / "x.xml")
