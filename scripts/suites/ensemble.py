"""Time of the training steps of several seeds that are trained together, against one seed."""

import json
from typing import Any

from suites.loop import copy
from suites.timing import measure

# Number of steps of each seed in a timed call.
STEPS = 5


def main(config: Any, *, seeds: int, rounds: int) -> None:
    """Times the steps of one seed and of all seeds, and prints the seconds and their ratio as JSON."""
    import jax

    from segjax.experiment import environment
    from segjax.experiment.setup import make_first_state, make_setup, make_stream, open_split
    from segjax.experiment.workdir import ModelMetadata
    from segjax.train.cost import KeyedStep
    from segjax.train.sharding import batch_sharding

    source = open_split(config, "train")
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    setup = make_setup(config, metadata)
    stream = make_stream(config, source, setup.task)
    state = make_first_state(config, metadata, setup)
    steps = [KeyedStep(setup.step, jax.random.key(seed)) for seed in range(seeds)]
    batches = [jax.device_put(stream.batch(seed), batch_sharding(setup.mesh)) for seed in range(seeds)]
    seconds = measure(
        {
            "one seed": lambda: train(steps[:1], state, batches),
            f"{seeds} seeds": lambda: train(steps, state, batches),
        },
        rounds,
    )
    one, together = (value / STEPS for value in seconds.values())
    where = environment.hardware_info()
    result = {
        "device": where["device"],
        "cores": where["cores"],
        "jax": where["jax"],
        "seeds": seeds,
        "seconds_per_step_of_one": round(one, 4),
        "seconds_per_step_of_all": round(together, 4),
        "ratio": round(together / one, 2),
    }
    print(json.dumps(result))


def train(steps: list[Any], state: Any, batches: list[Any]) -> None:
    """Takes `STEPS` steps of each seed, as training does, and waits for the results."""
    import jax

    from segjax.train.members import Request, train_together

    def training(step: Any, state: Any, batch: Any) -> Any:
        for _ in range(STEPS):
            state, _ = yield Request(step, state, batch)
        return state

    states = [copy(state) for _ in steps]
    trainings = [training(*arguments) for arguments in zip(steps, states, batches, strict=False)]
    jax.block_until_ready(train_together(trainings))
