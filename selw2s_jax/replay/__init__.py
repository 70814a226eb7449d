"""The command `python -m selw2s_jax.replay`: the labels of a finished run under other settings, without training."""
