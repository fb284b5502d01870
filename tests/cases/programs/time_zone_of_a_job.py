# A job sets a time zone for its report; the others and the host keep theirs.
import os
import time

import multipy_actors as multipy


def hour(zone):
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
    return time.localtime(0).tm_hour


before = time.localtime(0)[:]
with multipy.Pool(2) as pool:
    one, other = pool.interpreters
    assert one.submit(hour, "Asia/Tokyo").result() == 9
    assert other.submit(hour, "America/New_York").result() == 19
    assert one.submit(hour, None).result() == 9
assert time.localtime(0)[:] == before
