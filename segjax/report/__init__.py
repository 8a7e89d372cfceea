"""Visualization and reporting: overlays, comparison tables and HTML reports."""

from segjax.report.evaluation_page import Example, write_report
from segjax.report.overlays import legend, overlay, triptych
from segjax.report.table import as_text, comparison, per_class

__all__ = ["Example", "as_text", "comparison", "legend", "overlay", "per_class", "triptych", "write_report"]
