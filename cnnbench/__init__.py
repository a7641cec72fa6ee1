"""cnnbench: train, measure and compare the classic convolutional networks."""

import time

__version__ = "0.2.0"

STARTED = time.perf_counter()  # the wall time of a run counts from here
