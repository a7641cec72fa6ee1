"""What a trained network sees, has learnt and gets wrong: the parts of `cnnbench inspect`."""
