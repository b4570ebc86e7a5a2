"""Personas at work: the agent loop, the models behind it and the tools they may use."""
