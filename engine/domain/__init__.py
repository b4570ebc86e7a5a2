"""Pure rules of the engine: states, errors, files, bindings. Nothing here does I/O."""
