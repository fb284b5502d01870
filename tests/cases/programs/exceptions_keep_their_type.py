# requires: pydantic
"""What pickle can take, and what a constructor with other arguments made, arrives as what it is."""

import builtins

import pydantic

import multipy_actors as multipy


class Model(pydantic.BaseModel):
    x: int


class Two(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


class Keyword(OSError):
    def __init__(self, *, code):
        super().__init__(2, f"code {code}", "a file")
        self.code = code


def validate():
    return Model(x="a")


def raise_two():
    raise Two(1, 2)


def raise_keyword():
    raise Keyword(code=5)


def raise_group():
    group = getattr(builtins, "ExceptionGroup", None)  # Python 3.10 has none
    raise Two(3, 4) if group is None else group("of them", [Two(3, 4), ValueError(5)])


def return_errors():
    return [Two(1, 2), Keyword(code=6)]


with multipy.Pool(1) as pool:
    error = pool.submit(validate).exception(timeout=60)
    assert type(error) is pydantic.ValidationError and error.errors()[0]["loc"] == ("x",), error
    error = pool.submit(raise_two).exception(timeout=60)
    assert type(error) is Two and str(error) == "1 and 2" and error.first == 1, error
    error = pool.submit(raise_keyword).exception(timeout=60)
    assert type(error) is Keyword and (error.errno, error.filename, error.code) == (2, "a file", 5), error
    error = pool.submit(raise_group).exception(timeout=60)
    (inner, *_) = getattr(error, "exceptions", [error])
    assert type(inner) is Two and str(inner) == "3 and 4", error
    two, keyword = pool.submit(return_errors).result(timeout=60)
    assert str(two) == "1 and 2" and keyword.code == 6
