"""What real disks and other processes do to the checkpoints of a run."""

import dataclasses
import gc
import json
import resource
import shutil
import threading

import jax
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.train import reading
from segjax.train.checkpoint import Checkpoints
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.resume import Provenance, resume
from segjax.train.state import fingerprint
from tests.train import toy

# Orbax leaves its other reads unfinished when it finds a damaged file.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SCORES = (0.3, 0.9, 0.5)


@pytest.fixture(autouse=True)
def unfinished_reads_end_here():
    """They would otherwise raise in a later test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Three validated steps, the second of them the best; and their states."""
    folder = tmp_path_factory.mktemp("run")
    _, state, step = toy.setup()
    states = []
    with Checkpoints(folder, keep=3) as checkpoints:
        for number, score in enumerate(SCORES, start=1):
            state, _ = step(state, toy.batch(number), jax.random.key(0))
            states.append(jax.device_get(state))
            progress = {"seconds": float(number), "best": {"step": min(number, 2), "score": score}}
            progress |= {"since_best": 0, "stopped": False, "run_metadata": {}}
            checkpoints.save(state, progress | {"best": None})
            checkpoints.record_validation(number, progress, score)
    return folder, states


@pytest.fixture
def run(original, tmp_path):
    """A copy of the folder that a test may damage, and the states."""
    shutil.copytree(original[0], tmp_path / "run")
    return tmp_path / "run", original[1]


def shapes(states):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), states[0].eval_params)


def restored_step(folder, states, **options):
    """Returns the step that prediction uses, and checks that its parameters are those of the step."""
    params, step = CheckpointReader(folder).restore_params(shapes(states), **options)
    assert fingerprint(params) == fingerprint(states[step - 1].eval_params)
    return step


def resumed_step(folder, states):
    """Returns the step that training resumes from, and checks that its state is that of the step."""
    _, first, _ = toy.setup()
    with Checkpoints(folder) as checkpoints:
        state = resume(first, checkpoints, Provenance()).state
    step = int(state.step)
    assert fingerprint(state) == fingerprint(states[step - 1])
    return step


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


def test_reading_changes_nothing(run):
    folder, states = run
    # What a training that runs meanwhile is writing.
    (folder / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)
    before = snapshot(folder)
    assert restored_step(folder, states) == 2
    assert restored_step(folder, states, latest=True) == 3
    assert CheckpointReader(folder).progress(3)["seconds"] == 3.0
    assert snapshot(folder) == before


def test_a_missing_folder_is_not_made(tmp_path):
    reader = CheckpointReader(tmp_path / "none")
    assert reader.steps() == []
    with pytest.raises(InputError, match="has no checkpoint yet: segjax train makes one"):
        reader.restore_params({})
    assert not (tmp_path / "none").exists()


def test_training_goes_on_while_others_read(run):
    folder, states = run
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add(CheckpointReader(folder).restore_params(shapes(states))[1])

    with Checkpoints(folder) as checkpoints:
        threads = [threading.Thread(target=watch) for _ in range(2)]
        for thread in threads:
            thread.start()
        for step in range(4, 9):
            state = dataclasses.replace(states[2], step=np.int32(step))
            checkpoints.save(jax.device_put(state), {"best": None})
            checkpoints.record_validation(step, {"best": None}, float(step))
        stop.set()
        for thread in threads:
            thread.join()
        assert checkpoints.steps() == [7, 8]
    assert seen <= {2, *range(4, 9)}
    assert len(seen) > 1


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def without(path, name):
    content = json.loads(path.read_text())
    del content[next(key for key in content if key.startswith(name))]
    path.write_text(json.dumps(content))


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_digests(path):
    path.write_text(json.dumps({name: digest[::-1] for name, digest in json.loads(path.read_text()).items()}))


def arrays(step):
    return max((path for path in step.glob("state/d/*")), key=lambda path: path.stat().st_size)


# Damage, and the step that training resumes from if the steps after step 1 have it.
DAMAGE = {
    "score flipped": (lambda step: flip(step / "validation.json"), 3),
    "score changed": (lambda step: edit(step / "validation.json", score=0.1), 3),
    "score empty": (lambda step: (step / "validation.json").write_text(""), 3),
    "score of another kind": (lambda step: (step / "validation.json").write_text("[1]"), 3),
    "score binary": (lambda step: (step / "validation.json").write_bytes(b"\xff\x00"), 3),
    "score missing": (lambda step: (step / "validation.json").unlink(), 3),
    "progress flipped": (
        lambda step: ((step / "validation.json").unlink(), flip(step / "progress" / "metadata")),
        1,
    ),
    "progress changed": (
        lambda step: ((step / "validation.json").unlink(), edit(step / "progress" / "metadata", seconds=0)),
        1,
    ),
    "state flipped": (lambda step: flip(arrays(step)), 1),
    "state missing": (lambda step: shutil.rmtree(step / "state"), 1),
    "digests changed": (lambda step: change_digests(step / "digests" / "metadata"), 1),
    "no digests": (lambda step: (step / "digests" / "metadata").write_text("{}"), 1),
    "no digest of one": (lambda step: without(step / "digests" / "metadata", "ema_params/"), 1),
    "digests missing": (lambda step: shutil.rmtree(step / "digests"), 1),
    "empty folder": (lambda step: (shutil.rmtree(step), step.mkdir()), 1),
}


@pytest.mark.parametrize(("damage", "resumed"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_step_costs_that_step_only(run, caplog, monkeypatch, damage, resumed):
    monkeypatch.setattr(reading, "DELAYS", ())
    folder, states = run
    damage(folder / "2")
    assert restored_step(folder, states) == 3  # the next best
    assert str(folder / "2") in caplog.text
    assert resumed_step(folder, states) == 3
    damage(folder / "3")
    (folder / "2").rename(folder.parent / "damaged")
    shutil.copytree(folder.parent / "damaged", folder / "0")
    assert resumed_step(folder, states) == resumed
    assert (folder / "3.set_aside").exists() == (resumed < 3)


def test_a_missing_best_step_is_said(run, caplog):
    folder, states = run
    shutil.rmtree(folder / "2")
    assert restored_step(folder, states) == 3
    assert f"The best checkpoint {folder}/2 or its score is missing" in caplog.text


def test_checkpoints_of_earlier_versions_are_read(run, caplog):
    folder, states = run
    for step, score in enumerate(SCORES, start=1):
        without(folder / str(step) / "digests" / "metadata", "progress")
        (folder / str(step) / "validation.json").unlink()
        (folder / str(step) / "metrics").mkdir()
        (folder / str(step) / "metrics" / "metrics").write_text(json.dumps({"score": score}))
    assert restored_step(folder, states) == 2
    assert resumed_step(folder, states) == 3
    assert caplog.text == ""
    (folder / "2" / "metrics" / "metrics").write_text('{"score": 0.9')
    assert restored_step(folder, states) == 3
    assert f"The score of checkpoint {folder}/2 is not used" in caplog.text


def later(seconds, action):
    thread = threading.Timer(seconds, action)
    thread.start()
    return thread


def vanish(step):
    """A file server that is away for a moment."""
    (step / "state").rename(step.parent.parent / "away")
    return later(0.3, lambda: (step.parent.parent / "away").rename(step / "state"))


def exhaust(_):
    """Other files are open for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    return later(0.3, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))


@pytest.mark.parametrize("disturb", [vanish, exhaust])
def test_an_error_that_passes_costs_nothing(run, monkeypatch, disturb):
    monkeypatch.setattr(reading, "DELAYS", (0.2, 0.4, 0.8))
    folder, states = run
    reader = CheckpointReader(folder)
    _, first, _ = toy.setup()
    with Checkpoints(folder) as checkpoints:
        timer = disturb(folder / "3")
        try:
            state = resume(first, checkpoints, Provenance()).state
        finally:
            timer.join()
        assert fingerprint(state) == fingerprint(states[2])
    assert reader.steps() == [1, 2, 3]


def test_what_was_only_unreadable_is_not_deleted(run, monkeypatch, caplog):
    monkeypatch.setattr(reading, "DELAYS", ())
    folder, states = run
    (folder / "3" / "state").rename(folder / "away")
    assert resumed_step(folder, states) == 2
    assert "3 is set aside as 3.set_aside" in caplog.text
    (folder / "away").rename(folder / "3.set_aside" / "state")
    (folder / "3.set_aside").rename(folder / "3")
    assert resumed_step(folder, states) == 3


def test_the_best_is_not_deleted_while_its_score_is_unreadable(run, monkeypatch):
    monkeypatch.setattr(reading, "DELAYS", ())
    folder, states = run
    score = folder / "2" / "validation.json"
    score.rename(folder / "away")
    score.mkdir()
    with Checkpoints(folder) as checkpoints:
        for step in (4, 5):
            checkpoints.save(jax.device_put(dataclasses.replace(states[2], step=np.int32(step))), {})
            checkpoints.wait()
        score.rmdir()
        (folder / "away").rename(score)
        checkpoints.wait()
    assert CheckpointReader(folder).steps() == [2, 4, 5]
    assert restored_step(folder, states) == 2


def test_a_full_disk_is_one_sentence(run, caplog, capfd):
    folder, states = run
    state = jax.device_put(dataclasses.replace(states[2], step=np.int32(4)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save():
        with Checkpoints(folder) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            try:
                checkpoints.save(state, {})
                checkpoints.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(InputError, match=r"cannot be written to .*make room") as caught:
        save()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in caplog.text + capfd.readouterr().err
    assert resumed_step(folder, states) == 3
    assert CheckpointReader(folder).steps() == [2, 3]


def test_another_network_is_no_damage(run):
    folder, states = run
    wide = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leaf.shape[:-1], 7), leaf.dtype), shapes(states))
    with pytest.raises(InputError, match=r"the config makes ema_params/\w+.* with the shape .*, stored is"):
        CheckpointReader(folder).restore_params(wide)
    assert CheckpointReader(folder).steps() == [1, 2, 3]
