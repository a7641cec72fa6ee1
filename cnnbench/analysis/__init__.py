"""Computations without pictures, which training and reports share."""
