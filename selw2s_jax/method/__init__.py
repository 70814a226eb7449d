"""The method as pure functions of arrays: losses, graph smoothing, selection."""
