"""Trackers, which show runs while they train and side by side, each in a worker that training does not wait for."""
