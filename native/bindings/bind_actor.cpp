// Actor: what handles of an actor share, in whichever interpreter they are.
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/worker.h"
#include "pool/actor.h"
#include "task/timer.h"

namespace multipy::bindings {

namespace {

std::shared_ptr<Actor> make_actor(const std::shared_ptr<Pool>& pool, std::uint64_t number,
                                  std::vector<std::size_t> interpreters, const nb::str& label, const nb::str& name,
                                  const nb::bytes& description, const nb::bytes& farewell, std::size_t limit,
                                  int restarts, std::size_t at_once) {
  const auto text = [](const nb::bytes& bytes) { return std::string(bytes.c_str(), bytes.size()); };
  return Actor::create(pool, {number, std::move(interpreters), text_of(label), text_of(name), text(description),
                              text(farewell), limit, restarts, at_once});
}

/// Posts `call`; in a full mailbox, waits for room if `wait`, and else throws FullError.
void post(Actor& actor, const std::shared_ptr<Call>& call, std::optional<std::size_t> on, bool wait, bool limited,
          std::optional<double> timeout) {
  // Who sends much should not wait for the notifier thread to get the GIL before memory comes back.
  returns()->drain();
  const Deadline deadline = deadline_after(timeout);
  if (deadline) expire_at(call, *deadline);
  for (;;) {
    try {
      return actor.post(call, on, limited);
    } catch (const FullError& error) {
      if (!wait) throw FullError(actor.label() + ": " + error.what());
    }
    // The call may expire while it waits for room: then it fails like one that was queued for too long.
    const auto left =
        deadline ? std::optional(std::chrono::duration<double>(*deadline - Clock::now()).count()) : timeout;
    if (!wait_interruptibly(left, [&](Deadline until) { return actor.wait_for_room(on, until); })) return;
  }
}

/// Whether the code that runs here is that of a call of `actor`; `context` is the number of the actor that code on
/// other threads than the worker's says it belongs to.
bool is_called(const Actor& actor, std::uint64_t context) {
  const Worker* const here = worker();
  if (here == nullptr || !here->is_here()) return context == actor.number();
  const Call* const call = here->running();
  return call != nullptr && (call->group().get() == &actor.figures() || call->makes() == actor.number());
}

struct Weak {
  std::weak_ptr<Actor> actor;
};

}  // namespace

void bind_actor(nb::module_& module) {
  nb::class_<Weak>(module, "WeakActor", "Refers to an actor, and does not keep it.")
      .def(
          "__call__", [](const Weak& self) { return self.actor.lock(); }, nb::sig("def __call__(self) -> Actor | None"),
          "The actor, if it is not gone.");
  nb::class_<Actor, Attachment>(module, "Actor", "An object that lives in interpreters; gone when nobody refers to it.")
      .def(nb::new_(&make_actor), nb::arg("pool"), nb::arg("number"), nb::arg("interpreters"), nb::arg("label"),
           nb::arg("name"), nb::arg("description"), nb::arg("farewell"), nb::arg("limit"), nb::arg("restarts") = 0,
           nb::arg("at_once") = 1)
      .def_static("next_number", &Actor::next_number)
      .def_static(
          "find",
          [](const nb::str& name) {
            const std::string text = text_of(name);
            const nb::gil_scoped_release released;
            return Actor::find(text);
          },
          nb::arg("name"), nb::sig("def find(name: str) -> Actor | None"))
      .def_prop_ro("number", &Actor::number)
      .def_prop_ro("label", &Actor::label)
      .def_prop_ro("name", &Actor::name)
      .def_prop_ro("description",
                   [](const Actor& self) { return nb::bytes(self.description().data(), self.description().size()); })
      .def_prop_ro("pool", &Actor::pool)
      .def_prop_ro("interpreters", &Actor::interpreters, "Those that hold a replica.")
      .def_prop_ro("closed", &Actor::closed)
      .def_prop_ro("lost", &Actor::lost, "Its interpreters have ended, and it was not made anew.")
      .def_prop_ro("queued", &Actor::queued)
      .def_prop_ro("done", [](const Actor& self) { return self.figures().done.load(); })
      .def_prop_ro("failed", [](const Actor& self) { return self.figures().failed.load(); })
      .def(
          "make_replica",
          [](Actor& self, std::size_t interpreter, const nb::bytes& data, const Attachments& attachments) {
            returns()->drain();
            return self.make_replica(interpreter, make_payload(data, attachments));
          },
          nb::arg("interpreter"), nb::arg("data"), nb::arg("attachments"),
          "Posts the request that makes the replica in `interpreter`, before any call of it is posted.")
      .def("is_called", &is_called, nb::arg("context"),
           "Whether the code that asks runs in a call of it; `context`: the number of the actor of a coroutine or "
           "thread.")
      .def(
          "weak", [](Actor& self) { return Weak{std::static_pointer_cast<Actor>(self.shared_from_this())}; },
          "What refers to it and does not keep it.")
      .def("announce", &Actor::announce, "Its replicas are made or will be: others may find it by its name.")
      .def(
          "post",
          [](Actor& self, const nb::bytes& data, const Attachments& attachments, std::optional<std::size_t> on,
             bool wait, std::optional<double> timeout, const std::optional<nb::str>& batch, bool limited, int retries) {
            auto call = self.make_call(make_payload(data, attachments));
            if (batch) call->set_batch(text_of(*batch));
            if (retries != 0) call->set_retries(retries);
            post(self, call, on, wait, limited, timeout);
            return call;
          },
          nb::arg("data"), nb::arg("attachments"), nb::arg("on") = nb::none(), nb::arg("wait") = true,
          nb::arg("timeout") = nb::none(), nb::arg("batch") = nb::none(), nb::arg("limited") = true,
          nb::arg("retries") = 0,
          "Queues a request for the replica that is free first, or that of interpreter `on`.\n\n"
          "In a full mailbox, waits for room, or raises MailboxFullError, unless it is not `limited`. `timeout` "
          "seconds from now it expires.\n"
          "Calls with the same `batch` may run together. One whose interpreter is replaced is tried again `retries` "
          "times, "
          "-1: always.")
      .def(
          "kill",
          [](Actor& self, const nb::bytes& error) {
            const Payload payload = make_payload(error, {});
            nb::gil_scoped_release released;
            self.kill(payload);
          },
          nb::arg("error"), "Ends it: calls that wait fail with `error`, those that run are interrupted.")
      .def(
          "unload",
          [](Actor& self, std::size_t interpreter, const nb::bytes& error) {
            return self.unload(interpreter, make_payload(error, {}));
          },
          nb::arg("interpreter"), nb::arg("error"),
          "Drops one replica; with the last one, calls that wait fail with `error`. False: there is none.");
}

}  // namespace multipy::bindings
