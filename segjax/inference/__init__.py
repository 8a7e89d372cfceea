"""From trained parameters and an image of any size to a Segmentation, and from there to files."""
