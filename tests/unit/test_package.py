"""The package: its public names, loaded on first use."""

import importlib
import pkgutil

import pytest

import multipy_actors as multipy


@pytest.mark.parametrize("name", multipy.__all__)
def test_a_public_name_is_not_hidden_by_a_module_of_that_name(name):
    for module in pkgutil.iter_modules(multipy.__path__):
        if module.name == name:
            importlib.import_module(f"multipy_actors.{name}")
    assert type(getattr(multipy, name)) is not type(multipy)
    assert type(getattr(multipy, name)) is not type(importlib)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'multipy_actors' has no attribute 'Pol'"):
        multipy.Pol  # noqa: B018


def test_classes_that_travel_do_not_hide_the_decorator_where_they_arrive(pool):
    @multipy.remote
    class Given:
        pass

    def decorate(given):  # takes the package along
        return callable(multipy.remote) and multipy.remote(given) is given

    assert pool.submit(decorate, Given).result()
