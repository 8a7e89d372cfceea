"""Methods without weights, from their names and the parameters that configs give them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from segjax.classical import METHODS, STAGES
from segjax.classical.stages import Stages
from segjax.errors import InputError
from segjax.segmentation import Method


def make_classical(name: str, settings: Mapping[str, Any]) -> Method:
    """Makes a method without weights from its name and its parameters.

    Raises:
      InputError: if there is no such method or parameter; it names those that there are.
    """
    checked = _checked(name, settings)
    return functools.partial(METHODS[name], **checked)


def make_stages(name: str, settings: Mapping[str, Any]) -> Callable[[np.ndarray], Stages]:
    """As `make_classical`, with all the stages that lead to the segmentation."""
    checked = _checked(name, settings)
    return functools.partial(STAGES[name], **checked)


def make_reference(config: ConfigDict) -> Method:
    """Makes the method that numbers are read against."""
    settings = dict(config.reference)
    return make_classical(settings.pop("name"), settings)


def _checked(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if name not in METHODS:
        raise InputError(f"there is no method {name!r} without weights: choose one of {', '.join(METHODS)}")
    known = list(inspect.signature(STAGES[name]).parameters)[1:]
    if unknown := [field for field in settings if field not in known]:
        raise InputError(f"method {name} has no parameter {unknown[0]!r}: it has {', '.join(known)}")
    return dict(settings)
