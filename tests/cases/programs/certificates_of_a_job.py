# OpenSSL is a shared library and reads what a job sets in os.environ.
import multipy_actors as multipy


def certificates():
    import os
    import ssl

    os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = "/nonexistent"
    return ssl.create_default_context().cert_store_stats()["x509"]


with multipy.Pool(1) as pool:
    assert pool.submit(certificates).result() == 0
