"""Tracks over several frames: lineages, divisions, gaps, slices."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.tracking import SliceLinker, Tracker, TrackingConfig, volume_table
from tests.tracking.series import make_series

SIDE = 40


def frame(*cells):
    """Labels of squares `(y, x, side)`, numbered in this order."""
    labels = np.zeros((SIDE, SIDE), int)
    for index, (y, x, side) in enumerate(cells, start=1):
        labels[y : y + side, x : x + side] = index
    return labels


def track(*frames, **settings):
    tracker = Tracker(TrackingConfig(**settings))
    for labels in frames:
        tracker.add(labels)
    return tracker.finish()


# A cell of 8 x 8 moves right, and divides into two of 6 x 6, of which the lower one vanishes. Another rests.
DIVIDING = (
    frame((10, 10, 8), (30, 30, 6)),
    frame((30, 30, 6), (10, 12, 8)),
    frame((5, 13, 6), (17, 13, 6), (30, 30, 6)),
    frame((4, 13, 6), (30, 30, 6)),
)


def test_the_lineage_of_a_division():
    tracks = track(*DIVIDING)
    assert [tracks.ids_in(number).tolist() for number in range(4)] == [[1, 2], [2, 1], [3, 4, 2], [3, 2]]
    # Track, first and last frame, parent.
    assert tracks.ctc_lines() == "1 0 1 0\n2 0 3 0\n3 2 3 1\n4 2 2 1\n"
    table = tracks.table(pixel_size=0.5)
    assert table["origin"].tolist() == ["appears", "appears", "division", "division"]
    assert table["root"].tolist() == [1, 2, 1, 1]
    assert table["generation"].tolist() == [0, 0, 1, 1]
    assert table["daughters"].tolist() == [2, 0, 0, 0]
    assert table["length"].tolist() == [2, 4, 2, 1]
    assert table["path_px"].tolist() == [2, 0, 1, 0]
    np.testing.assert_array_equal(table["mean_speed_px"], [2, 0, 1, np.nan])
    np.testing.assert_array_equal(table["mean_speed_um"], [1, 0, 0.5, np.nan])
    assert table["mean_area_um2"].tolist() == [16, 9, 9, 9]


def test_net_displacement_is_the_distance_of_the_ends():
    tracks = track(frame((10, 10, 6)), frame((10, 13, 6)), frame((14, 13, 6)))
    table = tracks.table()
    assert (table["path_px"].tolist(), table["net_px"].tolist()) == ([7], [5])


def test_without_divisions_a_daughter_appears():
    tracks = track(*DIVIDING, divisions=False)
    assert "division" not in tracks.table()["origin"]
    assert tracks.num_tracks == 3


def test_a_cell_that_enters_beside_another_is_no_daughter():
    tracks = track(frame((10, 10, 8)), frame((10, 10, 8), (10, 19, 8)))
    assert tracks.table()["origin"].tolist() == ["appears", "appears"]


@pytest.mark.parametrize(("max_gap", "parent"), [(0, 0), (1, 0), (2, 1)])
def test_a_track_continues_after_a_gap(max_gap, parent):
    here, nothing = frame((10, 10, 8)), frame()
    tracks = track(here, here, nothing, nothing, here, max_gap=max_gap)
    assert tracks.ctc_lines() == f"1 0 1 0\n2 4 4 {parent}\n"
    assert tracks.table()["origin"][1] == ("gap" if parent else "appears")
    assert tracks.table()["root"].tolist() == [1, 1 if parent else 2]
    assert tracks.table()["generation"].tolist() == [0, 0]


def test_a_gap_is_not_closed_by_a_cell_of_another_size():
    tracks = track(frame((10, 10, 9)), frame(), frame((12, 12, 4)))
    assert tracks.parents.tolist() == [0, 0]


def test_a_cell_that_is_missing_comes_back_rather_than_divides_from_its_neighbour():
    both, one = frame((10, 10, 8), (10, 19, 8)), frame((10, 10, 8))
    assert track(both, one, both).ctc_lines() == "1 0 2 0\n2 0 0 0\n3 2 2 2\n"


def test_frames_without_cells():
    tracks = track(frame(), frame(), frame())
    assert (tracks.num_tracks, tracks.ctc_lines()) == (0, "")
    assert all(len(column) == 0 for column in tracks.table().values())


def test_drift_is_no_motion():
    cells = [(5, 5, 6), (5, 20, 6), (20, 8, 6), (22, 23, 6)]
    frames = [frame(*((y + 4 * step, x + 3 * step, side) for y, x, side in cells)) for step in range(3)]
    tracks = track(*frames, max_move=0.3)
    assert tracks.num_tracks == 4
    assert tracks.table()["path_px"].tolist() == [0, 0, 0, 0]


def test_tails_have_the_path_of_the_parent():
    tails = track(*DIVIDING).tails(2, length=2)
    assert tails[2].tolist() == [[32.5, 32.5]] * 3
    assert tails[3].tolist() == [[13.5, 13.5], [13.5, 15.5], [7.5, 15.5]]
    assert track(*DIVIDING).tails(3, length=1)[3].tolist() == [[7.5, 15.5], [6.5, 15.5]]


def test_cells_in_3d_are_linked_by_overlap():
    slices = SliceLinker(TrackingConfig(min_overlap=0.5))
    # The overlap of the second cell with the one below it is 4 * 8 / (2 * 64 - 32) = 0.33.
    for labels in (frame((2, 2, 8), (20, 20, 8)), frame((20, 24, 8), (3, 2, 8)), frame((20, 24, 8))):
        slices.add(labels)
    tracks = slices.finish()
    assert [tracks.ids_in(number).tolist() for number in range(3)] == [[1, 2], [3, 1], [3]]
    table = {name: values.tolist() for name, values in volume_table(tracks).items()}
    assert table == {
        "cell": [1, 2, 3],
        "centroid_x_px": [5.5, 23.5, 27.5],
        "centroid_y_px": [6, 23.5, 23.5],
        "centroid_slice": [0.5, 0, 1.5],
        "first_slice": [0, 0, 1],
        "last_slice": [1, 0, 2],
        "slices": [2, 1, 2],
        "volume": [128, 64, 128],
    }


@pytest.mark.parametrize("setting", [{"max_move": 0.0}, {"max_gap": -1}, {"min_overlap": 1.5}])
def test_settings_out_of_range(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        TrackingConfig(**setting)


def true_links(truth):
    """The pairs (frame, track) and (next frame, track) of each true link within a track."""
    present = [set(np.unique(tracked[tracked > 0]).tolist()) for tracked in truth]
    return {
        (number, one) for number in range(len(truth) - 1) for one in present[number] & present[number + 1]
    }


def test_a_series_with_divisions_is_tracked():
    labels, truth, lineage = make_series(frames=14, side=240, cells=9, seed=1)
    tracks = track(*labels)
    to_true = {}
    for number, (own, tracked) in enumerate(zip(labels, truth, strict=True)):
        for pixel in range(1, own.max() + 1):
            to_true[number, int(tracks.ids_in(number)[pixel - 1])] = int(tracked[own == pixel][0])
    same = {
        (number, to_true[number, one])
        for number, one in to_true
        if to_true.get((number + 1, one)) == to_true[number, one]
    }
    expected = true_links(truth)
    assert len(same & expected) >= 0.98 * len(expected)
    assert sum(row[3] > 0 for row in lineage) > 4
    assert np.count_nonzero(tracks.table()["origin"] == "division") == sum(row[3] > 0 for row in lineage)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{}, {"seed": 2, "cells": 36}, {"seed": 4, "drift": (9, -6), "side": 600}]
)
def test_the_scores_of_the_cell_tracking_challenge(options, tmp_path):
    evaluate = pytest.importorskip("ctc_metrics", reason="the peers extra is not installed").evaluate_sequence
    import tifffile

    labels, truth, lineage = make_series(**options)
    tracks = track(*labels)
    for folder, name in (("01_GT/TRA", "man_track"), ("01_GT/SEG", "man_seg"), ("01_RES", "mask")):
        (tmp_path / folder).mkdir(parents=True)
        for number, tracked in enumerate(truth):
            if name == "mask":
                tracked = np.append(0, tracks.ids_in(number))[labels[number]]
            tifffile.imwrite(tmp_path / folder / f"{name}{number:03}.tif", tracked.astype(np.uint16))
    text = "".join(f"{' '.join(map(str, row))}\n" for row in lineage)
    (tmp_path / "01_GT/TRA/man_track.txt").write_text(text)
    (tmp_path / "01_RES/res_track.txt").write_text(tracks.ctc_lines())
    scores = evaluate(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), metrics=["Valid", "TRA", "LNK"])
    assert scores["Valid"] == 1
    assert scores["TRA"] >= 0.98
    assert scores["LNK"] >= 0.97
