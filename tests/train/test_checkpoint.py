import gc
import json
import shutil

import jax
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train import loop
from segjax.train.checkpoint import Checkpoints
from segjax.train.checkpoint_files import CheckpointReader, write_validation
from segjax.train.sharding import make_mesh
from segjax.train.state import digests, fingerprint
from tests.train import toy

# Orbax leaves its other reads unfinished when it finds a damaged file.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def unfinished_reads_end_here():
    """They would otherwise raise in a later test."""
    yield
    gc.collect()


def states(count, **options):
    mesh, state, step = toy.setup(**options)
    history = [jax.tree.map(lambda x: x.copy(), state)]
    for number in range(count):
        state, _ = step(state, toy.batch(number), jax.random.key(0))
        history.append(jax.tree.map(lambda x: x.copy(), state))
    return mesh, history


def damage_file(folder, how):
    """Changes the data of a checkpoint behind Orbax's back."""
    for path in [path for path in (folder / "state").rglob("*") if path.is_file() and "/d/" in str(path)]:
        content = bytearray(path.read_bytes())
        if how == "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        elif how == "zero":
            path.write_bytes(bytes(len(content)))
        elif how == "truncate":
            path.write_bytes(content[: len(content) // 2])
        elif how == "delete":
            path.unlink()
    if how == "empty":
        shutil.rmtree(folder)
        folder.mkdir()


def test_restores_bit_by_bit_onto_any_mesh(tmp_path):
    _, saved_states = states(2, data=1, fsdp=8)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved_states[2], {"seconds": 1.5})
    for data, fsdp in ((1, 1), (8, 1), (2, 4)):
        mesh = make_mesh(data=data, fsdp=fsdp)
        with Checkpoints(tmp_path) as checkpoints:
            state, progress = checkpoints.restore(saved_states[0], mesh)
            assert checkpoints.progress(2) == {"seconds": 1.5}
        assert fingerprint(state) == fingerprint(saved_states[2])
        assert progress == {"seconds": 1.5}
        assert state.params["out"].sharding.mesh.shape == mesh.shape


def save(checkpoints, state, score=None):
    step = int(state.step)
    checkpoints.save(state, {"best": None, "step": step})
    if score is not None:
        checkpoints.record_validation(step, {"best": None, "step": step, "validated": True}, score)


def test_a_checkpoint_of_a_network_whose_best_score_is_nan_is_intact(tmp_path):
    mesh, history = states(2)
    progress = {"best": {"step": 1, "score": float("nan")}}
    with Checkpoints(tmp_path) as checkpoints:
        for state in history[1:]:
            checkpoints.save(state, progress)
            checkpoints.record_validation(int(state.step), progress, float("nan"))
    with Checkpoints(tmp_path) as checkpoints:
        state, restored = checkpoints.restore(history[0], mesh)
    assert (int(state.step), restored["best"]["step"]) == (2, 1)
    assert np.isnan(restored["best"]["score"])


def test_the_last_progress_is_that_of_the_newest_intact_checkpoint(tmp_path):
    _, history = states(3)
    with Checkpoints(tmp_path) as checkpoints:
        for step, score in ((1, 0.9), (2, 0.5)):
            checkpoints.save(history[step], {"seconds": float(step), "best": None})
            checkpoints.record_validation(step, {"seconds": step + 0.5, "best": None}, score)
    reader = CheckpointReader(tmp_path)
    assert (reader.best(), reader.last_progress()["seconds"]) == (1, 2.5)
    for name in ("validation.json", "progress/metadata"):
        (tmp_path / "2" / name).write_text("{")
    assert reader.last_progress()["seconds"] == 1.5
    assert CheckpointReader(tmp_path / "none").last_progress() == {}


def saved(folder, scores):
    """Saves a step for each score, from step 1 on; returns the mesh and the states of all steps."""
    mesh, history = states(len(scores))
    with Checkpoints(folder) as checkpoints:
        for state, score in zip(history[1:], scores, strict=True):
            save(checkpoints, state, score)
        checkpoints.wait()
    return mesh, history


NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "steps", "best"),
    [
        pytest.param([0.1, 0.9, 0.3, 0.2, None], [2, 4, 5], 2, id="the best and the latest two"),
        pytest.param([0.9, NAN, NAN, NAN], [1, 3, 4], 1, id="NaN is the worst"),
        pytest.param([NAN, 0.1, None, None], [2, 3, 4], 2, id="NaN first"),
        pytest.param([NAN, NAN, NAN], [1, 2, 3], 1, id="all NaN"),
        pytest.param([0.5, 0.5, 0.5, None], [1, 3, 4], 1, id="the first of equal ones"),
        pytest.param([None, None, None], [2, 3], 3, id="the latest without scores"),
    ],
)
def test_keeps_the_latest_and_the_best(tmp_path, scores, steps, best):
    saved(tmp_path, scores)
    reader = CheckpointReader(tmp_path)
    assert (reader.steps(), reader.best()) == (steps, best)
    # The loop, which counts validations without improvement, agrees.
    progress = {"best": None, "since_best": 0}
    for step, score in enumerate(scores, start=1):
        if score is not None:
            loop._update_best(progress, step, score, patience=0)
    assert progress["best"] is None or progress["best"]["step"] == best


@pytest.mark.parametrize("how", ["flip", "zero", "truncate", "delete", "empty"])
def test_goes_back_past_a_damaged_checkpoint(tmp_path, how, caplog):
    mesh, saved_states = states(3)
    with Checkpoints(tmp_path) as checkpoints:
        for state in saved_states[2:]:
            checkpoints.save(state, {})
    damage_file(tmp_path / "3", how)
    with Checkpoints(tmp_path) as checkpoints:
        state, _ = checkpoints.restore(saved_states[0], mesh)
        assert fingerprint(state) == fingerprint(saved_states[2])
        assert "3 is damaged" in caplog.text
        checkpoints.set_aside_after(2)
        checkpoints.save(saved_states[3], {})
        checkpoints.save(saved_states[3], {})
    with Checkpoints(tmp_path) as checkpoints:
        state, _ = checkpoints.restore(saved_states[0], mesh)
    assert fingerprint(state) == fingerprint(saved_states[3])
    assert (tmp_path / "3.set_aside").is_dir()


def test_never_starts_from_scratch_where_every_checkpoint_is_damaged(tmp_path):
    mesh, saved_states = states(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved_states[1], {})
    damage_file(tmp_path / "1", "flip")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(InputError, match=r"all checkpoints \[1\] .* are damaged"),
    ):
        checkpoints.restore(saved_states[0], mesh)


@pytest.mark.parametrize("keep_ema", [True, False])
def test_prediction_restores_the_parameters_for_evaluation_alone(tmp_path, keep_ema):
    _, saved_states = states(2, keep_ema=keep_ema)
    expected = jax.device_get(saved_states[2].eval_params)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved_states[2], {})
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), expected)
    params, step = CheckpointReader(tmp_path).restore_params(shapes)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {
        jax.sharding.SingleDeviceSharding(jax.devices()[0])
    }


@pytest.mark.parametrize("how", ["flip", "zero", "truncate", "delete", "empty"])
def test_prediction_falls_back_to_an_intact_checkpoint(tmp_path, how):
    _, saved_states = states(2)
    with Checkpoints(tmp_path) as checkpoints:
        for state in saved_states[1:]:
            checkpoints.save(state, {})
    damage_file(tmp_path / "2", how)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved_states[1].eval_params
    )
    params, step = CheckpointReader(tmp_path).restore_params(shapes)
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(saved_states[1].eval_params))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"seconds": "long"}, id="text for a number"),
        pytest.param({"best": {"step": 1}}, id="best without score"),
        pytest.param([], id="no object"),
    ],
)
def test_progress_of_another_kind_costs_its_checkpoint_only(tmp_path, caplog, content):
    mesh, saved_states = states(2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved_states[1], {"seconds": 1.0, "best": None})
        checkpoints.save(saved_states[2], content)
    with Checkpoints(tmp_path) as checkpoints:
        state, progress = checkpoints.restore(saved_states[0], mesh)
    assert (int(state.step), progress["seconds"]) == (1, 1.0)
    assert "2 is damaged or unreadable" in caplog.text
    assert "progress" in caplog.text


@pytest.mark.parametrize(
    ("score", "progress"), [("high", {}), (None, {}), (0.5, {"best": 3}), (0.5, None)], ids=str
)
def test_a_validation_of_another_kind_counts_as_none(tmp_path, caplog, score, progress):
    mesh, saved_states = states(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved_states[1], {"seconds": 1.0})
    write_validation(tmp_path / "1", score, progress)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(saved_states[0], mesh)[1] == {"seconds": 1.0}
    assert "counts as not validated" in caplog.text


def test_what_is_saved_in_the_background_may_be_changed(tmp_path):
    _, expected = states(4)
    mesh, state, step = toy.setup()
    progress = {"seconds": 0, "names": list(range(1000))}
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for number in range(4):
            state, _ = step(state, toy.batch(number), jax.random.key(0))
            checkpoints.save(state, progress)
            progress["seconds"] += 1
            progress["names"].append(0)
        # Like the steps above, it donates what is being saved.
        step(state, toy.batch(4), jax.random.key(0))
    for saved in (1, 2, 3, 4):
        assert CheckpointReader(tmp_path).progress(saved)["seconds"] == saved - 1
        with Checkpoints(tmp_path, keep=9) as checkpoints:
            restored, _ = checkpoints.restore(expected[0], mesh, before=saved + 1)
        assert fingerprint(restored) == fingerprint(expected[saved])


def test_an_empty_folder_holds_nothing(tmp_path):
    mesh, saved_states = states(0)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(saved_states[0], mesh) is None


def test_says_when_it_cannot_write(tmp_path, monkeypatch):
    _, saved_states = states(1)

    def full(*_):
        raise OSError("No space left on device")

    with Checkpoints(tmp_path / "run") as checkpoints, monkeypatch.context() as patch:
        patch.setattr(checkpoints._checkpointer, "wait_until_finished", full)
        with pytest.raises(InputError, match="No space left"):
            checkpoints.save(saved_states[1], {})


def test_digests_tell_values_shapes_and_types_apart():
    arrays = [
        np.zeros(4, np.float32),
        np.zeros(4, np.int32),
        np.zeros((2, 2), np.float32),
        np.ones(4, np.float32),
    ]
    all_digests = [digests({"a": {"b": array}}) for array in arrays]
    assert all(list(digest) == ["a/b"] for digest in all_digests)
    assert len({json.dumps(digest) for digest in all_digests}) == 4
    assert fingerprint({"a": arrays[0]}) != fingerprint({"b": arrays[0]})
