"""Layouts of a train step: the order in which they are tried, and that the first one that fits is taken."""

import dataclasses
import types

import jax
import pytest

from selw2s_jax import sharding
from selw2s_jax.data import batches
from selw2s_jax.models import registry
from selw2s_jax.runtime import device_memory
from selw2s_jax.training import fit, layouts

QWEN_14B = registry.MODELS["qwen-14b"].config
GIB = 2**30


def make_work(trained: str = "all", tokens: int = 64 * 128, **changes) -> layouts.Work:
    """The selective step of Qwen-14B on 64 examples of 128 tokens."""
    num_params = 14_167_290_880
    work = layouts.Work(
        QWEN_14B,
        trained,
        num_params,
        num_params if trained == "all" else 10**7,
        "float32",
        "bfloat16",
        "float32",
        tokens,
        128,
        (32, 32),
    )
    return work._replace(**changes)


def test_the_order_is_that_of_an_estimate_of_time():
    ordered = layouts.candidates(make_work(), 8)
    assert len(set(ordered)) == len(ordered) == 10 * 2 * 6
    # Of few tokens activations are less to send than weights, which products of many hide.
    assert ordered[0] == layouts.Layout((1, 2, 4), "dots", 1)
    long = make_work(tokens=64 * 1024, longest=1024)
    assert layouts.candidates(long, 8)[0] == layouts.Layout((1, 8, 1), "dots", 1)
    place = {layout: number for number, layout in enumerate(ordered)}
    for shape in layouts.mesh_shapes(
        QWEN_14B, 8
    ):  # what is made again costs time, and so does a second forward pass
        dots, full = (place[layouts.Layout(shape, remat, 1)] for remat in ("dots", "full"))
        assert dots < full < place[layouts.Layout(shape, "full", 2)]
    # Frozen weights are gathered for nothing where each device can hold all, and adapters are few to add up.
    assert layouts.candidates(make_work("lora"), 8)[0].mesh_shape == (8, 1, 1)


def test_rows_that_not_every_device_would_have_are_split_by_tensor():
    work = make_work(tokens=2 * 1024, longest=1024, batch_sizes=(2,))
    assert layouts.candidates(work, 8)[0].mesh_shape[2] > 1


def test_what_is_given_is_not_changed():
    given = layouts.Given((2, 4, 1), None, 4)
    assert set(layouts.candidates(make_work(), 8, given)) == {
        layouts.Layout((2, 4, 1), "dots", 4),
        layouts.Layout((2, 4, 1), "full", 4),
    }
    assert given.layout is None
    assert layouts.Given((2, 4, 1), "none", 1).layout == layouts.Layout((2, 4, 1), "none", 1)


@pytest.mark.parametrize(
    ("sizes", "micros"), [((32, 32), [1, 2, 4, 8, 16, 32]), ((12, 18), [1, 2, 6]), ((7,), [1, 7])]
)
def test_micro_batches_divide_the_examples_of_every_kind(sizes, micros):
    found = layouts.candidates(make_work(batch_sizes=sizes), 8)
    assert sorted({layout.num_micro for layout in found}) == micros


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.4])
def test_less_memory_takes_the_next_layout_that_fits_and_few_are_counted(factor):
    """With a compiler that counts so many times the rough count."""
    work = make_work()
    ordered = layouts.candidates(work, 8)
    asked = []

    def count(layout: layouts.Layout) -> int:
        asked.append(layout)
        return int(factor * layouts.rough_bytes(work, layout))

    chosen = []
    for gib in (2000, 71, 40, 32, 28, 24, 10):
        asked.clear()
        found = layouts.search(work, ordered, gib * GIB, count)
        assert [one.layout for one in found.tried] == asked and len(asked) <= 6
        chosen.append(found.chosen and found.chosen.layout)
        if found.chosen is not None:
            assert found.chosen.num_bytes <= gib * GIB
    assert chosen[0] == ordered[0] and not layouts.search(work, ordered, 2000 * GIB, count).tried
    assert chosen[-1] is None
    places = [ordered.index(layout) for layout in chosen if layout is not None]
    assert places == sorted(places) and len(set(places)) >= 2


def test_a_tight_layout_is_taken_only_where_none_leaves_room():
    work = make_work(tokens=64 * 1024, longest=1024)
    first, second = (layouts.Layout((1, 8, 1), remat, 1) for remat in ("dots", "full"))

    def pick(**gib: int) -> layouts.Layout:
        count = lambda layout: gib[layout.remat] * GIB  # noqa: E731
        return layouts.search(work, [first, second], 70 * GIB, count).chosen.layout

    assert pick(dots=60, full=40) == first
    assert pick(dots=66, full=40) == second
    assert pick(dots=66, full=69) == first
    assert pick(dots=75, full=69) == second


def test_the_state_alone_is_never_compiled_where_it_does_not_fit():
    def count(layout):
        raise AssertionError(layout)

    work = make_work()
    found = layouts.search(work, layouts.candidates(work, 8), GIB, count)
    assert found == (None, ())


def test_what_a_compiler_refuses_without_a_number_does_not_fit():
    work = make_work()
    first, second = (layouts.Layout((1, 8, 1), remat, 1) for remat in ("dots", "full"))
    found = layouts.search(work, [first, second], 50 * GIB, lambda layout: 0 if layout == first else 40 * GIB)
    assert found.chosen.layout == second and found.tried[0].num_bytes > 50 * GIB


def test_the_state_is_that_of_parameters_and_moments():
    assert make_work().state_bytes == 12 * 14_167_290_880
    assert make_work("lora").state_bytes == 12 * 10**7 + 2 * (14_167_290_880 - 10**7)
    assert layouts.least_bytes(make_work(), layouts.Layout((2, 2, 2), "full", 1)) == 3 * 14_167_290_880
    small = dataclasses.replace(QWEN_14B, num_layers=1)
    assert layouts.rough_bytes(make_work(config=small), layouts.Layout((1, 8, 1), "dots", 1)) > 0


def test_a_cpu_holds_bfloat16_in_float32_too_and_a_loss_of_tokens_its_logits():
    layout, work = layouts.Layout((1, 4, 2), "dots", 2), make_work("lora")
    rough = layouts.rough_bytes(work, layout)
    on_cpu = work._replace(platform="cpu")
    assert layouts.rough_bytes(on_cpu, layout) - rough == 4 * work.num_params // 8
    assert layouts.rough_bytes(on_cpu._replace(compute_dtype="float32"), layout) == layouts.rough_bytes(
        work._replace(compute_dtype="float32"), layout
    )
    # Half a GiB at once on all devices together, or as many as the tokens have.
    written = work._replace(predicts_tokens=True)
    assert layouts.rough_bytes(written, layout) - rough == 3 * GIB // 2 // 8
    few = {"num_tokens": 16, "longest": 2}
    difference = layouts.rough_bytes(written._replace(**few), layout) - layouts.rough_bytes(
        work._replace(**few), layout
    )
    assert difference == 3 * 4 * 2 * QWEN_14B.vocab_size // 2


def test_a_program_that_the_compiler_refuses_does_not_fit_whatever_it_names(monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(fit.state, "abstract", lambda *_: (None, None, None))
    monkeypatch.setattr(fit, "_train_step", lambda *_: types.SimpleNamespace(lower=refuse))
    mesh = sharding.single_device_mesh()
    needed = fit.peak_bytes(
        batches.Batch(*[None] * 7, weight=None, columns={}),
        None,
        objective=None,
        computation=types.SimpleNamespace(rule_state=None),
        optimizer=None,
        mesh=mesh,
        train_steps={},
    )
    assert needed > device_memory.usable_bytes(mesh.devices.flat)
