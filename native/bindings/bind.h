// One function per concept; what they share about waiting and payloads.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "base/futex.h"
#include "bindings/gil_pause.h"
#include "bindings/interrupts.h"
#include "bindings/sequences.h"
#include "bindings/worker.h"
#include "task/payload.h"

namespace multipy::bindings {

namespace nb = nanobind;

void bind_errors(nb::module_& module);
void bind_actor(nb::module_& module);
void bind_class(nb::module_& module);
void bind_cuda(nb::module_& module);
void bind_packing(nb::module_& module);
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

/// Whether signals are handled on this thread: the host's main one. (If Python was started on another, it is not
/// found.)
inline bool handles_signals() noexcept { return worker() == nullptr && ::gettid() == ::getpid(); }

/// Waits with the GIL released; a signal's Python handler runs, and may raise, at once. False: timed out.
///
/// A signal that arrives while the GIL is being released, before `wait` sleeps, is noted by Python and does not end the
/// sleep. So the thread that handles signals looks now and then whether there was one, the first time soon.
template <typename Wait>
bool wait_interruptibly(std::optional<double> seconds, Wait&& wait) {
  constexpr Clock::duration kFirstLook = std::chrono::milliseconds(10);
  constexpr Clock::duration kLaterLooks = std::chrono::seconds(1);
  const Deadline deadline = deadline_after(seconds);
  const bool looks = handles_signals();
  Clock::duration nap = kFirstLook;
  for (;;) {
    Deadline until = deadline;
    bool is_nap = false;
    if (looks) {
      const auto end = Clock::now() + nap;
      is_nap = !deadline || end < *deadline;
      if (is_nap) until = end;
      nap = std::min(2 * nap, kLaterLooks);
    }
    WaitResult result;
    {
      const GilPause pause;
      result = wait(until);
    }
    const bool napped = is_nap && result == WaitResult::timed_out;
    if (result != WaitResult::interrupted && !napped) return result == WaitResult::woken;
    // In an interpreter it was not a signal, which are the host's, but somebody who wants the call to end.
    if (worker() != nullptr ? raise_due() : PyErr_CheckSignals() != 0) throw nb::python_error();
  }
}

}  // namespace multipy::bindings
