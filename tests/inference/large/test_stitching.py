"""Cells of tiles become those of the image."""

from types import SimpleNamespace

import numpy as np
import pytest

from segjax.classical.measurements import measure
from segjax.inference import ordered
from segjax.inference.large import composition as composition_module
from segjax.inference.large.cells import LargeCells, Measuring
from segjax.inference.large.composition import Composition
from segjax.inference.large.grid import Box, Grid
from segjax.inference.large.methods import Decoded
from segjax.inference.large.stitching import stitch
from segjax.inference.large.store import Pieces, StoredTile, TileStore, pieces_of
from segjax.inference.polygons import trace
from segjax.report.overlays import colour_of
from segjax.segmentation import Segmentation
from tests.oracles.stitching import pieces_by_loops

GRID = Grid((500, 620), 256, 40)


def discs(shape, count, radius, seed=0):
    """Labels of discs, of which later ones cover others."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for index in range(count):
        row, column = rng.uniform(0, shape)
        labels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = index + 1
    return labels


def stored(tile, labels, classes=None):
    """The result of a tile with the labels of its window, renumbered in a random order."""
    ids = np.random.default_rng(tile.row * 7 + tile.column).permutation(np.unique(labels[labels > 0]))
    lookup = np.zeros(int(labels.max()) + 1, np.int32)
    lookup[ids] = np.arange(1, len(ids) + 1)
    local = lookup[labels]
    kinds = np.ones(len(ids), np.int32) if classes is None else classes[ids]
    scores = (ids / 1000).astype(np.float32)
    areas = np.bincount(local.ravel(), minlength=len(ids) + 1)[1:]
    pieces = pieces_of(local, len(ids), tile)
    return StoredTile(local, (local > 0).astype(np.uint8), kinds, scores, areas, pieces, {})


def composed(tmp_path, windows, **options):
    """The cells of an image, from the labels of the window of each tile."""
    store, tiles = TileStore(tmp_path), GRID.tiles()
    for tile in tiles:
        store.write(tile, stored(tile, windows(tile)))
    stitched = stitch(GRID, tiles, store.read, **options)
    return Composition(GRID, tiles, store, stitched)


def full(composition):
    return composition.read(Box(0, 0, *GRID.shape)).labels


def same(one, other):
    """Whether two label maps are equal up to the numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


def test_tiles_cover_the_image_once():
    count = np.zeros(GRID.shape, int)
    for tile in GRID.tiles():
        count[tile.core.within(Box(0, 0, *GRID.shape))] += 1
        assert tile.core.common(tile.window) == tile.core
    assert (count == 1).all()
    assert GRID.tile(0, 1).window == Box(0, 216, 296, 552)


@pytest.mark.parametrize("radius", [3, 12, 30])
def test_cells_on_seams_are_one_cell(tmp_path, radius):
    labels = discs(GRID.shape, 150, radius)
    composition = composed(tmp_path, lambda tile: labels[tile.window.within(Box(0, 0, *GRID.shape))])
    result, stitched = full(composition), composition.stitched
    assert same(result, labels)
    ids = np.arange(1, stitched.num_cells + 1)
    np.testing.assert_array_equal(stitched.areas, [(result == index).sum() for index in ids])
    centroids = [np.argwhere(result == index).mean(axis=0)[::-1] for index in ids]
    np.testing.assert_allclose(stitched.centroids, centroids)
    boxes = [
        np.concatenate([p.min(0)[::-1], p.max(0)[::-1] + 1]) for p in (np.argwhere(result == i) for i in ids)
    ]
    np.testing.assert_array_equal(stitched.boxes, boxes)
    # Scores come with the part of the tile with most of the cell: those of the true id.
    true_ids = [labels[result == index][0] for index in ids]
    np.testing.assert_allclose(stitched.scores, np.array(true_ids) / 1000, rtol=1e-6)


def test_a_cell_larger_than_the_overlap_is_one_cell(tmp_path):
    labels = np.zeros(GRID.shape, np.int32)
    labels[30:480, 20:600] = 1
    composition = composed(tmp_path, lambda tile: labels[tile.window.within(Box(0, 0, *GRID.shape))])
    np.testing.assert_array_equal(full(composition), labels)


def test_touching_cells_along_a_seam_stay_apart(tmp_path):
    labels = np.zeros(GRID.shape, np.int32)
    for number in range(20):
        labels[number * 20 : number * 20 + 20, 240:256] = 2 * number + 1
        labels[number * 20 : number * 20 + 20, 256:270] = 2 * number + 2
    composition = composed(tmp_path, lambda tile: labels[tile.window.within(Box(0, 0, *GRID.shape))])
    assert same(full(composition), labels)


def test_tiles_that_disagree_neither_double_nor_lose_cells(tmp_path):
    # The left tile sees one cell of 40 columns, of which 28 are its own, the right tile two.
    one, two = np.zeros(GRID.shape, np.int32), np.zeros(GRID.shape, np.int32)
    one[100:120, 228:268] = 1
    two[100:120, 228:262], two[100:120, 262:268] = 1, 2
    image = Box(0, 0, *GRID.shape)
    composition = composed(
        tmp_path, lambda tile: (two if tile.column == 1 else one)[tile.window.within(image)]
    )
    expected = np.zeros(GRID.shape, np.int32)
    expected[100:120, 228:262], expected[100:120, 262:268] = 1, 2
    assert same(full(composition), expected)
    # A sliver across the seam belongs to the cell that the other tile sees there.
    one[:], two[:] = 0, 0
    one[100:120, 250:256], two[100:120, 236:258] = 1, 1
    composition = composed(
        tmp_path, lambda tile: (two if tile.column == 1 else one)[tile.window.within(image)]
    )
    assert composition.stitched.num_cells == 1


def test_small_cells_and_those_outside_of_a_region_are_dropped(tmp_path):
    labels = np.zeros(GRID.shape, np.int32)
    labels[10:40, 10:40], labels[100:104, 254:258], labels[300:330, 400:430] = 1, 2, 3
    image = Box(0, 0, *GRID.shape)
    read = {"windows": lambda tile: labels[tile.window.within(image)]}
    assert np.unique(full(composed(tmp_path, **read, min_fraction=0.1))).tolist() == [0, 1, 2]
    right = composed(tmp_path, **read, contains=lambda points: points[:, 0] > 200)
    np.testing.assert_array_equal(full(right) > 0, labels > 1)
    # Pixels without a cell have no class.
    classes = right.read(Box(0, 0, *GRID.shape)).semantic
    np.testing.assert_array_equal(classes > 0, labels > 1)
    nothing = composed(tmp_path, **read, contains=lambda points: points[:, 0] > 900)
    assert not full(nothing).any()


def test_outlines_are_those_of_the_label_image_where_tiles_see_different_pixels(tmp_path):
    # Both tiles see a cell of 20 x 40 pixels, one row apart.
    left, right = np.zeros(GRID.shape, np.int32), np.zeros(GRID.shape, np.int32)
    left[100:120, 230:270], right[101:121, 230:270] = 1, 1
    image = Box(0, 0, *GRID.shape)
    composition = composed(tmp_path, lambda tile: (right if tile.column else left)[tile.window.within(image)])
    assert composition.stitched.num_cells == 1
    measuring = Measuring(None, np.zeros((2, 1)), ("background", "cell"), None)
    ((index, polygons),) = LargeCells("a", composition, measuring, colour_of).outlines()
    ((ring,),) = polygons
    assert index == 0
    ((traced,),) = trace(full(composition))[0]
    np.testing.assert_array_equal(ring, traced)
    assert ring[:, 1].max() == 121


def measured(folder, labels, grid, **options):
    """The cells of an image whose tiles are measured, and the tiles that are read, in their order."""
    pixels = np.where(labels > 0, 200, 20).astype(np.uint8)[..., None]
    level = SimpleNamespace(
        shape=pixels.shape, read=lambda top, left, h, w: pixels[top : top + h, left : left + w]
    )
    measuring = Measuring(level, np.array([[20], [200]]), ("background", "cell"), None)
    store, tiles, read = TileStore(folder), grid.tiles(), []
    for tile in tiles:
        one = stored(tile, labels[tile.window.within(Box(0, 0, *grid.shape))])
        decoded = Decoded(one.labels, one.classes, one.scores, one.network_areas, one.semantic)
        store.write(tile, one._replace(table=measuring(tile, decoded)))
    stitched = stitch(grid, tiles, store.read, **options)
    counting = SimpleNamespace(read=lambda tile: read.append(tile) or store.read(tile))
    return LargeCells("a", Composition(grid, tiles, counting, stitched), measuring, colour_of), read


def test_neighbours_are_those_of_the_result(tmp_path):
    labels = np.zeros(GRID.shape, np.int32)
    # A speck, which is dropped, beside a cell; two cells on both sides of a seam.
    labels[100:130, 100:130], labels[110:113, 135:138] = 1, 2
    labels[100:130, 220:254], labels[100:130, 258:290] = 3, 4
    # A cell that is larger than a window, and cells at both of its ends.
    labels[200:240, 30:600], labels[210:230, 5:25], labels[210:230, 604:615] = 5, 6, 7
    cells, _ = measured(tmp_path, labels, GRID, min_fraction=0.005)
    table = {name: np.concatenate([one[name] for one in cells.tables()]) for name in ("id", "neighbours")}
    result = full(cells.composition)
    expected = measure(np.zeros((*GRID.shape, 1)), Segmentation.from_labels(result))["neighbours"]
    assert len(expected) == 6
    np.testing.assert_array_equal(table["neighbours"], expected)
    owners = [labels[result == index][0] for index in table["id"]]
    assert dict(zip(owners, expected.tolist(), strict=True)) == {1: 0, 3: 1, 4: 1, 5: 2, 6: 1, 7: 1}


@pytest.mark.parametrize("threads", [1, 8])
def test_tiles_are_read_a_few_times_for_any_number_of_threads(tmp_path, monkeypatch, threads):
    for module in (ordered, composition_module):
        monkeypatch.setattr(module, "num_threads", lambda: threads)
    grid = Grid((1280, 1280), 256, 40)
    y, x = np.indices(grid.shape)
    # Discs on all seams.
    rows, columns = y // 32, x // 32
    is_disc = (y % 32 - 16) ** 2 + (x % 32 - 16) ** 2 < 100
    labels = np.roll(np.where(is_disc, rows * 40 + columns + 1, 0), (16, 16), (0, 1)).astype(np.int32)
    cells, read = measured(tmp_path, labels, grid)
    # Instances of the tiles outnumber the cells, as each tile at a seam has a part.
    stitched = cells.composition.stitched
    assert sum(np.count_nonzero(ids) for ids in stitched.ids) - stitched.num_cells > 300
    for parts in (cells.tables, cells.outlines):
        read.clear()
        assert sum(1 for _ in parts()) > 0
        assert len(read) <= 3 * len(grid.tiles())


def test_missing_tiles_leave_a_hole(tmp_path):
    labels = discs(GRID.shape, 150, 12)
    image = Box(0, 0, *GRID.shape)
    store, tiles = TileStore(tmp_path), GRID.tiles()
    for tile in tiles[:2] + tiles[3:]:
        store.write(tile, stored(tile, labels[tile.window.within(image)]))
    result = full(Composition(GRID, tiles, store, stitch(GRID, tiles, store.read)))
    hole = tiles[2].core.within(image)
    assert not result[hole].any()
    labels[hole] = 0
    assert ((result > 0) == (labels > 0)).all()
    assert stitch(GRID, tiles, lambda tile: None).num_cells == 0


def test_pieces_are_those_of_loops():
    labels, tile = discs((296, 296), 60, 12), GRID.tile(0, 0)
    pieces = pieces_of(labels, 70, tile)
    for fast, slow in zip(pieces, pieces_by_loops(labels, 70, tile), strict=True):
        np.testing.assert_array_equal(fast, slow)


def test_a_store_returns_what_was_written_and_only_that(tmp_path):
    store, tile = TileStore(tmp_path / "a"), GRID.tile(0, 0)
    assert store.open({"digest": "a"}) == {}
    store.remember({"digest": "a"}, {"scale": 0.1})
    written = stored(tile, discs((296, 296), 60, 12))._replace(table={"area_px": np.arange(3.0)})
    store.write(tile, written)
    assert store.open({"digest": "a"}) == {"scale": 0.1}
    read = store.read(tile)
    for name, values in written._asdict().items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(getattr(read, name), values)
    assert isinstance(read.pieces, Pieces)
    assert read.table["area_px"].tolist() == [0, 1, 2]
    path = next((tmp_path / "a").glob("*.tile"))
    intact = path.read_bytes()
    path.write_bytes(intact[:-9])
    assert store.read(tile) is None
    # Whatever a damaged byte makes the reader raise.
    for position in range(0, len(intact), 97):
        path.write_bytes(intact[:position] + bytes([intact[position] ^ 8]) + intact[position + 1 :])
        changed = store.read(tile)
        assert changed is None or changed.table.keys() == {"area_px"}
        assert changed is None or (changed.labels == written.labels).all()
    store.write(tile, written)
    assert store.open({"digest": "b"}) == {}
    assert store.read(tile) is None
