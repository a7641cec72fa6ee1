"""What shows a run while it trains: curves.png, and trackers, each in a thread of its own."""
