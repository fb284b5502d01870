"""An actor can look itself up by its name while it is being made."""

import multipy_actors as multipy


@multipy.remote
class Registered:
    def __init__(self, name):
        self.me = multipy.get_actor(name)

    def is_myself(self):
        return self.me is not None


with multipy.Pool(2) as pool:
    for number in range(200):
        name = f"registered-{number}"
        actor = Registered.options(pool=pool, name=name, replicas=1 + number % 2).remote(name)
        assert actor.is_myself()
        multipy.kill(actor)
