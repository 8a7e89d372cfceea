"""What the benchmark times against must be the same network."""

import jax
import numpy as np
import pytest

from segjax.models.segmenters import create_segmenter
from segjax.models.vgg import CHANNELS, VARIANTS

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("norm", ["group", "layer", "weight", "none"])
def test_the_torch_network_of_the_benchmark_is_ours(norm):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    from scripts.suites.peers import VGGUNet

    width = 1 / 8
    model = create_segmenter(
        encoder="vgg13", width=width, norm=norm, decoder_norm=norm, outputs={"classes": 3, "distance": 1}
    )
    images = np.random.default_rng(0).random((2, 64, 48, 1), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    ours = jax.device_get(jax.jit(model.apply)({"params": params}, images))
    channels = [round(width * count) for count in CHANNELS]
    theirs = VGGUNet(VARIANTS["vgg13"], channels, inputs=1, norm=norm, outputs=4).load(params)
    with torch.inference_mode():
        outputs = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    expected = np.concatenate([ours["classes"], ours["distance"]], -1)
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * np.abs(expected).max())
