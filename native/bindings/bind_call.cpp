// Call: one request and its outcome. Made by Pool.post, completed by a worker.
#include "bindings/bind.h"
#include "bindings/failing.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/timer.h"
#include "task/waits.h"

namespace multipy::bindings {

namespace {

/// A word instead of an enum: Python's enum module would be a good part of an interpreter's start-up.
const char* state_name(const Call& call) {
  switch (call.state()) {
    case CallState::pending:
      return "pending";
    case CallState::running:
      return "running";
    case CallState::succeeded:
      return "succeeded";
    case CallState::failed:
      return "failed";
    case CallState::cancelled:
      return "cancelled";
  }
  return "";
}

}  // namespace

void bind_call(nb::module_& module) {
  nb::class_<Call, Attachment>(module, "Call", "One request to an interpreter and, once done, its outcome.")
      .def(nb::new_([] { return std::make_shared<Call>(Payload{}); }), "One that is not posted: its maker runs it.")
      .def_prop_ro("state", &state_name, "How far it is: pending, running, or for good succeeded, failed or cancelled.")
      .def_prop_ro(
          "key", [](Call& self) { return self.number(); }, "Names the call for good, whatever stands for it.")
      .def_prop_ro("makes", &Call::makes, "The number of the actor that it makes a replica of; 0: it makes none.")
      .def_prop_ro("mailbox", &Call::mailbox, "Where it was posted.")
      .def_prop_ro("expired", &Call::expired, "Whether its time limit ended it, if it failed without an error.")
      .def_prop_ro("interrupted", &Call::interrupted, "Whether somebody wants the code that runs to end.")
      .def_prop_ro("killed", &Call::killed, "Whether its actor was killed, and it is not to run any more.")
      .def_prop_ro("interpreter", &Call::worker, "Index of the interpreter that took it; -1: none yet.")
      .def("done", &Call::done)
      .def(
          "wait",
          [](Call& self, std::optional<double> timeout) {
            if (self.done()) return true;
            return wait_interruptibly(timeout, [&](Deadline deadline) { return self.wait(deadline); });
          },
          nb::arg("timeout") = nb::none(),
          "Waits until it is done; false: `timeout` seconds passed. Signals are handled meanwhile.")
      .def(
          "cancel",
          [](Call& self) {
            const bool cancelled = self.cancel();
            returns()->drain();
            return cancelled;
          },
          "Takes it back if it has not started; what it was to be given is released then.")
      .def("expect_nobody", &Call::expect_nobody,
           "Nobody waits for it: it does not hold up the end of its interpreter.")
      .def("interrupt", &Call::interrupt, nb::call_guard<nb::gil_scoped_release>(),
           "Has Interrupted raised in the code that runs; false if none does.")
      .def(
          "result",
          [](const Call& self) {
            returns()->drain();
            return payload_parts(self.result());
          },
          nb::sig("def result(self) -> tuple[bytes, list[Attachment]]"),
          "The encoded value or exception, by `state`. Only once done.\n\n"
          "What the call was given, and has let go of, is released before.")
      .def(
          "watch", [](Call& self, std::shared_ptr<CompletionQueue> queue) { self.watch(std::move(queue)); },
          nb::arg("queue"), "Pushes the call to `queue` when it is done.")
      // For the worker.
      .def("run_aside", &Call::run_aside, nb::arg("queue"),
           "The worker goes on with other calls; who wants this one to end pushes it to `queue`.")
      .def_prop_ro("runs_aside", &Call::runs_aside)
      .def("end_aside", &Call::end_aside, "Nothing goes on aside for it any more.")
      .def(
          "expire_in",
          [](const std::shared_ptr<Call>& self, double seconds) {
            if (const Deadline deadline = deadline_after(seconds)) expire_at(self, *deadline);
          },
          nb::arg("seconds"), "It ends by its time limit then.")
      .def(
          "interrupt_in",
          [](const std::shared_ptr<Call>& self, double seconds) {
            if (const Deadline deadline = deadline_after(seconds)) interrupt_until_over(self, *deadline - Clock::now());
          },
          nb::arg("seconds"), "Its code, which goes on though the caller was answered, is interrupted then.")
      .def("wait_for_turn", &Call::wait_for_turn, nb::arg("turns"),
           "It has to wait until one of the `turns` calls that its actor runs at once has ended.")
      .def("begin_aside", &Call::begin_aside, "It does not wait any more.")
      .def("start", &Call::start, "pending to running; false: it was cancelled.")
      .def(
          "take_request",
          [](Call& self) {
            const Payload request = self.take_request();
            return payload_parts(request);
          },
          nb::sig("def take_request(self) -> tuple[bytes, list[Attachment]]"), "Moves the encoded request out, once.")
      .def(
          "succeed",
          [](Call& self, const nb::bytes& data, const Attachments& attachments) {
            return self.succeed(make_payload(data, attachments));
          },
          nb::arg("data"), nb::arg("attachments"))
      .def(
          "fail",
          [](Call& self, const nb::bytes& data, const Attachments& attachments) {
            return self.fail(make_payload(data, attachments));
          },
          nb::arg("data"), nb::arg("attachments"))
      .def(
          "fail_plainly", [](Call& self, nb::handle error) { return fail_plainly(self, error.ptr()); },
          nb::arg("error"), "Fails it with what can be told of `error` without running Python code.");

  nb::class_<Await>(module, "Await", "A job on an event loop, as it awaits calls: for the graph of waits.")
      .def(nb::new_([](const std::vector<std::shared_ptr<Call>>& job) { return std::make_shared<Await>(job); }),
           nb::arg("job"))
      .def("add", &Await::add, nb::arg("call"),
           "It awaits `call`, too. If that could never end, a call of the job is pushed to its queue of interrupts.")
      .def(
          "remove", [](Await& self, const Call& call) { self.remove(call); }, nb::arg("call"))
      .def_prop_ro("hopeless", &Await::hopeless, "Why it could never go on; empty: it can.")
      .def_prop_ro("asked", &Await::asked, "Whether it is to answer if it goes on with nothing else.")
      .def("answer", &Await::answer, nb::arg("certain"))
      .def("look_again", &Await::look_again, "Forgets that it may go on with something else.");

  module.def(
      "wait_for_some",
      [](const std::vector<std::shared_ptr<Call>>& calls, std::size_t needed, std::optional<double> timeout,
         bool until_failure) {
        return wait_interruptibly(
            timeout, [&](Deadline deadline) { return wait_for_some(calls, needed, deadline, until_failure); });
      },
      nb::arg("calls"), nb::arg("needed"), nb::arg("timeout") = nb::none(), nb::arg("until_failure") = false,
      "Waits until `needed` of `calls`, which are all different, are done; false: `timeout` seconds passed.\n\n"
      "With `until_failure` it is over as well when one of them has failed.");
}

void bind_completion_queue(nb::module_& module) {
  nb::class_<CompletionQueue>(module, "CompletionQueue",
                              "Calls that are done, for the one thread that tells whoever watches them.")
      .def(nb::new_([] { return std::make_shared<CompletionQueue>(); }))
      .def(
          "pop",
          [](CompletionQueue& self, std::optional<double> timeout) {
            const Deadline deadline = deadline_after(timeout);
            nb::gil_scoped_release released;
            return self.pop(deadline);
          },
          nb::arg("timeout") = nb::none(), nb::sig("def pop(self, timeout: float | None = None) -> Call | None"),
          "The next call; None: woken, closed, or `timeout` seconds have passed.")
      .def(
          "send",
          [](CompletionQueue& self, const nb::bytes& data) {
            return self.push(std::make_shared<Call>(make_payload(data, {})));
          },
          nb::arg("data"), "Pushes a message: a call that nobody waits for. False: the queue is closed.")
      .def("wake", &CompletionQueue::wake)
      .def("close", &CompletionQueue::close)
      .def("closed", &CompletionQueue::closed);
}

}  // namespace multipy::bindings
