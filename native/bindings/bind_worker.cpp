// Worker: an interpreter's own view of its pool, for multipy_actors/worker/serve.py.
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/output.h"
#include "base/room.h"
#include "base/thread.h"
#include "base/time_slice.h"
#include "bindings/bind.h"
#include "bindings/contexts.h"
#include "bindings/failing.h"
#include "bindings/worker.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/failure.h"
#include "task/timer.h"

namespace multipy::bindings {

namespace {

Worker* first_worker = nullptr;  // written once, before Python starts in this image

constexpr const char* kRun =
    "def run(self, call: Call, function: collections.abc.Callable[[Call], typing.Any]) -> typing.Any";
constexpr const char* kRunBatch =
    "def run_batch(self, calls: list[Call], function: collections.abc.Callable[[list[Call]], typing.Any]) "
    "-> typing.Any";

/// A C++ exception that user code lets go ends the process where it was thrown, as in a Python of its own: nothing
/// above may catch it.
PyObject* call_user_code(PyObject* function, PyObject* argument) noexcept {
  return PyObject_CallOneArg(function, argument);
}

PyObject* change_of_actor = nullptr;  // what is called then; lives as long as Python

/// Debuggers and `top -H` show the thread by what it runs, or ran last: "0:Embedder" in interpreter 0. Linux has
/// 15 bytes for it.
void name_thread(Worker& worker, const CallGroup* group) noexcept {
  const std::uint64_t actor = group == nullptr ? 0 : group->actor;
  if (std::exchange(worker.named_after, actor) == actor) return;
  std::array<char, 16> name{};
  if (actor == 0) {
    worker.name().copy(name.data(), name.size() - 1);
  } else {
    std::snprintf(name.data(), name.size(), "%zu:%s", worker.index, group->label.c_str());
  }
  ::pthread_setname_np(::pthread_self(), name.data());
}

/// Whether this interpreter has imported something that keeps state for a thread.
bool has_state_of_threads() noexcept {
  static PyObject* const torch = PyUnicode_InternFromString("torch");
  static PyObject* const events = PyUnicode_InternFromString("asyncio.events");
  PyObject* const modules = PyImport_GetModuleDict();
  return PyDict_GetItem(modules, torch) != nullptr || PyDict_GetItem(modules, events) != nullptr;
}

/// What is a thread's becomes that of `actor`, whose `call` it is about to run, if another's ran before.
void run_for(Worker& worker, std::int64_t actor, const Call* call = nullptr) {
  if (call != nullptr) name_thread(worker, call->group().get());  // what makes an actor has none
  const std::int64_t before = std::exchange(worker.in_force, actor);
  if (before == actor || change_of_actor == nullptr) return;
  const bool is_new = !has_context(actor);
  if (!enter_context_of(actor)) PyErr_WriteUnraisable(change_of_actor);
  if (has_state_of_threads()) {
    PyObject* const done =
        PyObject_CallFunction(change_of_actor, "LLii", static_cast<long long>(before), static_cast<long long>(actor),
                              static_cast<int>(has_context(before)), static_cast<int>(is_new));
    if (done == nullptr) PyErr_WriteUnraisable(change_of_actor);
    Py_XDECREF(done);
  }
  if (&worker == &worker.home)
    worker.pool.dispatcher().keeps_state(worker.index, worker.desk, actor == kNobody ? 0 : actor);
}

/// Calls `function` with `argument` in a turn of the worker, if `begin`, which begins it, lets it.
template <typename Begin>
nb::object run_turn(Worker& worker, const nb::object& function, const nb::object& argument, Begin&& begin) {
  ReturnQueue::call_owners();
  struct Turn {
    Worker& worker;
    ~Turn() {
      worker.end();
      end_turn();
      ReturnQueue::put_off_calls();
    }
  } turn{worker};
  if (!begin()) return nb::none();
  PyObject* const result = call_user_code(function.ptr(), argument.ptr());
  if (result == nullptr) throw nb::python_error();
  return nb::steal(result);
}

}  // namespace

void set_worker(Worker* worker) noexcept {
  first_worker = worker;
  worker->adopt_thread();
}
Worker* worker() noexcept { return first_worker == nullptr ? nullptr : &first_worker->here(); }

const std::shared_ptr<ReturnQueue>& returns() {
  static const auto& host = *[] {
    auto* const queue = new std::shared_ptr<ReturnQueue>(std::make_shared<ReturnQueue>());
    if (first_worker == nullptr) (*queue)->guard_across_forks();
    return queue;
  }();
  return first_worker != nullptr ? first_worker->returns : host;
}

DeviceMemory* device_memory() noexcept {
  return first_worker == nullptr ? nullptr : &first_worker->interpreter.images().device_memory();
}

namespace {

/// How often a call is delivered that the worker loop failed to begin.
constexpr int kDeliveries = 10;

/// Ends the calls in hand that run, with `error` if it is not null: the worker loop has failed and will not.
void give_up_running(Worker& worker, PyObject* error) {
  for (const auto& call : worker.in_hand) {
    if (call->state() != CallState::running || call->runs_aside()) continue;
    if (error != nullptr) {
      fail_plainly(*call, error);
    } else {
      call->abandon(own_failure("MultipyError", "the worker loop of the interpreter failed while it ran the call"));
    }
  }
}

/// What was delivered before and has not begun, if there is something; nothing is in hand otherwise.
std::shared_ptr<Call> settle_in_hand(Worker& worker) {
  if (worker.in_hand.empty()) return nullptr;
  give_up_running(worker, nullptr);
  std::erase_if(worker.in_hand, [](const auto& call) { return call->state() != CallState::pending; });
  if (worker.in_hand.empty()) return nullptr;
  if (++worker.redeliveries < kDeliveries) return worker.in_hand.front();
  for (const auto& call : worker.in_hand)
    call->abandon(own_failure("MultipyError", "the worker loop of the interpreter failed to begin the call"));
  worker.in_hand.clear();
  return nullptr;
}

/// There is room for it.
void hold_in_hand(Worker& worker, const std::shared_ptr<Call>& call) noexcept {
  worker.in_hand.push_back(call);
  worker.redeliveries = 0;
  ++worker.home.deliveries;
}

}  // namespace

void bind_worker(nb::module_& module) {
  nb::class_<Worker>(module, "Worker", "The interpreter's place in its pool.")
      .def_ro("index", &Worker::index)
      .def(
          "adopt_event_loop",
          [](Worker& self) {
            self.home.adopt_thread(true);
            note_event_loop();
          },
          "This thread is that of its event loop.")
      .def(
          "take",
          [](Worker& self) -> std::shared_ptr<Call> {
            want_long_slices(false);
            keep_recursion_limit();
            if (auto call = settle_in_hand(self)) return call;
            if (&self != &self.home) run_for(self, kNobody);
            if (!self.home.gave_up.empty() || self.home.lost) return nullptr;
            for (;;) {
              self.returns->drain();
              Dispatcher::Delivery delivery;
              {
                const GilPause pause;
                make_room_in(self.in_hand);
                delivery = self.pool.dispatcher().take(self.index, self.desk);
                if (delivery.kind == Dispatcher::Delivery::call_ready) hold_in_hand(self, delivery.call);
                if (delivery.is_last) self.start_another();
              }
              if (delivery.kind == Dispatcher::Delivery::closed) return nullptr;
              if (delivery.kind != Dispatcher::Delivery::call_ready) continue;
              drop_late_exception();
              return delivery.call;
            }
          },
          nb::sig("def take(self) -> Call | None"),
          "The next call to run; None: the pool is closed and nothing is left.\n\n"
          "A call that was delivered before and has not begun is delivered again; one that has begun and not ended has "
          "failed.")
      .def(
          "lost", [](Worker& self, nb::handle error) { give_up_running(self, error.ptr()); }, nb::arg("error"),
          "The worker loop has failed with `error`, and so have the calls that it ran.")
      .def(
          "run",
          [](Worker& self, const nb::object& call, const nb::object& function) {
            auto& next = nb::cast<Call&>(call);
            run_for(self, static_cast<std::int64_t>(next.actor()), &next);
            return run_turn(self, function, call, [&] { return self.begin(next); });
          },
          nb::arg("call"), nb::arg("function"), nb::sig(kRun),
          "Returns `function(call)`, in which `call` may be interrupted; nowhere else is it.\n\n"
          "None: it is not to run, as it was interrupted already.")
      .def(
          "run_batch",
          [](Worker& self, const nb::object& calls, const nb::object& function) {
            return run_turn(self, function, calls, [&] { return self.begin(nb::cast<Worker::Calls>(calls)); });
          },
          nb::arg("calls"), nb::arg("function"), nb::sig(kRunBatch),
          "The same for several calls as one: it is interrupted when that is wanted of all of them.")
      .def(
          "expire_in",
          [](Worker& self, double seconds) {
            Call* const call = self.running();
            const Deadline deadline = deadline_after(seconds);
            if (call != nullptr && deadline)
              expire_at(std::static_pointer_cast<Call>(call->shared_from_this()), *deadline);
          },
          nb::arg("seconds"), "The call that runs on this thread, the worker's, expires then.")
      .def_prop_ro(
          "expired", [](Worker& self) { return self.running() != nullptr && self.running()->expired(); },
          "Whether the call that runs on this thread, the worker's, has.")
      .def(
          "take_more",
          [](Worker& self, const Call& first, double seconds) {
            const GilPause pause;
            ReturnQueue::call_owners();
            make_room_in(self.in_hand);
            const Deadline deadline = deadline_after(std::min(seconds, 1e9));
            auto more = self.pool.dispatcher().take_more(self.index, self.desk, first.mailbox(), *deadline, &first);
            if (more != nullptr) hold_in_hand(self, more);
            return more;
          },
          nb::arg("first"), nb::arg("seconds"),
          nb::sig("def take_more(self, first: Call, seconds: float) -> Call | None"),
          "The next call of the mailbox of `first`, waiting `seconds` for it at most.\n\n"
          "None: there is none, or it is one that cannot run together with `first`.")
      .def(
          "finished", [](Worker& self, bool ok) { self.pool.dispatcher().finished(self.index, ok); }, nb::arg("ok"),
          "Ends the call taken last, for the figures.")
      .def(
          "finished_aside", [](Worker& self, bool ok) { self.pool.dispatcher().finished_aside(self.index, ok); },
          nb::arg("ok"), "Counts a call that ended aside, on whatever thread.")
      .def(
          "event_loop_runs", [](Worker& self, bool runs) { self.pool.dispatcher().event_loop_runs(self.index, runs); },
          nb::arg("runs"), "Whether code runs on its event loop from here on, for the figures.")
      .def(
          "give_up", [](Worker& self, const nb::str& why) { self.home.gave_up = text_of(why); }, nb::arg("why"),
          "The interpreter could not be set up: take() returns None, and no other takes its place.")
      .def_prop_ro(
          "interrupted", [](Worker& self) { return self.pool.interrupted(); }, "Whether all that runs is to end.")
      .def_prop_ro("pool", [](Worker& self) { return self.pool.shared_from_this(); });

  module.def(
      "context_variable",
      [](const char* name, nb::object value) {
        PyObject* const variable = PyContextVar_New(name, value.ptr());
        if (variable == nullptr) throw nb::python_error();
        return nb::steal(variable);
      },
      nb::arg("name"), nb::arg("default"),
      nb::sig("def context_variable(name: str, default: object) -> contextvars.ContextVar[typing.Any]"),
      "A new contextvars.ContextVar.");
  module.def(
      "on_change_of_actor",
      [](const nb::object& function) {
        begin_contexts();
        Py_INCREF(function.ptr());
        change_of_actor = function.ptr();
      },
      nb::arg("function"),
      nb::sig("def on_change_of_actor(function: collections.abc.Callable[[int, int, int, int], None]) -> None"),
      "From here on functions and each actor have a context of their own.\n\n"
      "Where torch or asyncio has been imported, a worker's thread that is about to run a call of another actor than "
      "before calls `function` with the numbers of both, 0 for functions, -1 for none, whether the one before has not "
      "been forgotten, and whether the other is new.");
  module.def("forget_actor", &forget_context, nb::arg("number"), "The actor has ended, and needs no context.");
  module.def("main_thread_stack", main_thread_stack,
             "The stack in bytes of a thread that stands for the main thread of a process.");
  module.def("current_worker", &worker, nb::rv_policy::reference, nb::sig("def current_worker() -> Worker | None"),
             "This interpreter's place in its pool, as this thread has it; None in the host.");
  module.def("keep_recursion_limit", &keep_recursion_limit,
             "The recursion limit is at least what the library needs for its own part of a call; true: it was less.");
  module.def(
      "hold_interrupts_in", [](nb::handle code) { hold_interrupts_in(reinterpret_cast<PyCodeObject*>(code.ptr())); },
      nb::arg("code"), nb::sig("def hold_interrupts_in(code: types.CodeType) -> None"),
      "While this code runs on the thread of a call, interrupts of it wait. It should not take long.");
  module.def("raise_again", &raise_again, "The Interrupted that was raised on this thread was dropped on its way.");
  module.def(
      "interrupt_job",
      [](nb::handle variable, nb::handle job, nb::handle machinery, bool held) {
        return interrupt_job(variable.ptr(), job.ptr(), machinery.ptr(), held);
      },
      nb::arg("variable"), nb::arg("job"), nb::arg("machinery"), nb::arg("held"),
      nb::sig("def interrupt_job(variable: contextvars.ContextVar[typing.Any], job: object, "
              "machinery: tuple[types.CodeType, ...], held: bool) -> bool"),
      "Raises Interrupted on the event loop if it runs in a context that has `job` as `variable`; says whether.\n\n"
      "Its innermost frame must not be of `machinery`. With `held`, it is not raised where interrupts wait.");
  module.def(
      "want_long_slices", [](bool wanted) { want_long_slices(wanted); }, nb::arg("wanted"),
      "While it is wanted, this thread runs for longer at a stretch; on the worker thread, until its call ends.");
  module.def(
      "write_output",
      [](int fd, std::uint64_t writer, const nb::bytes& prefix, const nb::bytes& text) {
        int failure;
        {
          nb::gil_scoped_release released;
          failure = write_output(fd, writer, {prefix.c_str(), prefix.size()}, {text.c_str(), text.size()});
        }
        if (failure == 0) return;
        errno = failure;
        PyErr_SetFromErrno(PyExc_OSError);
        throw nb::python_error();
      },
      nb::arg("fd"), nb::arg("writer"), nb::arg("prefix"), nb::arg("text"),
      "Writes to standard output or error, `prefix` before each line that `writer` begins.");
  module.def(
      // With the GIL, so that no other thread finds the queue empty while a release waits for it here.
      "drain_returns", [] { return returns()->drain(); }, "Releases what others have done with; how many.");
  module.def(
      "watch_returns",
      [](std::shared_ptr<CompletionQueue> queue) {
        returns()->set_wake(queue == nullptr ? std::function<void()>() : [queue] { queue->wake(); });
      },
      nb::arg("queue").none(), "Wakes `queue` whenever something this interpreter exported is to be released.");
}

}  // namespace multipy::bindings
