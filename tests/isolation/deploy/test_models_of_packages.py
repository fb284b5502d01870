"""Models in torch packages: what they compute, what of them is in memory, when they are loaded."""

from __future__ import annotations

import io
import os
import re
import select
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import export
from gates import Gate

import multipy_actors as multipy

torch = pytest.importorskip("torch")

PATIENCE = 60

EXAMPLES = {
    "simple": torch.ones(10, 20),
    "resnet": torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32),
    "transformer": torch.arange(24).reshape(2, 12),
    "fx": torch.linspace(-1, 1, 30).reshape(3, 10),
}


def resident_bytes():
    with open("/proc/self/smaps_rollup") as lines:
        return int(re.search(r"Rss:\s+(\d+)", lines.read())[1]) * 1024


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_gives_in_every_interpreter_what_it_gives_in_the_host(package, models, name):
    model = package.load_pickle("resources", f"{name}.pkl")
    expected = models[name](EXAMPLES[name])
    assert [torch.equal(result, expected) for result in model.broadcast.forward(EXAMPLES[name])] == [True] * 3


def test_a_model_is_called_with_positions_keywords_or_both(package, models):
    model, x = package.load_pickle("resources", "simple.pkl"), EXAMPLES["simple"]
    assert torch.equal(model(x, scale=2.0), models["simple"](x, scale=2.0))
    assert torch.equal(model(input=x), models["simple"](x))
    assert torch.equal(model.forward.submit(x, 3.0).result(), models["simple"](x, 3.0))


def test_threads_get_what_one_caller_gets(package, models):
    model, x = package.load_pickle("resources", "simple.pkl", eager=True), EXAMPLES["simple"]
    expected = models["simple"](x)
    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(lambda _: torch.equal(model(x), expected), range(60)))


def test_a_handle_tells_which_attributes_the_object_has(package):
    model = package.load_pickle("resources", "simple.pkl")
    assert model.hasattr("forward") and model.hasattr("training")
    assert not model.hasattr("make_prediction")
    with pytest.raises(AttributeError, match="did you mean 'forward'"):
        model.forwards(1)


def test_modules_are_the_packages_and_external_ones_are_the_interpreters(package):
    home, functional, same = package.load_pickle("resources", "simple.pkl").home()
    assert re.fullmatch(r"<torch_package_\d+>\.deployed\.models", home)
    assert functional == "torch.nn.functional" and same


def test_two_models_of_a_package_share_its_modules(package):
    with package.acquire() as session:
        load = session.self.attr("load_pickle")
        first, second = load("resources", "simple.pkl"), load("resources", "resnet.pkl")
        kinds = [model.attr("__class__").attr("__module__").value() for model in (first, second)]
    assert kinds[0] == kinds[1]


def test_weights_are_at_one_address_in_all_interpreters_and_sessions(package, models):
    model = package.load_pickle("resources", "simple.pkl")
    addresses = model.broadcast.addresses()
    assert addresses[0] == addresses[1] == addresses[2]
    assert len(set(addresses[0])) == len(list(models["simple"].parameters()))  # tied ones are one
    with package.acquire() as session:
        again = session.self.attr("load_pickle")("resources", "simple.pkl")
        moved = session.create_movable(again)
        assert again.attr("addresses")().value() == addresses[0]
    assert moved.broadcast.addresses() == addresses


def test_weights_are_in_memory_once_and_go_with_the_last_that_uses_them(pool, tmp_path):
    size = 64 << 20
    path = export(tmp_path / "large.pt", {"weights": torch.nn.Linear(size // 4 // 1024, 1024, bias=False)})
    for imported in pool.broadcast(torch.ones, 1):
        imported.result()
    before = resident_bytes()
    package = pool.load_package(path)
    model = package.load_pickle("resources", "weights.pkl", eager=True)
    x = torch.ones(1, size // 4 // 1024)
    assert len({result.sum().item() for result in model.broadcast.forward(x)}) == 1
    assert size * 0.9 < resident_bytes() - before < size * 1.4
    package.close()
    assert model(x).shape == (1, 1024)
    model.unload()
    deadline = time.monotonic() + PATIENCE
    while resident_bytes() - before >= size * 0.4:
        assert time.monotonic() < deadline
        for interpreter in pool.interpreters:  # what was let go of is released before a next call
            interpreter.submit(int).result()


def test_what_a_map_location_moves_is_moved_once(package):
    model = package.load_pickle(
        "resources", "simple.pkl", map_location=lambda storage, location: storage.clone()
    )
    unmoved = package.load_pickle("resources", "simple.pkl")
    addresses = model.broadcast.addresses()
    assert addresses[0] == addresses[1] == addresses[2]
    assert not set(addresses[0]) & set(unmoved.addresses())


def test_training_in_one_interpreter_is_seen_in_the_others(package):
    model = package.load_pickle("resources", "resnet.pkl", map_location=lambda storage, _: storage.clone())
    x = EXAMPLES["resnet"]
    before = model.on(2).forward(x)
    with package.acquire() as session:
        trained = session.from_movable(model)
        optimizer = session.global_("torch.optim", "SGD")(trained.attr("parameters")(), lr=0.1)
        trained(x).attr("sum")().attr("backward")()
        optimizer.attr("step")()
    assert not torch.equal(model.on(2).forward(x), before)


def test_an_object_is_loaded_where_it_is_called_and_eagerly_everywhere(pool, archive):
    with pool.load_package(archive) as package:
        module = package.import_module("deployed.objects")
        noted = package.load_pickle("resources", "noted.pkl")
        counts = module.broadcast.loaded()
        assert sorted(counts) == [0, 0, 1]
        elsewhere = counts.index(0)
        assert noted.on(elsewhere).met() == 1
        package.load_pickle("resources", "noted.pkl", eager=True)
        assert sorted(module.broadcast.loaded()) == [1, 2, 2]


def test_an_error_of_loading_is_raised_by_the_calls_that_need_the_object(pool, archive):
    obstacle = archive.with_name("obstacle")
    with pool.load_package(archive) as package:
        noted = package.load_pickle("resources", "obstructed.pkl")
        obstacle.touch()
        with pytest.raises(ValueError, match="cannot be unpickled"):
            package.load_pickle("resources", "obstructed.pkl")
        outcomes = [noted.on(index).met.submit().exception() for index in range(3)]
        obstacle.unlink()
        assert [type(outcome) for outcome in outcomes].count(ValueError) == 2
        failed = outcomes.index(next(outcome for outcome in outcomes if outcome))
        with pytest.raises(ValueError, match="cannot be unpickled"):
            noted.on(failed).met()


def test_a_call_that_is_interrupted_while_it_loads_leaves_the_object_to_the_next(pool, tmp_path):
    from deployed.objects import Endless

    pipe = tmp_path / "pipe"
    with pool.load_package(export(tmp_path / "endless.pt", {"endless": Endless(str(pipe))})) as package:
        endless = package.load_pickle("resources", "endless.pkl")
        os.mkfifo(pipe)
        both = os.open(pipe, os.O_RDWR)  # it has no end then, however the writers come and go
        calls = [endless.on(index).answer.submit() for index in range(3)]
        told = b""
        while len(told) < 2 * len("begun"):  # by the two that have not loaded it yet
            assert select.select([both], [], [], 60)[0]
            told += os.read(both, 100)
        os.close(both)
        multipy.wait(calls, num_returns=1, timeout=60)  # where it is loaded
        assert [call.cancel(interrupt=True) for call in calls].count(True) == 2
        outcomes = {type(call.exception()) for call in calls}
        pipe.unlink()
        assert outcomes == {multipy.Interrupted, type(None)}
        assert endless.broadcast.answer() == [42, 42, 42]


def test_unloading_from_one_leaves_the_others_and_from_all_ends_the_handle(package):
    model, x = package.load_pickle("resources", "simple.pkl"), EXAMPLES["simple"]
    model.unload(1)
    assert [interpreter.id for interpreter in model.interpreters] == [0, 2]
    with pytest.raises(ValueError, match="no replica in interpreter 1"):
        model.on(1)
    assert model(x).shape == (20, 20)
    model.unload()
    with pytest.raises(multipy.ActorClosedError):
        model(x)


def test_functions_and_values_of_a_module_are_reached_by_a_handle(package):
    module = package.import_module("deployed.objects")
    assert "of deployed.objects (alive" in repr(module)
    assert module.add(2, right=3) == 5 and module.ANSWER == 42 and module.later(7) == 7
    with pytest.raises(ModuleNotFoundError, match=r"deployed\.nothing"):
        package.import_module("deployed.nothing")


def test_a_package_may_use_torch_distributed(package):
    module = package.import_module("deployed.distributed")
    assert module.broadcast.sum_of_a_world_of_one(3) == [3.0, 3.0, 3.0]


def test_text_and_bytes_are_read(package):
    assert package.load_text("resources", "greeting.txt") == "grüezi"
    assert package.load_text("resources", "greeting.txt", "latin-1") != "grüezi"
    assert package.load_binary("resources", "bytes.bin") == b"\0\1\2"


def test_a_package_is_read_from_a_file_bytes_in_memory_or_a_folder(pool, archive, models, tmp_path):
    zipfile.ZipFile(archive).extractall(tmp_path)
    with open(archive, "rb") as file:
        sources = [file, io.BytesIO(archive.read_bytes()), tmp_path / "archive", str(archive)]
        loaded = [pool.load_package(source) for source in sources]
    for package in loaded:
        model = package.load_pickle("resources", "simple.pkl")
        assert torch.equal(model(EXAMPLES["simple"]), models["simple"](EXAMPLES["simple"]))
        assert len({tuple(addresses) for addresses in model.broadcast.addresses()}) == 1


def test_a_package_goes_on_when_its_file_is_gone_or_replaced(pool, archive, models, tmp_path):
    path = tmp_path / "copy.pt"
    path.write_bytes(archive.read_bytes())
    with pool.load_package(path) as package:
        path.write_bytes(b"something else")
        model = package.load_pickle("resources", "simple.pkl", eager=True)
        assert torch.equal(model(EXAMPLES["simple"]), models["simple"](EXAMPLES["simple"]))


def test_bad_paths_archives_and_resources_raise_and_harm_nothing(pool, package, archive, tmp_path):
    with pytest.raises(FileNotFoundError):
        pool.load_package(tmp_path / "missing.pt")
    for contents in (b"", b"no archive", archive.read_bytes()[:1000], archive.read_bytes()[1000:]):
        with pytest.raises(RuntimeError, match="is not an archive"):
            pool.load_package(io.BytesIO(contents))
    with pytest.raises(TypeError, match="from a path or a file, not from int"):
        pool.load_package(3)
    with pytest.raises(TypeError, match=r"read\(\) gave str"):
        pool.load_package(io.StringIO("text"))
    with pytest.raises(RuntimeError, match="garbage"):
        package.load_pickle("resources", "garbage path")
    with pytest.raises(ModuleNotFoundError, match="some_other"):
        package.load_pickle("some_other", "garbage path")
    model = package.load_pickle("resources", "simple.pkl")
    with pytest.raises(TypeError):
        model("unexpected input")
    assert model(EXAMPLES["simple"]).shape == (20, 20)


def test_objects_of_a_packages_classes_travel_between_interpreters_and_into_the_host(pool, package):
    with package.acquire() as session:
        made = session.global_("deployed.models", "Simple")(4).value()
    assert type(made).__module__.endswith(">.deployed.models")
    copies = [interpreter.submit(lambda model: model, made) for interpreter in pool.interpreters]
    assert [type(copy.result()) for copy in copies] == [type(made)] * 3
    assert copies[1].result().addresses() == made.addresses()
    add = package.import_module("deployed.objects").on(1)
    assert add.add.submit(1).result() == 2


def test_reduce_deploy_says_how_an_object_travels(pool, package):
    with package.acquire() as session:
        made = session.global_("deployed.objects", "Rebuilt")(torch.ones(3))
        moved = session.create_movable(made)
        copy = session.from_movable(moved)
        assert copy.attr("name").value() == ("deployed.objects", "Rebuilt")
        assert copy.attr("importer").value() != "_SysImporter"
        assert (
            copy.attr("tensor").attr("data_ptr")().value() == made.attr("tensor").attr("data_ptr")().value()
        )
    from deployed.objects import Rebuilt

    mine = Rebuilt(torch.ones(2))
    returned = pool.submit(lambda value: value, mine).result()
    assert returned.importer == "_SysImporter" and returned.tensor.data_ptr() == mine.tensor.data_ptr()


def test_a_thread_has_sessions_of_several_packages_and_several_of_one(pool, package, archive):
    with pool.load_package(archive) as second, package.acquire() as first:
        with second.acquire() as other, package.acquire() as again, package.acquire():
            names = [session.self.attr("id")().value() for session in (first, other, again)]
            classes = [
                session.global_("deployed.models", "Simple").attr("__module__").value()
                for session in (first, other, again)
            ]
            places = [session.interpreter for session in (first, other, again)]
        assert (names[0], places[0]) != (names[1], places[1])
        assert all(cls == f"{name}.deployed.models" for cls, name in zip(classes, names, strict=True))


def test_a_session_of_a_package_finds_other_modules_as_well(package):
    with package.acquire() as session:
        assert session.global_("json", "loads")("[1]").value() == [1]
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            session.global_("no_such_module", "x")
        with pytest.raises(AttributeError, match="no_such_name"):
            session.global_("deployed.models", "no_such_name")


def test_a_foreign_object_is_not_replicated(package):
    model = package.load_pickle("resources", "simple.pkl")
    with package.acquire() as first, package.acquire() as second:
        obj = first.from_movable(model)
        with pytest.raises(multipy.SessionError, match="is of another session"):
            second.create_movable(obj)


def test_inline_pools_load_packages_too(archive, models):
    with multipy.Pool(2, inline=True) as pool, pool.load_package(archive) as package:
        model = package.load_pickle("resources", "simple.pkl", eager=True)
        assert torch.equal(model(EXAMPLES["simple"]), models["simple"](EXAMPLES["simple"]))
        assert len({tuple(addresses) for addresses in model.broadcast.addresses()}) == 1
        assert package.import_module("deployed.objects").add(1) == 2
        with package.acquire() as session:
            assert session.global_("deployed.objects", "ANSWER").value() == 42
        with pytest.raises(RuntimeError, match="garbage"):
            package.load_pickle("resources", "garbage path")


def test_a_closed_package_loads_nothing_more(pool, archive):
    with pool.load_package(archive) as package:
        model = package.load_pickle("resources", "simple.pkl")
    for call in (
        lambda: package.load_text("resources", "greeting.txt"),
        lambda: package.load_pickle("resources", "simple.pkl"),
        package.acquire,
    ):
        with pytest.raises(ValueError, match="was closed"):
            call()
    assert len(model.broadcast.forward(EXAMPLES["simple"])) == 3
    assert repr(package).endswith(", closed>")


def test_a_package_stays_where_it_is(pool, package):
    with pytest.raises(multipy.SerializationError, match="a package cannot be sent"):
        pool.submit(print, package)


def test_the_host_needs_no_torch(archive, run_script):
    script = f"""
        import sys
        import multipy_actors as multipy

        if __name__ == "__main__":
            with multipy.Pool(1) as pool, pool.load_package({str(archive)!r}) as package:
                model = package.load_pickle("resources", "simple.pkl")
                print(package.load_text("resources", "greeting.txt"), model.training)
                print(package.import_module("deployed.objects").add(1), "torch" in sys.modules)
    """
    assert run_script(script).stdout == "grüezi False\n2 False\n"


def test_a_method_of_a_package_that_is_marked_takes_batches(pool, package):
    lengths = package.load_pickle("resources", "lengths.pkl")
    assert lengths.of("four") == 4 and lengths.broadcast.of("six") == [3, 3, 3]
    with Gate() as gate:
        # All interpreters are held up, so that calls wait for any of them.
        stopped = lengths.broadcast.stop.submit(gate)
        gate.arrivals(len(pool))
        futures = [lengths.of.submit("x" * number) for number in range(9)]
        gate.open()
        assert multipy.get(futures) == list(range(9))
    multipy.get(stopped)
    assert sum(map(sum, lengths.broadcast.sizes_so_far())) == 13
    assert any(size > 1 for sizes in lengths.broadcast.sizes_so_far() for size in sizes)
