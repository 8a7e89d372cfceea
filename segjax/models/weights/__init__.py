"""Weights files: reading, converting and loading published checkpoints."""
