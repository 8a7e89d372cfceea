"""What is wrong with images and masks: found, named, repaired where that is safe, and never deleted."""

from segjax.datasets.checks.collection import check_pairs, check_set
from segjax.datasets.checks.examination import CheckResult, check_image, is_excluded
from segjax.datasets.checks.files import check_file
from segjax.datasets.checks.findings import KINDS, Finding, Kind, finding_of
from segjax.datasets.checks.summary import Summary, summarise

__all__ = [
    "KINDS",
    "CheckResult",
    "Finding",
    "Kind",
    "Summary",
    "check_file",
    "check_image",
    "check_pairs",
    "check_set",
    "finding_of",
    "is_excluded",
    "summarise",
]
