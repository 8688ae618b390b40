"""Data: embedded sets, files, batches, augmentation."""
