"""The one jitted train step, its state and its loop."""
