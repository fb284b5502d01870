// Attachments, and of these SharedTensor: a tensor on its way between interpreters, in and out as DLPack capsules.
#include "bindings/bind.h"
#include "bindings/export_guard.h"
#include "bindings/worker.h"
#include "elf/cuda_seam.h"
#include "exchange/dlpack.h"
#include "exchange/tensor.h"
#include "exchange/write_log.h"
#include "pool/actor.h"
#include "task/call.h"

namespace multipy::bindings {

namespace {

constexpr const char* kPlain = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

/// The stream that DLPack's argument means. None is the default stream, -1 that there is no order to keep.
std::optional<cuda::Stream> stream_of(const nb::object& stream) {
  if (stream.is_none()) return 0;
  const auto number = nb::cast<std::intptr_t>(stream);
  if (number == -1) return std::nullopt;
  return number == 1 ? 0 : static_cast<cuda::Stream>(number);
}

/// Pinned memory is given back only where no graph is being captured.
std::shared_ptr<SharedTensor> prepared(std::shared_ptr<SharedTensor> tensor) {
  if (tensor->is_pinned()) elf::count_captures_of_host();
  return tensor;
}

template <typename Managed>
std::shared_ptr<SharedTensor> adopt_guarded(Managed* managed, const OnDevice& on, nb::object keep,
                                            std::uintptr_t torch_tensor) {
  if (keep.is_none() && torch_tensor == 0) return SharedTensor::adopt(managed, returns(), on);
  auto guarded = std::make_unique<Guarded<Managed>>(managed, std::move(keep), torch_tensor);
  auto tensor = SharedTensor::adopt(&guarded->managed, returns(), on);
  guarded.release();
  return tensor;
}

std::shared_ptr<SharedTensor> adopt(const nb::capsule& capsule, std::optional<cuda::Stream> stream, nb::object keep,
                                    std::uintptr_t torch_tensor, bool copied) {
  const OnDevice on{stream, device_memory()};
  std::shared_ptr<SharedTensor> tensor;
  // A consumed capsule is renamed, so that its destructor leaves the tensor to us.
  if (auto* plain = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kPlain))) {
    tensor = adopt_guarded(plain, on, std::move(keep), torch_tensor);
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  } else {
    PyErr_Clear();
    auto* versioned = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersioned));
    if (versioned == nullptr) {
      PyErr_Clear();
      throw nb::type_error("expected an unused DLPack capsule");
    }
    tensor = adopt_guarded(versioned, on, std::move(keep), torch_tensor);
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
  }
  if (copied) tensor->set_copied();
  return prepared(std::move(tensor));
}

template <typename Managed>
void delete_unused(PyObject* capsule, const char* name) {
  if (PyCapsule_IsValid(capsule, name) == 0) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed != nullptr && managed->deleter != nullptr) managed->deleter(managed);
}

/// A buffer of this interpreter in the guise of a tensor of bytes.
struct ExportedBuffer {
  DLManagedTensorVersioned managed{};
  std::int64_t length = 0;
  Py_buffer buffer{};
};

void release_buffer(DLManagedTensorVersioned* managed) {
  auto* exported = static_cast<ExportedBuffer*>(managed->manager_ctx);
  // Where its Python is gone, so is whoever could still need the object: it is given up, as NumPy does.
  if (Py_IsInitialized() == 0) return;
  const PyGILState_STATE state = PyGILState_Ensure();
  PyBuffer_Release(&exported->buffer);
  PyGILState_Release(state);
  delete exported;
}

std::shared_ptr<SharedTensor> share_buffer(const nb::object& object) {
  auto exported = std::make_unique<ExportedBuffer>();
  if (PyObject_GetBuffer(object.ptr(), &exported->buffer, PyBUF_SIMPLE) != 0) throw nb::python_error();
  exported->length = exported->buffer.len;
  DLTensor& tensor = exported->managed.dl_tensor;
  tensor.data = exported->buffer.buf;
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLUInt, 8, 1};
  tensor.shape = &exported->length;
  exported->managed.version = {kDLPackMajor, kDLPackMinor};
  if (exported->buffer.readonly) exported->managed.flags = kDLReadOnly;
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = release_buffer;
  return prepared(SharedTensor::adopt(&exported.release()->managed, returns(), {.memory = device_memory()}));
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  auto* shared = nb::inst_ptr<SharedTensor>(self);
  const DLTensor& tensor = shared->tensor();
  if (tensor.device.device_type != kDLCPU || tensor.ndim != 1 || tensor.dtype.bits != 8 || tensor.strides[0] != 1) {
    PyErr_SetString(PyExc_BufferError, "only shared bytes can be looked at as a buffer");
    return -1;
  }
  void* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  return PyBuffer_FillInfo(view, self, data, static_cast<Py_ssize_t>(shared->nbytes()), shared->read_only(), flags);
}

PyType_Slot kTensorSlots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

nb::capsule to_capsule(SharedTensor& tensor, const nb::object& stream, const nb::object& max_version) {
  const auto used_on = tensor.order() == nullptr ? std::nullopt : stream_of(stream);
  const bool versioned = !max_version.is_none() && nb::cast<long>(max_version[0]) >= 1;
  PyObject* capsule = nullptr;
  if (versioned) {
    capsule = PyCapsule_New(tensor.view_versioned(used_on), kVersioned,
                            [](PyObject* self) { delete_unused<DLManagedTensorVersioned>(self, kVersioned); });
  } else {
    if (tensor.read_only()) throw nb::buffer_error("a read-only tensor needs DLPack 1.0 (max_version)");
    capsule = PyCapsule_New(tensor.view(used_on), kPlain,
                            [](PyObject* self) { delete_unused<DLManagedTensor>(self, kPlain); });
  }
  if (capsule == nullptr) throw nb::python_error();
  return nb::steal<nb::capsule>(capsule);
}

}  // namespace

nb::tuple payload_parts(const Payload& payload) {
  nb::list attachments;
  for (const auto& attachment : payload.attachments) {
    if (auto tensor = std::dynamic_pointer_cast<SharedTensor>(attachment)) {
      attachments.append(std::move(tensor));
    } else if (auto mark = std::dynamic_pointer_cast<cuda::Mark>(attachment)) {
      attachments.append(std::move(mark));
    } else if (auto call = std::dynamic_pointer_cast<Call>(attachment)) {
      attachments.append(std::move(call));
    } else {
      attachments.append(std::dynamic_pointer_cast<Actor>(attachment));
    }
  }
  return nb::make_tuple(nb::bytes(payload.data.data(), payload.data.size()), attachments);
}

void bind_tensor(nb::module_& module) {
  nb::class_<Attachment>(module, "Attachment", "What is handed over by reference: a tensor, a call or an actor.");
  nb::class_<SharedTensor, Attachment>(
      module, "SharedTensor", nb::type_slots(kTensorSlots),
      "A tensor handed over by reference: sender and receivers see the same memory.\n\n"
      "It may be received any number of times; the exporter's memory is released, in the exporter's\n"
      "interpreter, when the last receiver is done.")
      .def(nb::new_(&adopt), nb::arg("capsule"), nb::arg("stream") = nb::none(), nb::arg("keep") = nb::none(),
           nb::arg("torch_tensor") = 0, nb::arg("copied") = false,
           "Takes over a DLPack capsule; of a tensor on a GPU, which the CUDA stream of that address computes.\n\n"
           "While the memory is shared, `keep` is held, and the storage of the torch tensor at the address\n"
           "`torch_tensor` cannot be resized. A `copied` one was made for its receiver.")
      .def(
          "__dlpack__",
          [](SharedTensor& self, const nb::object& stream, const nb::object& max_version, const nb::object&,
             const nb::object&) { return to_capsule(self, stream, max_version); },
          nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("max_version") = nb::none(),
          nb::arg("dl_device") = nb::none(), nb::arg("copy") = nb::none(),
          "A new capsule over the same memory.\n\n"
          "On a GPU, what `stream` is told from here on waits for the exporter, and its work is awaited before\n"
          "the memory goes back.")
      .def(
          "__dlpack_device__",
          [](const SharedTensor& self) {
            return nb::make_tuple(static_cast<int>(self.tensor().device.device_type), self.tensor().device.device_id);
          },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"),
          "(device type, device number), as DLPack counts them.")
      .def_static("of_buffer", &share_buffer, nb::arg("object"),
                  "The contents of a contiguous buffer; memoryview() of it looks at them where they are.")
      .def_prop_ro("gpu", &SharedTensor::gpu, "The number of the CUDA GPU it is on.")
      .def_prop_ro("is_pinned", &SharedTensor::is_pinned, "Whether GPUs read and write it by themselves.")
      .def_prop_ro("read_only", &SharedTensor::read_only)
      .def_prop_ro("copied", &SharedTensor::copied, "Whether it was made for its receiver.")
      .def_prop_ro("must_be_copied", &SharedTensor::must_be_copied,
                   "Whether its receiver has to make a copy, as it was made for one that has it alone.")
      .def_prop_ro("nbytes", &SharedTensor::nbytes);
  module.def(
      "join_memory",
      [](const std::shared_ptr<SharedTensor>& tensor, std::int64_t interpreter, const std::string& how) {
        WriteLog::instance().join(tensor, interpreter, how);
      },
      nb::arg("tensor"), nb::arg("interpreter"), nb::arg("how"),
      "An interpreter has that memory, and wants to know who writes to it; `how` it came to have it.");
  module.def(
      "look_for_writes",
      [](std::int64_t interpreter, const std::string& writer) {
        nb::list found;
        for (const auto& finding : WriteLog::instance().look(interpreter, writer)) {
          found.append(nb::make_tuple(finding.memory, finding.nbytes, finding.writers));
        }
        return found;
      },
      nb::arg("interpreter"), nb::arg("writer"),
      nb::sig("def look_for_writes(interpreter: int, writer: str) -> list[tuple[str, int, list[str]]]"),
      "Memory of the interpreter that has changed since anybody looked, `writer` having written: how it came to be\n"
      "shared, its bytes, and who wrote before. Each pair is told once.");
  module.def("set_torch_layout", &set_torch_layout, nb::arg("storage_offset"), nb::arg("flag_offset"),
             "Where the tensors of torch here have their storage, and a storage its flag `resizable`.");
}

}  // namespace multipy::bindings
