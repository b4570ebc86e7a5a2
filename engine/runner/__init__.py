"""The run loop: takes a run from where the store says it stands to its next stop."""
