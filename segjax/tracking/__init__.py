"""Links cells over the frames of a series, with divisions, and over the slices of a stack."""

from segjax.tracking.settings import TrackingConfig
from segjax.tracking.slices import SliceLinker, volume_table
from segjax.tracking.tracker import Tracker
from segjax.tracking.tracks import Tracks

__all__ = ["SliceLinker", "Tracker", "TrackingConfig", "Tracks", "volume_table"]
