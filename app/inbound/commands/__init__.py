"""Comment commands: what there is (registry) and what a comment says (parser)."""
