"""Orders of choices, and paraphrases from files."""

import collections
import itertools
import json

import pytest
from support import fuzz, fuzz_answers

from selw2s_jax.data import variations
from selw2s_jax.errors import UserError


@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize(
    ("num_choices", "count"), [(2, 1), (2, 5), (3, 5), (3, 6), (3, 9), (4, 5), (4, 24), (7, 3)]
)
def test_orders_are_different_permutations_and_as_many_as_there_can_be(num_choices, count, cyclic):
    most = num_choices if cyclic else len(list(itertools.permutations(range(num_choices))))
    for example_id in ("a", "b/1", "\u00fc"):
        found = variations.permutations(example_id, num_choices, count=count, seed=3, cyclic=cyclic)
        assert len(found) == len(set(found)) == min(count, most)
        assert all(sorted(order) == list(range(num_choices)) for order in found)
        assert found == variations.permutations(example_id, num_choices, count=count, seed=3, cyclic=cyclic)
        fewer = variations.permutations(example_id, num_choices, count=1, seed=3, cyclic=cyclic)
        assert fewer == found[:1]


def test_orders_are_these():
    """Of seed and example_id alone, on any machine."""
    assert variations.permutations("mmlu/test/0", 4, count=5, seed=0) == ORDERS
    others = [
        variations.permutations(name, 4, count=5, seed=seed)
        for name, seed in (("mmlu/test/1", 0), ("mmlu/test/0", 1))
    ]
    assert ORDERS not in others and others[0] != others[1]


ORDERS = [(1, 3, 0, 2), (1, 2, 0, 3), (0, 3, 1, 2), (3, 1, 0, 2), (3, 1, 2, 0)]


def test_orders_are_uniform():
    """Which orders, which pairs of them, and which choice at which place; the original as often as any."""
    found = [variations.permutations(str(i), 3, count=2, seed=0) for i in range(3000)]
    for counts, cells in (
        (collections.Counter(orders[0] for orders in found), 6),
        (collections.Counter(orders[1] for orders in found), 6),
        (collections.Counter(map(tuple, found)), 30),
    ):
        expected = 3000 / cells
        assert len(counts) == cells
        chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi_squared < (cells - 1) + 4 * (2 * (cells - 1)) ** 0.5
    missing = sum((0, 1, 2) not in orders for orders in found)
    assert 1900 < missing < 2100  # two of six orders: not forced in, nor kept out


def test_cyclic_orders_have_each_choice_once_at_each_place():
    found = [variations.permutations(str(i), 4, count=9, seed=0, cyclic=True) for i in range(50)]
    for orders in found:
        assert all(sorted(at_place) == [0, 1, 2, 3] for at_place in zip(*orders, strict=True))
        assert all(later == first[1:] + first[:1] for first, later in itertools.pairwise(orders))
    assert len({orders[0] for orders in found}) > 15


@pytest.mark.parametrize("count", [0, -1, True, 2.0])
def test_no_number_of_variations_is_refused(count):
    with pytest.raises(UserError, match=r"variations\.count is .*; it must be 1 or more"):
        variations.permutations("a", 4, count=count, seed=0)


@pytest.mark.parametrize("num_choices", [0, 1])
def test_one_choice_has_no_orders(num_choices):
    with pytest.raises(UserError, match=f"question a has {num_choices} choice; it takes two"):
        variations.permutations("a", num_choices, count=5, seed=0)


def write(tmp_path, rows) -> str:
    path = tmp_path / "paraphrases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(name, *texts):
    return {"example_id": name, "paraphrases": list(texts)}


def test_paraphrases_come_in_the_order_of_the_questions_and_no_more_than_asked(tmp_path):
    path = write(tmp_path, [row("b", "3?", "4?", "3?"), row("a", "1?", "2?")])
    assert variations.read_paraphrases(path, ["a", "b"], count=2) == {"a": ("1?", "2?"), "b": ("3?", "4?")}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a", "1?", "2?")], "lacks 1 of 2 questions (first: b); add their paraphrases, or ask fewer"),
        ([row("x", "1?", "2?")], "lacks 2 of 2 questions (first: a)"),
        (
            [row(name, "1?", "2?") for name in "abc"],
            "has 1 questions that are not asked (first: 'c'); remove them, or correct their example_ids",
        ),
        ([row("a", "1?")], "line 1: 1 paraphrases, and variations.count is 2; add some or lower it"),
        ([row("a", "1?", "1?")], "line 1: a paraphrase is there twice; write it otherwise"),
        ([row("a", "1?", " ")], "line 1: paraphrases is empty"),
        ([row("a", "1?", 2)], "line 1: paraphrases must be text, found 2"),
        (
            [{"example_id": "a", "paraphrases": "1? 2?"}],
            "line 1: paraphrases must be a list of texts, found '1? 2?'",
        ),
        ([{"example_id": "a"}], "line 1: paraphrases must be a list of texts, found nothing"),
        ([{"paraphrases": ["1?", "2?"]}], "line 1: example_id must be text, found nothing"),
        ([row("a", "1?", "2?")] * 2, "line 2: example_id 'a' is also above; remove one of the two"),
        (["text"], "line 1: not a JSON object: 'text'; expected {\"example_id\": text, "),
        ([3, 4], "2 of 2 rows are bad: line 1: "),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, rows, message):
    with pytest.raises(UserError) as refused:
        variations.read_paraphrases(write(tmp_path, rows), ["a", "b"], count=2)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl is missing or not a file; give JSON lines of"):
        variations.read_paraphrases(tmp_path / "none.jsonl", ["a"], count=2)


def test_damaged_files_are_read_or_refused():
    assert not (found := fuzz.faults(fuzz_answers.PARAPHRASES, range(60))), "\n\n".join(found)
