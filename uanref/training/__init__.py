"""Training: optimizers, schedules, trainer, history, checkpoints."""
