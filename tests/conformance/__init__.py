"""The same conversations against every host of the engine: the App's server, the Action's step, the command line."""
