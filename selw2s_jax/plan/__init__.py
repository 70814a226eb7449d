"""What a run needs, before there is hardware to run it on."""
