"""segjax segments cells in medical and microscopy images and compares the ways of doing it."""

__version__ = "0.1.0"
