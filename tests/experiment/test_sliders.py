"""The sliders of the page of `segjax serve` and of exported pages."""

import dataclasses
from typing import Any

import pytest

from segjax.classical import METHODS, make_method
from segjax.experiment.decoder_fit import decoder_settings, with_settings
from segjax.experiment.sliders import NETWORK_SLIDERS, make_sliders
from segjax.serving.methods import CLASSICAL_SLIDERS
from segjax.tasks.detection_config import DetectionConfig
from segjax.tasks.semantic import SemanticConfig, SemanticTask


@dataclasses.dataclass(frozen=True)
class Configured:
    """A task that has settings only."""

    config: Any


@pytest.mark.parametrize("name", NETWORK_SLIDERS)
def test_both_ends_of_a_slider_are_possible_settings(name):
    configs = [SemanticConfig(), DetectionConfig()]
    (config, *_) = [one for one in configs if name.split(".")[0] in vars(one)]
    bounds = NETWORK_SLIDERS[name]
    assert bounds.low < bounds.high
    assert (bounds.high - bounds.low) / bounds.step == pytest.approx(
        round((bounds.high - bounds.low) / bounds.step)
    )
    for value in (bounds.low, bounds.high):
        setting = (value,) if (name, type(config)) == ("min_area", SemanticConfig) else value
        changed = with_settings(Configured(config), {name: setting}).config
        for part in name.split("."):
            changed = getattr(changed, part)
        assert changed == setting


@pytest.mark.parametrize("name", CLASSICAL_SLIDERS)
def test_both_ends_of_a_slider_are_possible_settings_of_every_classical_method(name):
    for method in METHODS:
        settings = make_method(method).settings
        for value in CLASSICAL_SLIDERS[name][1:3] if hasattr(settings, name) else ():
            assert getattr(dataclasses.replace(settings, **{name: value}), name) == value


def test_a_network_has_the_sliders_of_its_decoder_at_their_values():
    config = SemanticConfig(min_area=(12, 30), foreground_threshold=None)
    sliders = make_sliders(NETWORK_SLIDERS, decoder_settings(SemanticTask(None, 3, config)))
    values = {slider.name: slider.value for slider in sliders}
    assert values["min_area"] == 12
    assert values["decoder.h"] == config.decoder.h
    # Where no value is set, the slider stands in the middle.
    assert values["foreground_threshold"] == 0.5
