"""In a process of its own, where a collection goes over little else: what is freed within and after `set_aside`."""

import gc
import weakref

from selw2s_jax.runtime import garbage


class Cycle:
    def __init__(self):
        self.me = self


def what_there_was_is_left_alone_and_what_is_new_is_freed():
    old = Cycle()
    of_old = weakref.ref(old)
    with garbage.set_aside():
        del old
        new = weakref.ref(Cycle())
        gc.collect()
        assert new() is None and of_old() is not None
    gc.collect()
    assert of_old() is None and gc.get_freeze_count() == 0


def an_error_within_ends_it():
    try:
        with garbage.set_aside():
            raise KeyError
    except KeyError:
        pass
    assert gc.get_freeze_count() == 0


if __name__ == "__main__":
    what_there_was_is_left_alone_and_what_is_new_is_freed()
    an_error_within_ends_it()
    print("done")
