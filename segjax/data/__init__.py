"""What a training step sees: records, readers, preprocessing, augmentation and the batch stream."""
