#include "exchange/tensor.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace multipy {

namespace {

template <typename Managed>
void call_deleter(void* argument) {
  auto* managed = static_cast<Managed*>(argument);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

/// What a receiver holds: its managed tensor, and one reference.
template <typename Managed>
struct View {
  Managed managed;
  std::shared_ptr<SharedTensor> source;
  std::optional<cuda::Stream> stream;  // of a use that this view is

  ~View() {
    if (stream) source->order()->end_use(*stream);
  }
};

/// A release that must not touch the exporter's allocator once that is gone.
struct DeviceRelease {
  ReturnQueue::Release release;
  void* argument;
  DeviceMemory* memory;
  const void* address;
};

void release_on_device(void* argument) {
  const std::unique_ptr<DeviceRelease> self(static_cast<DeviceRelease*>(argument));
  if (!self->memory->end_lease(self->address)) self->release(self->argument);
}

template <typename Managed>
Managed* make_view(std::shared_ptr<SharedTensor> source, std::uint64_t flags, std::optional<cuda::Stream> stream) {
  auto view = std::make_unique<View<Managed>>();
  if (stream && source->order() != nullptr) {
    source->order()->begin_use(*stream);
    view->stream = stream;
  }
  view->managed.dl_tensor = source->tensor();
  view->managed.manager_ctx = view.get();
  view->managed.deleter = [](Managed* self) { delete static_cast<View<Managed>*>(self->manager_ctx); };
  if constexpr (requires { view->managed.flags; }) {
    view->managed.version = {kDLPackMajor, kDLPackMinor};
    view->managed.flags = flags;
  }
  view->source = std::move(source);
  return &view.release()->managed;
}

void check(const DLTensor& tensor) {
  if (tensor.ndim < 0) throw Error("DLPack tensor with " + std::to_string(tensor.ndim) + " dimensions");
  if (tensor.ndim > 0 && tensor.shape == nullptr) throw Error("DLPack tensor without a shape");
  for (std::int32_t axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.shape[axis] < 0) {
      throw Error("DLPack tensor of length " + std::to_string(tensor.shape[axis]) + " along axis " +
                  std::to_string(axis));
    }
  }
}

/// Saturates: an expanded tensor may have more elements than memory has bytes.
std::uint64_t times(std::uint64_t left, std::uint64_t right) {
  std::uint64_t product;
  return __builtin_mul_overflow(left, right, &product) ? std::numeric_limits<std::uint64_t>::max() : product;
}

std::uint64_t size_in_bytes(const DLTensor& tensor, std::uint64_t flags) {
  const std::int64_t* const shape = tensor.shape;
  if (std::any_of(shape, shape + tensor.ndim, [](std::int64_t length) { return length == 0; })) return 0;
  std::uint64_t elements = 1;
  for (std::int32_t axis = 0; axis < tensor.ndim; ++axis) {
    elements = times(elements, static_cast<std::uint64_t>(shape[axis]));
  }
  const std::uint64_t bits = std::uint64_t{tensor.dtype.bits} * tensor.dtype.lanes;
  if (bits % 8 == 0 || (flags & kDLSubbytePadded)) return times(elements, (bits + 7) / 8);
  const std::uint64_t total = times(elements, bits);
  return total / 8 + (total % 8 != 0);
}

std::vector<std::int64_t> compact_strides(const DLTensor& tensor) {
  std::vector<std::int64_t> strides(static_cast<std::size_t>(tensor.ndim));
  std::int64_t step = 1;
  for (std::size_t axis = strides.size(); axis-- > 0;) {
    strides[axis] = step;
    // An axis of length 0 or 1 is never stepped along; its stride only must not spoil the others.
    if (tensor.shape[axis] > 1 && __builtin_mul_overflow(step, tensor.shape[axis], &step)) {
      throw Error("DLPack tensor with strides beyond 64 bits");
    }
  }
  return strides;
}

}  // namespace

std::shared_ptr<SharedTensor> SharedTensor::adopt(DLManagedTensor* tensor, std::shared_ptr<ReturnQueue> owner,
                                                  const OnDevice& on) {
  return adopt(Exported{tensor->dl_tensor, 0, call_deleter<DLManagedTensor>, tensor}, std::move(owner), on);
}

std::shared_ptr<SharedTensor> SharedTensor::adopt(DLManagedTensorVersioned* tensor, std::shared_ptr<ReturnQueue> owner,
                                                  const OnDevice& on) {
  // Of another major version only version, context and deleter are where we think they are.
  if (tensor->version.major != kDLPackMajor) {
    throw Error("DLPack major version " + std::to_string(tensor->version.major) + ", expected " +
                std::to_string(kDLPackMajor));
  }
  const std::uint64_t shared_flags = tensor->flags & (kDLReadOnly | kDLSubbytePadded);
  return adopt(Exported{tensor->dl_tensor, shared_flags, call_deleter<DLManagedTensorVersioned>, tensor},
               std::move(owner), on);
}

std::shared_ptr<SharedTensor> SharedTensor::adopt(const Exported& exported, std::shared_ptr<ReturnQueue> owner,
                                                  const OnDevice& on) {
  return std::make_shared<SharedTensor>(exported, std::move(owner), on);
}

SharedTensor::SharedTensor(const Exported& exported, std::shared_ptr<ReturnQueue> owner, const OnDevice& on)
    : tensor_((check(exported.tensor), exported.tensor)),
      flags_(exported.flags),
      nbytes_(size_in_bytes(tensor_, flags_)),
      release_(exported.release),
      argument_(exported.argument),
      owner_(std::move(owner)) {
  if (tensor_.ndim > 0 && tensor_.strides == nullptr) {
    strides_ = compact_strides(tensor_);
    tensor_.strides = strides_.data();
  }
  is_pinned_ = !gpu() && nbytes_ != 0 && cuda::is_pinned(static_cast<char*>(tensor_.data) + tensor_.byte_offset);
  if (owner_ || gpu() || is_pinned_) home_.push_back({release_, argument_});
  if (!gpu() && !is_pinned_) return;
  if (on.stream && gpu()) order_ = std::make_unique<cuda::Order>(cuda::Device::at(*gpu()), *on.stream);
  if (on.memory != nullptr && on.memory->lease(tensor_.data)) {
    argument_ = new DeviceRelease{release_, argument_, on.memory, tensor_.data};
    release_ = release_on_device;
    home_.front() = {release_, argument_};
  }
}

SharedTensor::~SharedTensor() {
  if (is_pinned_ || order_) {
    try {
      std::unique_ptr<cuda::PendingWork> work = std::move(order_);
      if (is_pinned_) work = std::make_unique<cuda::PinnedWork>();
      cuda::release_after(std::move(work), std::move(owner_), std::move(home_));
    } catch (const std::bad_alloc&) {
      // Nobody can wait for the GPU, which may use the memory still: it stays for good.
    }
  } else if (owner_) {
    owner_->post(std::move(home_));
  } else {
    release_(argument_);
  }
}

bool SharedTensor::must_be_copied() const noexcept {
  if (!copied_) return false;
  if (weak_from_this().use_count() > 1) return true;
  std::atomic_thread_fence(std::memory_order_acquire);  // others have read it before they let go
  return false;
}

std::optional<int> SharedTensor::gpu() const noexcept {
  if (tensor_.device.device_type != kDLCUDA) return std::nullopt;
  return tensor_.device.device_id;
}

DLManagedTensor* SharedTensor::view(std::optional<cuda::Stream> stream) {
  return make_view<DLManagedTensor>(std::static_pointer_cast<SharedTensor>(shared_from_this()), flags_, stream);
}

DLManagedTensorVersioned* SharedTensor::view_versioned(std::optional<cuda::Stream> stream) {
  return make_view<DLManagedTensorVersioned>(std::static_pointer_cast<SharedTensor>(shared_from_this()), flags_,
                                             stream);
}

}  // namespace multipy
