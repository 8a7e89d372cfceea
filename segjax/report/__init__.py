"""Reports: HTML pages, charts, score tables, and pictures of segmentations."""
