"""Uses of packages that hold, read, compute and draw data."""

from __future__ import annotations

import io
from pathlib import Path


def use_numpy(folder: Path) -> None:
    import numpy

    generator = numpy.random.default_rng(0)
    matrix = generator.random((60, 60)) + 60 * numpy.eye(60)
    assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(60))
    signal = generator.random(128)
    assert numpy.allclose(numpy.fft.ifft(numpy.fft.fft(signal)).real, signal)
    numpy.save(folder / "matrix.npy", matrix)
    assert (numpy.load(folder / "matrix.npy", mmap_mode="r") == matrix).all()


def use_scipy(folder: Path) -> None:
    import numpy
    import scipy.integrate
    import scipy.linalg
    import scipy.optimize
    import scipy.sparse
    import scipy.sparse.linalg
    import scipy.special

    matrix = numpy.random.default_rng(0).random((40, 40))
    left, values, right = scipy.linalg.svd(matrix)
    assert numpy.allclose(left @ numpy.diag(values) @ right, matrix)
    assert abs(scipy.optimize.brentq(lambda x: x**3 - 8, 0, 5) - 2) < 1e-9
    found = scipy.optimize.minimize(lambda x: ((x - [1, 2]) ** 2).sum(), [0.0, 0.0], method="BFGS")
    assert numpy.allclose(found.x, [1, 2], atol=1e-4)
    sparse = scipy.sparse.diags([4.0, 1.0], [0, 1], shape=(50, 50), format="csc")
    solution = scipy.sparse.linalg.spsolve(sparse, numpy.ones(50))
    assert numpy.allclose(sparse @ solution, 1)
    assert abs(scipy.integrate.quad(numpy.sin, 0, numpy.pi)[0] - 2) < 1e-9
    assert abs(scipy.special.gamma(5) - 24) < 1e-9


def use_pandas(folder: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"key": ["a", "b", "b"], "value": [1.0, 2.0, 3.0]})
    assert frame.groupby("key").value.sum()["b"] == 5
    frame.to_csv(folder / "frame.csv", index=False)
    assert pandas.read_csv(folder / "frame.csv").equals(frame)
    days = pandas.date_range("2026-01-01", periods=48, freq="h")
    assert len(pandas.Series(range(48), index=days).resample("D").sum()) == 2


def use_pyarrow(folder: Path) -> None:
    import pyarrow
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.parquet

    table = pyarrow.table({"number": [1, 2, 3], "text": ["x", "y", None]})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    assert pyarrow.parquet.read_table(folder / "table.parquet").equals(table)
    dataset = pyarrow.dataset.dataset(folder / "table.parquet")
    assert dataset.to_table(filter=pyarrow.dataset.field("number") > 1).num_rows == 2
    assert pyarrow.compute.sum(table["number"]).as_py() == 6


def use_polars(folder: Path) -> None:
    import polars

    frame = polars.DataFrame({"key": [1, 1, 2], "value": [1.5, 2.5, 4.0]})
    sums = frame.lazy().group_by("key").agg(polars.col("value").sum()).sort("key").collect()
    assert sums["value"].to_list() == [4.0, 4.0]
    # A Python function called back from polars' own threads.
    doubled = frame.select(polars.col("key").map_elements(lambda x: 2 * x, return_dtype=polars.Int64))
    assert doubled["key"].to_list() == [2, 2, 4]


def use_duckdb(folder: Path) -> None:
    import duckdb

    with duckdb.connect(str(folder / "data.duckdb")) as connection:
        connection.execute("create table numbers as select range as n from range(1000)")
        assert connection.execute("select sum(n) from numbers where n % 2 = 0").fetchone() == (249500,)


def use_h5py(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("x", data=range(100), compression="gzip")
        file["x"].attrs["unit"] = "m"
    with h5py.File(folder / "data.h5") as file:
        assert file["x"][50:53].tolist() == [50, 51, 52] and file["x"].attrs["unit"] == "m"


def use_pillow(folder: Path) -> None:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).rectangle((8, 8, 24, 24), fill="red")
    for kind in ("PNG", "JPEG", "WEBP"):
        stored = io.BytesIO()
        image.resize((16, 16)).save(stored, kind)
        red, green, _ = Image.open(stored).convert("RGB").getpixel((8, 8))
        assert red > 200 and green < 60


def use_opencv(folder: Path) -> None:
    import cv2
    import numpy

    image = numpy.zeros((64, 64, 3), numpy.uint8)
    cv2.circle(image, (32, 32), 10, (0, 255, 0), -1)
    edges = cv2.Canny(cv2.GaussianBlur(image, (3, 3), 0), 50, 150)
    assert edges.any()
    done, stored = cv2.imencode(".png", image)
    assert done and (cv2.imdecode(stored, cv2.IMREAD_COLOR) == image).all()


def use_matplotlib(folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([1, 2, 4], label="$x^2$")
    axes.legend()
    for kind in ("png", "pdf", "svg"):
        figure.savefig(folder / f"figure.{kind}")
        assert (folder / f"figure.{kind}").stat().st_size > 1000
    pyplot.close(figure)


def use_av(folder: Path) -> None:
    import av
    import numpy

    path = str(folder / "film.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for shade in range(5):
            picture = numpy.full((32, 32, 3), 40 * shade, numpy.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def use_numba(folder: Path) -> None:
    import numba
    import numpy

    @numba.njit
    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    @numba.vectorize([numba.float64(numba.float64)])
    def halved(value):
        return value / 2

    @numba.njit
    def fails(index):
        if index > 2:
            raise ValueError("too large")
        return index

    values = numpy.arange(1000.0)
    assert total(values) == values.sum() and (halved(values) == values / 2).all()
    try:
        fails(3)
    except ValueError as error:
        assert str(error) == "too large"
    else:
        raise AssertionError("an exception was lost in compiled code")


def use_lxml(folder: Path) -> None:
    from lxml import etree, html

    root = etree.fromstring("<a><b n='1'/><b n='2'>text</b></a>")
    assert root.xpath("//b[@n='2']/text()") == ["text"]
    sheet = etree.XSLT(
        etree.fromstring(
            "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'>"
            "<xsl:template match='/'><n><xsl:value-of select='count(//b)'/></n></xsl:template>"
            "</xsl:stylesheet>"
        )
    )
    assert sheet(root).getroot().text == "2"
    assert html.fromstring("<p>one<br>two").text_content() == "onetwo"


def use_pydantic(folder: Path) -> None:
    import pydantic

    class Point(pydantic.BaseModel):
        x: int
        tags: list[str] = []

    point = Point.model_validate_json('{"x": "3", "tags": ["a"]}')
    assert point.x == 3 and Point(**point.model_dump()) == point
    try:
        Point(x="three")
    except pydantic.ValidationError as error:
        assert error.errors()[0]["loc"] == ("x",)
    else:
        raise AssertionError("a wrong value was accepted")


def use_orjson(folder: Path) -> None:
    import datetime

    import orjson

    value = {"text": "ü", "numbers": [1, 2.5, None, True]}
    assert orjson.loads(orjson.dumps(value)) == value
    assert orjson.dumps(datetime.date(2026, 1, 2)) == b'"2026-01-02"'


def use_msgspec(folder: Path) -> None:
    import msgspec

    class Point(msgspec.Struct):
        x: int
        y: int = 0

    for format in (msgspec.json, msgspec.msgpack):
        assert format.decode(format.encode(Point(1, 2)), type=Point) == Point(1, 2)
    try:
        msgspec.json.decode(b'{"x": "1"}', type=Point)
    except msgspec.ValidationError as error:
        assert "$.x" in str(error)
    else:
        raise AssertionError("a wrong value was accepted")


def use_protobuf(folder: Path) -> None:
    from google.protobuf import descriptor_pb2, json_format, struct_pb2
    from google.protobuf.internal import api_implementation

    assert api_implementation.Type() == "upb"  # the extension module, not the fall-back in Python
    struct = struct_pb2.Struct()
    struct.update({"name": "x", "values": [1, 2]})
    again = struct_pb2.Struct.FromString(struct.SerializeToString())
    assert json_format.MessageToDict(again) == {"name": "x", "values": [1.0, 2.0]}
    assert descriptor_pb2.FileDescriptorProto(name="a.proto").name == "a.proto"
