"""Runs on this machine, seen and steered from a terminal."""
