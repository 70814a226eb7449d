"""What a run says of the time before its stages, and of the programs that it compiles."""

import time

import jax
import jax.numpy as jnp

from selw2s_jax.runtime import timing


def test_programs_are_counted_once_each_and_only_within():
    double = jax.jit(lambda x: 2 * x + 1)
    values = jnp.arange(3.0)
    with timing.Programs() as made:
        double(values)
        double(values)
    jax.jit(lambda x: 3 * x - 1)(values)
    assert (made.count, made.num_read) == (1, 0)
    assert made.describe() == f"; 1 programs took {made.seconds:.1f} s, 0 of them from the cache"
    with timing.Programs() as none:
        double(values)
    assert none.describe() == ""


def test_what_came_before_is_the_start_of_the_process_and_reading(monkeypatch):
    began = time.monotonic() - 2
    monkeypatch.setattr(timing, "_since_start", lambda: 5.0)
    found = timing.until_now(began, of_process=True)
    assert 2 <= found["read"] < 5 and found["import"] + found["read"] == 5
    assert timing.describe({"import": 3, "read": 2}) == "3.0 s to import, 2.0 s to read"
    assert list(timing.until_now(began, of_process=False)) == ["read"]
    monkeypatch.setattr(timing, "_since_start", lambda: None)
    assert list(timing.until_now(began, of_process=True)) == ["read"]


def test_the_age_of_this_process_is_told_or_not_known():
    age = timing._since_start()
    assert age is None or 0 < age < 1e6
