"""Computations that training, commands and reports share. Nothing here draws pictures."""
