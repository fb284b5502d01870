// A tensor that several interpreters use at once, in the form every array library understands: DLPack.
//
// Problem: an exported DLPack tensor has one consumer, which calls its deleter once. Ours has any number of
// them (replicas share weights), on any thread, and the exporter's deleter may need its own interpreter.
//
// Model: SharedTensor adopts one exported tensor and is shared by reference counting. Each consumer gets a view:
// a managed tensor of its own over the same data, whose deleter drops one reference and needs no GIL. The last
// reference, be it a payload's or a view's, posts the exporter's deleter to the exporter's ReturnQueue.
//
// Threads and locks: immutable once adopted, so there is no lock; views are made and deleted on any thread, may
// outlive the interpreter that made them, and the deleter of a view only enters this library.
//
// Guarantees: the exporter's deleter is called exactly once. Views share data, shape and strides; no byte of
// the tensor is copied or looked at. Strides are never null in a view (DLPack 1.2 demands it; exporters of
// older versions left them out for contiguous tensors). `IS_COPIED` is not passed on: no receiver owns it alone.
//
// A copy that was made for its receiver (`copied`) is the receiver's own, to write to: the last one to hold it may keep
// that memory, and who finds others at it makes a copy of the copy. Exporters say so; the receiver's side obeys.
//
// A tensor on a GPU: with the stream it is exported on comes an Order (cuda.h), in which each view is a use, from the
// stream it was made for. Its memory goes back when all of these are over. Memory of an interpreter that has ended is
// freed without its deleter (base/device_memory.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/device_memory.h"
#include "base/export.h"
#include "exchange/cuda.h"
#include "exchange/dlpack.h"
#include "exchange/return_queue.h"
#include "task/payload.h"

namespace multipy {

/// What there is to know of a tensor on a GPU.
struct OnDevice {
  std::optional<cuda::Stream> stream{};  // that it is exported on; none: whoever uses it is in order already
  DeviceMemory* memory = nullptr;        // of the exporting interpreter; pinned memory is noted there as well
};

class MULTIPY_API SharedTensor final : public Attachment {
  struct Exported;

 public:
  /// Takes over `tensor`. Throws Error for what DLPack does not allow (an unknown major version, a negative
  /// length, no shape), and then `tensor` still is the caller's to delete.
  /// Without an `owner` the deleter runs wherever the last reference is dropped.
  static std::shared_ptr<SharedTensor> adopt(DLManagedTensor* tensor, std::shared_ptr<ReturnQueue> owner,
                                             const OnDevice& on = {});
  static std::shared_ptr<SharedTensor> adopt(DLManagedTensorVersioned* tensor, std::shared_ptr<ReturnQueue> owner,
                                             const OnDevice& on = {});
  /// It is a copy for whoever receives it. Before anybody else knows of it.
  void set_copied() noexcept { copied_ = true; }
  bool copied() const noexcept { return copied_; }
  /// Whether a receiver that holds one reference has to make a copy, to have the memory for itself.
  bool must_be_copied() const noexcept;

  /// For adopt() alone: nobody else can name `Exported`.
  SharedTensor(const Exported& exported, std::shared_ptr<ReturnQueue> owner, const OnDevice& on);
  ~SharedTensor() override;

  /// A new managed tensor over the same data; the receiver calls its deleter. This older form cannot say
  /// «read only»: it is for the caller to refuse it for a tensor that is. `stream` is what the receiver will use a
  /// tensor of a GPU on; without one it is in order already.
  DLManagedTensor* view(std::optional<cuda::Stream> stream = std::nullopt);
  DLManagedTensorVersioned* view_versioned(std::optional<cuda::Stream> stream = std::nullopt);

  const DLTensor& tensor() const noexcept { return tensor_; }
  bool read_only() const noexcept { return (flags_ & kDLReadOnly) != 0; }
  /// Bytes of all elements, as if an expanded tensor were written out; 2**64 - 1 if it is more than that.
  std::uint64_t nbytes() const noexcept { return nbytes_; }
  /// The number of the CUDA GPU it is on.
  std::optional<int> gpu() const noexcept;
  /// Whether it is memory of the CPU that GPUs read and write by themselves.
  bool is_pinned() const noexcept { return is_pinned_; }
  cuda::Order* order() const noexcept { return order_.get(); }

 private:
  struct Exported {
    const DLTensor& tensor;
    std::uint64_t flags;
    ReturnQueue::Release release;
    void* argument;
  };

  static std::shared_ptr<SharedTensor> adopt(const Exported& exported, std::shared_ptr<ReturnQueue> owner,
                                             const OnDevice& on);

  DLTensor tensor_;
  std::vector<std::int64_t> strides_;  // only if the exporter gave none
  std::uint64_t flags_;
  std::uint64_t nbytes_;
  bool copied_ = false;
  ReturnQueue::Release release_;
  void* argument_;
  std::shared_ptr<ReturnQueue> owner_;
  ReturnQueue::Place home_;             // where that will be in its owner's queue
  std::unique_ptr<cuda::Order> order_;  // only of a tensor on a GPU
  bool is_pinned_ = false;
};

}  // namespace multipy
