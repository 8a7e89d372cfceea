"""Changes the convolutions of networks while they are traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flax import linen as nn

from segjax.typing import Array


@contextmanager
def around_convolutions(function: Callable[[Array], Array]) -> Iterator[None]:
    """Applies a function to the input and output [B, H, W, C] of each convolution that is traced within."""

    def call_between(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        is_convolution = isinstance(context.module, nn.Conv) and context.method_name == "__call__"
        if not is_convolution or args[0].ndim != 4:
            return call(*args, **kwargs)
        return function(call(function(args[0]), *args[1:], **kwargs))

    with nn.intercept_methods(call_between):
        yield
