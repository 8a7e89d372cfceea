"""The training step: augment, differentiate, update, guard."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segjax.settings import Count, Range, Settings
from segjax.tasks.base import Task
from segjax.train.sharding import batch_sharding, replicated, state_sharding
from segjax.train.space import split_network, split_rows
from segjax.train.state import State
from segjax.typing import Array, Batch, Params, PyTree

# XLA compiles Winograd convolutions a fifth faster at this level; the step is as fast.
CPU_OPTIONS = {"xla_backend_optimization_level": "1"}

# `(state, batch, key) -> (state, metrics)`, compiled by `jax.jit`.
Step = jax.stages.Wrapped
Augment = Callable[[Array, Batch], Batch]


@dataclasses.dataclass(frozen=True)
class StepConfig(Settings):
    """Settings of `make_step`.

    Attributes:
      ema_decay: decay of the moving average of the parameters, if the state has one.
      num_microbatches: number of parts of a batch whose gradients are averaged, to save memory.
    """

    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.0
    num_microbatches: Count = 1


def _make_update(
    optimizer: optax.GradientTransformation, ema_decay: float
) -> Callable[..., tuple[Params, Params | None, PyTree]]:
    def update(
        params: Params, ema: Params | None, optimizer_state: PyTree, step: Array, grads: Params
    ) -> tuple[Params, Params | None, PyTree]:
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        params = optax.apply_updates(params, updates)
        if ema is not None:
            # The average is shorter early in training, when parameters are close to noise.
            decay = jnp.minimum(ema_decay, (1 + step) / (10 + step))
            ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
        return params, ema, optimizer_state

    return update


def make_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    mesh: Mesh,
    state: PyTree,
    config: StepConfig = StepConfig(),
) -> Step:
    """Makes the jit-compiled step `(state, batch, key) -> (state, metrics)`, which donates the state.

    Args:
      task: computes the loss.
      optimizer: from `make_optimizer`.
      augment: `(key, example) -> example`, applied to each example with its own key.
      mesh: from `make_mesh`.
      state: the state, or its shapes; determines its sharding.
      config: the settings.

    Returns:
      The step. `key` is the run key; the step number is folded in.
    """
    num_microbatches, update = config.num_microbatches, _make_update(optimizer, config.ema_decay)

    def loss(params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        with split_network(mesh):
            total, terms = task.loss(params, split_rows(mesh, batch), key)
        return total, {"loss": total, **terms}

    def gradient(params: Params, batch: Batch, key: Array) -> tuple[Mapping[str, Array], Params]:
        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        return terms, grads

    def accumulated(params: Params, batch: Batch, key: Array) -> tuple[Mapping[str, Array], Params]:
        if num_microbatches == 1:
            return gradient(params, batch, key)
        # Row i belongs to microbatch i % num_microbatches, so that no row moves to another device.
        parts = jax.tree.map(lambda x: x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, num_microbatches)
        sums = jax.lax.map(lambda part: gradient(params, *part), (parts, keys))
        return jax.tree.map(lambda x: x.mean(0), sums)

    def step(state: State, batch: Batch, key: Array) -> tuple[State, Mapping[str, Array]]:
        augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = jax.vmap(augment)(jax.random.split(augment_key, len(batch["image"])), batch)
        metrics, grads = accumulated(state.params, batch, loss_key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        # Selecting each array would copy the state, as the old arrays could not be overwritten.
        params, ema, optimizer_state = jax.lax.cond(
            finite,
            update,
            lambda *before: before[:3],
            state.params,
            state.ema_params,
            state.optimizer,
            state.step,
            grads,
        )
        skipped = 1 - finite.astype(jnp.int32)
        consecutive = (state.consecutive_skips + 1) * skipped
        state = State(state.step + 1, params, ema, optimizer_state, state.skipped + skipped, consecutive)
        counts = {"skipped": state.skipped, "consecutive_skips": state.consecutive_skips}
        return state, {**metrics, "gradient_norm": norm, **counts}

    state_shardings, replicated_sharding = state_sharding(mesh, state), replicated(mesh)
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        step,
        in_shardings=(state_shardings, batch_sharding(mesh), replicated_sharding),
        out_shardings=(state_shardings, replicated_sharding),
        donate_argnums=0,
        compiler_options=CPU_OPTIONS if is_cpu else None,
    )
