"""The part of the sandbox that runs outside the engine: one supervisor process for each confined command."""
