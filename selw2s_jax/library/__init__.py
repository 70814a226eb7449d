"""Runs from a script or a notebook: started, read back, their students asked."""
