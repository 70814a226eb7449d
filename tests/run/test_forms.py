"""Which form of supervision a run is of."""

import pytest
from support import tiny_config

from selw2s_jax.errors import UserError
from selw2s_jax.run import forms


def test_a_supervision_that_is_none_is_refused_before_it_is_looked_for():
    with pytest.raises(UserError, match=r"config.supervision='class' is not one of: class_head, completion"):
        forms.get(tiny_config.make_config(supervision="class"))
    in_turn = forms.get(tiny_config.make_config(continual__tasks=("sciq", "boolq")))
    assert in_turn.experiment is not forms.FORMS["class_head"].experiment
