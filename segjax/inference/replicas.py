"""Copies of parameters on the devices that predict with them."""

from __future__ import annotations

import threading

import jax

from segjax.typing import Params


class Replicas:
    """Copies of parameters, one on each device; threads may use it, each with a default device of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._params: Params | None = None
        self._copies: dict[jax.Device, Params] = {}

    def here(self, params: Params) -> Params:
        """Returns parameters on the default device of this thread; unchanged if it has none."""
        device = jax.config.jax_default_device  # type: ignore[attr-defined]
        if device is None:
            return params
        with self._lock:
            if params is not self._params:
                self._params, self._copies = params, {}
            if device not in self._copies:
                self._copies[device] = jax.device_put(params, device)
            return self._copies[device]
