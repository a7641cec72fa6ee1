"""The run directory: who may write there, how it went, and what it recorded."""
