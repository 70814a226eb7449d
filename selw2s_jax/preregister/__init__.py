"""The command that registers a study before it is run."""
