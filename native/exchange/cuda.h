// Order between the streams of those who share a tensor on a GPU.
//
// Problem: CUDA works off what it is told in *streams*, each in order, and streams know nothing of each other. A tensor
// that is handed over may still be being computed on the sender's stream; and while the receiver's stream still works
// on it, its memory must not go back to the sender's allocator, which would hand it out at once. Nobody is to be
// stopped for this: not the thread that sends, not the one that receives.
//
// Model: an Order belongs to one shared tensor. When it is made, it records an *event* on the stream the tensor is
// exported on. A receiver begins its use by having its own stream wait for that event, which costs its thread nothing,
// and ends it by recording an event on the same stream. A release waits for all of these: release_after() runs it
// at once where they are over, else hands it to a thread that asks now and then.
//
// The sender's stream is not made to wait for the receivers' instead: it would stand still although it has other things
// to do, and need not be the stream that the memory was allocated on.
//
// Memory of the CPU that is *pinned* has no stream: GPUs copy from it and to it at any time after they were told to, on
// whichever streams its users have. The allocator it comes from would wait for those its own torch has used, and knows
// of no others. So when its last user lets go, all of each GPU's work up to there is awaited (PinnedWork).
//
// A Mark is an event alone, for the result of a call: what the call did to tensors it was given happened before it.
//
// The driver is found in the process when the first tensor of a GPU arrives; nothing here is linked to it, and a
// process without CUDA never gets here.
//
// Threads: any, with or without a CUDA context: each call makes the device's primary context current for its own time,
// unless it is already, as on all threads that use the GPU themselves. Whatever capture of a CUDA graph goes on
// elsewhere is left alone. No lock is held while the driver is called, but that of an Order whose tensor several
// threads let go of.
//
// Not guaranteed: anything about streams that a receiver uses the tensor on beside the one it received it on. As
// everywhere with CUDA, that stream must wait for those.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/export.h"
#include "exchange/return_queue.h"
#include "task/payload.h"

namespace multipy::cuda {

/// A CUstream, as numbers of it pass through Python; 0 is the default stream.
using Stream = std::uintptr_t;
using EventHandle = void*;

/// What is used of libcuda.so.1, by its own types' ABI; all return 0 for success.
struct MULTIPY_API Driver {
  static constexpr int kNotReady = 600;

  int (*get_device)(int* device, int ordinal);
  int (*retain_context)(void** context, int device);
  int (*current_context)(void** context);
  int (*push_context)(void* context);
  int (*pop_context)(void** context);
  int (*exchange_capture_mode)(int* mode);
  int (*create_stream)(Stream* stream, unsigned flags);
  int (*create_event)(EventHandle* event, unsigned flags);
  int (*record_event)(EventHandle event, Stream stream);
  int (*query_event)(EventHandle event);
  int (*wait_event)(Stream stream, EventHandle event, unsigned flags);
  int (*count_devices)(int* count);
  int (*context_state)(int device, unsigned* flags, int* active);
  int (*pointer_attributes)(unsigned count, int* attributes, void** values, std::uintptr_t address);
  int (*record_context)(void* context, EventHandle event);  // null before CUDA 12.5
  int (*synchronize_context)();
  int (*error_name)(int error, const char** name);

  /// The process's driver. Throws Error if there is none.
  static const Driver& get();
  /// The same, or null while nobody has loaded it.
  static const Driver* find();
};

/// One GPU: its primary context, and events and streams to use again.
class MULTIPY_API Device {
 public:
  /// The `ordinal`th, as CUDA counts them in this process. Throws Error.
  static Device& at(int ordinal);
  Device(const Driver& driver, int ordinal);

  /// An event that is to be recorded. Throws Error.
  EventHandle take_event();
  /// Records an event on `stream`. Throws Error.
  EventHandle record(Stream stream);
  void record_again(EventHandle event, Stream stream);
  /// Records an event on all streams at once; before CUDA 12.5 all are waited for instead. Null while some stream is
  /// being captured into a graph. Where the context is lost, the event counts as over.
  EventHandle record_all() noexcept;
  /// What `stream` is told from here on waits for `event`. Throws Error.
  void wait(Stream stream, EventHandle event);
  /// Whether what was told before `event` is done; true also where nothing will ever be done any more.
  bool is_over(EventHandle event) noexcept;
  void give_back(EventHandle event) noexcept;

  /// A stream that nobody else has. Throws Error. They are never destroyed: a tensor may remember one for long.
  Stream take_stream();
  void give_back_stream(Stream stream);

 private:
  class Current;
  class OutsideCapture;

  /// An event to use again; null: there is none.
  EventHandle take_spare() noexcept;
  /// Makes one, for which there will be room once it is spare; returns CUDA's status.
  int make_event(EventHandle& event);

  const Driver& driver_;
  void* context_ = nullptr;
  std::mutex mutex_;  // guards what follows
  std::vector<EventHandle> spare_;
  std::size_t made_ = 0;  // events
  std::vector<Stream> spare_streams_;
};

/// What a release has to wait for.
class MULTIPY_API PendingWork {
 public:
  virtual ~PendingWork();
  virtual bool is_over() noexcept = 0;
};

class MULTIPY_API Order final : public PendingWork {
 public:
  /// Of a tensor on `device`, which is exported on `stream`. Throws Error.
  Order(Device& device, Stream stream);
  ~Order() override;
  Order(const Order&) = delete;
  Order& operator=(const Order&) = delete;

  /// What ends it needs no memory.
  void begin_use(Stream stream);
  void end_use(Stream stream) noexcept;
  bool is_over() noexcept override;

 private:
  Device& device_;
  const Stream exported_on_;
  const EventHandle ready_;
  std::mutex mutex_;                                       // guards last_uses_
  std::vector<std::pair<Stream, EventHandle>> last_uses_;  // one per stream
};

/// Whether a GPU may read or write the memory of the CPU at `address` by itself. False as long as nobody uses CUDA.
MULTIPY_API bool is_pinned(const void* address) noexcept;

/// All that GPUs have been told when it is made, which may concern pinned memory.
class MULTIPY_API PinnedWork final : public PendingWork {
 public:
  /// Of `devices`; without them of every GPU that the process uses.
  PinnedWork();
  explicit PinnedWork(std::vector<Device*> devices);
  ~PinnedWork() override;
  PinnedWork(const PinnedWork&) = delete;
  PinnedWork& operator=(const PinnedWork&) = delete;

  bool is_over() noexcept override;

 private:
  std::vector<Device*> unrecorded_;  // on which no event could be recorded yet
  std::vector<std::pair<Device*, EventHandle>> events_;
};

/// Posts the release in `place` to `owner`, or runs it if there is none, once `work` is over. If it throws
/// std::bad_alloc, what was to be released stays for good.
MULTIPY_API void release_after(std::unique_ptr<PendingWork> work, std::shared_ptr<ReturnQueue> owner,
                               ReturnQueue::Place place);

class MULTIPY_API Mark final : public Attachment {
 public:
  Mark(int ordinal, Stream stream);
  ~Mark() override;

  int device() const noexcept { return ordinal_; }
  /// What `stream` is told from here on happens after what the marked stream was told before.
  void wait(Stream stream);

 private:
  const int ordinal_;
  Device& device_;
  const Stream stream_;
  const EventHandle event_;
};

}  // namespace multipy::cuda
