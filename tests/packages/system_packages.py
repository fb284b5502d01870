"""Uses of packages, and of standard modules with native code, that talk to the system and to others."""

from __future__ import annotations

import sys
from pathlib import Path


def use_cryptography(folder: Path) -> None:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    box = Fernet(Fernet.generate_key())
    assert box.decrypt(box.encrypt(b"secret")) == b"secret"
    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(b"text", ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b"text", ec.ECDSA(hashes.SHA256()))


def use_grpc(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def answer(request, context):
        return request.upper()

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"Shout": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            shout = channel.unary_unary("/Test/Shout")
            assert shout(b"hello", timeout=30) == b"HELLO"
    finally:
        server.stop(0).wait()


def use_uvloop(folder: Path) -> None:
    import uvloop

    uvloop.run(_serve_and_connect())


def use_uvloop_process(folder: Path) -> None:
    import uvloop

    uvloop.run(_run_process())


def use_asyncio(folder: Path) -> None:
    import asyncio

    asyncio.run(_serve_and_connect())
    asyncio.run(_run_process())


async def _run_process() -> None:
    import asyncio

    process = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"hi\n"


async def _serve_and_connect() -> None:
    import asyncio

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\n")
    assert await reader.read() == b"hello\n"
    writer.close()
    server.close()
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, pow, 2, 5) == 32


def use_greenlet(folder: Path) -> None:
    import greenlet

    seen = []

    def body():
        seen.append("in")
        main.switch(1)
        seen.append("again")
        return 2

    main, other = greenlet.getcurrent(), greenlet.greenlet(body)
    assert other.switch() == 1 and other.switch() == 2 and other.dead
    assert seen == ["in", "again"]
    failing = greenlet.greenlet(lambda: 1 // 0)
    try:
        failing.switch()
    except ZeroDivisionError:
        return
    raise AssertionError("an exception was lost")


def use_gevent(folder: Path) -> None:
    import gevent
    from gevent.event import Event
    from gevent.server import StreamServer
    from gevent.socket import create_connection

    ready = Event()
    waiting = gevent.spawn(lambda: ready.wait(30))
    gevent.spawn(ready.set)
    assert waiting.get(timeout=30)
    server = StreamServer(("127.0.0.1", 0), lambda connection, address: connection.sendall(b"hello"))
    server.start()
    with create_connection(("127.0.0.1", server.server_port)) as connection:
        assert connection.recv(5) == b"hello"
    server.stop()
    assert gevent.get_hub().threadpool.apply(pow, (2, 5)) == 32


def use_gevent_process(folder: Path) -> None:
    import gevent.subprocess

    assert gevent.subprocess.check_output(["echo", "hi"], timeout=20) == b"hi\n"


def use_psycopg(folder: Path) -> None:
    import psycopg
    from psycopg import sql

    assert psycopg.pq.__impl__ == "binary" and psycopg.pq.version() > 0
    text = sql.SQL("select {} from {}").format(sql.Literal("it's"), sql.Identifier("a b")).as_string()
    assert text == "select 'it''s' from \"a b\""
    try:
        psycopg.connect(host=str(folder), connect_timeout=5)  # there is no server: libpq says so
    except psycopg.OperationalError as error:
        assert str(folder) in str(error)
    else:
        raise AssertionError("connected to nothing")


def use_sqlite(folder: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "data.sqlite")
    connection.create_function("twice", 1, lambda x: 2 * x)
    with connection:
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (?)", [(number,) for number in range(10)])
    assert connection.execute("select sum(twice(x)) from t").fetchone() == (90,)
    connection.close()


def use_ssl(folder: Path) -> None:
    import hashlib
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="example.org")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        assert outgoing.read()[:1] == b"\x16"
    else:
        raise AssertionError("a handshake with nobody")
    assert hashlib.sha256(b"x").hexdigest().startswith("2d711642b726b044")


def use_decimal(folder: Path) -> None:
    import decimal

    with decimal.localcontext() as context:
        context.prec = 40
        assert str(decimal.Decimal(2).sqrt()).startswith("1.4142135623730950488016887242096980785")
    try:
        decimal.Decimal(1) / decimal.Decimal(0)
    except decimal.DivisionByZero:
        return
    raise AssertionError("an exception was lost")


def use_subprocess(folder: Path) -> None:
    import os
    import subprocess

    command = [sys.executable, "-c", "import os; print(os.environ['GREETING'], os.getcwd())"]
    environment = {**os.environ, "GREETING": "hello"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hello", os.path.realpath(folder)]
    assert subprocess.run("exit 3", shell=True).returncode == 3


def use_multiprocessing(folder: Path) -> None:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.map(abs, range(-10, 0)) == list(range(10, 0, -1))
