"""Finds what in a step makes the first value that is not finite: the operation, and the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from segjax.train.cost import KeyedStep
from segjax.train.state import State
from segjax.typing import Batch

PACKAGE = Path(__file__).parents[1]
# Primitives that only call a jaxpr, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


class Operation(NamedTuple):
    """An operation whose inputs are better than its outputs.

    Attributes:
      kind: "NaN" if no input is NaN, else "infinite", if all inputs are finite.
      name: name of the primitive, such as `log`.
      where: file and line in segjax, and the transformations, such as `transpose(jvp())` for a gradient.
      inputs: smallest and largest finite value of each input.
    """

    kind: str
    name: str
    where: str
    inputs: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        """Returns one sentence."""
        ranges = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in self.inputs)
        return f"first {self.kind}: {self.name} ({self.where}); range of its inputs: {ranges or 'none'}"


def first_not_finite(function: Callable[..., Any], *arguments: Any) -> dict[str, Operation]:
    """Evaluates a function operation by operation, up to the first that makes NaN of other values.

    Args:
      function: the function, which may be jit-compiled and differentiated.
      *arguments: its arguments.

    Returns:
      The first operation of each kind, of those that the function has. Infinite values need not be a fault.

    >>> def mean_log(x):
    ...     return jax.numpy.log(x - 1).mean()
    >>> first = first_not_finite(jax.grad(mean_log), jax.numpy.array([2.0, 0.5]))
    >>> first["NaN"].name, first["NaN"].inputs
    ('log', ((-0.5, 1.0),))
    """
    jitted: Any = function if hasattr(function, "trace") else jax.jit(function)
    closed = jitted.trace(*arguments).jaxpr
    first: dict[str, Operation] = {}
    _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), first)
    return first


def _evaluate(jaxpr: Any, consts: Any, arguments: Any, first: dict[str, Operation]) -> list[Any]:
    """Returns the outputs of a jaxpr; none once NaN occurs."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))
    last_use = {
        variable: index
        for index, equation in enumerate(jaxpr.eqns)
        for variable in equation.invars
        if not isinstance(variable, Literal)
    }
    results = {variable for variable in jaxpr.outvars if not isinstance(variable, Literal)}

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for index, equation in enumerate(jaxpr.eqns):
        inputs = [read(variable) for variable in equation.invars]
        outputs = _apply(equation, inputs, first)
        if "NaN" in first:
            return []
        values |= zip(equation.outvars, outputs, strict=True)
        # The memory of what is no longer needed is free.
        for variable in equation.invars:
            if not isinstance(variable, Literal) and last_use[variable] == index and variable not in results:
                values.pop(variable, None)
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any], first: dict[str, Operation]) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive.name in CALLS:
        inner = params[CALLS[primitive.name]]
        return _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs, first)
    with equation.ctx.manager:
        outputs = primitive.bind(*inputs, **primitive.get_bind_params(params))
    outputs = list(outputs) if primitive.multiple_results else [outputs]
    has_nan, has_infinite = (_any(test, outputs) for test in (jnp.isnan, jnp.isinf))
    if has_nan and not _any(jnp.isnan, inputs):
        first["NaN"] = _describe("NaN", equation, inputs)
    elif has_infinite and "infinite" not in first and not _any(jnp.isinf, inputs):
        first["infinite"] = _describe("infinite", equation, inputs)
    return outputs


def _any(test: Callable[[Any], jax.Array], values: list[Any]) -> bool:
    return any(
        bool(test(value).any()) for value in values if jnp.issubdtype(jnp.result_type(value), jnp.floating)
    )


def _describe(kind: str, equation: Any, inputs: list[Any]) -> Operation:
    frames = equation.source_info.traceback.frames if equation.source_info.traceback else ()
    own = (
        f"{Path(frame.file_name).relative_to(PACKAGE.parent)}:{frame.line_num}"
        for frame in frames
        if PACKAGE in Path(frame.file_name).parents and Path(frame.file_name).parent != PACKAGE / "train"
    )
    where = ", ".join(filter(None, (next(own, ""), str(equation.source_info.name_stack))))
    ranges = []
    for value in inputs:
        array = np.asarray(value) if jnp.issubdtype(jnp.result_type(value), jnp.floating) else np.zeros(0)
        finite = array[np.isfinite(array)]
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    return Operation(kind, equation.primitive.name, where or "of JAX", tuple(ranges))


def broken_rows(step: KeyedStep, state: State, batch: Batch) -> list[int]:
    """Returns the rows of a batch whose gradient alone is not finite.

    Args:
      step: the step of a run.
      state: the state before it; not donated.
      batch: the batch on the host, leaves [B, ...]. In place of it, each row is taken B times.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    before = jax.device_get(state)
    broken = []
    arrays = cast(Mapping[str, np.ndarray], batch)
    for row in range(len(arrays["image"])):
        same = {name: np.repeat(values[row : row + 1], len(values), 0) for name, values in arrays.items()}
        after, _ = step(jax.device_put(before, shardings), cast(Batch, same))
        if int(after.skipped) > int(before.skipped):
            broken.append(row)
    return broken
