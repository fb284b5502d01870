// Pool: booting interpreters, posting calls to them, closing them.
#include <dlfcn.h>

#include <string_view>

#include "bindings/bind.h"
#include "bindings/worker.h"
#include "pool/closing.h"
#include "pool/pool.h"
#include "pool/session.h"
#include "task/call.h"

namespace multipy::bindings {

namespace {

std::shared_ptr<Pool> make_pool(const nb::str& pool_name, const std::vector<std::string>& names,
                                const nb::bytes& libpython, const nb::bytes& extension,
                                const std::vector<std::pair<nb::bytes, nb::bytes>>& settings,
                                const std::vector<std::pair<nb::bytes, nb::bytes>>& environment,
                                const std::vector<std::string>& private_patterns,
                                const std::vector<std::string>& shared_patterns, bool restarts) {
  const auto text = [](const nb::bytes& bytes) { return std::string(bytes.c_str(), bytes.size()); };
  InterpreterOptions options;
  options.libpython = text(libpython);
  options.extension = text(extension);
  for (const auto& [name, value] : settings) options.settings.emplace_back(text(name), text(value));
  options.policy = elf::Policy::standard();
  for (const auto& pattern : private_patterns) options.policy.private_patterns.push_back(pattern);
  for (const auto& pattern : shared_patterns) options.policy.shared_patterns.push_back(pattern);
  options.policy.check(options.libpython, options.extension);
  const auto variables = std::make_shared<elf::Environment>(environ);
  for (const auto& [name, value] : environment) variables->set(text(name).c_str(), text(value).c_str(), true);
  options.environment = variables;
  std::vector<InterpreterOptions> all;
  for (const auto& name : names) {
    all.push_back(options);
    all.back().name = name;
  }
  return std::make_shared<Pool>(std::move(all), text_of(pool_name), restarts);
}

nb::dict statistics(Pool& pool, std::size_t index) {
  const auto figures = pool.dispatcher().statistics(index);
  nb::dict out;
  out["done"] = figures.done;
  out["failed"] = figures.failed;
  out["queued"] = figures.queued + figures.queued_shared;
  out["busy_seconds"] = std::chrono::duration<double>(figures.busy).count();
  out["restarts"] = pool.restarts_of(index);
  out["gpu_bytes"] = pool.interpreter(index).images().device_memory().bytes();
  return out;
}

nb::list images(Pool& pool, std::size_t index) {
  nb::list out;
  for (const auto& info : pool.interpreter(index).images().images()) {
    out.append(nb::make_tuple(info.path, info.is_private, info.reason, info.base, info.size));
  }
  return out;
}

nb::list left(const Closing& closing) {
  std::vector<Closing::Left> found;
  {
    nb::gil_scoped_release released;
    found = closing.left();
  }
  nb::list out;
  for (const auto& left : found)
    out.append(nb::make_tuple(left.index, left.ending, left.label, left.seconds, left.threads));
  return out;
}

}  // namespace

void bind_pool(nb::module_& module) {
  module.def(
      "loaded_libpython",
      []() -> std::optional<nb::bytes> {
        Dl_info info{};
        if (::dladdr(reinterpret_cast<const void*>(&Py_GetVersion), &info) == 0 || info.dli_fname == nullptr)
          return std::nullopt;
        const std::string_view path(info.dli_fname);
        const auto name = path.substr(path.rfind('/') + 1);
        if (!name.starts_with("libpython") || name.find(".so") == name.npos) return std::nullopt;
        return nb::bytes(path.data(), path.size());
      },
      nb::sig("def loaded_libpython() -> bytes | None"),
      "The file of the libpython that this Python runs on; None: it is inside the executable.");
  nb::class_<Session>(module, "Session", "One interpreter held for the use of the thread that asked for it.")
      .def_prop_ro("id", &Session::id)
      .def_prop_ro("granted", &Session::granted, "A call that is done when the interpreter is held.")
      .def_prop_ro("interpreter", &Session::interpreter, "Its index. Valid once granted.")
      .def_prop_ro("ended", &Session::ended)
      .def(
          "post",
          [](Session& self, const nb::bytes& data, const Attachments& attachments) {
            returns()->drain();
            return self.post(make_payload(data, attachments));
          },
          nb::arg("data"), nb::arg("attachments"), "Queues a request, for the held interpreter.")
      .def("end", &Session::end, "Lets go of the interpreter. What was posted still runs.");

  nb::class_<Closing>(module, "Closing", "The interpreters of a closed pool, on their way to their ends.")
      .def(
          "wait",
          [](Closing& self, std::optional<double> timeout) {
            return wait_interruptibly(timeout, [&](Deadline deadline) { return self.wait(deadline); });
          },
          nb::arg("timeout") = nb::none(),
          "Waits until all have ended, or only what nobody waits for holds them up, and has for too long.\n\n"
          "False: `timeout` seconds have passed.")
      .def(
          "left", &left, nb::sig("def left(self) -> list[tuple[int, bool, str, float, str]]"),
          "Those that have not ended: (index, whether no call holds it up, whose call does, for how many seconds, what "
          "its threads do).")
      .def(
          "leave",
          [](Closing& self, const nb::bytes& error) {
            const Payload payload = make_payload(error, {});
            nb::gil_scoped_release released;
            self.leave(payload);
          },
          nb::arg("error"), "Leaves those behind: interrupts what runs once more, and fails its calls with `error`.");

  nb::class_<Pool>(module, "Pool", "Private interpreters and the queues that feed them.")
      .def(nb::new_(&make_pool), nb::arg("name"), nb::arg("names"), nb::arg("libpython"), nb::arg("extension"),
           nb::arg("settings"), nb::arg("environment"), nb::arg("private_patterns"), nb::arg("shared_patterns"),
           nb::arg("restarts") = false)
      .def("__len__", &Pool::size)
      .def_prop_ro("name", &Pool::name)
      .def_prop_ro("closed", &Pool::closed, "Whether close() was called.")
      .def_prop_ro(
          "key", [](const Pool& self) { return reinterpret_cast<std::uintptr_t>(&self); },
          "Identifies the pool while it is alive.")
      .def_prop_ro("any_mailbox", &Pool::any_mailbox, "The one that all interpreters serve.")
      .def("own_mailbox", &Pool::own_mailbox, nb::arg("interpreter"), "The one that only this interpreter serves.")
      .def(
          "place",
          [](Pool& self, std::size_t replicas) {
            // Who makes an actor is likely to wait for it.
            const bool from_inside = worker() != nullptr && &worker()->pool == &self;
            return self.place(replicas, from_inside ? std::optional(worker()->index) : std::nullopt);
          },
          nb::arg("replicas"), "The `replicas` interpreters with the fewest actors; they count as having one more.")
      .def_prop_ro("messages", &Pool::messages,
                   "What the interpreters tell the host without waiting; closed when all have ended.")
      .def_prop_ro("restarts", &Pool::restarts, "Whether interpreters that end are replaced.")
      .def(
          "keep_setup",
          [](Pool& self, const nb::bytes& data, const Attachments& attachments) {
            self.keep_setup(make_payload(data, attachments));
          },
          nb::arg("data"), nb::arg("attachments"),
          "Interpreters that replace others first run this request, after those that were kept before.")
      .def("count_actors", &Pool::count_actors, nb::arg("interpreter"), nb::arg("change"))
      .def("start", &Pool::start, nb::call_guard<nb::gil_scoped_release>(), "Boots all interpreters in parallel.")
      .def(
          "wait_started",
          [](Pool& self, std::optional<double> timeout) {
            return wait_interruptibly(timeout, [&](Deadline deadline) { return self.wait_started(deadline); });
          },
          nb::arg("timeout") = nb::none(),
          "Waits until all are up; raises InterpreterStartError if one is not. False: timed out.")
      .def(
          "post",
          [](Pool& self, Dispatcher::MailboxId mailbox, const nb::bytes& data, const Attachments& attachments) {
            // Who sends much should not wait for the notifier thread to get the GIL before memory comes back.
            returns()->drain();
            auto call = std::make_shared<Call>(make_payload(data, attachments));
            self.dispatcher().post(mailbox, call);
            return call;
          },
          nb::arg("mailbox"), nb::arg("data"), nb::arg("attachments"),
          "Queues a request. Raises PoolClosedError after close().")
      .def(
          "request_session",
          [](const std::shared_ptr<Pool>& self, std::optional<std::size_t> interpreter) {
            return Session::request(self, interpreter);
          },
          nb::arg("interpreter") = nb::none(),
          "Asks to hold that interpreter, or the one that is free first. Raises PoolClosedError after close().")
      .def(
          "cancel_pending", [](Pool& self) { return self.dispatcher().cancel_pending().size(); },
          "Cancels all that is queued.")
      .def("interrupt_running", &Pool::interrupt_running, nb::call_guard<nb::gil_scoped_release>(),
           "Raises Interrupted in the calls that run now, at their next bytecode.")
      .def("close", &Pool::close, "No more calls; what is queued still runs, then the interpreters end.")
      .def(
          "closing", [](Pool& self) { return std::make_shared<Closing>(self.shared_from_this()); },
          "For who waits for the interpreters to end, after close().")
      .def("statistics", &statistics, nb::arg("interpreter"),
           nb::sig("def statistics(self, interpreter: int) -> dict[str, float]"))
      .def("images", &images, nb::arg("interpreter"),
           nb::sig("def images(self, interpreter: int) -> list[tuple[str, bool, str, int, int]]"),
           "(path, whether it is private, why, address, bytes of address space) of each library.");
}

}  // namespace multipy::bindings
