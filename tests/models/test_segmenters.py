import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.norms import NORMS, frozen
from segjax.models.segmenters import DECODERS, ENCODERS, create_encoder, create_segmenter
from tests.models.quick import jit, random_variables

OUTPUTS = {"classes": 3, "distance": 1}


def images(height=37, width=50, channels=1, batch=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(size=(batch, height, width, channels)), jnp.float32)


def small_segmenter(**settings):
    return create_segmenter(**{"width": 1 / 16, "convolutions": 1, "outputs": OUTPUTS, **settings})


def shapes(model, x):
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(x, jnp.float32))
    return variables, jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct(x, jnp.float32))


@pytest.mark.parametrize(
    ("encoder", "decoder", "skips"),
    [
        *((encoder, decoder, True) for encoder in ENCODERS for decoder in DECODERS),
        *((encoder, decoder, False) for encoder in ("vgg11", "resnet18") for decoder in DECODERS),
    ],
)
def test_every_combination_gives_float32_logits_for_every_pixel(encoder, decoder, skips):
    model = small_segmenter(encoder=encoder, decoder=decoder, skips=skips, dtype="bfloat16")
    variables, outputs = shapes(model, (2, 37, 50, 2))
    assert {name: (value.shape, value.dtype) for name, value in outputs.items()} == {
        "classes": ((2, 37, 50, 3), jnp.float32),
        "distance": ((2, 37, 50, 1), jnp.float32),
    }
    assert list(variables) == ["params"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (33, 32)])
@pytest.mark.parametrize("encoder", ["vgg11", "resnet18"])
def test_any_size_fits(encoder, size):
    _, outputs = shapes(small_segmenter(encoder=encoder), (1, *size, 3))
    assert outputs["classes"].shape == (1, *size, 3)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(37, 50), (1, 1), (5, 66), (32, 32)])
@pytest.mark.parametrize("encoder", ["vgg11", "resnet18"])
def test_any_size_fits_with_any_output_stride(encoder, size, stride):
    _, outputs = shapes(small_segmenter(encoder=encoder, output_stride=stride), (2, *size, 3))
    assert {name: value.shape for name, value in outputs.items()} == {
        "classes": (2, *size, 3),
        "distance": (2, *size, 1),
    }


@pytest.mark.parametrize("stride", [2, 4])
def test_coarse_outputs_are_interpolated_from_the_corner_of_the_image(stride):
    model = small_segmenter(encoder="vgg11", output_stride=stride)
    x = images(21, 18, batch=1)
    variables = random_variables(model, x)
    outputs, inner = jit(
        lambda v: model.apply(v, x, capture_intermediates=lambda module, _: "head_" in str(module.name))
    )(variables)
    coarse = inner["intermediates"]["head_classes"]["__call__"][0]
    assert coarse.shape == (1, -(-21 // stride), -(-18 // stride), 3)
    size = tuple(stride * side for side in coarse.shape[1:3])
    expected = coarse
    while expected.shape[1] < size[0]:
        doubled = (1, 2 * expected.shape[1], 2 * expected.shape[2], 3)
        expected = jax.image.resize(expected, doubled, "bilinear")
    np.testing.assert_allclose(outputs["classes"], expected[:, :21, :18], rtol=1e-4, atol=1e-4)


def test_only_with_group_norm_a_prediction_depends_on_what_is_far_away():
    x = images(96, 16, batch=1)
    far = x.at[:, :16].multiply(7)
    for norm, is_same in (("layer", True), ("weight", True), ("group", False)):
        model = small_segmenter(encoder="vgg11", skips=False, norm=norm, decoder_norm=norm)
        # The first stages of the encoder see few pixels; the last would see the full image.
        encoder = model.encoder
        variables = random_variables(encoder, x)
        one, other = (encoder.apply(variables, image)[1][:, 24:] for image in (x, far))
        assert np.allclose(one, other, atol=1e-5) == is_same


def test_parameters_do_not_depend_on_the_size():
    trees = [shapes(small_segmenter(encoder="resnet18"), (1, *size, 3))[0] for size in ((1, 1), (37, 50))]
    assert trees[0] == trees[1]


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("encoder", ["vgg16", "resnet50"])
def test_norm_is_the_encoders_alone(encoder, norm):
    params = shapes(small_segmenter(encoder=encoder, norm=norm), (1, 32, 32, 3))[0]["params"]
    assert any(jax.tree.leaves(frozen(params["encoder"]))) == (norm == "frozen_batch")
    assert not any(jax.tree.leaves(frozen(params["decoder"])))


# One of each family: the others differ in depth alone.
@pytest.mark.parametrize(
    ("encoder", "norm", "decoder"),
    [("vgg11", "group", "transposed"), ("resnet18", "frozen_batch", "upsample")],
)
def test_gradients_are_finite_and_reach_all_that_is_trained(encoder, norm, decoder):
    model, x = small_segmenter(encoder=encoder, norm=norm, decoder=decoder), images(33, 35)
    target = np.random.default_rng(1).standard_normal((2, 33, 35, 3))

    def loss(params):
        return jnp.abs(model.apply({"params": params}, x)["classes"] - target).mean()

    params = random_variables(model, x)["params"]
    actual = jit(jax.grad(loss))(params)
    del actual["head_distance"]  # takes no part in this loss
    for (path, gradient), constant in zip(
        jax.tree.leaves_with_path(actual),
        jax.tree.leaves({name: tree for name, tree in frozen(params).items() if name in actual}),
        strict=True,
    ):
        assert jnp.isfinite(gradient).all(), path
        assert bool((gradient != 0).any()) != constant, path


@pytest.mark.parametrize(("encoder", "norm"), [("vgg11", "group"), ("resnet18", "frozen_batch")])
def test_remat_changes_nothing_but_the_memory(encoder, norm):
    x = images(16, 16, batch=1)
    plain, remat = (small_segmenter(encoder=encoder, norm=norm, remat=remat) for remat in (False, True))
    variables = random_variables(plain, x)
    assert jax.tree.structure(variables) == jax.tree.structure(random_variables(remat, x))

    def loss(model):
        return lambda v: jnp.square(model.apply(v, x)["classes"] - 1).mean()

    computed = [str(jax.make_jaxpr(jax.grad(loss(model)))(variables)) for model in (plain, remat)]
    again = computed[1].count("conv_general_dilated") - computed[0].count("conv_general_dilated")
    assert again > 10, "no convolution is computed again in the backward pass"
    if encoder == "resnet18":
        return  # Enough to have run one.
    values = [jit(jax.value_and_grad(loss(model)))(variables) for model in (plain, remat)]
    for actual, expected in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_float32_but_for_its_precision():
    x = images(32, 32)
    model = small_segmenter(encoder="vgg11")
    variables = random_variables(model, x)
    exact = jit(model.apply)(variables, x)["classes"]
    rough = jit(small_segmenter(encoder="vgg11", dtype="bfloat16").apply)(variables, x)["classes"]
    assert rough.dtype == jnp.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max())


def test_images_of_a_batch_do_not_meet():
    x = images(32, 32)
    model = small_segmenter(encoder="vgg11")
    variables = random_variables(model, x)
    apply = jit(model.apply)
    together = apply(variables, x)["classes"]
    with_another = apply(variables, x.at[1].set(0))["classes"]
    np.testing.assert_allclose(together[0], with_another[0], rtol=1e-5, atol=1e-6)


def test_begins_neither_decided_nor_asleep():
    # Heads that begin a hundredth of their natural size need a hundred steps to grow.
    x = images(64, 64)
    model = small_segmenter(encoder="vgg11", width=1 / 8)
    logits = jit(lambda: model.init_with_output(jax.random.key(0), x)[0]["classes"])()
    assert 0.2 < jnp.std(logits) < 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 3}, "setting='depth' is unknown: choose one of encoder, decoder, width"),
        ({"classes": 3}, "classes is short for outputs"),
        ({"encoder": "vgg17"}, "encoder='vgg17' is unknown: choose one of vgg11, vgg13, .*"),
        ({"decoder": "unet"}, "decoder='unet' is unknown: choose one of transposed, upsample"),
        ({"norm": "batch"}, "norm=.* is unknown: choose one of group, layer, weight, frozen_batch, none"),
        ({"decoder_norm": "batch"}, "decoder_norm=.* is unknown: choose one of group"),
        ({"dtype": "float16"}, "dtype=.* is unknown: choose one of float32, bfloat16"),
        ({"merge": "sum"}, "merge=.* is unknown: choose one of concatenate, add"),
        (
            {"decoder": "upsample", "interpolation": "cubic"},
            "interpolation=.* is unknown",
        ),
        ({"width": 0}, "width is 0; it must be above 0"),
        ({"channels": (8, 8)}, r"channels must be 4 positive numbers for the decoder of vgg16, not \(8, 8\)"),
        ({"convolutions": -1}, "convolutions is -1; it must be at least 0"),
        ({"output_stride": 3}, "output_stride must be 1, 2 or 4, not 3"),
        ({"output_stride": 2, "channels": (9, 8, 7, 6)}, r"channels must be 3 positive numbers"),
        ({"outputs": {}}, "outputs must name at least one output"),
        ({"outputs": {"classes": 0}}, "outputs must name at least one output and its channels"),
    ],
)
def test_says_what_is_possible(settings, message):
    with pytest.raises(InputError, match=message):
        small_segmenter(**settings)


def test_settings_of_the_decoder_arrive():
    model = small_segmenter(encoder="resnet18", channels=(9, 8, 7, 6, 5), convolutions=3)
    params = shapes(model, (1, 32, 32, 1))[0]["params"]
    assert params["decoder"]["stage5"]["convolutions"]["conv3"]["kernel"].shape == (3, 3, 5, 5)
    assert params["head_classes"]["kernel"].shape == (1, 1, 5, 3)
    nearest, bilinear = (
        small_segmenter(decoder="upsample", interpolation=method) for method in ("nearest", "bilinear")
    )
    jaxprs = [
        str(jax.make_jaxpr(m.apply)(shapes(m, (1, 16, 16, 1))[0], images(16, 16, batch=1)))
        for m in (nearest, bilinear)
    ]
    assert jaxprs[0] != jaxprs[1]


def test_encoders_can_be_had_alone():
    module = create_encoder("resnet18", width=0.25, norm="none")
    assert module.strides == (2, 4, 8, 16, 32)
