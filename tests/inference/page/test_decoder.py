"""The decoder of the page, compared with that of the task."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage, special

from segjax.representations import REPRESENTATIONS, DecoderConfig
from segjax.segmentation.split_touching import background_distance
from segjax.tasks.semantic import SemanticConfig, SemanticTask
from tests.inference.page.scripts import needs_node, run
from tests.representations.scenes import touching

pytestmark = needs_node
SCRIPTS = ("grid.js", "decoder.js")
BODY = "return input.cases.map(({maps, width, height, network}) => segment(maps, width, height, network));"


def perfect(name):
    """Cells that touch, with equal values on their plateaus, in two classes."""
    labels = touching()
    semantic = np.where(labels > 0, 1 + (labels % 3 == 0), 0)
    values = REPRESENTATIONS[name].encode(labels)
    return np.eye(3, dtype=np.float32)[semantic], values


def noisy(name, seed, shape=(70, 61)):
    """Smooth noise, which makes cells of any shape, also at the border."""
    rng = np.random.default_rng(seed)
    logits = [ndimage.gaussian_filter(rng.normal(size=shape), 3) * 20 for _ in range(3)]
    probabilities = special.softmax(np.stack(logits, -1), axis=-1).astype(np.float32)
    channels = REPRESENTATIONS[name].channels
    values = ndimage.gaussian_filter(rng.normal(size=(*shape, channels)), (2, 2, 0)) * 4
    values = special.expit(values) if name == "boundary" else values
    return probabilities, (values[..., 0] if channels == 1 else values).astype(np.float32)


CASES = {
    **{f"cells by {name}": (name, perfect(name), {}) for name in REPRESENTATIONS if name != "colours"},
    **{
        f"noise {seed} by {name}": (
            name,
            noisy(name, seed),
            {"min_area": (9, 4), "foreground_threshold": 0.55},
        )
        for seed, name in enumerate(("components", "boundary", "distance", "flows", "poisson"))
    },
    "one minimum area": ("distance", noisy("distance", 7), {"min_area": (30,), "min_fraction": 0.3}),
    "no smoothing": ("distance", noisy("distance", 8), {"decoder": DecoderConfig(smoothing=0.0, h=0.3)}),
    "sharp flows": (
        "flows",
        noisy("flows", 9),
        {"decoder": DecoderConfig(smoothing=2.5, density=0.3, steps=30)},
    ),
    "fewer steps than cells are wide": ("flows", perfect("flows"), {"decoder": DecoderConfig(steps=3)}),
    "flows that circle": ("flows", noisy("flows", 12, (150, 140)), {"decoder": DecoderConfig(steps=9)}),
    "noise and few steps": ("flows", noisy("flows", 11), {"decoder": DecoderConfig(smoothing=2.5, steps=7)}),
    "all foreground": (
        "boundary",
        (np.float32([0, 1, 0]) * np.ones((9, 7, 3), np.float32), np.zeros((9, 7), np.float32)),
        {},
    ),
    "no cell": (
        "flows",
        (np.float32([1, 0, 0]) * np.ones((9, 7, 3), np.float32), np.zeros((9, 7, 2), np.float32)),
        {},
    ),
    "a single row": ("distance", noisy("distance", 10, (1, 90)), {"min_area": (1,)}),
}


@pytest.fixture(scope="module")
def decoded():
    """What JavaScript makes of all cases, by their names."""
    cases = []
    for name, (classes, values), settings in CASES.values():
        config = dataclasses.asdict(SemanticConfig(instances=name, **settings))
        network = {"class_names": ["background", "a", "b"], **config}
        height, width = classes.shape[:2]
        maps = {"classes": classes, "values": values}
        cases.append({"maps": maps, "width": width, "height": height, "network": network})
    return dict(zip(CASES, run(SCRIPTS, BODY, cases=cases), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_cells_are_those_of_python(decoded, case):
    name, (classes, values), settings = CASES[case]
    task = SemanticTask(None, 3, SemanticConfig(instances=name, **settings))
    outputs = {"classes": classes} | ({name: values} if REPRESENTATIONS[name].channels else {})
    expected = task.segment(outputs)
    assert (expected.num_instances > 1) == (case not in ("all foreground", "no cell"))
    got = np.array(decoded[case]["labels"]).reshape(expected.shape)
    np.testing.assert_array_equal(got, expected.labels)
    assert decoded[case]["classes"] == expected.classes.tolist()
    np.testing.assert_allclose(decoded[case]["scores"], expected.scores, rtol=1e-5)


def test_a_small_case_by_hand():
    """Two peaks of height 2 and 3 with a saddle of 1 between them: h decides whether they are one cell."""
    classes = np.zeros((1, 5, 2), np.float32)
    classes[..., 1] = 1
    network = {"class_names": ["background", "cell"], "instances": "distance", "foreground_threshold": None}
    network |= {"min_area": [1], "min_fraction": 0}
    maps = {"classes": classes, "values": np.float32([[2, 1.9, 1, 2.9, 3]])}
    cases = [
        {"maps": maps, "width": 5, "height": 1, "network": network | {"decoder": {"smoothing": 0, "h": h}}}
        for h in (0.9, 1.1)
    ]
    split, merged = run(SCRIPTS, BODY, cases=cases)
    assert split["labels"] == [1, 1, 2, 2, 2]
    assert merged["labels"] == [1, 1, 1, 1, 1]


def test_distances_and_filters_are_those_of_scipy():
    rng = np.random.default_rng(0)
    mask = ndimage.binary_opening(rng.random((31, 23)) < 0.8)
    values = rng.normal(size=(31, 23))
    body = """const {mask, values} = input;
    const smooth = (...settings) => gaussian(values, 23, 31, ...settings);
    return [backgroundDistance(mask, 23, 31), smooth([2.5, 0]), smooth([9, 9]), smooth([1, 3], "constant"),
      smooth([2, 4], "mirror")];"""
    got = run(SCRIPTS, body, mask=mask.astype(np.uint8), values=values)
    expected = [
        background_distance(mask),
        ndimage.gaussian_filter(values, (2.5, 0)),
        ndimage.gaussian_filter(values, 9),
        ndimage.gaussian_filter(values, (1, 3), mode="constant"),
        ndimage.gaussian_filter(values, (2, 4), mode="mirror"),
    ]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.reshape(one, (31, 23)), other, atol=1e-12)
