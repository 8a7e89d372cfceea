"""Tasks: a network with its loss, and the segmentation that its outputs mean."""
