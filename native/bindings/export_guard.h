// What keeps the memory of an exported object as it is while others use it.
//
// Problem: DLPack keeps the exporter's object alive, and that is all. Its owner may still have the library move or free
// the memory under those who hold it: NumPy's `resize(refcheck=False)`, torch's `resize_` and `storage.resize_(0)`.
//
// Model: both libraries know of memory that must stay, and refuse with an error of their own:
//   - NumPy resizes no array to which there is a weak reference. The exporter makes one and gives it to us to hold.
//   - torch resizes no storage whose flag `resizable` is off, as it is for memory that came by DLPack. The flag is a
//     byte of the storage. Python can ask for it but not set it, so multipy_actors/wire/tensors.py finds where it lies,
//     by comparing storages, and proves it on one that nobody uses; without a proof torch's storages are not guarded.
// A Guard is put around the managed tensor that the exporter handed out, and goes with it.
//
// Threads and locks: a guard is made under the exporter's GIL, and let go of by the exporter's deleter, wherever that
// runs. The Python object needs the GIL; a storage's flag needs none. How many exports hold a flag off is counted in a
// table under one mutex, which is held for the look-up alone.
//
// Guarantees: a flag is as it was when the last export has ended. A Python that is finalised gives its object up.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "exchange/dlpack.h"

namespace multipy::bindings {

/// Where torch's tensors have their storage, and a storage its flag; of this interpreter's torch.
void set_torch_layout(std::size_t storage_offset, std::size_t flag_offset) noexcept;

class ExportGuard {
 public:
  /// Holds `object` (may be none) and keeps the storage of the torch tensor at `tensor` (0: none) from being resized.
  ExportGuard(nanobind::object object, std::uintptr_t tensor);
  ~ExportGuard();
  ExportGuard(const ExportGuard&) = delete;
  ExportGuard& operator=(const ExportGuard&) = delete;

 private:
  PyObject* const object_;
  std::uint8_t* const flag_;
};

/// A managed tensor that has a guard.
template <typename Managed>
struct Guarded {
  Managed managed;
  Managed* inner;
  std::optional<ExportGuard> guard;

  /// Makes one of `inner`, which is the exporter's until it takes over.
  Guarded(Managed* exported, nanobind::object object, std::uintptr_t tensor) : managed(*exported), inner(exported) {
    guard.emplace(std::move(object), tensor);
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) {
      const std::unique_ptr<Guarded> guarded(static_cast<Guarded*>(self->manager_ctx));
      guarded->guard.reset();  // first: the storage that it knows of is still there
      if (guarded->inner->deleter != nullptr) guarded->inner->deleter(guarded->inner);
    };
  }
};

}  // namespace multipy::bindings
