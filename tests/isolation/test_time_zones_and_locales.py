"""An interpreter has a time zone and a locale of its own, as a process has."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

ZONES = [
    "Asia/Tokyo",
    "America/New_York",
    "Europe/Dublin",
    "Australia/Lord_Howe",
    "UTC0",
    "<-03>3",
    "",
    "nonsense",
]


def look(zone):
    """Return all that a program sees of `zone`."""
    import ctypes
    import datetime

    os.environ["TZ"] = zone
    time.tzset()
    moments = [0, 951782400, 1711846800, 1729994400, 4102444800, -3000000000]
    seen = [time.tzname, time.timezone, time.altzone, time.daylight]
    # Where no zone is told, libc takes the name from the last time that it was asked about.
    seen.append(time.strftime("%Z", tuple(time.localtime(moments[2]))))
    libc = ctypes.CDLL(None)
    names = (ctypes.c_char_p * 2).in_dll(libc, "tzname")
    seen.append([names[0], ctypes.c_long.in_dll(libc, "timezone").value])
    for moment in moments:
        local = time.localtime(moment)
        seen.append((tuple(local), local.tm_zone, local.tm_gmtoff, time.mktime(local), time.ctime(moment)))
        seen.append(time.strftime("%Y-%m-%d %H:%M:%S %Z %z %s %%s", local))
        stamp = datetime.datetime.fromtimestamp(moment)
        seen.append((stamp.isoformat(), stamp.astimezone().isoformat(), stamp.timestamp(), f"{stamp:%s}"))
    libc.localtime.restype = ctypes.POINTER(ctypes.c_int * 9)
    seen.append([tuple(libc.localtime(ctypes.byref(ctypes.c_long(moment))).contents) for moment in moments])
    libc.ctime.restype = ctypes.c_char_p
    seen.append(libc.ctime(ctypes.byref(ctypes.c_long(moments[2]))))
    return seen


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_zone_is_what_it_is_in_a_process(zone, run_script, pool):
    import inspect

    source = "import os, time\n" + inspect.getsource(look) + f"\nprint(look({zone!r}))"
    expected = eval(run_script(source).stdout)
    before = time.localtime(0)
    for interpreter in pool.interpreters:
        assert interpreter.submit(look, zone).result() == expected
    assert time.localtime(0) == before


def test_an_interpreter_starts_in_the_time_zone_of_the_host(run_script):
    run_script(
        """
        import time
        import multipy_actors as multipy
        def look():
            return tuple(time.localtime(0)), time.tzname
        with multipy.Pool(1) as pool:
            assert pool.submit(look).result() == look()
            assert look()[0][3] == 9
        """,
        TZ="Asia/Tokyo",
    )


def test_threads_of_an_interpreter_are_in_its_time_zone(pool):
    def hours():
        from concurrent.futures import ThreadPoolExecutor

        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(lambda: time.localtime(0).tm_hour).result()

    assert pool.submit(hours).result() == 9


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """Return a folder with the locale de_DE.UTF-8."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None or not os.path.exists("/usr/share/i18n/locales/de_DE"):
        pytest.skip("there is nothing to make locales of")
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    subprocess.run(command, check=False, capture_output=True)
    assert (folder / "de_DE.UTF-8").is_dir()
    return str(folder)


def test_a_locale_is_an_interpreters_own_and_all_its_threads_have_it(german, run_script):
    run_script(
        """
        import locale, os, threading, time
        import multipy_actors as multipy

        def numbers():
            return f"{1234567.5:n}", locale.localeconv()["decimal_point"], time.strftime("%A", time.gmtime(0))

        def change(category, name):
            asked, go = threading.Event(), threading.Event()
            seen = []
            def later():
                asked.set()
                go.wait()
                seen.append(numbers())
            thread = threading.Thread(target=later)  # it runs before the change
            thread.start()
            asked.wait()
            told = locale.setlocale(category, name)
            go.set()
            thread.join()
            threading.Thread(target=lambda: seen.append(numbers())).run()
            after = threading.Thread(target=lambda: seen.append(numbers()))
            after.start()
            after.join()
            return told, locale.setlocale(category), seen, numbers()

        def restore():
            saved = locale.setlocale(locale.LC_ALL)
            locale.setlocale(locale.LC_ALL, "C")
            plain = numbers()
            assert locale.setlocale(locale.LC_ALL, saved) == saved and ";" in saved, saved
            return plain

        def refuse():
            before = locale.setlocale(locale.LC_ALL)
            try:
                locale.setlocale(locale.LC_ALL, "xx_XX")
            except locale.Error as error:
                return str(error), before == locale.setlocale(locale.LC_ALL)

        def from_environment():
            os.environ["LC_ALL"] = "de_DE.UTF-8"
            return locale.setlocale(locale.LC_ALL, ""), numbers()

        plain = ("1.23457e+06", ".", "Thursday")
        german = ("1,23457e+06", ",", "Donnerstag")
        mixed = (german[0], ",", "Thursday")
        host = locale.setlocale(locale.LC_ALL)
        with multipy.Pool(2) as pool:
            one, other = pool.interpreters
            name = "de_DE.UTF-8"
            assert one.submit(change, locale.LC_NUMERIC, name).result() == (name, name, [mixed] * 3, mixed)
            assert other.submit(numbers).result() == numbers() == plain
            assert one.submit(restore).result() == plain
            assert one.submit(numbers).result() == mixed
            assert one.submit(refuse).result() == ("unsupported locale setting", True)
            assert other.submit(from_environment).result() == (name, german)
            assert numbers() == plain and locale.setlocale(locale.LC_ALL) == host
        """,
        LOCPATH=german,
    )


def test_an_interpreter_starts_in_the_locale_of_the_host(german, run_script):
    run_script(
        """
        import locale
        import multipy_actors as multipy
        locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
        def look():
            return locale.setlocale(locale.LC_ALL), locale.localeconv()["decimal_point"]
        with multipy.Pool(1) as pool:
            assert pool.submit(look).result() == look() and look()[1] == ","
        """,
        LOCPATH=german,
    )


def test_all_categories_can_be_set_to_what_they_are(pool):
    def look():
        import locale

        names = [getattr(locale, name) for name in dir(locale) if name.startswith("LC_")]
        before = [locale.setlocale(category) for category in names]
        again = [locale.setlocale(category, name) for category, name in zip(names, before, strict=True)]
        return before == again and locale.nl_langinfo(locale.CODESET)

    import locale

    assert pool.submit(look).result() == locale.nl_langinfo(locale.CODESET)
