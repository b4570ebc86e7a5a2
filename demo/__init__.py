"""The demo: the program behind `make demo`, and the sample repository that it works on."""
