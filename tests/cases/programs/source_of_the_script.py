# requires: torch
# Tracebacks, warnings, `inspect` and `torch.jit` know the file, the lines and the text of what the script
# defines.
import inspect
import warnings

import torch

import multipy_actors as multipy


def divide(x):
    return x / 0  # this line


class Net(torch.nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x * 2
        return x


def where():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
        warnings.warn("older", stacklevel=1)
    return [(each.filename, each.lineno) for each in seen]


def once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            warnings.warn("once", stacklevel=1)
    return len(seen)


def text_of():
    return (
        inspect.getsource(divide),
        inspect.getsource(Net),
        inspect.getsourcefile(Net),
        inspect.getdoc(text_of),
    )


def compiled(x):
    return torch.jit.script(Net())(x)


with multipy.Pool(1) as pool:
    for function in (divide, lambda x: divide(x)):
        try:
            pool.submit(function, 1).result()
        except ZeroDivisionError as error:
            text = error.__cause__.traceback
        assert f'File "{__file__}", line 13, in divide' in text and "return x / 0  # this line" in text, text
        assert "dynamic-code" not in text
    line = inspect.getsourcelines(where)[1]
    assert pool.submit(where).result() == [(__file__, line + 3), (__file__, line + 4)]
    assert pool.submit(once).result() == 1
    assert pool.submit(text_of).result() == text_of()
    assert pool.submit(compiled, torch.ones(2)).result().tolist() == [2, 2]
