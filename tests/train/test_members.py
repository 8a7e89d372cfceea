"""Members that are trained together are those that are trained alone."""

import functools
import os
import signal
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError, Interrupted
from segjax.train import members
from segjax.train.checkpoint import Checkpoints
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.interruption import interruption
from segjax.train.loop import fit
from segjax.train.members import train_together
from segjax.train.resume import Provenance, resume
from segjax.train.state import fingerprint
from tests.train import toy
from tests.train.test_loop import batches, losses

STEPS = 6


@functools.cache
def setup():
    _, state, step = toy.setup(steps=STEPS)
    return state, step


def train(folder, seeds, *, steps=STEPS, makes=None, befores=None):
    """Trains members of the toy, whose keys and data are those of their seeds."""
    first, step = setup()
    with ExitStack() as stack:
        trainings = []
        for seed in seeds:
            own = folder / f"seed_{seed}"
            checkpoints = stack.enter_context(Checkpoints(own / "checkpoints"))
            make = (makes or {}).get(seed, lambda number, seed=seed: toy.batch(1000 * seed + number))
            before = (befores or {}).get(seed, lambda number: None)
            training = fit(
                KeyedStep(step, jax.random.key(seed)),
                resume(jax.tree.map(jnp.copy, first), checkpoints, Provenance()),
                lambda start, make=make, before=before: batches(start, make=make, before=before),
                checkpoints,
                FitConfig(steps, log_every=1, checkpoint_every=2, max_consecutive_skips=2),
                folder=own,
                validate=None,
            )
            trainings.append(training)
        return train_together(trainings)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Seeds 0 to 2, each trained alone: folder, and states by seed."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, [jax.device_get(train(folder, [seed])[0].state) for seed in range(3)]


def test_each_member_is_trained_as_alone(alone, tmp_path):
    folder, expected = alone
    together = train(tmp_path, range(3))
    assert len({fingerprint(result.state) for result in together}) == 3
    for seed, result in enumerate(together):
        assert fingerprint(result.state) == fingerprint(expected[seed])
        assert losses(tmp_path / f"seed_{seed}") == losses(folder / f"seed_{seed}")


def test_one_program_for_all_members_differs_in_rounding_only(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(members, "CONCURRENT", ())
    program, widths = members._joined, []

    def joined(*which):
        return lambda states, *rest: widths.append(len(states)) or program(*which)(states, *rest)

    monkeypatch.setattr(members, "_joined", joined)
    # The second member ends before the others, and the program stays the same.
    train(tmp_path, [1], steps=4)
    together = train(tmp_path, range(3))
    assert widths == [3] * STEPS
    for result, expected in zip(together, alone[1], strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), result.state, expected
        )


def test_a_member_that_diverges_leaves_the_others_as_they_are(alone, tmp_path):
    def spoilt(number):
        return toy.batch(number) | ({"target": np.full(8, np.nan)} if number in (2, 3) else {})

    first, second, third = train(tmp_path, range(3), makes={1: spoilt})
    assert isinstance(second, InputError)
    assert "2 times in a row, up to step 4" in str(second)
    for result, expected in ((first, alone[1][0]), (third, alone[1][2])):
        assert fingerprint(result.state) == fingerprint(expected)


def test_members_that_broke_at_different_steps_end_as_if_they_had_not(alone, tmp_path):
    def fail(number):
        if number == 5:
            raise RuntimeError("power cut")

    def steps_of(seed):
        return CheckpointReader(tmp_path / f"seed_{seed}" / "checkpoints").steps()

    train(tmp_path, [2], steps=3)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path, range(3), befores={1: fail})
    assert [steps_of(seed)[-1] for seed in range(3)] == [4, 4, 6]
    for result, expected in zip(train(tmp_path, range(3)), alone[1], strict=True):
        assert fingerprint(result.state) == fingerprint(expected)


def test_a_signal_stops_all_members_after_they_have_saved(alone, tmp_path):
    def stop(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"of {STEPS}"):
        train(tmp_path, range(3), befores={1: stop})
    assert signal.getsignal(signal.SIGTERM) is before
    for seed in range(3):
        assert CheckpointReader(tmp_path / f"seed_{seed}" / "checkpoints").steps()[-1] in (3, 4)
    for result, expected in zip(train(tmp_path, range(3)), alone[1], strict=True):
        assert fingerprint(result.state) == fingerprint(expected)


def test_signals_are_caught_until_the_last_member_has_ended():
    before = signal.getsignal(signal.SIGTERM)
    with interruption() as first:
        with interruption() as second:
            second.arm()
        assert signal.getsignal(signal.SIGTERM) is not before
        os.kill(os.getpid(), signal.SIGTERM)
        assert first.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    with interruption() as later:
        assert later.number is None
