"""Everything that people and GitHub touch: the command line today."""

VERSION = "0.1.0"
