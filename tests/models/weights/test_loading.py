import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from segjax.errors import InputError
from segjax.models.norms import frozen
from segjax.models.segmenters import create_encoder, create_segmenter
from segjax.models.weights.file import PREPROCESSING, Preprocessing, Weights, flatten, load, save
from segjax.models.weights.loading import load_encoder, load_matching
from tests.models.quick import jit, random_variables

WIDTH = 1 / 16


def weights(encoder="vgg11", norm="none", preprocessing=PREPROCESSING["torchvision"], channels=3):
    module = create_encoder(encoder, width=WIDTH, norm=norm)
    params = random_variables(module, jnp.zeros((1, 16, 16, channels)))["params"]
    return Weights(encoder, params, preprocessing)


def segmenter(encoder="vgg11", norm="none", channels=3, width=WIDTH):
    model = create_segmenter(encoder=encoder, norm=norm, width=width, convolutions=1, outputs={"classes": 2})
    return model, random_variables(model, jnp.zeros((1, 16, 16, channels)), seed=1)["params"]


def images(channels=3):
    return np.random.default_rng(0).uniform(size=(1, 16, 16, channels)).astype(np.float32)


def outputs(model, params, x):
    return jit(model.apply)({"params": params}, x)["classes"]


def test_what_is_saved_is_loaded(tmp_path):
    saved = weights("resnet18", "frozen_batch", PREPROCESSING["caffe"])
    save(saved, tmp_path / "folder" / "resnet18.safetensors")
    loaded = load(tmp_path / "folder" / "resnet18.safetensors")
    assert (loaded.architecture, loaded.preprocessing) == (saved.architecture, saved.preprocessing)
    assert loaded.norm == "frozen_batch"
    assert jax.tree.structure(loaded.params) == jax.tree.structure(saved.params)
    for actual, expected in zip(*map(jax.tree.leaves, (loaded.params, saved.params)), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["resnet18.safetensors"]


def test_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/vgg11\.safetensors: cannot be written"):
        save(weights(), tmp_path / "file" / "vgg11.safetensors")
    (tmp_path / "vgg11.safetensors").mkdir()
    with pytest.raises(InputError, match=r"vgg11\.safetensors: cannot be written"):
        save(weights(), tmp_path / "vgg11.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "vgg11.safetensors"]


@pytest.mark.parametrize("name", list(PREPROCESSING))
def test_the_segmenter_prepares_images_as_the_weights_were_trained(name, tmp_path):
    preprocessing = PREPROCESSING[name]
    source = weights(preprocessing=preprocessing)
    save(source, tmp_path / "w.safetensors")
    model, params = segmenter()
    params = load_encoder(params, tmp_path / "w.safetensors", encoder="vgg11")

    x = images()
    # The order of operations that the weights' authors wrote, borders and all.
    prepared = x[..., ::-1] if preprocessing.order == "bgr" else x
    prepared = prepared * preprocessing.scale - np.array(preprocessing.mean, np.float32)
    prepared = prepared / np.array(preprocessing.std, np.float32)
    by_hand = {**params, "encoder": source.params, "input": segmenter()[1]["input"]}
    actual, expected = outputs(model, params, x), outputs(model, by_hand, prepared)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_leaves_the_rest_alone(tmp_path):
    save(weights(), tmp_path / "w.safetensors")
    _, params = segmenter()
    loaded = load_encoder(params, tmp_path / "w.safetensors", encoder="vgg11")
    assert loaded["decoder"] is params["decoder"]
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    assert all(jax.tree.leaves(frozen(loaded["input"])))
    assert not params["input"]["mean"].any(), "what was given stays as it was"


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_grey_images_are_seen_as_grey_photographs(channels, tmp_path):
    source = weights(preprocessing=PREPROCESSING["caffe"])
    save(source, tmp_path / "w.safetensors")
    model, photograph = segmenter(channels=3)
    photograph = load_encoder(photograph, tmp_path / "w.safetensors", encoder="vgg11")
    mean = np.full(3, np.mean(PREPROCESSING["caffe"].mean) / 255, np.float32)
    photograph["input"] = {**photograph["input"], "mean": mean}
    _, params = segmenter(channels=channels)
    params = load_encoder(params, tmp_path / "w.safetensors", encoder="vgg11")
    params = {**photograph, "encoder": params["encoder"], "input": params["input"]}

    grey = images(1)
    actual = outputs(model, params, np.repeat(grey, channels, axis=-1))
    expected = outputs(model, photograph, np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_weights_of_as_many_channels_as_the_images_are_not_mixed(tmp_path):
    source = weights(channels=5, preprocessing=Preprocessing(mean=(0, 1, 2, 3, 4), std=(1, 2, 3, 4, 5)))
    save(source, tmp_path / "w.safetensors")
    params = load_encoder(segmenter(channels=5)[1], tmp_path / "w.safetensors", encoder="vgg11")
    np.testing.assert_array_equal(
        params["encoder"]["stage1"]["conv1"]["kernel"], source.params["stage1"]["conv1"]["kernel"]
    )
    np.testing.assert_array_equal(params["input"]["mean"], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ({"encoder": "vgg13"}, {}, "holds the weights of vgg13, not of encoder vgg11"),
        (
            {},
            {"norm": "group"},
            "for norm='none' .* missing parameters: stage1/norm1/.*; unexpected parameters: none",
        ),
        (
            {"norm": "frozen_batch"},
            {},
            "for norm='frozen_batch' .* missing parameters: none; unexpected parameters: stage1/norm1/",
        ),
        ({}, {"width": 1 / 8}, r"stage1/conv1/bias is \(4,\) in the weights and \(8,\) in the model"),
    ],
)
def test_refuses_what_does_not_fit(source, target, message, tmp_path):
    save(weights(**source), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        load_encoder(segmenter(**target)[1], tmp_path / "w.safetensors", encoder="vgg11")


def test_refuses_the_other_form_of_a_resnet_although_every_shape_fits(tmp_path):
    params = segmenter("resnet50", "frozen_batch")[1]
    keras = dataclasses.replace(weights("resnet50", "frozen_batch"), architecture="resnet50_v1")
    save(keras, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="weights of resnet50_v1, not of encoder resnet50"):
        load_encoder(params, tmp_path / "w.safetensors", encoder="resnet50")


def test_refuses_a_file_that_is_not_there_or_damaged_or_not_converted(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: not a readable safetensors file"):
        load(tmp_path / "none.safetensors")
    save(weights(), tmp_path / "w.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"half\.safetensors: not a readable safetensors file"):
        load(tmp_path / "half.safetensors")
    save_file({"features.0.weight": np.zeros(3, np.float32)}, tmp_path / "raw.safetensors")
    with pytest.raises(InputError, match=r"raw\.safetensors: not a weights file of segjax"):
        load(tmp_path / "raw.safetensors")


@pytest.mark.parametrize("fields", [{"order": "grb"}, {"std": (1, 1)}, {"std": (1, 0, 1)}, {"scale": 0}])
def test_refuses_impossible_preprocessing(fields):
    with pytest.raises(InputError, match="preprocessing"):
        Preprocessing(**fields)


def test_takes_over_what_fits():
    params = {
        "body": {"conv": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}},
        "head": {"kernel": np.zeros(4)},
    }
    actual = {
        "body": {"conv": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}},
        "head": {"kernel": np.ones(5)},
        "more": {"kernel": np.ones(1)},
    }
    loaded, missing = load_matching(params, actual, "run")
    assert missing == ["head"]
    assert set(loaded) == {"body", "head"}
    assert loaded["body"]["conv"]["kernel"].all()
    assert loaded["body"]["conv"]["bias"].all()
    assert not loaded["head"]["kernel"].any()
    # A bias that does not fit keeps the kernel of its layer from being taken, too.
    actual["body"]["conv"]["bias"] = np.ones(3)
    with pytest.raises(InputError, match="run: no layer matches the network: use weights of the same arch"):
        load_matching(params, {"neck": actual["head"]}, "run")
    with pytest.raises(InputError, match="run: no layer matches"):
        load_matching(params, actual, "run")
    loaded, missing = load_matching(params, actual | {"head": {"kernel": np.ones(4)}}, "run")
    assert missing == ["body/conv"]
    assert not loaded["body"]["conv"]["kernel"].any()


@pytest.mark.parametrize("norm", ["group", "weight"])
def test_a_batch_norm_does_not_fit_another_norm_although_scale_and_bias_do(norm):
    params, batch_norms = (segmenter("resnet18", one)[1] for one in (norm, "frozen_batch"))
    batch_norms["encoder"]["norm"]["scale"] += 1
    loaded, missing = load_matching(params, batch_norms, "run")
    norms = {name.rpartition("/")[0] for name in flatten({"encoder": params["encoder"]}) if "norm" in name}
    assert norms <= set(missing)
    assert loaded["encoder"]["norm"]["scale"].tolist() == params["encoder"]["norm"]["scale"].tolist()
    np.testing.assert_array_equal(
        loaded["encoder"]["conv"]["kernel"], batch_norms["encoder"]["conv"]["kernel"]
    )
