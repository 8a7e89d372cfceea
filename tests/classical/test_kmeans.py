import json

import jax
import numpy as np
import pytest

from segjax.classical import make_method
from segjax.classical.features import FEATURES
from segjax.classical.kmeans import SAMPLE, suggest_clusters
from segjax.classical.settings import KMeans
from segjax.configs import classical
from segjax.errors import InputError
from tests.classical.cells import COUNT, FIELD, fluorescence

IMAGE = fluorescence(FIELD)


def kmeans(image, **settings):
    return make_method("kmeans", **settings).stages(image)


@pytest.mark.parametrize("name", FEATURES)
def test_any_features_can_be_clustered(name):
    stages = kmeans(np.repeat(IMAGE, 3, axis=-1), features=(name, "rgb"), stained=False)
    assert (
        list(stages.features)
        == [*FEATURES[name].maps, "red", "green", "blue", "cluster", "distance"][3 * (name == "rgb") :]
    )
    assert stages.features["cluster"].max() == KMeans().num_clusters - 1


def test_other_features_give_other_clusters():
    default, gabor = kmeans(IMAGE), kmeans(IMAGE, features=("basic", "gabor"))
    assert gabor.segmentation.num_instances == COUNT
    assert (default.features["cluster"] != gabor.features["cluster"]).any()


def test_clusters_are_named_by_brightness():
    stages = kmeans(IMAGE, num_clusters=3)
    clusters = stages.features["cluster"]
    means = [stages.features["intensity"][clusters == index].mean() for index in range(3)]
    assert means == sorted(means)
    np.testing.assert_array_equal(stages.foreground, clusters >= clusters[stages.foreground].min())
    one = kmeans(IMAGE, num_clusters=3, foreground_clusters=1)
    np.testing.assert_array_equal(one.foreground, clusters == 2)


def test_the_same_seed_finds_the_same():
    np.testing.assert_array_equal(
        kmeans(IMAGE, seed=3).features["cluster"], kmeans(IMAGE, seed=3).features["cluster"]
    )


def test_the_seed_of_a_config_is_that_of_the_clusters_unless_they_have_their_own():
    config = classical.get_config("method=all,dataset=synthetic")
    assert config.methods.kmeans.seed == config.seed == 0
    config.seed = 3
    assert make_method("kmeans", **config.methods.kmeans) == make_method("kmeans", seed=3)
    assert json.loads(config.to_json())["methods"]["kmeans"]["seed"] == 3
    config.methods.kmeans.seed = 5
    assert (config.seed, config.methods.kmeans.seed) == (3, 5)
    config.seed = 4
    assert config.methods.kmeans.seed == 5


def test_more_clusters_than_distinct_pixels_are_as_many_as_there_are():
    image = np.zeros((128, 128, 1), np.uint8)
    image[:, 64:] = 100
    stages = kmeans(image, num_clusters=4)
    assert stages.segmentation.num_instances == 1
    assert stages.foreground[:, 70:].all()


def test_suggests_the_number_that_is_there():
    rng = np.random.default_rng(0)
    points = np.zeros((SAMPLE, 7), np.float32)
    points[:3000] = rng.normal(size=(3, 7))[rng.integers(0, 3, 3000)] * 8 + rng.normal(size=(3000, 7)) * 0.3
    assert suggest_clusters(jax.random.key(0), points, np.arange(SAMPLE) < 3000) == 3
    assert kmeans(IMAGE, num_clusters=None).segmentation.num_instances == COUNT


def test_says_which_numbers_make_sense():
    with pytest.raises(InputError, match=r"choose one of basic, .*hed"):
        kmeans(IMAGE, features=("smell",))
    with pytest.raises(InputError, match="at least 2"):
        KMeans(num_clusters=1)
    with pytest.raises(InputError, match="below num_clusters=4"):
        KMeans(foreground_clusters=4)
