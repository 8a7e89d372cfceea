import numpy as np
import pytest

from segjax.datasets.synthetic import SyntheticSource
from segjax.report import preview
from segjax.report.overlays import colour_of


@pytest.fixture(scope="module")
def source():
    return SyntheticSource("train[:5]", image_size=64, kinds=3)


def test_pictures_keep_their_proportions_and_places():
    red, green = np.zeros((2, 10, 20, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    sheet = preview.contact_sheet([("r", red), ("g", green), ("r", red)], columns=2, width=40)
    step = 40 + preview.GAP
    assert sheet.shape[1] == 2 * step + preview.GAP
    where = np.argwhere((sheet == (0, 255, 0)).all(-1))
    low, high = where.min(0), where.max(0) + 1
    assert tuple(high - low) == (20, 40)
    assert tuple(low) == (preview.GAP + 10, preview.GAP + step)
    assert ((sheet == (255, 0, 0)).all(-1)).sum() == 2 * 20 * 40


def test_a_sheet_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="needs a picture"):
        preview.contact_sheet([])


def test_records_are_taken_from_all_over(source):
    names = [record.name for record in preview.evenly_spaced(source, 3)]
    assert names == [source[0].name, source[2].name, source[4].name]
    assert len(preview.evenly_spaced(source, 99)) == 5


def test_every_class_is_shown_by_instances_of_its_own(source):
    records = preview.evenly_spaced(source, 5)
    for index in (1, 2, 3):
        cut = preview.by_class(records, index, count=7)
        assert 0 < len(cut) <= 7
        for _, picture in cut:
            assert (picture == colour_of(index)).all(-1).any()
            assert not any((picture == colour_of(other)).all(-1).any() for other in {1, 2, 3} - {index})
    assert preview.by_class(records, 4, count=3) == []


def test_each_group_is_shown_once(source):
    records = [*preview.evenly_spaced(source, 5)] * 2
    shown = preview.by_group(records, count=3)
    assert len({name for name, _ in shown}) == len(shown) == 3


def test_long_names_lose_their_beginning():
    sheet = preview.contact_sheet([("x" * 500, np.zeros((4, 4, 3), np.uint8))], width=64)
    assert sheet.shape[1] == 64 + 2 * preview.GAP
