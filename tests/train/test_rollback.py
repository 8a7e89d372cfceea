"""A run that has diverged goes back to a checkpoint from which it can go on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.train.checkpoint import Checkpoints
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.log import read_log
from segjax.train.loop import fit
from segjax.train.members import train_alone
from segjax.train.reporting import Diverged
from segjax.train.resume import Provenance, resume
from segjax.train.rollback import with_rollbacks
from segjax.train.state import fingerprint
from tests.train import toy
from tests.train.test_loop import batches

STEPS = 14


class OverflowingStep(KeyedStep):
    """Takes a step; the parameters overflow at step 6."""

    def __call__(self, state, batch):
        state, metrics = super().__call__(state, batch)
        if int(state.step) == 6:
            out = jnp.full_like(state.params["out"], jnp.inf)
            state = dataclasses.replace(state, params={**state.params, "out": out})
        return state, metrics


def train(
    folder, *, limit=2, spoilt=(), until=1, checkpoint_every=1, step_kind=KeyedStep, healthy_step=KeyedStep
):
    """Trains the toy; the steps `spoilt` have no finite gradient before the run went back `until` times."""
    starts = []
    _, _, jitted = toy.setup(steps=STEPS)

    with Checkpoints(folder / "checkpoints") as checkpoints:

        def attempt(rollback):
            _, first_state, _ = toy.setup(steps=STEPS)
            start = resume(first_state, checkpoints, Provenance()).after(rollback)
            starts.append((int(start.state.step), start.rollbacks))
            is_spoilt = start.rollbacks < until

            def make(step):
                bad = {"target": np.full(8, np.nan)} if is_spoilt and step + 1 in spoilt else {}
                return toy.batch(step) | bad

            kind = step_kind if is_spoilt else healthy_step
            config = FitConfig(STEPS, log_every=1, checkpoint_every=checkpoint_every, max_consecutive_skips=5)
            return fit(
                kind(jitted, jax.random.key(1)),
                start,
                lambda first: batches(first, make=make),
                checkpoints,
                config,
                folder=folder,
                validate=None,
                image_names=lambda step: [f"image{step}", "other"],
            )

        return train_alone(with_rollbacks(attempt, checkpoints, limit=limit)), starts


def notes(folder, name):
    return [(entry["step"], entry[name]) for entry in read_log(folder / "log.jsonl") if name in entry]


def logged(folder):
    return [step for step, _ in notes(folder, "train/loss")]


def test_a_diverged_run_goes_back_to_the_last_checkpoint_that_a_good_step_follows(tmp_path, caplog):
    undisturbed, _ = train(tmp_path / "undisturbed")
    # Steps 6 to 10 are saved as well, but their parameters, those of step 5, may be the cause.
    result, starts = train(tmp_path / "run", spoilt=range(6, 99))
    assert starts == [(0, 0), (4, 1)]
    assert fingerprint(result.state) == fingerprint(undisturbed.state)
    assert logged(tmp_path / "run") == [*range(1, STEPS + 1)]
    ((step, rollback),) = notes(tmp_path / "run", "rollback")
    assert (step, rollback["number"], rollback["diverged_at"]) == (4, 1, 10)
    assert "5 times in a row, up to step 10, with the images other (5 times), image5" in rollback["reason"]
    assert "diverged at step 10 and goes back to checkpoint 4" in caplog.text
    assert (tmp_path / "run" / "checkpoints" / "9.set_aside").exists()
    # What the log had of the steps after the checkpoint is kept; a replay would repeat others.
    aside = read_log(tmp_path / "run" / "log.set_aside.jsonl")
    assert [entry["step"] for entry in aside if "train/loss" in entry] == [*range(5, 11)]
    assert [entry["step"] for entry in aside if "skipped" in entry] == [*range(6, 11)]
    assert "--replay" not in caplog.text + rollback["reason"]


def test_a_run_that_diverges_again_goes_back_further_and_then_ends(tmp_path):
    result, starts = train(tmp_path / "run", spoilt=range(6, 99), until=2, checkpoint_every=2)
    # The second time, the checkpoint before step 4 is deleted: the run starts again.
    assert starts == [(0, 0), (4, 1), (0, 2)]
    assert int(result.state.step) == STEPS
    with pytest.raises(Diverged, match="5 times in a row"):
        train(tmp_path / "other", spoilt=range(6, 99), until=3)


def test_a_run_that_may_not_go_back_ends(tmp_path):
    with pytest.raises(Diverged, match=r"--replay=10 says where and in which image"):
        train(tmp_path, spoilt=range(6, 99), limit=0)
    assert not list((tmp_path / "checkpoints").glob("*.set_aside"))


class BrokenStep(KeyedStep):
    """Ends the process at step 12."""

    def __call__(self, state, batch):
        if int(state.step) == 11:
            raise RuntimeError("power cut")
        return super().__call__(state, batch)


def test_a_resumed_run_remembers_how_often_it_went_back(tmp_path):
    undisturbed, _ = train(tmp_path / "undisturbed")
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "run", spoilt=range(6, 99), healthy_step=BrokenStep)
    result, starts = train(tmp_path / "run")
    assert starts == [(11, 1)]
    assert fingerprint(result.state) == fingerprint(undisturbed.state)
    assert len(notes(tmp_path / "run", "rollback")) == 1


def test_the_last_good_checkpoint_outlives_any_number_of_skipped_steps(tmp_path):
    with pytest.raises(Diverged):
        train(tmp_path, spoilt=range(6, 99), limit=0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert 4 in checkpoints.steps()
    # A run that is stopped and goes on while it diverges does not delete it either.
    with pytest.raises(Diverged):
        train(tmp_path, spoilt=range(6, 99), limit=0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert 4 in checkpoints.steps()


def test_parameters_that_overflow_are_noticed_at_their_step_and_never_saved(tmp_path):
    undisturbed, _ = train(tmp_path / "undisturbed")
    with pytest.raises(Diverged, match=r"no longer finite after step 6: images image5, other: lower"):
        train(tmp_path / "run", step_kind=OverflowingStep, limit=0)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] == 5
    result, starts = train(tmp_path / "again", step_kind=OverflowingStep)
    assert starts == [(0, 0), (5, 1)]
    assert fingerprint(result.state) == fingerprint(undisturbed.state)
