"""What comes in from GitHub: stored at the door, read into events, handled one at a time."""
