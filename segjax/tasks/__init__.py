"""Tasks: a network, its loss, and the conversion of its outputs to a segmentation."""
