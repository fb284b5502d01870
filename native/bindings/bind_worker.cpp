// Worker: an interpreter's own view of its pool, for multipy_actors/_worker.py.
#include "bindings/bind.h"
#include "bindings/worker.h"
#include "task/call.h"
#include "task/completion_queue.h"

namespace multipy::bindings {

namespace {

Worker* this_worker = nullptr;  // written once, before Python starts in this image

}  // namespace

void set_worker(Worker* worker) noexcept {
  this_worker = worker;
  worker->adopt_thread();
}
Worker* worker() noexcept { return this_worker; }

const std::shared_ptr<ReturnQueue>& returns() {
  static const auto& host = *new std::shared_ptr<ReturnQueue>(std::make_shared<ReturnQueue>());
  return this_worker != nullptr ? this_worker->returns : host;
}

void bind_worker(nb::module_& module) {
  nb::class_<Worker>(module, "Worker", "The interpreter's place in its pool.")
      .def_ro("index", &Worker::index)
      .def(
          "take",
          [](Worker& self) -> std::shared_ptr<Call> {
            for (;;) {
              self.returns->drain();
              Dispatcher::Delivery delivery;
              {
                nb::gil_scoped_release released;
                delivery = self.pool.dispatcher().take(self.index);
              }
              if (delivery.kind == Dispatcher::Delivery::closed) return nullptr;
              if (delivery.kind == Dispatcher::Delivery::call_ready) return delivery.call;
            }
          },
          nb::sig("def take(self) -> Call | None"),
          "The next call to run; None: the pool is closed and nothing is left.")
      .def(
          "begin",
          [](Worker& self, Call& call) {
            self.running_group.store(call.group().get());
            self.running.store(&call);
            return !call.interrupted();
          },
          nb::arg("call"),
          "User code of `call` runs from here on: it may be interrupted. False: that has happened already.")
      .def(
          "take_more",
          [](Worker& self, Dispatcher::MailboxId mailbox, double seconds) {
            nb::gil_scoped_release released;
            return self.pool.dispatcher().take_more(self.index, mailbox, deadline_after(seconds).value());
          },
          nb::arg("mailbox"), nb::arg("seconds"),
          nb::sig("def take_more(self, mailbox: int, seconds: float) -> Call | None"),
          "One more call of `mailbox`, waiting `seconds` for it at most; None: there is none.")
      .def(
          "end", [](Worker& self) { self.running.store(nullptr); }, "User code has returned.")
      .def(
          "finished", [](Worker& self, bool ok) { self.pool.dispatcher().finished(self.index, ok); }, nb::arg("ok"),
          "Ends the call taken last, for the figures.")
      .def(
          "finished_aside", [](Worker& self, bool ok) { self.pool.dispatcher().finished_aside(self.index, ok); },
          nb::arg("ok"), "Counts a call that ended aside, on whatever thread.")
      .def_prop_ro("pool", [](Worker& self) { return self.pool.shared_from_this(); });

  module.def(
      "current_worker", [] { return this_worker; }, nb::rv_policy::reference,
      nb::sig("def current_worker() -> Worker | None"), "This interpreter's place in its pool; None in the host.");
  module.def("drain_returns", [] { return returns()->drain(); }, "Releases what others have done with; how many.");
  module.def(
      "watch_returns",
      [](std::shared_ptr<CompletionQueue> queue) {
        returns()->set_wake(queue == nullptr ? std::function<void()>() : [queue] { queue->wake(); });
      },
      nb::arg("queue").none(), "Wakes `queue` whenever something this interpreter exported is to be released.");
}

}  // namespace multipy::bindings
