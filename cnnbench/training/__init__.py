"""Training: the loop, the step engines and their parts, checkpoints and resuming."""
