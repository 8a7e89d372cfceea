"""Flows and masks beside Cellpose's, on the annotated nuclei of StarDist's sample."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from segjax.metrics.instance import InstanceStatistics
from segjax.ops.masks import boundaries
from segjax.representations import REPRESENTATIONS, DecoderConfig
from segjax.segmentation import Segmentation

pytestmark = [
    pytest.mark.peers,
    # Cellpose and what it imports warn of their own use of torch.
    pytest.mark.filterwarnings("default"),
]
FLOWS = REPRESENTATIONS["flows"]


@pytest.fixture(scope="module")
def dynamics():
    return pytest.importorskip("cellpose.dynamics", reason="pip install cellpose")


@pytest.fixture(scope="module")
def labels():
    pytest.importorskip("stardist", reason="the peers extra is not installed")
    spec = importlib.util.find_spec("stardist")
    truth = tifffile.imread(Path(spec.submodule_search_locations[0]) / "data" / "images" / "mask2d.tif")
    return Segmentation.from_labels(truth.astype(np.int32)).labels


@pytest.fixture(scope="module")
def reference(dynamics, labels):
    """Cellpose's flow, [H, W, 2]."""
    return np.moveaxis(dynamics.masks_to_flows_gpu(labels)[0], 0, -1)


def ap(truth, actual):
    pair = (Segmentation.from_labels(np.asarray(one, np.int32)) for one in (truth, actual))
    return InstanceStatistics.of(*pair).compute().ap


def test_the_flow_has_the_direction_of_cellposes(labels, reference):
    cosine = (FLOWS.encode(labels) * reference).sum(-1)
    # Cellpose's centre is the mean, segjax's the median; flows differ where these are some pixels apart.
    peaks = ndimage.center_of_mass(labels > 0, labels, np.arange(1, labels.max() + 1))
    far = np.ones(labels.shape)
    far[tuple(np.rint(peaks).astype(int).T)] = 0
    inside = (labels > 0) & (ndimage.distance_transform_edt(far) > 3)
    assert np.median(cosine[inside]) > 0.99
    assert np.mean(cosine[inside]) > 0.95
    assert np.mean(cosine[inside & np.asarray(boundaries(labels))] < 0) < 0.01


def masks(dynamics, flow, foreground):
    """Cellpose's masks from a flow [H, W, 2]."""
    probability = np.where(foreground, 5.0, -5.0).astype(np.float32)
    scaled = 5 * np.moveaxis(flow, -1, 0).astype(np.float32)
    return dynamics.compute_masks(scaled, probability, flow_threshold=0.0)


def test_both_decoders_recover_the_truth_from_the_flow_of_the_other(dynamics, labels, reference):
    foreground = labels > 0
    for flow in (reference, FLOWS.encode(labels)):
        assert ap(labels, FLOWS.decode(foreground, flow, DecoderConfig()))[0.9] > 0.98
        assert ap(labels, masks(dynamics, flow, foreground))[0.9] > 0.9


def test_masks_of_a_noisy_flow_are_no_worse_than_cellposes(dynamics, labels, reference):
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=reference.shape), (2, 2, 0))
    flow = ndimage.gaussian_filter(reference, (1.5, 1.5, 0)) + 0.2 * noise / noise.std()
    foreground = labels > 0
    mine, other = FLOWS.decode(foreground, flow, DecoderConfig()), masks(dynamics, flow, foreground)
    assert ap(labels, mine)[0.5] > ap(labels, other)[0.5] - 0.01
