"""Trains the toy of tests/train as scripts/train.py trains a network, as one of several processes."""

import itertools
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

FOLDER = flags.DEFINE_string("folder", None, "Folder of the run.", required=True)
STEPS = flags.DEFINE_integer("steps", 6, "Number of steps.")
FSDP = flags.DEFINE_integer("fsdp", 1, "Number of devices of the parameters.")
SPACE = flags.DEFINE_integer("space", 1, "Number of devices of an image.")
RESTARTS = flags.DEFINE_integer("restarts", 0, "Number of restarts.")
DIE = flags.DEFINE_list("die", None, "Process and step before which it kills itself, once.")
REFUSE = flags.DEFINE_integer("refuse", None, "Process that cannot go on.")
IMAGES = flags.DEFINE_integer("images", 0, "Number of images of the validations, after step 4 and the last.")
WAIT_IMAGE = flags.DEFINE_integer("wait_image", None, "Validated image from which they are slow.")
WAIT = flags.DEFINE_integer("wait", None, "Step from which steps are slow, to be stopped.")


def train() -> None:
    import jax

    from segjax.train.checkpoint import Checkpoints
    from segjax.train.cost import KeyedStep
    from segjax.train.fit_config import FitConfig
    from segjax.train.loop import fit
    from segjax.train.members import train_alone
    from segjax.train.processes import all_or_none
    from segjax.train.resume import Provenance, resume
    from segjax.train.sharding import batch_part
    from segjax.train.state import fingerprint
    from tests.train import toy

    folder, steps, index = Path(FOLDER.value), STEPS.value, jax.process_index()
    with all_or_none("the start"):
        if REFUSE.value == index:
            raise InputError("there is no image to train on")
    mesh, state, step = toy.setup(data=-1, fsdp=FSDP.value, space=SPACE.value, steps=12)
    part = batch_part(mesh)
    rows = slice(part.index * 8 // part.count, (part.index + 1) * 8 // part.count)

    @contextmanager
    def batches(start):
        def forever():
            for number in range(start, steps + 1):
                misbehave(folder, index, number)
                yield number, {name: values[rows] for name, values in toy.batch(number).items()}

        yield forever()

    validated = itertools.count(1)

    def before_image():
        if WAIT_IMAGE.value is not None and next(validated) >= WAIT_IMAGE.value:
            wait(folder, index)

    # A process may have a disk of its own, on which a checkpoint is damaged.
    own = folder / f"checkpoints{index}"
    with Checkpoints(own if own.exists() else folder / "checkpoints") as checkpoints:
        start = resume(state, checkpoints, Provenance())
        print(f"starts at step {int(start.state.step)}", flush=True)
        config = FitConfig(steps=steps, checkpoint_every=2, log_every=1, validate_every=4)
        keyed = KeyedStep(step, jax.random.key(1))
        validate = toy.validation(IMAGES.value, before_image) if IMAGES.value else None
        try:
            result = train_alone(
                fit(keyed, start, batches, checkpoints, config, folder=folder, validate=validate)
            )
        finally:
            print(f"validated {next(validated) - 1} images")
    print(f"parameters {fingerprint(result.state)}")


def misbehave(folder: Path, index: int, number: int) -> None:
    died = folder / "died"
    if DIE.value == [str(index), str(number)] and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if WAIT.value is not None and number >= WAIT.value:
        wait(folder, index)


def wait(folder: Path, index: int) -> None:
    (folder / f"waiting{index}").touch()
    time.sleep(0.1)


def main() -> None:
    from segjax.train.launch import find_launch
    from segjax.train.supervision import supervise

    launch = find_launch({}, os.environ)
    if launch is not None or RESTARTS.value:
        supervise(restarts=RESTARTS.value, several=launch is not None)
    from segjax.train import processes

    processes.HEARTBEAT = 5
    with processes.connected(launch):
        train()


if __name__ == "__main__":
    cli.run(main)
