# An environment returns its observation buffer, which it fills anew at each step, as many simulators do.
# Results are the actor's memory unless it is told to copy, and then each is a snapshot, as with processes.
import numpy as np

import multipy_actors as multipy


@multipy.remote
class Env:
    def __init__(self):
        self.buffer = np.zeros(2, int)

    def step(self):
        self.buffer += 1
        return self.buffer


with multipy.Pool(1) as pool:
    shared = Env.options(pool=pool).remote()
    replay = [shared.step() for _ in range(3)]
    assert [o[0].item() for o in replay] == [3, 3, 3]

    copying = Env.options(pool=pool, copy=True).remote()
    replay = [copying.step() for _ in range(3)]
    assert [o[0].item() for o in replay] == [1, 2, 3]

    step = shared.step.options(copy=True)
    replay = [step() for _ in range(3)]
    assert [o[0].item() for o in replay] == [4, 5, 6]

with multipy.Pool(1, share="nothing") as pool:
    env = Env.options(pool=pool).remote()
    replay = [env.step() for _ in range(3)]
    assert [o[0].item() for o in replay] == [1, 2, 3]
