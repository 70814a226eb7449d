"""A sweep of two cells."""

from support import refusals


def make_sweep(prepared: refusals.Prepared, **overrides):
    config = refusals.make_config(prepared, methods=("finetune", "p_ik_only"), **overrides)
    config.sweep.settings = ("weak.label_noise=0,0.25",)
    return config
