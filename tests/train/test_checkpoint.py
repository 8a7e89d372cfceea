import gc
import json
import shutil

import jax
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train.checkpoint import Checkpoints
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


def test_keeps_the_latest_and_the_best(tmp_path):
    _, saved_states = states(5)
    scores = [None, 0.1, 0.9, 0.3, 0.2, None]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best() is None
        for state, score in list(zip(saved_states, scores, strict=True))[1:]:
            checkpoints.save(state, {}, score)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.best() == 2
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best() == 2


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
        checkpoints.forget_after(2)
        checkpoints.save(saved_states[3], {})
    with Checkpoints(tmp_path) as checkpoints:
        state, _ = checkpoints.restore(saved_states[0], mesh)
    assert fingerprint(state) == fingerprint(saved_states[3])


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
    with Checkpoints(tmp_path) as checkpoints:
        params, step = checkpoints.restore_params(shapes, [2])
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
    with Checkpoints(tmp_path) as checkpoints:
        params, step = checkpoints.restore_params(shapes, [2, 1])
        assert step == 1
        with pytest.raises(InputError, match=r"all checkpoints \[2\] .* are damaged"):
            checkpoints.restore_params(shapes, [2])
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(saved_states[1].eval_params))


def test_an_empty_folder_holds_nothing(tmp_path):
    mesh, saved_states = states(0)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(saved_states[0], mesh) is None


def test_says_when_it_cannot_write(tmp_path, monkeypatch):
    _, saved_states = states(1)

    def full(*_):
        raise OSError("No space left on device")

    with Checkpoints(tmp_path / "run") as checkpoints, monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "wait_until_finished", full)
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
