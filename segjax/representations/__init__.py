"""How a dense network represents instances: targets, output channels, loss and decoder of each way."""

from segjax.representations.base import DecoderConfig, Representation
from segjax.representations.boundary import Boundary
from segjax.representations.colours import Colours
from segjax.representations.components import Components
from segjax.representations.flows import Flows
from segjax.representations.heights import Height

REPRESENTATIONS: dict[str, Representation] = {
    "components": Components(),
    "boundary": Boundary(),
    "distance": Height("distance"),
    "poisson": Height("poisson"),
    "flows": Flows(),
    "colours": Colours(),
}

__all__ = ["REPRESENTATIONS", "DecoderConfig", "Representation"]
