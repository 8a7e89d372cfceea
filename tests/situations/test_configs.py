"""Every number of a config is checked before the first step; the message names the field."""

import importlib
import pkgutil
import typing

import pytest
from ml_collections import ConfigDict

import segjax
from segjax.configs import classical, rcnn, semantic
from segjax.errors import InputError
from segjax.experiment import training
from segjax.experiment.evaluation import evaluate_classical
from segjax.experiment.sections import check_classical_settings, check_settings
from segjax.settings import Settings

CONFIGS = {
    "semantic": lambda: semantic.get_config("dataset=synthetic"),
    "rcnn": lambda: rcnn.get_config("dataset=synthetic,size=small"),
    "r_cnn": lambda: rcnn.get_config("dataset=synthetic,method=r_cnn,size=small"),
    "classical": lambda: classical.get_config("dataset=synthetic,method=all"),
}
NAN, INF = float("nan"), float("inf")

# Config, field, value, and what the message says about it.
WRONG = [
    ("semantic", "seed", -1, "at least 0"),
    ("semantic", "seed", 2**32, "at least 0 and below 4.29497e+09"),
    ("semantic", "steps", 0, "at least 1"),
    ("semantic", "batch_size", 0, "at least 1"),
    ("semantic", "batch_size", -4, "at least 1"),
    ("semantic", "dataset.name", 3, "a text"),
    ("semantic", "dataset.classes", ("background", 1), "a text"),
    ("semantic", "dataset.channels", 2, "must be 3"),
    ("semantic", "dataset.headline", "yeast", "choose one of nucleus, bright body"),
    ("semantic", "data.scale", 0.0, "above 0 and at most 16"),
    ("semantic", "data.scale", NAN, "a finite number"),
    ("semantic", "data.diameter", -3.0, "above 0, or None"),
    ("semantic", "data.balance", 1.5, "between 0 and 1"),
    ("semantic", "data.percentiles", (99.8, 1.0), "must increase"),
    ("semantic", "data.percentiles", (1.0, 101.0), "between 0 and 100"),
    ("semantic", "data.percentiles", (1.0,), "2 values"),
    ("semantic", "data.stain", "vahadane", "choose one of"),
    ("semantic", "data.patch_size", 0, "between 1 and 65536"),
    ("semantic", "data.patch_size", 0.5, "an integer"),
    ("semantic", "data.foreground_fraction", -0.1, "between 0 and 1"),
    ("semantic", "data.margin", 0.9, "between 1 and 4"),
    ("semantic", "data.workers", -1, "at least 0"),
    ("semantic", "augment.rotation", NAN, "a finite number"),
    ("semantic", "augment.rotation", -1.0, "must not be negative"),
    ("semantic", "augment.scale", (1.4, 0.7), "lower, positive bound first"),
    ("semantic", "augment.scale", 1.5, "2 values"),
    ("semantic", "augment.gamma", (0.7, INF), "a finite number"),
    ("semantic", "augment.elastic", (NAN, 3.0), "a finite number"),
    ("semantic", "augment.invert", 1.5, "at most 1.0"),
    ("semantic", "augment.greyscale", "often", "a finite number"),
    ("semantic", "augment.flip", 0.5, "True or False"),
    ("semantic", "augment.cutout_count", 1.5, "an integer"),
    ("semantic", "augment.cutout_count", -1, "must not be negative"),
    ("semantic", "augment.copy_paste_overlap", 2.0, "at most 1.0"),
    ("semantic", "model.width", 0.0, "above 0"),
    ("semantic", "model.convolutions", -1, "at least 0"),
    ("semantic", "model.channels", (64, 0), "at least 1"),
    ("semantic", "model.channels", (64, 32), "positive numbers for the decoder"),
    ("semantic", "model.output_stride", 3, "1, 2 or 4"),
    ("semantic", "task.instance_weight", -1.0, "at least 0"),
    ("semantic", "task.losses.dice", NAN, "a finite number"),
    ("semantic", "task.losses", ConfigDict({"cross_entrpy": 1.0}), "is unknown: choose one of"),
    ("semantic", "task.losses", ConfigDict(), "has no term"),
    ("semantic", "task.losses", ConfigDict({"dice": 0.0}), "has weights of 0 only"),
    ("semantic", "task.loss_options.label_smoothing", 1.0, "at least 0 and below 1"),
    ("semantic", "task.loss_options.boundary_width", 0, "at least 1"),
    ("semantic", "task.class_weights", (1.0, 1.0), "give 3 weights, one for each class"),
    ("semantic", "task.class_weights", (0.0, 0.0, 0.0), "one or more are above 0"),
    ("semantic", "task.class_weights", (1.0, -1.0, 1.0), "at least 0"),
    ("semantic", "task.foreground_threshold", 1.5, "between 0 and 1"),
    ("semantic", "task.min_area", (-1,), "at least 0"),
    ("semantic", "task.min_area", 20, "a sequence"),
    ("semantic", "task.min_fraction", 2.0, "between 0 and 1"),
    ("semantic", "task.decoder.steps", 0, "at least 1"),
    ("semantic", "task.decoder.smoothing", -1.0, "at least 0"),
    ("semantic", "task.decoder.threshold", 1.1, "between 0 and 1"),
    ("semantic", "optimizer.learning_rate", 0.0, "above 0"),
    ("semantic", "optimizer.learning_rate", -1e-3, "above 0"),
    ("semantic", "optimizer.learning_rate", INF, "a finite number"),
    ("semantic", "optimizer.warmup", -1, "at least 0"),
    ("semantic", "optimizer.warmup", 10_000, "must be smaller than config.steps=10000"),
    ("semantic", "optimizer.end_lr_fraction", 2.0, "between 0 and 1"),
    ("semantic", "optimizer.weight_decay", -0.1, "at least 0"),
    ("semantic", "optimizer.momentum", 1.0, "at least 0 and below 1"),
    ("semantic", "optimizer.clip", -1.0, "at least 0"),
    ("semantic", "train.ema_decay", 1.0, "at least 0 and below 1"),
    ("semantic", "train.num_microbatches", 0, "at least 1"),
    ("semantic", "train.log_every", 0, "at least 1"),
    ("semantic", "train.checkpoint_every", -1, "at least 0"),
    ("semantic", "train.validate_every", -1, "at least 0"),
    ("semantic", "train.patience", -1, "at least 0"),
    ("semantic", "train.max_consecutive_skips", 0, "at least 1"),
    ("semantic", "train.rollback", -1, "at least 0"),
    ("semantic", "mesh.fsdp", 0, "at least 1"),
    ("semantic", "mesh.data", -2, "at least -1"),
    ("semantic", "mesh.data", 0, "does not fit"),
    ("semantic", "predict.tile", 0, "at least 1"),
    ("semantic", "predict.tile", -64, "at least 1"),
    ("semantic", "predict.overlap", 512, "below tile=512"),
    ("semantic", "predict.overlap", -1, "at least 0"),
    ("semantic", "predict.overlap", 500, "smaller than the windows"),
    ("semantic", "predict.diameter", -1.0, "at least 0 and below 10000"),
    ("semantic", "predict.checkpoint", "newest", "choose one of best, latest"),
    ("semantic", "task.decoder.h", 0.0, "above 0"),
    ("semantic", "predict.fixed", ("decoder.depth",), "choose among"),
    ("semantic", "reference.min_area", -1, "at least 0"),
    ("semantic", "reference.gamma", 0.0, "above 0"),
    ("rcnn", "model.anchor_sizes", ((8.0,), (-16.0,), (32.0,), (64.0,), (128.0,)), "above 0"),
    ("rcnn", "model.anchor_ratios", (0.0, 1.0), "above 0"),
    ("rcnn", "model.anchor_ratios", (), "has no value"),
    ("rcnn", "model.anchor_sizes", ((),) * 5, "one or more"),
    ("rcnn", "model.bins", 0, "at least 1"),
    ("rcnn", "model.sampling_ratio", 0, "at least 1"),
    ("rcnn", "model.frozen", ("backbones",), "choose one of"),
    ("rcnn", "task.propose.post_nms", 0, "at least 1"),
    ("rcnn", "task.propose.iou_threshold", 1.5, "between 0 and 1"),
    ("rcnn", "task.detect.max_detections", 0, "at least 1"),
    ("rcnn", "task.detect.score_threshold", NAN, "a finite number"),
    ("rcnn", "task.anchors.low", 0.9, "at most high=0.7"),
    ("rcnn", "task.rois.batch_size", 0, "at least 1"),
    ("rcnn", "task.rois.positive_fraction", 1.5, "between 0 and 1"),
    ("rcnn", "task.weights.masks", -1.0, "at least 0"),
    ("rcnn", "task.classifier", "svm", "needs external proposals"),
    ("rcnn", "task.mask_threshold", -0.5, "between 0 and 1"),
    ("rcnn", "data.max_instances", 0, "at least 1"),
    ("r_cnn", "model.crop_context", 24, "leaves nothing of crop_side=48"),
    ("r_cnn", "proposals.max_proposals", 0, "at least 1"),
    ("r_cnn", "proposals.method", "edge_boxes", "choose one of"),
    ("classical", "methods.watershed.gamma", 0.0, "above 0"),
    ("classical", "methods.watershed.min_area", -1, "at least 0"),
    ("classical", "methods.watershed.small_fraction", 2.0, "between 0 and 1"),
    ("classical", "methods.kmeans.num_clusters", 1, "at least 2"),
    ("classical", "methods.kmeans.features", ("wavelets",), "choose one of"),
    ("classical", "methods.radius.eps", 0.0, "above 0"),
    ("classical", "methods.radius.growth", "cubic", "choose one of"),
    ("classical", "methods.mean_shift.bandwidth", 0.0, "above 0"),
    ("classical", "methods.mean_shift.steps", 0, "at least 1"),
    ("classical", "methods.naive.window", -1, "at least 0"),
    ("classical", "methods.naive.sigma", 1.0, "no parameter 'sigma'"),
    ("classical", "classifier.fit", "yes", "True or False"),
    ("classical", "reference.h", 0.0, "above 0"),
]

# Their messages name the section, or the field of the section.
NAMED_OTHERWISE = ("task.losses.dice", "methods.naive.sigma")


def with_value(name, field, value):
    config = CONFIGS[name]()
    config.batch_size = 8  # one example for each device
    section, _, last = field.rpartition(".")
    with config.unlocked(), config.ignore_type():
        part = config
        for key in section.split(".") if section else ():
            part = part[key]
        part[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "field", "value", "rule"),
    WRONG,
    ids=[f"{name}:{field}={value}" for name, field, value, _ in WRONG],
)
def test_a_wrong_value_is_named_before_the_first_step(tmp_path, monkeypatch, name, field, value, rule):
    config = with_value(name, field, value)

    def no_step(*_, **__):
        raise AssertionError("the first step is reached")

    for function in ("fit", "make_first_state"):
        monkeypatch.setattr(training, function, no_step)
    start = (
        (lambda config, out: evaluate_classical(config, "test", out))
        if name == "classical"
        else training.train
    )
    with pytest.raises(InputError) as caught:
        start(config, tmp_path / "run")
    message = str(caught.value)
    assert f"config.{field}" in message or field in NAMED_OTHERWISE, message
    assert rule in message
    # A command with the right value starts in the same folder.
    assert not (tmp_path / "run" / "config.json").exists()


MISSING = (
    "seed",
    "dataset",
    "dataset.name",
    "data",
    "data.patch_size",
    "task",
    "task.name",
    "train",
    "predict",
)


@pytest.mark.parametrize("field", MISSING)
def test_what_is_missing_is_named(field):
    config = CONFIGS["semantic"]()
    section, _, last = field.rpartition(".")
    with config.unlocked():
        del (config[section] if section else config)[last]
    with pytest.raises(InputError, match=rf"config\.{field}"):
        check_settings(config)


@pytest.mark.parametrize(
    "section", ["dataset", "data", "task", "model", "optimizer", "train", "mesh", "predict"]
)
def test_what_is_unknown_is_named(section):
    config = CONFIGS["semantic"]()
    with config.unlocked():
        config[section].depth = 3
    with pytest.raises(InputError, match=rf"config\.{section}\.depth is unknown: config\.{section} has "):
        check_settings(config)


def variants():
    for name in ("semantic", "quickstart", "nuclei"):
        yield importlib.import_module(f"segjax.configs.{name}").get_config
    for method in rcnn.OPTIONS["method"]:
        for size in rcnn.OPTIONS["size"]:
            yield lambda method=method, size=size: rcnn.get_config(f"method={method},size={size}")


@pytest.mark.parametrize("get_config", [*variants()])
def test_every_config_passes(get_config):
    check_settings(get_config())


def types_of_empty_fields(config, prefix=""):
    for name in config:
        reference = config.get_ref(name)
        if isinstance(reference.get(), ConfigDict):
            yield from types_of_empty_fields(reference.get(), f"{prefix}{name}.")
        elif reference.get() is None:
            yield prefix + name, reference.get_type()


@pytest.mark.parametrize("get_config", [*variants()])
def test_the_command_line_can_set_every_empty_field(get_config):
    types = dict(types_of_empty_fields(get_config()))
    assert types["dataset.data_dir"] is str
    assert {name: kind for name, kind in types.items() if kind not in (bool, int, float, str, tuple)} == {}


@pytest.mark.parametrize("dataset", semantic.OPTIONS["dataset"])
def test_every_classical_config_passes(dataset):
    check_classical_settings(classical.get_config(f"method=all,dataset={dataset}"))


def unchecked_numbers(hint):
    if typing.get_origin(hint) is typing.Annotated:
        return
    if hint in (int, float):
        yield hint
    for argument in typing.get_args(hint):
        yield from unchecked_numbers(argument)


def settings_classes(base=Settings):
    for kind in base.__subclasses__():
        yield kind
        yield from settings_classes(kind)


def test_every_number_of_every_section_has_a_range():
    for module in pkgutil.walk_packages(segjax.__path__, "segjax."):
        if not module.name.startswith(("segjax.__main__", "segjax.scripts")):
            importlib.import_module(module.name)
    kinds = [kind for kind in settings_classes() if kind.__module__.startswith("segjax.")]
    assert len(kinds) > 25
    for kind in kinds:
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            assert list(unchecked_numbers(hint)) == [], f"{kind.__name__}.{name} has no range"
