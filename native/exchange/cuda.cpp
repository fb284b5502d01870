#include "exchange/cuda.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <map>
#include <new>
#include <string>
#include <thread>

#include "base/blocked_signals.h"
#include "base/error.h"
#include "base/graph_captures.h"
#include "base/library_counts.h"
#include "base/process_lock.h"

namespace multipy::cuda {

namespace {

constexpr unsigned kWithoutTiming = 2;  // CU_EVENT_DISABLE_TIMING
constexpr unsigned kNonBlocking = 1;    // CU_STREAM_NON_BLOCKING: the default stream does not wait for it
constexpr int kRelaxed = 2;             // CU_STREAM_CAPTURE_MODE_RELAXED

void check(const Driver& driver, int status, const char* what) {
  if (status == 0) return;
  const char* name = nullptr;
  if (driver.error_name(status, &name) != 0 || name == nullptr) name = "unknown error";
  throw Error(std::string("CUDA: ") + what + ": " + name);
}

Driver load() {
  // Who has a tensor on a GPU has loaded the driver.
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) throw Error("a tensor is on a GPU, but libcuda.so.1 cannot be loaded");
  const auto find = [&](auto*& function, const char* name) {
    void* const address = ::dlsym(library, name);
    if (address == nullptr) throw Error(std::string("libcuda.so.1 has no ") + name);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
  };
  Driver driver{};
  find(driver.get_device, "cuDeviceGet");
  find(driver.retain_context, "cuDevicePrimaryCtxRetain");
  find(driver.current_context, "cuCtxGetCurrent");
  find(driver.push_context, "cuCtxPushCurrent_v2");
  find(driver.pop_context, "cuCtxPopCurrent_v2");
  find(driver.exchange_capture_mode, "cuThreadExchangeStreamCaptureMode");
  find(driver.create_stream, "cuStreamCreate");
  find(driver.create_event, "cuEventCreate");
  find(driver.record_event, "cuEventRecord");
  find(driver.query_event, "cuEventQuery");
  find(driver.wait_event, "cuStreamWaitEvent");
  find(driver.count_devices, "cuDeviceGetCount");
  find(driver.context_state, "cuDevicePrimaryCtxGetState");
  find(driver.pointer_attributes, "cuPointerGetAttributes");
  find(driver.synchronize_context, "cuCtxSynchronize");
  driver.record_context = reinterpret_cast<int (*)(void*, EventHandle)>(::dlsym(library, "cuCtxRecordEvent"));
  find(driver.error_name, "cuGetErrorName");
  return driver;
}

/// Releases whose tensors are still in use on a GPU, and the thread that asks whether they are.
class Releases {
 public:
  struct Waiting {
    std::unique_ptr<PendingWork> work;
    std::shared_ptr<ReturnQueue> owner;
    ReturnQueue::Place place;
  };

  void add(std::list<Waiting> waiting) noexcept {
    const std::lock_guard lock(mutex_);
    arrived_.splice(arrived_.end(), waiting);
    if (!started_) start();
    changed_.notify_one();
  }

  static void finish(Waiting& each) noexcept {
    each.work.reset();
    if (each.owner) {
      each.owner->post(std::move(each.place));
    } else {
      each.place.front().release(each.place.front().argument);
    }
  }

 private:
  // Long enough for the GPU to have done something, and at first shorter than anybody would notice.
  static constexpr std::chrono::microseconds kShortest{50};
  static constexpr std::chrono::microseconds kLongest{1000};
  static constexpr int kMostIdle = 16;  // times it looked and there was nothing, before it sleeps

  void start() noexcept {
    const BlockedSignals blocked;
    try {
      std::thread([this] { run(); }).detach();
      started_ = true;
    } catch (const std::exception&) {
      // No thread can be had now. Who comes next tries again; until then the memory stays with whom it is.
    }
  }

  void run() {
    ::pthread_setname_np(::pthread_self(), "multipy-gpu");
    std::list<Waiting> waiting;
    auto pause = kShortest;
    int idle = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        // Waking a thread takes those who let go longer than all else, so while releases come this one just looks.
        if (idle == kMostIdle) {
          changed_.wait(lock, [&] { return !arrived_.empty(); });
          pause = kShortest;
        }
        waiting.splice(waiting.end(), arrived_);
      }
      idle = waiting.empty() ? idle + 1 : 0;
      std::list<Waiting> over;
      for (auto next = waiting.begin(); next != waiting.end();) {
        const auto each = next++;
        if (each->work->is_over()) over.splice(over.end(), waiting, each);
      }
      pause = over.empty() ? std::min(pause * 2, kLongest) : kShortest;
      for (Waiting& each : over) finish(each);
      std::this_thread::sleep_for(pause);
    }
  }

  std::mutex mutex_;  // guards arrived_ and started_
  std::condition_variable changed_;
  std::list<Waiting> arrived_;
  bool started_ = false;
};

Releases& releases() {
  static Releases& instance = *new Releases;
  return instance;
}

}  // namespace

const Driver& Driver::get() {
  static const Driver driver = load();
  return driver;
}

const Driver* Driver::find() {
  static std::atomic<const Driver*> found = nullptr;
  static std::atomic<unsigned long long> looked_at = 0;  // how many libraries had been loaded then
  if (const Driver* driver = found.load(std::memory_order_acquire)) return driver;
  // It is there from some dlopen on; until the next one there is no need to look again.
  const auto loaded = LibraryCounts::now().loaded;
  if (loaded == looked_at.load(std::memory_order_relaxed)) return nullptr;
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) {
    looked_at.store(loaded, std::memory_order_relaxed);
    return nullptr;
  }
  try {
    found.store(&get(), std::memory_order_release);
  } catch (const Error&) {  // a driver that lacks something: none of ours
    looked_at.store(loaded, std::memory_order_relaxed);
  }
  ::dlclose(library);
  return found.load(std::memory_order_acquire);
}

/// Makes the context current while it lives.
class Device::Current {
 public:
  explicit Current(const Device& device) noexcept : driver_(device.driver_) {
    void* context = nullptr;
    if (driver_.current_context(&context) == 0 && context == device.context_) return;
    pushed_ = driver_.push_context(device.context_) == 0;
  }
  ~Current() {
    void* context = nullptr;
    if (pushed_) driver_.pop_context(&context);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const Driver& driver_;
  bool pushed_ = false;
};

/// Lets calls be made while it lives that might spoil a graph, if they were about one that some thread captures. To
/// record an event and to wait for one is not among them.
class Device::OutsideCapture {
 public:
  explicit OutsideCapture(const Device& device) noexcept : driver_(device.driver_) {
    driver_.exchange_capture_mode(&mode_);
  }
  ~OutsideCapture() { driver_.exchange_capture_mode(&mode_); }
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;

 private:
  const Driver& driver_;
  int mode_ = kRelaxed;
};

Device& Device::at(int ordinal) {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::gpus);
  static auto& devices = *new std::map<int, Device>;
  const std::lock_guard lock(mutex);
  return devices.try_emplace(ordinal, Driver::get(), ordinal).first->second;
}

Device::Device(const Driver& driver, int ordinal) : driver_(driver) {
  int device = 0;
  check(driver_, driver_.get_device(&device, ordinal), "cuDeviceGet");
  check(driver_, driver_.retain_context(&context_, device), "cuDevicePrimaryCtxRetain");
}

EventHandle Device::take_spare() noexcept {
  const std::lock_guard lock(mutex_);
  if (spare_.empty()) return nullptr;
  const EventHandle event = spare_.back();
  spare_.pop_back();
  return event;
}

int Device::make_event(EventHandle& event) {
  {
    const std::lock_guard lock(mutex_);
    if (spare_.capacity() < ++made_) spare_.reserve(2 * made_);
  }
  const OutsideCapture outside(*this);
  return driver_.create_event(&event, kWithoutTiming);
}

EventHandle Device::take_event() {
  EventHandle event = take_spare();
  const Current current(*this);
  if (event == nullptr) check(driver_, make_event(event), "cuEventCreate");
  return event;
}

EventHandle Device::record(Stream stream) {
  const EventHandle event = take_event();
  const Current current(*this);
  const int status = driver_.record_event(event, stream);
  if (status != 0) give_back(event);
  check(driver_, status, "cuEventRecord");
  return event;
}

EventHandle Device::record_all() noexcept {
  EventHandle event = take_spare();
  const Current current(*this);
  const OutsideCapture outside(*this);
  try {
    if (event == nullptr && make_event(event) != 0) return nullptr;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  // An event that was never recorded counts as over, as everything is once all streams have been waited for.
  const bool is_asked = GraphCaptures::outside([&] {
    driver_.record_context != nullptr ? driver_.record_context(context_, event) : driver_.synchronize_context();
  });
  if (is_asked) return event;
  give_back(event);
  return nullptr;
}

void Device::record_again(EventHandle event, Stream stream) {
  const Current current(*this);
  check(driver_, driver_.record_event(event, stream), "cuEventRecord");
}

void Device::wait(Stream stream, EventHandle event) {
  const Current current(*this);
  check(driver_, driver_.wait_event(stream, event, 0), "cuStreamWaitEvent");
}

bool Device::is_over(EventHandle event) noexcept {
  const Current current(*this);
  const OutsideCapture outside(*this);
  return driver_.query_event(event) != Driver::kNotReady;
}

void Device::give_back(EventHandle event) noexcept {
  const std::lock_guard lock(mutex_);
  spare_.push_back(event);
}

Stream Device::take_stream() {
  {
    const std::lock_guard lock(mutex_);
    if (!spare_streams_.empty()) {
      const Stream stream = spare_streams_.back();
      spare_streams_.pop_back();
      return stream;
    }
  }
  Stream stream = 0;
  const Current current(*this);
  const OutsideCapture outside(*this);
  check(driver_, driver_.create_stream(&stream, kNonBlocking), "cuStreamCreate");
  return stream;
}

void Device::give_back_stream(Stream stream) {
  const std::lock_guard lock(mutex_);
  spare_streams_.push_back(stream);
}

Order::Order(Device& device, Stream stream) : device_(device), exported_on_(stream), ready_(device.record(stream)) {}

Order::~Order() {
  device_.give_back(ready_);
  for (const auto& [stream, event] : last_uses_) device_.give_back(event);
}

void Order::begin_use(Stream stream) {
  // The exporter's own stream does nothing with the memory that comes before its export.
  if (stream == exported_on_) return;
  {
    const std::lock_guard lock(mutex_);
    const auto is_its = [stream](const auto& use) { return use.first == stream; };
    if (std::none_of(last_uses_.begin(), last_uses_.end(), is_its)) {
      last_uses_.reserve(last_uses_.size() + 1);
      last_uses_.emplace_back(stream, device_.take_event());
    }
  }
  device_.wait(stream, ready_);
}

void Order::end_use(Stream stream) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, event] : last_uses_) {
      if (known == stream) return device_.record_again(event, stream);
    }
  } catch (const Error&) {
    // The context is lost, and with it all that used the memory.
  }
}

bool Order::is_over() noexcept {
  const std::lock_guard lock(mutex_);
  return std::all_of(last_uses_.begin(), last_uses_.end(),
                     [&](const auto& use) { return device_.is_over(use.second); });
}

PendingWork::~PendingWork() = default;

bool is_pinned(const void* address) noexcept {
  constexpr int kMemoryType = 2;       // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
  constexpr unsigned kHostMemory = 1;  // CU_MEMORYTYPE_HOST
  const Driver* const driver = address == nullptr ? nullptr : Driver::find();
  if (driver == nullptr) return false;
  unsigned type = 0;
  int attribute = kMemoryType;
  void* value = &type;
  // Asked for several attributes, even of a number, it takes no offence at addresses that CUDA does not know.
  const int status = driver->pointer_attributes(1, &attribute, &value, reinterpret_cast<std::uintptr_t>(address));
  return status == 0 && type == kHostMemory;
}

namespace {

/// The GPUs that the process has a context on.
std::vector<Device*> devices_in_use() {
  std::vector<Device*> devices;
  const Driver* const driver = Driver::find();
  int count = 0;
  if (driver == nullptr || driver->count_devices(&count) != 0) return devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int device = 0;
    unsigned flags = 0;
    int active = 0;
    if (driver->get_device(&device, ordinal) != 0 || driver->context_state(device, &flags, &active) != 0) continue;
    if (active == 0) continue;
    try {
      devices.push_back(&Device::at(ordinal));
    } catch (const Error&) {
      // Its context is lost, and with it all that used the memory.
    }
  }
  return devices;
}

}  // namespace

PinnedWork::PinnedWork() : PinnedWork(devices_in_use()) {}

PinnedWork::PinnedWork(std::vector<Device*> devices) : unrecorded_(std::move(devices)) {
  events_.reserve(unrecorded_.size());
}

PinnedWork::~PinnedWork() {
  for (const auto& [device, event] : events_) device->give_back(event);
}

bool PinnedWork::is_over() noexcept {
  // What is told later is of no concern, but an event that comes late waits for it as well.
  std::erase_if(unrecorded_, [&](Device* device) {
    const EventHandle event = device->record_all();
    if (event != nullptr) events_.emplace_back(device, event);
    return event != nullptr;
  });
  return unrecorded_.empty() && std::all_of(events_.begin(), events_.end(), [](const auto& recorded) {
           return recorded.first->is_over(recorded.second);
         });
}

void release_after(std::unique_ptr<PendingWork> work, std::shared_ptr<ReturnQueue> owner, ReturnQueue::Place place) {
  std::list<Releases::Waiting> waiting;
  waiting.push_back({std::move(work), std::move(owner), std::move(place)});
  Releases::Waiting& only = waiting.front();
  if (only.work == nullptr || only.work->is_over()) {
    Releases::finish(only);
  } else {
    releases().add(std::move(waiting));
  }
}

Mark::Mark(int ordinal, Stream stream)
    : ordinal_(ordinal), device_(Device::at(ordinal)), stream_(stream), event_(device_.record(stream)) {}

Mark::~Mark() { device_.give_back(event_); }

void Mark::wait(Stream stream) {
  if (stream != stream_) device_.wait(stream, event_);
}

}  // namespace multipy::cuda
