"""curves.png and trackers: they show a run while it trains."""
