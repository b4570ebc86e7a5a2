"""A runner of our own: does with a composite action what GitHub's runner does with it, as far as ours needs it."""
