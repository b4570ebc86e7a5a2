"""`make demo`: the main job on a sample repository, from an issue to a branch whose test passes."""
