"""Sweeps: which jobs there are, which of them are to run, and how they are stopped together."""
