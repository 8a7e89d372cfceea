import json

import numpy as np
import pytest

from segjax.configs import semantic
from segjax.errors import InputError
from segjax.experiment import replaying, training
from segjax.experiment.replaying import replay
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.log import read_log
from tests.experiment.tiny import shrink


@pytest.fixture
def config():
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.batch_size = 4
    config.augment.policy = ()
    # Quicker to compile.
    config.optimizer.name, config.train.ema_decay = "sgd", 0.0
    config.train.validate_every = 0
    return config


def train(config, workdir, monkeypatch):
    """Trains without a look at the validation images."""
    config.dataset.train, config.dataset.validation = "train[:8]", "validation[:1]"
    config.predict.fit = False
    monkeypatch.setattr(training, "make_predictor", lambda *_: None)
    monkeypatch.setattr(training, "Validation", lambda *_: lambda params, check: {"score": 0.0})
    training.train(config, workdir)


def losses_of(workdir):
    entries = read_log(workdir / "log.jsonl")
    return {entry["step"]: entry["train/loss"] for entry in entries if "train/loss" in entry}


@pytest.mark.usefixtures("quick_to_compile")
def test_a_step_is_repeated_from_the_checkpoint_before_it(config, tmp_path, monkeypatch):
    config.steps = 3
    train(config, tmp_path, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    losses = losses_of(tmp_path)
    steps = CheckpointReader(tmp_path / "checkpoints").steps()
    assert steps == [2, 3]
    text = replay(config, tmp_path, 3)
    assert text.startswith(f"step 3, repeated from step 2: loss {losses[3]:.6g}, norm of the gradient ")
    assert text.endswith("both are finite")
    make_stream, images = replaying.make_stream, []

    def spoilt(*arguments):
        stream = make_stream(*arguments)
        images.append(stream)
        batch = stream.batch

        def spoil(step):
            made = batch(step)
            made["image"][1] = np.inf
            return made

        stream.batch = spoil
        return stream

    monkeypatch.setattr(replaying, "make_stream", spoilt)
    text = replay(config, tmp_path, 3)
    names = images[0].names(2)
    assert f"images whose own gradient is not finite: {names[1]}\n" in text
    assert "\nfirst NaN: " in text
    assert "(segjax/" in text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(InputError, match=r"--replay=4 must be a step from 1 to 3"):
        replay(config, tmp_path, 4)


@pytest.mark.usefixtures("quick_to_compile")
def test_a_step_after_a_rollback_is_repeated_with_the_lower_rate(config, tmp_path, monkeypatch):
    """The checkpoint to which the run went back was saved before; the log knows."""
    config.steps, config.train.checkpoint_every, config.optimizer.learning_rate = 4, 2, 0.5
    train(config, tmp_path, monkeypatch)
    loss = f"{losses_of(tmp_path)[4]:.6g}"
    assert replay(config, tmp_path, 4).startswith(f"step 4, repeated from step 2: loss {loss}, ")
    lower, halvings = replaying.with_lower_rate, []

    def with_lower_rate(config, number):
        halvings.append(number)
        return lower(config, number)

    monkeypatch.setattr(replaying, "with_lower_rate", with_lower_rate)
    note = json.dumps({"step": 2, "rollback": {"number": 3, "diverged_at": 4, "reason": "diverged"}})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(f"{note}\n")
    text = replay(config, tmp_path, 4)
    assert halvings == [3]
    assert text.startswith("step 4, repeated from step 2: loss ")
    assert f"loss {loss}," not in text
    assert text.endswith(
        "both are finite. The run had diverged at step 4 and went back to step 2: this is the step after"
        " that, log.set_aside*.jsonl has the one before"
    )
    # A rollback to a later step changes no earlier one.
    (tmp_path / "log.jsonl").write_text(note.replace('"step": 2', '"step": 4'))
    assert f"loss {loss}," in replay(config, tmp_path, 4)
