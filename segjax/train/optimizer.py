"""AdamW or SGD with warm-up, cosine decay and clipping; frozen parameters stay as they are."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import optax

from segjax.errors import InputError, choose
from segjax.settings import Fraction, NonNegative, NonNegativeInt, Positive, Range, Settings
from segjax.typing import Params, PyTree


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Settings):
    """Settings of `make_optimizer`.

    Attributes:
      name: `adamw`, or `sgd` with Nesterov momentum.
      learning_rate: peak learning rate.
      warmup: number of steps with a linearly increasing learning rate; the first one is above 0.
      end_lr_fraction: learning rate of the last step of the cosine, as a fraction of the peak.
      weight_decay: weight decay, on kernels only, not on biases and norms. That of `adamw` is decoupled from
        the gradient; that of `sgd` is added to the gradient, and thus to the momentum, as in torch.
      momentum: momentum of SGD, or the first beta of AdamW.
      clip: global norm to which larger gradients are scaled down; 0 for no clipping.
    """

    name: str = "adamw"
    learning_rate: Positive = 1e-3
    warmup: NonNegativeInt = 500
    end_lr_fraction: Fraction = 0.01
    weight_decay: NonNegative = 1e-4
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    clip: NonNegative = 1.0


def make_optimizer(config: OptimizerConfig, *, steps: int, frozen: PyTree) -> optax.GradientTransformation:
    """Makes the optimizer.

    Args:
      config: the settings.
      steps: number of steps of the run.
      frozen: tree of bool like the parameters, True for parameters that are not trained.

    Raises:
      InputError: if the name is unknown, or `warmup` leaves no step for the decay.
    """
    choose(("adamw", "sgd"), "name", config.name)
    if config.warmup >= steps:
        raise InputError(
            f"warmup={config.warmup} must be smaller than config.steps={steps}: lower the first or raise the"
            " second",
            field="warmup",
        )
    peak = config.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(
        peak / (config.warmup + 1), peak, config.warmup, steps, config.end_lr_fraction * peak
    )

    def is_decayed(params: Params) -> PyTree:
        return jax.tree.map(lambda leaf, fixed: leaf.ndim > 1 and not fixed, params, frozen)

    if config.name == "adamw":
        descent = optax.adamw(schedule, b1=config.momentum, weight_decay=config.weight_decay, mask=is_decayed)
    else:
        descent = optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=is_decayed),
            optax.sgd(schedule, momentum=config.momentum, nesterov=True),
        )
    freeze = optax.masked(optax.set_to_zero(), frozen)
    clip = optax.clip_by_global_norm(config.clip) if config.clip > 0 else optax.identity()
    return optax.chain(freeze, clip, descent, freeze)
