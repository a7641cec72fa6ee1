"""Training: the loop, the step engine, and what they are made of."""
