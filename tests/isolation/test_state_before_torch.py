"""The state of actors that were there before torch was imported; this module must not import it."""

import sys

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Late:
    """Imports torch when it is asked."""

    def torch_is_here(self):
        return "torch" in sys.modules

    def grad(self):
        from torch import is_grad_enabled

        return is_grad_enabled()


def disable_grad():
    from torch import set_grad_enabled

    set_grad_enabled(False)


def test_what_functions_set_in_torch_is_not_that_of_actors_that_were_there_before():
    with multipy.Pool(1) as pool:
        early = Late.options(pool=pool).remote()
        assert not early.torch_is_here()
        pool.submit(disable_grad).result(timeout=PATIENCE)
        assert early.grad()
        assert not Late.options(pool=pool).remote().grad()  # actors begin with what functions have set
