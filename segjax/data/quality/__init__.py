"""What is wrong with images and masks: found, named, repaired where that is safe, and never deleted."""

from segjax.data.quality.collection import examine_pairs, examine_set
from segjax.data.quality.examination import Examined, examine, left_out
from segjax.data.quality.files import examine_file
from segjax.data.quality.findings import KINDS, Finding, Kind, finding_of
from segjax.data.quality.summary import Summary, summarise

__all__ = [
    "KINDS",
    "Examined",
    "Finding",
    "Kind",
    "Summary",
    "examine",
    "examine_file",
    "examine_pairs",
    "examine_set",
    "finding_of",
    "left_out",
    "summarise",
]
