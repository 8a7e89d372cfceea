import contextlib
import json
import os
import signal

import jax
import numpy as np
import pytest

from segjax.errors import InputError, Interrupted
from segjax.train.checkpoint import Checkpoints
from segjax.train.log import read_log
from segjax.train.loop import FitConfig, fit
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


def train(folder, *, scores=None, patience=0, steps=STEPS, run_metadata=None, **options):
    _, state, step = toy.setup(steps=STEPS)
    validations = iter(scores or [])
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return fit(
            lambda state, batch: step(state, batch, jax.random.key(1)),
            state,
            lambda start: batches(start, **options),
            checkpoints,
            FitConfig(
                steps=steps,
                validate_every=3,
                checkpoint_every=2,
                log_every=1,
                patience=patience,
                max_consecutive_skips=3,
            ),
            folder=folder,
            validate=(lambda params: {"score": next(validations), "iou": {"cell": 0.5}}) if scores else None,
            run_metadata=run_metadata,
        )


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
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.best() == 3


def test_logs_validation_and_ends_with_one(tmp_path):
    train(tmp_path, scores=[0.1, 0.2, 0.3, 0.4])
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "validation/score" in line]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert lines[-1]["validation/iou/cell"] == 0.5
    assert any((tmp_path / "tensorboard").iterdir())


def test_gives_up_when_the_gradient_stays_infinite_and_remembers_the_count(tmp_path):
    def spoilt(step):
        return toy.batch(step) | ({"target": np.full(8, np.nan)} if step >= 4 else {})

    with pytest.raises(InputError, match="3 times in a row"):
        train(tmp_path, make=spoilt)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] >= 4


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "tr')
    assert read_log(path) == [{"step": 1}]


def test_a_run_resumes_only_with_the_metadata_it_was_started_with(tmp_path):
    train(tmp_path, steps=4, run_metadata={"split_sha256": "a"})
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.progress(4)["run_metadata"] == {"split_sha256": "a"}
    with pytest.raises(InputError, match=r"with split_sha256 a, the data now have b: .*another --workdir"):
        train(tmp_path, steps=6, run_metadata={"split_sha256": "b"})
    train(tmp_path, steps=6, run_metadata={"split_sha256": "a"})
    train(tmp_path, steps=8)
