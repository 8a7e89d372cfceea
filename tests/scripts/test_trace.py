"""The suite that sorts the operations of a trace by module."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAM = """
%fused_computation (p: f32[2]) -> f32[2] {
  %p = f32[2] parameter(0)
  ROOT %dot.1 = f32[2] dot(%p, %p), metadata={op_name="jit(f)/transpose(jvp(Net))/encoder/stage1/dot_general"}
}

%nameless (q: f32[2]) -> f32[2] {
  ROOT %convolution.3 = f32[2] convolution(%q, %q)
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %fusion = f32[2] fusion(%x), kind=kCustom, calls=%fused_computation
  %fusion.2 = f32[2] fusion(%x), kind=kCustom, calls=%nameless
  ROOT %add.4 = f32[2] add(%fusion, %fusion.2), metadata={op_name="jit(f)/jvp(vmap())/while/body/add"}
}
"""


@pytest.fixture
def trace(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import trace

    return trace


def test_the_time_of_a_loop_is_not_that_of_its_operations(trace):
    spans = [(1.0, 4.0, "add"), (0.0, 10.0, "loop"), (5.0, 3.0, "add"), (10.0, 2.0, "copy")]
    assert trace.own_times(spans) == {"loop": 3.0, "add": 7.0, "copy": 2.0}


def test_operations_have_the_place_of_their_metadata_or_of_what_is_fused(trace):
    places = trace.places(PROGRAM)
    assert places["fusion"] == places["dot.1"] == trace.Place("encoder/stage1", True, True)
    assert places["fusion.2"] == trace.Place(trace.NOT_NAMED, True, True)
    assert places["add.4"] == trace.Place("loss and targets", False, False)


def test_a_row_has_the_time_of_a_module(trace):
    seconds = {"fusion": 0.006, "fusion.2": 0.003, "add.4": 0.001}
    lines = trace.table("step", seconds, trace.places(PROGRAM)).splitlines()
    assert lines[0].startswith("| step | ")
    assert lines[2] == "| encoder/stage1 | 0 ms | 0 ms | 6 ms | 0 ms | 60 % |"
    assert lines[-1] == "| all | 0 ms | 1 ms | 9 ms | 0 ms | 100 % |"
    assert len(lines) == 2 + 3 + 1


def test_a_trace_has_the_operations_of_a_network(trace):
    network, x = nn.Dense(64, name="head"), jnp.ones((64, 64))
    params = network.init(jax.random.key(0), x)
    step = jax.jit(jax.grad(lambda params: jnp.sum(network.apply(params, x) ** 2))).lower(params).compile()
    places = trace.places(step.as_text())
    seconds = trace.trace(lambda: jax.block_until_ready(step(params)), places, 2)
    assert seconds
    assert all(value >= 0 for value in seconds.values())
    assert any(places[name].backward and places[name].product for name in seconds)
