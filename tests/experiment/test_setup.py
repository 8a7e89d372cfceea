import dataclasses
import importlib
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax.configs import nuclei, semantic
from segjax.data.targets import TARGETS
from segjax.datasets.catalog import DATASETS, open_source
from segjax.errors import InputError
from segjax.experiment.setup import (
    _load_weights,
    make_first_state,
    make_setup,
    make_stream,
    make_task,
    open_split,
)
from segjax.experiment.workdir import ModelMetadata, read_config, write_config
from segjax.models.segmenters import create_encoder
from segjax.models.weights.file import PREPROCESSING, Weights, save
from tests.experiment.tiny import shrink
from tests.models.quick import random_params

ROOT = Path(__file__).parents[2]
METADATA = ModelMetadata(("background", "nucleus", "bright body"), 1)
NETWORKS = ("semantic", "synthetic", "quickstart", "nuclei")
CONFIGS = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "datasets", "variants")
)


def config_of(name, variant=""):
    return importlib.import_module(f"configs.{name}").get_config(variant)


def batch_of(config):
    size = -(-int(config.data.patch_size * config.data.margin * 100) // 100)
    whole = (config.batch_size, size, size)
    shapes = {"image": ((*whole, 1), np.float32), **dict.fromkeys(TARGETS, (whole, np.float32))}
    shapes |= dict.fromkeys(("labels", "semantic", "colours"), (whole, np.int32))
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_the_common_fields_and_needs_no_download(name):
    config = config_of(name, "dataset=synthetic")
    assert isinstance(config.seed, int)
    assert isinstance(config.steps, int)
    assert isinstance(config.batch_size, int)
    assert config.dataset.name == "synthetic"
    assert open_source("synthetic", config.dataset.test).class_names[0] == "background"
    with pytest.raises(ValueError, match="synthetic"):
        config_of(name, "dataset=nowhere")
    with pytest.raises(ValueError, match=r"choose among .*dataset"):
        config_of(name, "colour=red")


def fields_without_type(config, prefix=""):
    for name in config:
        if isinstance(config[name], ConfigDict):
            yield from fields_without_type(config[name], f"{prefix}{name}.")
        elif config.get_type(name) is type(None):
            yield prefix + name


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_can_be_set_on_the_command_line(name):
    # ml_collections.config_flags refuses to override None without a type.
    assert list(fields_without_type(config_of(name))) == []


ENCODERS = semantic.OPTIONS["encoder"]
# Every pair of a decoder and a representation of instances.
PAIRS = list(itertools.product(*(semantic.OPTIONS[name] for name in ("decoder", "instances"))))
VARIANTS = [
    *itertools.product(ENCODERS, semantic.OPTIONS["decoder"], ["distance"]),
    *(("vgg11", *pair) for pair in PAIRS if pair[1] != "distance"),
]
# Each representation, which changes head and loss only, with each decoder and each kind of block in turn.
# Deeper encoders only repeat their blocks, and compile for long.
SMALL = ["vgg11", "resnet18", "resnet50", "vgg11", "resnet18", "vgg11"]
COVERING = [
    (SMALL[index], semantic.OPTIONS["decoder"][index % 2], instances)
    for index, instances in enumerate(semantic.OPTIONS["instances"])
]


def variant_of(encoder, decoder, instances):
    variant = f"encoder={encoder},decoder={decoder},instances={instances},dataset=synthetic"
    config = shrink(semantic.get_config(variant))
    config.batch_size = 1
    config.augment.policy = ()
    # Fewer operations on each of hundreds of parameters: they take longer to compile than the network.
    config.optimizer.name = "sgd"
    config.train.ema_decay = 0.0
    return config


@pytest.mark.parametrize(("encoder", "decoder", "instances"), VARIANTS)
def test_every_variant_has_a_step(encoder, decoder, instances):
    config = variant_of(encoder, decoder, instances)
    setup = make_setup(config, METADATA)
    key = jax.eval_shape(jax.random.key, 0)
    state, log = jax.eval_shape(setup.step, setup.shapes, batch_of(config), key)
    assert log["loss"].shape == ()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), setup.shapes
    )


@pytest.mark.usefixtures("quick_to_compile")
@pytest.mark.parametrize(("encoder", "decoder", "instances"), COVERING)
def test_every_part_takes_a_step(encoder, decoder, instances):
    config = variant_of(encoder, decoder, instances)
    setup = make_setup(config, METADATA)
    # Made by NumPy: compiling initialisations would take longer than all else.
    before = random_params(setup.shapes.params)
    rest = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), setup.shapes)
    state = dataclasses.replace(rest, params=before)
    batch = make_stream(config, open_source("synthetic", "train"), setup.task).batch(0)
    state, log = setup.step(state, batch, jax.random.key(0))
    assert np.isfinite(log["loss"])
    assert int(log["skipped"]) == 0
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), jax.device_get(state.params), before)
    assert changed["head_classes"]["kernel"]
    assert any(jax.tree.leaves(changed["encoder"]))


def test_eight_devices_train_the_network_that_one_trains():
    def trained(data, fsdp):
        config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
        config.model.width = 1 / 8
        # Adam's first steps are the signs of gradients, and where a gradient is nothing but rounding, so is
        # its sign; tests/train compares it. Descent keeps differences as small as they arise.
        config.optimizer.update(name="sgd", learning_rate=0.1)
        config.mesh.update(data=data, fsdp=fsdp)
        setup = make_setup(config, METADATA)
        state = make_first_state(config, METADATA, setup)
        stream = make_stream(config, open_source("synthetic", "train[:4]"), setup.task)
        for number in range(3):
            state, log = setup.step(state, stream.batch(number), jax.random.key(0))
        kernel = state.params["encoder"]["stage5"]["conv1"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // fsdp
        return jax.device_get((state.params, state.ema_params, log["loss"]))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), trained(2, 4), trained(1, 1))


def test_training_begins_with_the_weights_that_are_given(tmp_path):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.model.norm = "none"
    shapes = jax.eval_shape(
        create_encoder("vgg11", width=config.model.width, norm="none").init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.float32),
    )
    encoder = random_params(shapes["params"])
    config.model.weights = str(tmp_path / "vgg11.safetensors")
    save(Weights("vgg11", encoder, PREPROCESSING["torchvision"]), config.model.weights)
    setup = make_setup(config, METADATA)
    state = make_first_state(config, METADATA, setup)
    for params in (state.params, state.ema_params):
        kernel = params["encoder"]["stage5"]["conv1"]["kernel"]
        np.testing.assert_array_equal(kernel, encoder["stage5"]["conv1"]["kernel"])
        np.testing.assert_allclose(params["input"]["mean"], np.mean([0.485, 0.456, 0.406]), rtol=1e-6)


def test_grey_images_take_the_weights_of_a_network_for_colour_as_colour_images():
    config = nuclei.get_config("dataset=synthetic")
    config.model.weights = "nuclei"
    assert open_split(config, "train")[0].image.shape[-1] == 3
    config.dataset.channels = None
    grey = ModelMetadata(("background", "nucleus"), open_split(config, "train")[0].image.shape[-1])
    message = (
        r"config\.model\.weights=nuclei was trained on images of 3 channels, and these have 1: add --config"
    )
    with pytest.raises(InputError, match=message):
        _load_weights(config, grey, {})


@pytest.mark.parametrize(
    ("field", "value"), [("norm", "group"), ("decoder_norm", "layer"), ("encoder", "resnet50_v1")]
)
def test_weights_of_another_encoder_or_norm_are_refused_although_their_names_fit(field, value):
    config = nuclei.get_config("dataset=synthetic")
    config.model.weights = "nuclei"
    trained = config.model[field]
    assert value != trained
    config.model[field] = value
    message = (
        rf"config\.model\.weights=nuclei was trained with config\.model\.{field}={trained}, not {value}: give"
        rf" --config\.model\.{field}={trained}, or other weights"
    )
    with pytest.raises(InputError, match=message):
        _load_weights(config, ModelMetadata(("background", "nucleus"), 3), {})


def test_a_policy_survives_the_folder_of_a_run(tmp_path):
    config = semantic.get_config("dataset=synthetic")
    config.augment.policy = ("stain", "cutout")
    write_config(tmp_path, config)
    assert read_config(tmp_path).augment.to_dict() == config.augment.to_dict()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "task.name",
            "panoptic",
            "config.task.name='panoptic' .* semantic, detection",
        ),
        ("task.instances", "stars", "config.task.instances='stars' .* components, boundary, distance"),
        ("task.depth", 3, "config.task.depth is unknown: config.task has instances, losses"),
        ("task.min_area", (1, 2, 3), "config.task.min_area has 3 values for 2 foreground classes"),
        ("model.encoder", "vgg12", "config.model.encoder='vgg12' .* vgg16"),
        ("optimizer.name", "lion", "config.optimizer.name='lion' .* adamw, sgd"),
        ("augment.policy", ("flip", "flop"), "'flop': choose among scale, .*cutout"),
        ("mesh.fsdp", 3, "must divide"),
        ("mesh.space", 3, "must divide"),
        ("batch_size", 7, "multiple of 8"),
    ],
)
def test_names_the_field_that_is_wrong(field, value, message):
    config = semantic.get_config("dataset=synthetic")
    config.mesh.data = 8
    with config.unlocked():
        section, _, name = field.rpartition(".")
        (config[section] if section else config)[name] = value
    with pytest.raises(InputError, match=message):
        make_setup(config, METADATA)


def test_names_joined_by_plus_are_one_data_set_with_the_classes_of_the_config():
    config = semantic.get_config("dataset=synthetic")
    single = open_split(config, "validation")
    config.dataset.name = "synthetic+synthetic"
    both = open_split(config, "validation")
    assert len(both) == 2 * len(single)
    assert both.class_names == single.class_names
    for index in (0, len(single)):
        np.testing.assert_array_equal(both[index].truth.labels, single[0].truth.labels)
    config.dataset.classes = single.class_names[:2]
    few = open_split(config, "validation")
    assert few.class_names == single.class_names[:2]
    np.testing.assert_array_equal(few[0].truth.semantic == 1, single[0].truth.semantic == 1)
    assert few[0].truth.semantic.max() == 1
    assert make_stream(config, few, make_task(config, ModelMetadata(few.class_names, 1))).channels == 1


def test_train_images_cannot_be_more_than_there_are():
    config = semantic.get_config("dataset=synthetic")
    total = len(open_split(config, "train"))
    config.dataset.train_images = total
    assert len(open_split(config, "train")) == total
    config.dataset.train_images = total + 1
    assert len(open_split(config, "validation")) > 0
    with pytest.raises(InputError, match=rf"train_images={total + 1}, but .* synthetic has {total} images"):
        open_split(config, "train")


def test_a_class_that_no_data_set_has_is_named_with_its_field():
    config = semantic.get_config("dataset=synthetic")
    config.dataset.classes = ("background", "yeast")
    with pytest.raises(InputError, match=r"config\.dataset\.classes names yeast, but the data have back"):
        open_split(config, "train")


@pytest.mark.parametrize("name", ["all", "mean", "q1"])
def test_a_class_that_is_called_as_a_part_of_the_scores_is_refused_at_the_start(monkeypatch, name):
    class Named:
        class_names = ("background", name)

    monkeypatch.setitem(DATASETS, "named", lambda split, *, data_dir: Named())
    config = semantic.get_config("dataset=synthetic")
    config.dataset.name = "named"
    with pytest.raises(InputError, match=f"a class is called '{name}', as a part of the scores: rename it"):
        open_split(config, "train")


def test_the_task_has_the_classes_of_the_data_set():
    config = shrink(semantic.get_config("dataset=synthetic"))
    task = make_task(config, ModelMetadata(("background", "a", "b", "c"), 2))
    batch = {"image": np.zeros((1, 32, 32, 2), np.float32)}
    params = jax.eval_shape(task.init, jax.random.key(0), batch)
    outputs = jax.eval_shape(task.predict, params, batch["image"])
    assert outputs["classes"].shape == (1, 32, 32, 4)
