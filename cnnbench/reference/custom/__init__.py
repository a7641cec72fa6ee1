"""Layers, losses and optimizers that the user writes: run, and compared with PyTorch's."""
