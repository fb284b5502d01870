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
// Not guaranteed: order between devices' streams. That is the business of whoever hands a CUDA tensor over.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/export.h"
#include "exchange/dlpack.h"
#include "exchange/return_queue.h"
#include "task/payload.h"

namespace multipy {

class MULTIPY_API SharedTensor final : public Attachment {
  struct Exported;

 public:
  /// Takes over `tensor`. Throws Error for what DLPack does not allow (an unknown major version, a negative
  /// length, no shape), and then `tensor` still is the caller's to delete.
  /// Without an `owner` the deleter runs wherever the last reference is dropped.
  static std::shared_ptr<SharedTensor> adopt(DLManagedTensor* tensor, std::shared_ptr<ReturnQueue> owner);
  static std::shared_ptr<SharedTensor> adopt(DLManagedTensorVersioned* tensor, std::shared_ptr<ReturnQueue> owner);

  /// For adopt() alone: nobody else can name `Exported`.
  SharedTensor(const Exported& exported, std::shared_ptr<ReturnQueue> owner);
  ~SharedTensor() override;

  /// A new managed tensor over the same data; the receiver calls its deleter. This older form cannot say
  /// «read only»: it is for the caller to refuse it for a tensor that is.
  DLManagedTensor* view();
  DLManagedTensorVersioned* view_versioned();

  const DLTensor& tensor() const noexcept { return tensor_; }
  bool read_only() const noexcept { return (flags_ & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
  /// Bytes of all elements, as if an expanded tensor were written out; 2**64 - 1 if it is more than that.
  std::uint64_t nbytes() const noexcept { return nbytes_; }

 private:
  struct Exported {
    const DLTensor& tensor;
    std::uint64_t flags;
    ReturnQueue::Release release;
    void* argument;
  };

  static std::shared_ptr<SharedTensor> adopt(const Exported& exported, std::shared_ptr<ReturnQueue> owner);

  DLTensor tensor_;
  std::vector<std::int64_t> strides_;  // only if the exporter gave none
  std::uint64_t flags_;
  std::uint64_t nbytes_;
  ReturnQueue::Release release_;
  void* argument_;
  std::shared_ptr<ReturnQueue> owner_;
};

}  // namespace multipy
