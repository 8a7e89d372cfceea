"""Images and windows of the page, compared with those of prediction."""

import math

import numpy as np

from segjax.data.preprocess import percentile_normalise, resize_image
from segjax.inference.dense import _mirrored
from segjax.inference.tiling import STEP, Windows, predict_tiled
from segjax.segmentation.resize import resize_label_map
from tests.inference.page.scripts import FOLDER, needs_node, run

pytestmark = needs_node
SCRIPTS = ("grid.js", "prepare.js")
# Of the mirror images.
AXES = ((), (0,), (1,), (0, 1))


def as_image(array):
    height, width, channels = array.shape
    return {"pixels": array, "width": width, "height": height, "channels": channels}


def test_images_are_normalised_and_resized_as_for_prediction():
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 4000, (37, 29, 1)).astype(np.uint16),
        rng.integers(0, 256, (20, 33, 3)).astype(np.uint8),
        np.where(np.arange(4096).reshape(64, 64, 1) == 7, 9, 5).astype(np.uint8),
        np.full((5, 6, 1), 3, np.float32),
    ]
    factors = (0.37, 0.5, 1.0, 2.3)
    body = """const {images, factors} = input;
    const normalised = images.map((image) => normaliseImage(image, [1, 99.8]));
    return normalised.map((image) => factors.map((factor) => resizeImage(image, factor)));"""
    got = run(SCRIPTS, body, images=[as_image(image) for image in images], factors=factors)
    for image, row in zip(images, got, strict=True):
        for factor, result in zip(factors, row, strict=True):
            expected = resize_image(percentile_normalise(image), factor)
            assert (result["height"], result["width"], result["channels"]) == expected.shape
            np.testing.assert_allclose(np.reshape(result["pixels"], expected.shape), expected, atol=2e-6)


def test_labels_are_resized_as_for_prediction():
    labels = np.random.default_rng(0).integers(0, 4, (14, 18)).astype(np.int32)
    shapes = [(28, 36), (7, 9), (25, 11), (14, 18)]
    body = "return input.shapes.map(([height, width]) => resizeLabels(input.labels, 18, 14, width, height));"
    got = run(SCRIPTS, body, labels=labels, shapes=shapes)
    for shape, result in zip(shapes, got, strict=True):
        np.testing.assert_array_equal(np.reshape(result, shape), resize_label_map(labels, shape))


WINDOWS = {
    "one window": ((40, 50), Windows(64, 8, stride=8)),
    "margins": ((131, 190), Windows(64, 8, margin=10, stride=16)),
    "a narrow image": ((300, 3), Windows(64, 20, margin=4, stride=4)),
    "no overlap": ((129, 64), Windows(64, 0, stride=1)),
}


def test_windows_are_cut_and_blended_as_for_prediction():
    """The map is the pixel plus the position in the window, so that it shows where each window lies."""
    images = {
        name: np.random.default_rng(0).random((*shape, 1), np.float32) for name, (shape, _) in WINDOWS.items()
    }
    position = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)

    def predict(windows):
        side = windows.shape[1]
        return {"a": windows[..., 0] + position[:side, :side], "b": np.repeat(windows, 2, -1) * [1, 3]}

    body = """return Promise.all(input.cases.map(({image, windows}) => predictWindows(
      image, {single: windows, several: windows}, async (window, side) => ({
        a: window.map((value, i) => value + 256 * Math.floor(i / side) + i % side),
        b: Float32Array.from({length: 2 * window.length}, (_, i) => window[i >> 1] * (i % 2 ? 3 : 1)),
      }))));"""
    cases = []
    for name, (_, windows) in WINDOWS.items():
        settings = {"overlap": windows.overlap, "margin": windows.margin, "stride": windows.stride}
        settings |= {"largest": windows.largest, "step": math.lcm(STEP, windows.stride)}
        cases.append({"image": as_image(images[name]), "windows": settings})
    for (name, (shape, windows)), got in zip(WINDOWS.items(), run(SCRIPTS, body, cases=cases), strict=True):
        expected = predict_tiled(predict, images[name], windows)
        np.testing.assert_allclose(np.reshape(got["a"], shape), expected["a"], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(np.reshape(got["b"], (*shape, 2)), expected["b"], rtol=1e-4, err_msg=name)


def test_windows_are_added_in_order_and_few_are_predicted_at_a_time():
    image = as_image(np.random.default_rng(0).random((90, 130, 1), np.float32))
    settings = {"overlap": 24, "margin": 0, "stride": 1, "largest": 32, "step": 32}
    body = """const {image, settings} = input, counts = [];
    const once = async (delay) => {
      let running = 0, calls = 0;
      const maps = await predictWindows(image, {single: settings, several: settings}, async (window) => {
        counts.push(++running);
        await new Promise((resolve) => setTimeout(resolve, delay(calls++)));
        running--;
        return {a: window.map(Math.sin)};
      }, 3);
      return maps.a;
    };
    const failing = async () => { throw new Error("no memory"); };
    const refused = await predictWindows(image, {single: settings, several: settings}, failing, 3)
      .catch((error) => error.message);
    return [await once(() => 0), await once((call) => call * 7 % 5), Math.max(...counts), refused];"""
    plain, delayed, most, refused = run(SCRIPTS, body, image=image, settings=settings)
    assert plain == delayed
    assert (most, refused) == (3, "no memory")


def test_mirror_images_are_averaged_in_the_same_order_each_time():
    windows = np.random.default_rng(0).random((4, 64)).astype(np.float32)
    body = """
    const load = new Function("self", "eachInOrder", "mirrorMap",
      input.script + "; return [engine, addHelper, predictWindow];");
    return Promise.all(input.orders.map(async (order) => {
      const [engine, addHelper, predictWindow] = load({}, eachInOrder, mirrorMap);
      engine.network = {flips: true};
      const ports = order.map(() => ({postMessage() {}}));
      ports.forEach(addHelper);
      const mean = predictWindow(new Float32Array(64), 8);
      for (const number of order) {
        ports[number].onmessage({data: {maps: {a: input.windows.slice(64 * number, 64 * number + 64)}}});
        await new Promise(setImmediate);
      }
      return (await mean).a;
    }));"""
    orders = [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]]
    script = (FOLDER / "engine.js").read_text()
    first, *others = run(SCRIPTS, body, script=script, orders=orders, windows=windows)
    assert all(other == first for other in others)
    upright = [np.flip(window.reshape(8, 8), axes) for window, axes in zip(windows, AXES, strict=True)]
    np.testing.assert_allclose(np.reshape(first, (8, 8)), np.mean(upright, axis=0), rtol=1e-6)


def test_mirror_images_turn_vectors():
    flow = np.random.default_rng(0).random((1, 5, 5, 2), np.float32)
    body = """return [[true, false], [false, true], [true, true]].map((mirror) =>
      [mirrorMap(input.flow, 5, mirror), mirrorMap(input.flow, 5, mirror, true)]);"""
    for axes, (plain, turned) in zip([(1,), (2,), (1, 2)], run(SCRIPTS, body, flow=flow), strict=True):
        np.testing.assert_array_equal(np.reshape(plain, flow.shape), np.flip(flow, axes))
        np.testing.assert_array_equal(np.reshape(turned, flow.shape), _mirrored("flows", flow, axes))


def test_a_refused_image_leaves_the_one_before():
    body = """
    const self = {}, names = ["self", "readImage", "displayedPixels", "matchChannels", "normaliseImage"];
    const load = new Function(...names, "resizeImage", input.script + "; return [ACTIONS, engine];");
    const refusing = (image) => { if (image.channels > 1) throw new Error("too many"); return image; };
    const [actions, engine] = load(self, (file) => file, () => [], refusing, (x) => x, (x) => x);
    engine.network = {channels: 1, percentiles: [1, 99], scale: 1};
    const [good, bad] = [{width: 3, height: 2, channels: 1}, {width: 7, height: 5, channels: 4}];
    const opened = await actions.open({file: good});
    let refused = "";
    await actions.open({file: bad}).catch((error) => { refused = error.message; });
    return [opened.width, refused, engine.image.width, engine.prepared.width];"""
    result = run((), body, script=(FOLDER / "engine.js").read_text())
    assert result == [3, "too many", 3, 3]
