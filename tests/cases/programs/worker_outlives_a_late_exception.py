"""What timeout libraries raise in a thread hits no call if it comes too late, between two of them."""

import ctypes
import threading

import multipy_actors as multipy


def raise_in_worker_when(due, told):
    """Have TimeoutError raised in the worker thread when the host writes to `due`; then write to `told`."""
    import os

    worker = threading.main_thread().ident

    def wait_and_raise():
        os.read(due, 1)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker), ctypes.py_object(TimeoutError))
        os.write(told, b"x")

    threading.Thread(target=wait_and_raise, daemon=True).start()


if __name__ == "__main__":
    import os

    with multipy.Pool(1) as pool:
        for _ in range(20):
            due, trigger = os.pipe()
            heard, told = os.pipe()
            pool.submit(raise_in_worker_when, due, told).result(timeout=60)
            os.write(trigger, b"x")
            os.read(heard, 1)
            assert pool.submit(abs, -1).result(timeout=60) == 1
            assert pool.submit(divmod, 7, 2).result(timeout=60) == (3, 1)
            for descriptor in (due, trigger, heard, told):
                os.close(descriptor)
