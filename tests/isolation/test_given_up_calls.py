"""A call that was given up because of a circle does not run later, and begin it again."""

import multipy_actors as multipy


@multipy.remote
class Polite:
    def __init__(self):
        self.asked = 0
        self.other = None

    def meet(self, other):
        self.other = other

    def after_you(self):
        self.asked += 1
        return self.other.after_you()

    def times_asked(self):
        return self.asked


def test_a_wait_that_could_never_end_takes_its_call_back(pool):
    first, second = (Polite.options(pool=pool, interpreter=index).remote() for index in (0, 1))
    first.meet(second)
    second.meet(first)
    error = first.after_you.submit().exception(timeout=60)
    assert isinstance(error, multipy.DeadlockError)
    # The call that closed the circle was queued before these.
    assert [first.times_asked(), second.times_asked()] == [1, 1]
