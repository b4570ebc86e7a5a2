"""The parts of docs/ that are made from the code, so that they cannot drift from it (`python -m app.reference`)."""
