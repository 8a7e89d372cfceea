"""Data sets on disk: TFDS builders that write ArrayRecord shards without TensorFlow."""
