import numpy as np
import pytest

from segjax.data.targets import instance_diffusion
from segjax.representations import REPRESENTATIONS, DecoderConfig
from segjax.representations import flows as module
from segjax.representations.flows import (
    FIRST_STEPS,
    LAST_STEPS,
    flow_of,
    follow,
    follow_merged,
    follow_to_end,
)
from tests.data.test_targets import ODD, blocks
from tests.oracles import flows as oracle
from tests.representations.scenes import touching

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.mark.parametrize("seed", range(3))
def test_the_flow_agrees_with_one_pixel_at_a_time(seed):
    labels, values = blocks(seed), np.random.default_rng(seed).normal(size=(12, 16)).astype(np.float32)
    np.testing.assert_allclose(flow_of(values, labels), oracle.flow_of(values, labels), atol=1e-4)


def test_the_flow_on_a_plane_is_the_same_at_the_border_of_an_instance():
    y, x = np.mgrid[:8, :9].astype(np.float32)
    labels = np.zeros((8, 9), np.int32)
    labels[1:7, 2:9] = 1
    flow = np.asarray(flow_of(3 * y - 4 * x, labels))
    np.testing.assert_allclose(flow[labels > 0], np.array([[0.6, -0.8]]).repeat(42, 0), atol=1e-6)
    assert not flow[labels == 0].any()


def test_neighbours_and_the_other_side_of_the_image_have_no_effect():
    labels = np.zeros((6, 12), np.int32)
    labels[:, :6], labels[:, 6:] = 1, 2
    values = instance_diffusion(labels)
    alone = np.where(labels == 1, values, 0)
    np.testing.assert_array_equal(
        np.asarray(flow_of(alone, labels == 1))[:, :6], np.asarray(flow_of(values, labels))[:, :6]
    )


def test_the_flow_leads_to_the_centre_around_a_bend():
    labels = np.zeros((30, 30), np.int32)
    labels[4:26, 4:9] = labels[21:26, 4:26] = 1  # an L
    flow = np.asarray(flow_of(instance_diffusion(labels), labels))
    ends = follow(flow, np.argwhere(labels), steps=60)
    centre = np.argwhere(instance_diffusion(labels) == instance_diffusion(labels).max())[0]
    assert np.abs(ends - centre).max() <= 1.5


def test_following_agrees_with_one_point_at_a_time():
    rng = np.random.default_rng(0)
    flow = rng.normal(0, 0.6, (9, 7, 2)).astype(np.float32)
    points = rng.uniform(0, [8, 6], (40, 2)).astype(np.float32)
    for steps in (0, 1, 7):
        np.testing.assert_allclose(
            follow(flow, points, steps=steps), oracle.follow(flow, points, steps=steps), atol=1e-3
        )


def test_points_stop_at_the_border():
    flow = np.full((5, 6, 2), [3, -3], np.float32)
    np.testing.assert_array_equal(follow(flow, np.array([[1, 4], [4, 0]]), steps=9), [[4, 0], [4, 0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (130, 3)])
def test_images_of_any_size_are_followed(shape):
    points = np.argwhere(np.ones(shape, bool))
    np.testing.assert_array_equal(follow(np.zeros((*shape, 2)), points, steps=3), points)


def test_a_map_is_followed_once_for_all_settings_of_the_clustering(monkeypatch):
    labels = touching()
    calls = []

    def counted(flow, points, *, steps):
        calls.append(steps)
        return follow_to_end(flow, points, steps=steps)

    monkeypatch.setattr(module, "follow_to_end", counted)
    module.ends_of.cache.clear()
    flows, values = REPRESENTATIONS["flows"], REPRESENTATIONS["flows"].encode(labels)
    first = flows.decode(labels > 0, values, DecoderConfig(steps=50))
    again = flows.decode(labels > 0, values.copy(), DecoderConfig(steps=50, smoothing=3.0))
    assert calls == [50]
    # Other steps, another foreground and another map are followed.
    flows.decode(labels > 0, values, DecoderConfig(steps=20))
    flows.decode(labels > 1, values, DecoderConfig(steps=50))
    np.testing.assert_array_equal(flows.decode(labels > 0, values, DecoderConfig(steps=50)), first)
    assert calls == [50, 20, 50]
    flows.decode(labels > 0, -values, DecoderConfig(steps=50))
    assert calls == [50, 20, 50, 50]
    module.ends_of.cache.clear()
    smooth = flows.decode(labels > 0, values, DecoderConfig(steps=50, smoothing=3.0))
    np.testing.assert_array_equal(smooth, again)


def test_no_point_is_followed_to_nowhere():
    assert follow(np.zeros((4, 4, 2)), np.zeros((0, 2)), steps=5).shape == (0, 2)


@pytest.mark.parametrize("steps", [0, FIRST_STEPS, 100])
def test_points_that_come_together_end_where_each_of_them_ends(steps):
    labels = touching()
    flow = np.asarray(flow_of(instance_diffusion(labels), labels))
    points = np.argwhere(labels)
    np.testing.assert_array_equal(follow_merged(flow, points, steps=steps), follow(flow, points, steps=steps))


def test_points_that_are_on_their_way_go_on():
    flow = np.zeros((3, 400, 2), np.float32)
    flow[0, :300, 1] = 1.0  # to column 300
    flow[1, :, 1] = [(-1) ** column for column in range(400)]  # to and fro
    flow[2, :, 1] = 0.2  # slowly, as where a network is unsure
    points = np.array([[0, 0], [0, 299], [1, 7], [2, 0]])
    ends = follow_to_end(flow, points, steps=100)
    np.testing.assert_array_equal(ends[:2], [[0, 300], [0, 300]])
    np.testing.assert_allclose(ends[2:], follow(flow, points[2:], steps=100))


@pytest.mark.parametrize("steps", [7, 100])
def test_points_that_circle_are_left_soon(monkeypatch, steps):
    taken = []

    def counted(flow, points, *, steps):
        taken.append(steps)
        return follow(flow, points, steps=steps)

    monkeypatch.setattr(module, "follow", counted)
    rows, columns = np.mgrid[-60.0:61, -60:61]
    radius = np.maximum(np.hypot(rows, columns), 1e-6)
    around = (np.stack([columns, -rows], -1) / radius[..., None]).astype(np.float32)
    ends = follow_to_end(around, np.argwhere((radius > 5) & (radius < 50)), steps=steps)
    assert np.isfinite(ends).all()
    # Half of the longest circle, and two blocks.
    assert sum(taken) <= steps + np.pi * 60 + 2 * min(steps, LAST_STEPS)


@pytest.mark.parametrize("shape", [(10, 410), (300, 12)])
def test_a_cell_that_is_longer_than_the_steps_is_one_instance(shape):
    labels, flows = np.pad(np.ones(shape, np.int32), 3), REPRESENTATIONS["flows"]
    np.testing.assert_array_equal(flows.decode(labels > 0, flows.encode(labels), DecoderConfig()), labels)


def test_points_at_one_place_are_followed_once(monkeypatch):
    counts = []

    def counted(flow, points, *, steps):
        counts.append((len(points), steps))
        return follow(flow, points, steps=steps)

    monkeypatch.setattr(module, "follow", counted)
    points = np.array([[1, 2], [1, 4], [2, 3]])  # all move to the right border, two of them along row 1
    ends = follow_merged(np.full((5, 30, 2), [0, 1.0], np.float32), points, steps=3 * FIRST_STEPS)
    np.testing.assert_array_equal(ends, [[1, 29], [1, 29], [2, 29]])
    assert counts == [(3, FIRST_STEPS), (2, FIRST_STEPS), (2, FIRST_STEPS)]


def test_density_decides_what_is_an_instance():
    labels = np.zeros((40, 40), np.int32)
    labels[4:20, 4:20], labels[30:33, 30:33] = 1, 2  # 256 and 9 pixels
    flows = REPRESENTATIONS["flows"]
    for density, expected in ((1.0, 2), (4.0, 1), (1000.0, 0)):
        decoded = flows.decode(labels > 0, flows.encode(labels), DecoderConfig(density=density))
        assert len(np.unique(decoded[decoded > 0])) == expected


def test_a_flow_that_is_not_of_unit_length_gives_the_same_instances():
    labels, flows = touching(), REPRESENTATIONS["flows"]
    decoded = flows.decode(labels > 0, 0.7 * flows.encode(labels), DecoderConfig(steps=200))
    np.testing.assert_array_equal(decoded > 0, labels > 0)
    assert len(np.unique(decoded)) == len(np.unique(labels))


def test_what_is_outside_the_foreground_has_no_effect():
    labels, flows = ODD["two pieces"], REPRESENTATIONS["flows"]
    values = flows.encode(labels)
    noise = np.random.default_rng(0).normal(size=values.shape)
    expected = flows.decode(labels > 0, values, DecoderConfig())
    disturbed = flows.decode(labels > 0, np.where(labels[..., None] > 0, values, noise), DecoderConfig())
    np.testing.assert_array_equal(disturbed, expected)
