"""Data sets: the facts, the files, the splits, and the tensors on the device."""
