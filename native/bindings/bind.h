// One function per concept; what they share about waiting and payloads.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <optional>

#include "base/futex.h"
#include "bindings/worker.h"
#include "task/payload.h"

namespace multipy::bindings {

namespace nb = nanobind;

void bind_errors(nb::module_& module);
void bind_actor(nb::module_& module);
void bind_cuda(nb::module_& module);
void bind_tensor(nb::module_& module);
void bind_call(nb::module_& module);
void bind_completion_queue(nb::module_& module);
void bind_pool(nb::module_& module);
void bind_worker(nb::module_& module);

// Every class bound with a shared_ptr derives from enable_shared_from_this: nanobind then shares the C++ owner, and
// the last reference may go on any thread. Otherwise it would own the Python object and need this interpreter's GIL.

using Attachments = std::vector<std::shared_ptr<Attachment>>;

/// Encoded bytes and attachments as the core carries them.
inline Payload make_payload(const nb::bytes& data, Attachments attachments) {
  return {std::string(data.c_str(), data.size()), std::move(attachments)};
}

/// (bytes, list of Attachment), as values.decode takes them.
nb::tuple payload_parts(const Payload& payload);

/// Seconds from now as a deadline; none: for ever. Longer than a century counts as none.
inline Deadline deadline_after(std::optional<double> seconds) {
  if (!seconds || *seconds > 3.2e9) return std::nullopt;
  const double wait = std::isnan(*seconds) || *seconds < 0 ? 0 : *seconds;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wait));
}

/// Waits with the GIL released; a signal's Python handler runs, and may raise, at once. False: timed out.
template <typename Wait>
bool wait_interruptibly(std::optional<double> seconds, Wait&& wait) {
  const Deadline deadline = deadline_after(seconds);
  for (;;) {
    WaitResult result;
    {
      nb::gil_scoped_release released;
      result = wait(deadline);
    }
    if (result != WaitResult::interrupted) return result == WaitResult::woken;
    // In an interpreter it was not a signal, which are the host's, but somebody who wants the call to end.
    if (PyErr_CheckSignals() != 0 || (worker() != nullptr && Py_MakePendingCalls() != 0)) throw nb::python_error();
  }
}

}  // namespace multipy::bindings
