"""The kinds of stages of a run: what each is a function of, and how its artifact is made."""
