import contextlib
import os
import signal

import jax
import numpy as np
import pytest

from segjax.errors import InputError, Interrupted
from segjax.train.checkpoint import Checkpoints
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.log import read_log
from segjax.train.loop import fit
from segjax.train.members import train_alone
from segjax.train.resume import Provenance, resume
from segjax.train.state import fingerprint
from tests.train import toy

STEPS = 12


def batches(start, *, before=lambda step: None, make=toy.batch):
    def forever():
        step = start
        while True:
            before(step)
            yield step, make(step)
            step += 1

    return contextlib.nullcontext(forever())


def train(folder, *, scores=None, patience=0, steps=STEPS, pause=0, check=None, provenance=None, **options):
    _, state, step = toy.setup(steps=STEPS)
    validations = iter(scores or [])

    def validate(params, stop):
        if check is not None:
            check()
        stop()
        return {"score": next(validations), "iou": {"cell": 0.5}}

    with Checkpoints(folder / "checkpoints") as checkpoints:
        training = fit(
            KeyedStep(step, jax.random.key(1)),
            resume(state, checkpoints, provenance or Provenance()),
            lambda start: batches(start, **options),
            checkpoints,
            FitConfig(
                steps=steps,
                pause=pause,
                validate_every=3,
                checkpoint_every=2,
                log_every=1,
                patience=patience,
                max_consecutive_skips=3,
            ),
            folder=folder,
            validate=validate if scores else None,
            image_names=lambda step: [f"image{step}", "other"],
        )
        return train_alone(training)


def losses(folder):
    return {
        line["step"]: line["train/loss"] for line in read_log(folder / "log.jsonl") if "train/loss" in line
    }


def test_a_run_stopped_by_a_signal_ends_as_if_it_had_not_been(tmp_path):
    whole = train(tmp_path / "whole")
    assert list(losses(tmp_path / "whole")) == list(range(1, STEPS + 1))

    def stop_at(step):
        def before(now):
            if now == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return before

    before = signal.getsignal(signal.SIGTERM)
    for step in (3, 8):
        with pytest.raises(Interrupted, match=f"after step {step + 1} of {STEPS}"):
            train(tmp_path / "stopped", before=stop_at(step))
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = train(tmp_path / "stopped")
    assert fingerprint(resumed.state) == fingerprint(whole.state)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_a_run_that_pauses_ends_as_if_it_had_not(tmp_path):
    scores = [0.1, 0.4, 0.3, 0.2]
    whole = train(tmp_path / "whole", scores=scores)
    assert not whole.paused
    for pause, seen in (
        (3, scores[:1]),
        (3, [9.0]),
        (9, scores[1:3]),
    ):  # a second start at a pause does nothing
        paused = train(tmp_path / "paused", scores=seen, pause=pause)
        assert paused.paused
        assert not paused.stopped_early
        assert int(paused.state.step) == pause
    for _ in range(2):
        ended = train(tmp_path / "paused", scores=scores[3:], pause=STEPS + 3)
        assert not ended.paused
    assert fingerprint(ended.state) == fingerprint(whole.state)
    assert losses(tmp_path / "paused") == losses(tmp_path / "whole")
    ends = [CheckpointReader(tmp_path / name / "checkpoints") for name in ("paused", "whole")]
    assert ends[0].steps() == ends[1].steps()
    assert ends[0].progress(STEPS)["best"] == ends[1].progress(STEPS)["best"] == {"step": 6, "score": 0.4}


def test_a_pause_between_checkpoints_is_saved(tmp_path):
    train(tmp_path, scores=[0.1], pause=5)
    assert max(CheckpointReader(tmp_path / "checkpoints").steps()) == 5
    assert fingerprint(train(tmp_path, scores=[0.4, 0.3, 0.2]).state) == fingerprint(
        train(tmp_path / "whole", scores=[0.1, 0.4, 0.3, 0.2]).state
    )
    assert losses(tmp_path) == losses(tmp_path / "whole")


@pytest.mark.parametrize("moment", [4, 5], ids=["just after a checkpoint", "between checkpoints"])
def test_a_run_that_broke_has_every_step_once_in_the_log(tmp_path, moment):
    def fail(step):
        if step == moment:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "broken", before=fail)
    train(tmp_path / "broken")
    whole = train(tmp_path / "whole")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert fingerprint(train(tmp_path / "broken").state) == fingerprint(whole.state)


def test_stops_early_and_stays_stopped(tmp_path):
    result = train(tmp_path, scores=[0.5, 0.4, 0.3], patience=2)
    assert result.stopped_early
    assert int(result.state.step) == 9
    again = train(tmp_path, scores=[], patience=2)
    assert fingerprint(again.state) == fingerprint(result.state)
    assert CheckpointReader(tmp_path / "checkpoints").best() == 3
    more = train(tmp_path, scores=[0.2], patience=0)
    assert (int(more.state.step), more.stopped_early) == (12, False)


def test_a_complete_run_has_not_stopped_early(tmp_path):
    result = train(tmp_path, scores=[0.5, 0.6, 0.4, 0.3], patience=2)
    assert (int(result.state.step), result.stopped_early, result.paused) == (STEPS, False, False)
    assert not train(tmp_path, patience=2).stopped_early


def test_an_image_that_cannot_be_used_costs_no_step_before_it(tmp_path):
    whole = train(tmp_path / "whole")

    def refuse(step):
        if step == 5:
            raise InputError("image7 is too small")

    for _ in range(2):  # the same command ends in the same way
        with pytest.raises(InputError, match="image7 is too small"):
            train(tmp_path / "run", before=refuse)
    # Regular checkpoints are at steps 2 and 4.
    assert CheckpointReader(tmp_path / "run" / "checkpoints").steps()[-1] == 5
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5]
    assert fingerprint(train(tmp_path / "run").state) == fingerprint(whole.state)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_run_whose_first_image_cannot_be_used_saves_nothing(tmp_path):
    def refuse(step):
        raise InputError("image0 is too small")

    with pytest.raises(InputError, match="image0 is too small"):
        train(tmp_path, before=refuse)
    assert CheckpointReader(tmp_path / "checkpoints").steps() == []


def test_an_image_after_the_last_step_ends_nothing(tmp_path):
    def refuse(step):
        if step == STEPS:
            raise InputError("image7 is too small")

    assert int(train(tmp_path, before=refuse).state.step) == STEPS


def test_the_log_after_an_unreadable_checkpoint_is_set_aside(tmp_path, caplog):
    train(tmp_path, steps=8)
    entries = read_log(tmp_path / "log.jsonl")
    aside = tmp_path / "aside"
    (tmp_path / "checkpoints" / "8" / "state").rename(aside)
    train(tmp_path, steps=10)
    assert (tmp_path / "checkpoints" / "8.set_aside").is_dir()
    assert read_log(tmp_path / "log.set_aside.jsonl") == [entry for entry in entries if entry["step"] > 6]
    assert "log.set_aside.jsonl has what the log had of the steps after step 6" in caplog.text
    assert list(losses(tmp_path)) == [*range(1, 11)]
    # Without an unreadable checkpoint, the same is repeated.
    train(tmp_path, steps=12)
    assert not (tmp_path / "log.set_aside1.jsonl").exists()


def test_logs_validation_and_ends_with_one(tmp_path):
    train(tmp_path, scores=[0.1, 0.2, 0.3, 0.4])
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "validation/score" in line]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert lines[-1]["validation/iou/cell"] == 0.5
    assert any((tmp_path / "tensorboard").iterdir())


def spoilt(step):
    return toy.batch(step) | ({"target": np.full(8, np.nan)} if step in (2, 4, 5, 6) else {})


def test_names_skipped_steps_at_once_and_gives_up_after_three_in_a_row(tmp_path, caplog):
    with pytest.raises(InputError, match=r"3 times in a row, up to step 7, with the images other \(3"):
        train(tmp_path, make=spoilt)
    assert "Step 3 is skipped, as its gradient is not finite: images image2, other" in caplog.text
    assert "Step 5 is skipped" in caplog.text
    entries = read_log(tmp_path / "log.jsonl")
    skipped = {entry["step"]: entry["skipped"]["images"] for entry in entries if "skipped" in entry}
    assert skipped == {step + 1: [f"image{step}", "other"] for step in (2, 4, 5, 6)}
    first = next(entry for entry in entries if entry["step"] == 3)
    assert first["train/loss"] is None
    assert CheckpointReader(tmp_path / "checkpoints").steps()[-1] >= 4


SCORES = [0.1, 0.4, 0.3, 0.2]


def outcome(folder):
    """Returns everything of a run but times: its log, its best checkpoint and all progress."""
    entries = [
        {name: value for name, value in entry.items() if name not in ("images_per_second", "data_wait")}
        for entry in read_log(folder / "log.jsonl")
    ]
    reader = CheckpointReader(folder / "checkpoints")
    return entries, reader.ranking(), [{**reader.progress(step), "seconds": 0} for step in reader.steps()]


def fail():
    raise RuntimeError("validation is broken")


def stop():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("action", "error"), [(fail, RuntimeError), (stop, Interrupted)], ids=["error", "Ctrl-C"]
)
@pytest.mark.parametrize("validation", [2, 4], ids=["in the middle", "at the end"])
def test_a_run_that_ends_in_a_validation_repeats_that_alone(tmp_path, action, error, validation):
    train(tmp_path / "undisturbed", scores=SCORES)
    calls = iter(range(1, 9))
    with pytest.raises(error) as caught:
        train(tmp_path / "run", scores=SCORES, check=lambda: action() if next(calls) == validation else None)
    assert error is RuntimeError or caught.value.exit_code == 130
    saved = CheckpointReader(tmp_path / "run" / "checkpoints").steps()[-1]
    assert saved == 3 * validation
    steps = []
    train(tmp_path / "run", scores=SCORES[validation - 1 :], before=steps.append)
    assert steps[0] == saved
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")


def test_the_exit_code_is_that_of_the_signal(tmp_path):
    with pytest.raises(Interrupted) as caught:
        train(tmp_path, before=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 3 else None)
    assert caught.value.exit_code == 143


def test_the_cost_of_a_step_is_logged_once_and_the_waiting_for_data_with_every_line(tmp_path):
    train(tmp_path, steps=2)
    train(tmp_path, steps=4)
    entries = read_log(tmp_path / "log.jsonl")
    (cost,) = [entry for entry in entries if "compiled" in entry]
    assert cost["step"] == 0
    assert set(cost["compiled"]) == {"flops", "argument_bytes", "temporary_bytes"}
    assert all(0 <= entry["data_wait"] <= 1 for entry in entries if "train/loss" in entry)


def test_what_changed_is_said_logged_and_stored(tmp_path, caplog):
    old = Provenance(config={"mesh.data": 8, "steps": 4}, versions={"jax": "0.10.2", "numpy": "2.0"})
    new = Provenance(config={"mesh.data": 1, "steps": 4}, versions={"jax": "0.12.0", "numpy": "2.0"})
    train(tmp_path, steps=4, provenance=old)
    assert caplog.text == ""
    for _ in range(2):  # a run that is started twice without a further step says it once in the log
        train(tmp_path, steps=4, provenance=new)
    assert "From step 4 on, config.mesh.data is 1; it was 8" in caplog.text
    assert "From step 4 on, versions.jax is '0.12.0'; it was '0.10.2'" in caplog.text
    assert "results agree up to rounding, not bit for bit" in caplog.text
    train(tmp_path, steps=6, provenance=new)
    changes = [entry for entry in read_log(tmp_path / "log.jsonl") if "changes" in entry]
    expected = {"config.mesh.data": [8, 1], "versions.jax": ["0.10.2", "0.12.0"]}
    assert changes == [{"step": 4, "changes": expected}]
    progress = CheckpointReader(tmp_path / "checkpoints").progress(6)
    assert progress["versions"] == new.versions
    assert progress["config"] == new.config


def test_a_run_resumes_only_with_the_data_it_was_started_with(tmp_path):
    train(tmp_path, steps=4, provenance=Provenance(data={"split_sha256": "a"}))
    progress = CheckpointReader(tmp_path / "checkpoints").progress(4)
    assert progress["run_metadata"] == {"split_sha256": "a"}
    with pytest.raises(InputError, match=r"with split_sha256 a, the data now have b: .*another --workdir"):
        train(tmp_path, steps=6, provenance=Provenance(data={"split_sha256": "b"}))
    train(tmp_path, steps=6, provenance=Provenance(data={"split_sha256": "a", "files_sha256": "c"}))
    train(tmp_path, steps=8)
