"""Objects of libraries that are values: what is done to one is not seen in another, wherever it is."""

import numpy
import pandas
import polars
import pyarrow
import pytest
from gates import Gate
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import multipy_actors as multipy


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2, preload=["pandas", "sklearn.linear_model"]) as made:
        yield made


def frame_of(numbers=(1.0, 2.0, 3.0)):
    return pandas.DataFrame(
        {"a": list(numbers), "b": [1, 2, 3], "c": ["x", "y", "z"], "d": pandas.array([1, None, 3], "Int64")}
    )


def overwrite(frame):
    frame.loc[:, "a"] = 0.0
    frame.loc[0, "b"] = -1
    frame.iloc[1, 2] = "other"
    frame.loc[2, "d"] = -1
    return frame


def overwrite_series(series):
    series.iloc[0] = -1
    return series


def overwrite_array(array):
    array[0] = 7


def train(model):
    model.partial_fit(numpy.eye(3), numpy.array([0, 1, 0]))
    model.coef_ += 1
    return model


class Own(LinearRegression):
    """An estimator of the script."""


def scale(model):
    model.coef_ *= 2
    return model.coef_.tolist()


def address(array):
    return array.__array_interface__["data"][0]


def test_a_frame_written_to_by_the_callee_stays_as_it_was(pool):
    frame, copy = frame_of(), frame_of()
    changed = pool.submit(overwrite, frame).result()
    pandas.testing.assert_frame_equal(frame, copy)
    pandas.testing.assert_frame_equal(changed, overwrite(copy))


def test_a_frame_written_to_by_the_caller_stays_as_it_was_sent(pool):
    frame, gate = frame_of(), Gate()
    future = pool.submit(gate.stop, frame)
    gate.arrivals()
    overwrite(frame)
    gate.open()
    pandas.testing.assert_frame_equal(future.result(), frame_of())


def test_a_queued_frame_is_what_it_was_when_it_was_sent(pool):
    first, gate = pool.interpreters[0], Gate()
    running = first.submit(gate.stop)
    gate.arrivals()
    frame, model = frame_of(), SGDClassifier().fit(numpy.eye(3), [0, 1, 0])
    queued = first.submit(lambda *sent: sent, frame, model)
    coefficients = model.coef_.copy()
    overwrite(frame)
    model.coef_ += 1
    gate.open()
    running.result()
    sent_frame, sent_model = queued.result()
    pandas.testing.assert_frame_equal(sent_frame, frame_of())
    assert (sent_model.coef_ == coefficients).all()


def test_frames_of_one_broadcast_are_separate(pool):
    frame = frame_of()
    changed = multipy.get(pool.broadcast(overwrite, frame))
    for other in changed:
        pandas.testing.assert_frame_equal(other, overwrite(frame_of()))
    pandas.testing.assert_frame_equal(frame, frame_of())


def test_a_frame_that_an_actor_keeps_is_its_own(pool):
    @multipy.remote
    class Table:
        def __init__(self):
            self.frame = frame_of()

        def show(self):
            return self.frame

        def change(self):
            overwrite(self.frame)

    table = Table.options(pool=pool).remote()
    before = table.show()
    future = table.show.submit()
    first = future.result()
    table.change()
    for shown in (before, first):
        pandas.testing.assert_frame_equal(shown, frame_of())
    overwrite(before)
    pandas.testing.assert_frame_equal(first, frame_of())
    pandas.testing.assert_frame_equal(table.show(), overwrite(frame_of()))


@pytest.mark.parametrize("wrap", [list, lambda items: {"key": tuple(items)}, lambda items: [[items[0]]]])
def test_series_indexes_and_arrays_of_pandas_are_values_wherever_they_are(pool, wrap):
    series = pandas.Series([1.0, 2.0])

    def change(value):
        while not isinstance(value, pandas.Series):
            value = next(iter(value.values())) if isinstance(value, dict) else value[0]
        overwrite_series(value)

    pool.submit(change, wrap([series, pandas.Index([1, 2])])).result()
    assert series.tolist() == [1.0, 2.0]
    masked = pandas.array([1, 2], "Int64")
    pool.submit(overwrite_array, masked).result()
    assert masked.tolist() == [1, 2]


def test_estimators_and_what_is_made_of_them_are_values(pool):
    model = SGDClassifier(random_state=0).fit(numpy.eye(3), [0, 1, 0])
    own = Own().fit(numpy.eye(3), numpy.arange(3.0))
    pipeline = make_pipeline(StandardScaler(), LinearRegression()).fit(numpy.eye(3), numpy.arange(3.0))
    before = model.coef_.copy(), own.coef_.copy(), pipeline[-1].coef_.copy()
    pool.submit(train, model).result()
    pool.submit(scale, own).result()
    pool.submit(lambda pipeline: scale(pipeline[-1]), pipeline).result()
    for old, new in zip(before, (model.coef_, own.coef_, pipeline[-1].coef_), strict=True):
        assert (old == new).all()


def test_frames_of_arrow_and_polars_arrive_and_are_values(pool):
    table = pyarrow.table({"a": [1, 2, 3]})
    frame = polars.DataFrame({"a": [1, 2, 3]})

    def change(table, frame):
        frame[0, "a"] = 7
        return table.column("a").to_pylist(), frame["a"].to_list()

    assert pool.submit(change, table, frame).result() == ([1, 2, 3], [7, 2, 3])
    assert frame["a"].to_list() == [1, 2, 3]


def test_arrays_beside_a_frame_are_shared(pool):
    array, frame = numpy.zeros(3), frame_of()

    def change(pair):
        pair[0][:] = 1
        overwrite(pair[1])

    pool.submit(change, [array, frame]).result()
    assert array.tolist() == [1, 1, 1]
    pandas.testing.assert_frame_equal(frame, frame_of())


@multipy.remote
class Scaler:
    def scale(self, model):
        return scale(model)


def test_all_can_be_shared(pool):
    model = LinearRegression().fit(numpy.eye(3), numpy.arange(3.0))
    before = model.coef_.copy()
    scaler = Scaler.options(pool=pool, share="all").remote()
    scaler.scale(model)
    assert (model.coef_ == before * 2).all()
    scaler.scale.options(share="arrays")(model)
    assert (model.coef_ == before * 2).all()


def test_replicas_of_an_estimator_are_separate_unless_all_is_shared(pool):
    model = LinearRegression().fit(numpy.eye(3), numpy.arange(3.0))
    before = model.coef_.copy()
    for level, same in ((None, False), ("all", True)):
        handle = multipy.replicate(model, pool, share=level)
        copies = handle.broadcast.set_params()  # each replica returns itself
        assert all((copy.coef_ == before).all() for copy in copies)
        where = [address(handle.on(index).coef_) for index in range(2)]
        assert (where == [address(model.coef_)] * 2) is same


def test_a_pool_without_interpreters_copies_frames_alike():
    frame = frame_of()
    with multipy.Pool(1, inline=True) as pool:
        pool.submit(overwrite, frame).result()
    pandas.testing.assert_frame_equal(frame, frame_of())
