"""Points of a sweep: which have equal keys, and what is refused before the first one runs."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from segjax.ablation.points import DATA_DIR, NOT_IN_KEY, _key, expand, labels
from segjax.configs import classical, rcnn, synthetic
from segjax.errors import InputError
from segjax.experiment.workdir import FREE, WITHOUT_EFFECT
from segjax.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import save, states


def key_of(overrides, base=None):
    return expand([overrides], base or synthetic.get_config(), about={})[0].key


def write_run(folder, *, first, checkpoint="best"):
    """Writes what prediction needs of a run with two checkpoints, of which the first one is better.

    `first` is the number of the state that the first one has.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = synthetic.get_config()
    config.predict.checkpoint = checkpoint
    (folder / "config.json").write_text(config.to_json())
    _, history = states(3)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        for state, step, score in ((history[first], 1, 0.9), (history[3], 2, 0.5)):
            save(checkpoints, dataclasses.replace(state, step=jnp.full_like(state.step, step)), score)


def test_fields_without_effect_are_free_and_change_no_key():
    assert set(WITHOUT_EFFECT) < set(FREE)
    assert set(NOT_IN_KEY) - {DATA_DIR} < set(WITHOUT_EFFECT)
    assert key_of({"data.workers": 5, "train.log_every": 3}) == key_of({})
    # What is predicted depends on these, or whether a run that diverges is saved.
    for changed in ({"dataset.test": "test[:3]"}, {"predict.flips": True}, {"train.rollback": 1}):
        assert key_of(changed) != key_of({})


def test_keys_are_those_of_earlier_versions():
    assert key_of({"data.cache_bytes": 1}) != key_of({})
    fields = {"seed": 1, "steps": 2, "ensemble": 1, "data": {"cache_bytes": 3, "workers": 4}}
    fields |= {"dataset": {"data_dir": "data", "classes": None}, "train": {"log_every": 5}}
    assert _key(ConfigDict(fields), {"split": "test"}) == "16e59e4d6c"


def test_the_key_of_a_row_is_that_of_its_seed_0():
    rows = {}
    for spec in ("synthetic", "classical:method=kmeans", "classical:method=naive"):
        points = expand([{"config": spec, "seed": seed} for seed in (0, 3, 5)], about={})
        assert len({point.key for point in points}) == 3
        assert {point.row_key for point in points} == {points[0].key}
        rows[spec] = points[0].row_key
    assert len(set(rows.values())) == 3


def test_rows_do_not_depend_on_the_order_of_fields_nor_on_lists():
    first = {"augment.policy": ("flip", "noise"), "steps": 300, "name": "a", "seed": 0}
    later = {"name": "a", "seed": 1, "steps": 300, "augment.policy": ["flip", "noise"]}
    one, two, three = expand(
        [first, later, {**first, "seed": 2, "steps": 400}], synthetic.get_config(), about={}
    )
    assert one.row == two.row != three.row
    assert labels([first, json.loads(json.dumps(first))]) == ["a", "a"]
    assert labels([first, later, {**first, "steps": 400}]) == ["a, steps=300"] * 2 + ["a, steps=400"]


@pytest.mark.parametrize(("field", "base"), [("model.weights", synthetic), ("classifier.file", classical)])
def test_another_content_of_a_file_is_another_point(tmp_path, field, base):
    base = base.get_config("method=kmeans") if base is classical else base.get_config()
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before = key_of({field: str(file)}, base)
    assert key_of({field: str(file)}, base) == before
    file.write_bytes(b"two")
    assert key_of({field: str(file)}, base) != before
    file.write_bytes(b"one")
    assert key_of({field: str(file)}, base) == before


@pytest.mark.parametrize("field", ["model.weights", "proposals.workdir"])
def test_another_network_in_the_folder_of_a_run_is_another_point(tmp_path, field):
    config = rcnn.get_config("method=fast_r_cnn,size=small,dataset=synthetic")
    run = tmp_path / "run"

    def key(**options):
        write_run(run, **options)
        return key_of({field: str(run)}, config)

    # The digest is that of the checkpoint which is used; nothing else in the folder counts.
    before = key(first=1)
    (run / "report").mkdir()
    assert key_of({field: str(run)}, config) == before == key(first=1)
    assert key(first=2) != before
    assert key(first=1, checkpoint="latest") == key(first=2, checkpoint="latest") != before


def test_the_name_of_a_network_in_the_package_is_its_content(tmp_path, monkeypatch):
    before = key_of({"model.weights": "nuclei"})
    monkeypatch.chdir(tmp_path)
    Path("nuclei").write_bytes(b"a file of the same name, which is not used")
    assert key_of({"model.weights": "nuclei"}) == before


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        (
            "synthetic",
            {"optimizer.warmup": 150},
            "config.optimizer.warmup=150 must be smaller than config.steps",
        ),
        ("synthetic", {"train.pause": 10}, "config.train.pause is unknown: config.train has "),
        ("synthetic", {"train.track": "wandb"}, "config.train.track is unknown"),
        ("synthetic", {"train.profile": 3}, "config.train.profile is unknown"),
        ("synthetic", {"optimizer.name": "adam"}, "config.optimizer.name='adam' is unknown"),
        ("synthetic", {"model.frozen": ("encodr",)}, "config.model.frozen='encodr' is unknown: .*encoder"),
        (
            "synthetic",
            {"predict.fixed": ("decoder.x",)},
            "config.predict.fixed names decoder.x: choose among",
        ),
        ("synthetic", {"predict.overlap": 500, "predict.tile": 512}, "config.predict.overlap"),
        ("synthetic", {"batch_size": 7, "train.num_microbatches": 2}, "config.batch_size=7 cannot be split"),
        (
            "synthetic",
            {"model.weights": "none.safetensors"},
            "config.model.weights=none.safetensors is missing",
        ),
        ("synthetic", {"model.weights": "."}, "contains no run"),
        (
            "classical:method=kmeans",
            {"classifier.file": "none.json"},
            "config.classifier.file=none.json is miss",
        ),
        ("rcnn:method=r_cnn", {"proposals.method": "edges"}, "config.proposals.method='edges' is unknown"),
        ("rcnn:method=r_cnn", {"proposals.method": "rpn"}, "needs config.proposals.workdir"),
        ("rcnn:method=faster_r_cnn", {"model.anchor_ratios": ()}, "config.model.anchor_ratios has no value"),
        ("rcnn:method=faster_r_cnn", {"task.classifier": "svm"}, "config.task.classifier='svm' needs"),
        ("rcnn:method=faster_r_cnn", {"model.frozen": ("rpns",)}, "config.model.frozen='rpns' is unknown"),
    ],
)
def test_what_a_training_would_refuse_is_refused_before_the_first_point(
    tmp_path, monkeypatch, spec, overrides, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^the point .* is invalid: .*{message}"):
        expand([{"config": spec}, {"config": spec, **overrides}], about={})
