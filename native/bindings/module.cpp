// The extension module: one instance in the host, one private image in every interpreter.
#include <nanobind/nanobind.h>

#include "bindings/bind.h"
#include "bindings/worker.h"
#include "elf/thread_end.h"

namespace nb = nanobind;

NB_MODULE(_native, module) {
  // An interpreter may be left behind with user threads in it; what they hold is not a leak to report.
  nb::set_leak_warnings(false);
  // In an interpreter the seam has seen to that.
  if (multipy::bindings::worker() == nullptr)
    multipy::elf::let_threads_rest(reinterpret_cast<const void*>(&PyThread_exit_thread));
  module.doc() = "The native side of multipy_actors: images, interpreters, mailboxes, calls and tensors.";
  multipy::bindings::bind_errors(module);
  multipy::bindings::bind_packing(module);
  multipy::bindings::bind_class(module);
  multipy::bindings::bind_tensor(module);
  multipy::bindings::bind_cuda(module);
  multipy::bindings::bind_call(module);
  multipy::bindings::bind_completion_queue(module);
  multipy::bindings::bind_pool(module);
  multipy::bindings::bind_actor(module);
  multipy::bindings::bind_worker(module);
}
