"""GitHub: what it delivers, read into typed events, and what we ask of it, as typed calls."""
