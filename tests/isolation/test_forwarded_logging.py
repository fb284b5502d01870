"""`forward_logging`: what interpreters log is handled by the host's loggers."""

from __future__ import annotations

import enum
import logging
import threading

import pytest

import multipy_actors as multipy


def log(name, level, *args, **kwargs):
    import logging

    logging.getLogger(name).log(level, *args, **kwargs)


@multipy.remote
class Talker:
    def say(self, text):
        logging.getLogger("talker").warning(text)

    def fail(self):
        try:
            raise LookupError("lost")
        except LookupError:
            logging.getLogger("talker").exception("it is %s", "gone")


@pytest.fixture(scope="module")
def forwarding():
    with multipy.Pool(2, name="logging-pool", forward_logging="DEBUG") as pool:
        yield pool


def test_a_record_is_handled_by_the_hosts_logger_of_the_same_name(forwarding, caplog):
    forwarding.interpreters[1].submit(log, "some.module", logging.WARNING, "%s of %d", "one", 2).result()
    assert forwarding.flush_logging(60)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.levelname) == ("some.module", logging.WARNING, "WARNING")
    assert record.getMessage() == "one of 2" and record.args in ((), None)
    assert record.funcName == "log" and record.pathname == __file__
    assert (record.interpreter, record.actor) == ("logging-pool-1", None)


def test_a_record_says_which_actor_made_it(forwarding, caplog):
    talker = Talker.options(pool=forwarding, name="loud").remote()
    talker.say("hello")
    forwarding.flush_logging()
    assert [(record.message, record.actor) for record in caplog.records] == [("hello", "Talker 'loud'")]


def test_an_exception_arrives_as_text(forwarding, caplog):
    Talker.options(pool=forwarding).remote().fail()
    forwarding.flush_logging()
    (record,) = caplog.records
    assert record.exc_info is None and "LookupError: lost" in record.exc_text and "in fail" in record.exc_text
    assert "LookupError: lost" in caplog.text and record.getMessage() == "it is gone"


class Level(enum.IntEnum):
    LOUD = 35


def test_further_attributes_arrive_as_they_are_or_as_they_print(forwarding, caplog):
    class Thing:
        def __repr__(self):
            return "a thing"

    def talk():
        extra = {"request": {"id": 7, "tags": ["a"]}, "thing": Thing()}
        log("extra", Level.LOUD, "100% of it", extra=extra)

    forwarding.submit(talk).result()
    forwarding.flush_logging()
    (record,) = caplog.records
    assert record.request == {"id": 7, "tags": ["a"]} and record.thing == "a thing"
    assert record.levelno == 35 and record.getMessage() == "100% of it"


def test_records_of_an_interpreter_arrive_in_their_order(forwarding, caplog):
    def count(who):
        for number in range(500):
            log(f"order.{who}", logging.INFO, "%d", number)

    with caplog.at_level(logging.INFO):
        for future in [forwarding.interpreters[who].submit(count, who) for who in (0, 1)]:
            future.result()
        forwarding.flush_logging()
    for who in (0, 1):
        numbers = [int(record.message) for record in caplog.records if record.name == f"order.{who}"]
        assert numbers == list(range(500))


def test_the_host_filters_by_its_own_levels(forwarding, caplog):
    with caplog.at_level(logging.ERROR, logger="quiet"):
        for level in (logging.DEBUG, logging.WARNING, logging.ERROR):
            forwarding.submit(log, "quiet", level, "at %d", level).result()
        forwarding.flush_logging()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_handler_that_blocks_or_raises_does_not_hold_up_interpreters(forwarding, capsys):
    entered, leave, seen = threading.Event(), threading.Event(), []

    class Slow(logging.Handler):
        def handle(self, record):
            seen.append(record.msg)
            entered.set()
            leave.wait(60)
            if record.msg == "first":
                raise RuntimeError("a handler's own trouble")

    logger = logging.getLogger("slow")
    handler = Slow()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        forwarding.submit(log, "slow", logging.ERROR, "first").result(60)
        assert entered.wait(60)
        forwarding.submit(log, "slow", logging.ERROR, "second").result(60)
        assert not forwarding.flush_logging(0.01) and seen == ["first"]
        leave.set()
        assert forwarding.flush_logging(60) and seen == ["first", "second"]
    finally:
        leave.set()
        logger.removeHandler(handler)
        logger.propagate = True
    assert "a handler's own trouble" in capsys.readouterr().err


def test_a_handler_may_use_the_pool(forwarding, caplog):
    results = []

    class Calls(logging.Handler):
        def handle(self, record):
            results.append(forwarding.submit(abs, -len(record.msg)).result(60))

    logger = logging.getLogger("calls")
    handler = Calls()
    logger.addHandler(handler)
    try:
        forwarding.submit(log, "calls", logging.ERROR, "four").result()
        forwarding.flush_logging()
    finally:
        logger.removeHandler(handler)
    assert results == [4]


def test_nothing_is_lost_when_the_pool_is_closed(caplog):
    def talk():
        import atexit

        for number in range(1000):
            log("closing", logging.WARNING, "%d", number)
        atexit.register(log, "closing", logging.WARNING, "last words")

    with multipy.Pool(2, forward_logging=True) as pool:
        pool.broadcast(talk)
    messages = [record.message for record in caplog.records]
    assert messages.count("999") == 2 and messages.count("last words") == 2 and len(messages) == 2002
    assert f"{pool._name}-logging" not in [thread.name for thread in threading.enumerate()]


def test_a_pool_closed_in_the_background_or_forgotten_loses_nothing_either(run_script):
    finished = run_script(
        """
        import logging
        import multipy_actors as multipy

        logging.basicConfig(format="%(levelname)s %(name)s %(message)s (%(actor)s)", level="INFO")

        def talk(who):
            logging.getLogger("someone").info("from %s", who)

        pool = multipy.Pool(1, forward_logging=True)
        pool.submit(talk, "background")
        pool.shutdown(wait=False)
        multipy.init(interpreters=1, forward_logging=True).submit(talk, "default").result()
        """
    )
    assert sorted(finished.stderr.splitlines()) == [
        "INFO someone from background (None)",
        "INFO someone from default (None)",
    ]


def test_levels_are_those_of_the_host_when_the_pool_is_made(caplog):
    def enabled():
        names = ("", "loud", "loud.child", "other")
        return [logging.getLogger(name or None).getEffectiveLevel() for name in names]

    with caplog.at_level(logging.ERROR), caplog.at_level(logging.DEBUG, logger="loud"):
        with multipy.Pool(1, forward_logging=True) as pool:
            assert pool.submit(enabled).result() == [40, 10, 10, 40]
        with multipy.Pool(1, forward_logging=logging.INFO) as pool:
            assert pool.submit(enabled).result() == [20] * 4


def test_a_level_must_be_one():
    with pytest.raises(ValueError, match="forward_logging"):
        multipy.Pool(1, forward_logging="LOUDER")


def test_without_it_interpreters_log_by_themselves(run_script):
    finished = run_script(
        """
        import logging
        import multipy_actors as multipy

        logging.basicConfig(format="host: %(message)s")

        def talk():
            logging.getLogger("someone").warning("by itself")

        with multipy.Pool(1) as pool:
            pool.submit(talk).result()
            assert pool.flush_logging()
        """
    )
    assert finished.stderr == "(pool-1-0) by itself\n"


def test_a_host_without_handlers_prints_a_record_once(run_script):
    finished = run_script(
        """
        import logging
        import multipy_actors as multipy

        def talk():
            logging.warning("to nobody")

        with multipy.Pool(1, forward_logging=True) as pool:
            pool.submit(talk).result()
        """
    )
    assert finished.stderr == "to nobody\n"


def test_a_record_that_cannot_be_formatted_is_reported_where_it_was_made(run_script):
    finished = run_script(
        """
        import logging
        import multipy_actors as multipy

        def talk():
            logging.warning("%d", "no number")
            logging.warning("fine")

        with multipy.Pool(1, forward_logging=True) as pool:
            pool.submit(talk).result()
        """
    )
    lines = finished.stderr.splitlines()
    assert "(pool-1-0) --- Logging error ---" in lines and "fine" in lines


def test_the_initializer_may_log(caplog):
    with multipy.Pool(1, forward_logging=True, initializer=log, initargs=("start", logging.ERROR, "up")):
        pass
    assert [record.message for record in caplog.records] == ["up"]
