"""Measures how fast Devflow's own parts are: medians, and ratios to the bare thing (`python -m bench [NAME ...]`)."""
