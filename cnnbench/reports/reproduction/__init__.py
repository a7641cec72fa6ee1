"""The verdicts of `cnnbench reproduce` on the networks of the book and the claims of the notes."""
