"""Data augmentation on the device; `policy` composes the operations of the other modules."""
