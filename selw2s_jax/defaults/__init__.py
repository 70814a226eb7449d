"""Every key of the config with its default, a file for each kind; a comment says what else it may be."""
