"""What the runs of `cnnbench reproduce` say of the book's networks and of the notes' claims."""
