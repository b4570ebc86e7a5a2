"""Everything that people and GitHub touch: the command line today."""
