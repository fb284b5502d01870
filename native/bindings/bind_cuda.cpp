// What order on a GPU needs of each interpreter: marks in streams, and a way in for whoever runs out of memory.
#include "base/device_caches.h"
#include "bindings/bind.h"
#include "bindings/worker.h"
#include "exchange/cuda.h"

namespace multipy::bindings {

namespace {

std::shared_ptr<DeviceCaches::Offer> offer;  // this interpreter's; guarded by its GIL

/// Runs on a thread of DeviceCaches, which has no GIL.
void empty_cache() {
  const PyGILState_STATE state = PyGILState_Ensure();
  PyObject* module = PyImport_ImportModule("multipy_actors.gpu");
  PyObject* result = module == nullptr ? nullptr : PyObject_CallMethod(module, "empty_cache", nullptr);
  if (result == nullptr) PyErr_WriteUnraisable(module);
  Py_XDECREF(result);
  Py_XDECREF(module);
  PyGILState_Release(state);
}

void withdraw_cache() {
  const auto withdrawn = std::exchange(offer, nullptr);
  if (withdrawn == nullptr) return;
  nb::gil_scoped_release released;
  DeviceCaches::withdraw(withdrawn);
}

}  // namespace

void bind_cuda(nb::module_& module) {
  nb::class_<cuda::Mark, Attachment>(module, "Mark", "A place in a CUDA stream, for others to wait for.")
      .def(nb::new_([](int gpu, cuda::Stream stream) { return std::make_shared<cuda::Mark>(gpu, stream); }),
           nb::arg("gpu"), nb::arg("stream"), "What the stream of that address was told so far.")
      .def_prop_ro("gpu", &cuda::Mark::device, "The number of the GPU.")
      .def("wait", &cuda::Mark::wait, nb::arg("stream"), "What `stream` is told from here on happens after it.");

  module.def(
      "take_cuda_stream", [](int gpu) { return cuda::Device::at(gpu).take_stream(); }, nb::arg("gpu"),
      "The address of a stream that nobody else has.");
  module.def(
      "give_back_cuda_stream", [](int gpu, cuda::Stream stream) { cuda::Device::at(gpu).give_back_stream(stream); },
      nb::arg("gpu"), nb::arg("stream"), "Lets others have it.");
  module.def(
      "offer_cuda_cache",
      [] {
        if (offer == nullptr) offer = DeviceCaches::offer(device_memory(), empty_cache);
      },
      "From here on, whoever runs out of GPU memory has _cuda.empty_cache() called in this interpreter.");
  module.def("withdraw_cuda_cache", &withdraw_cache, "Undoes that, before Python ends.");
}

}  // namespace multipy::bindings
