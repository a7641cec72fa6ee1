"""Every layer, loss and optimizer written out by hand: one file per chapter, each to be read alone."""
