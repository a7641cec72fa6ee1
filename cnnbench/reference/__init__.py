"""Reference implementations of every layer, loss and optimizer: one chapter a file."""
