// Order between streams, on a GPU that does what it is told when the test says so.
#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/graph_captures.h"
#include "exchange/cuda.h"
#include "without_memory.h"

using namespace multipy::cuda;
using multipy::GraphCaptures;
using multipy::ReturnQueue;

namespace {

constexpr Stream kProducer = 0x100;
constexpr Stream kConsumer = 0x200;
constexpr Stream kOther = 0x300;
constexpr Stream kAll = 0x400;  // all of them, as one

/// Streams are counters of what was told and what is done; an event is a place in one.
struct Simulated {
  struct Event {
    Stream stream = 0;
    std::uint64_t place = 0;
  };
  struct Line {
    std::uint64_t told = 0;
    std::atomic<std::uint64_t> done = 0;
    std::vector<Event> waits{};
  };
  static inline std::map<Stream, Line> lines;
  static inline std::vector<std::unique_ptr<Event>> events;
  static inline std::atomic<int> contexts = 0;  // pushed and not popped, on all threads
  static inline bool is_broken = false;

  static int get_device(int* device, int ordinal) { return *device = ordinal, 0; }
  static int retain_context(void** context, int) { return *context = &lines, 0; }
  static int current_context(void** context) { return *context = nullptr, 0; }
  static int push_context(void*) { return ++contexts, 0; }
  static int pop_context(void**) { return --contexts, 0; }
  static int exchange_capture_mode(int* mode) {
    thread_local int own = 0;
    std::swap(own, *mode);
    return 0;
  }
  static int create_stream(Stream* stream, unsigned) {
    static Stream last = 0x1000;
    return *stream = ++last, 0;
  }
  static int create_event(EventHandle* event, unsigned) { return *event = events.emplace_back(new Event).get(), 0; }
  static int record_event(EventHandle event, Stream stream) {
    if (is_broken) return 700;
    *static_cast<Event*>(event) = {stream, lines[stream].told};
    return 0;
  }
  static int query_event(EventHandle event) {
    if (is_broken) return 700;
    const auto& [stream, place] = *static_cast<Event*>(event);
    return lines[stream].done >= place ? 0 : Driver::kNotReady;
  }
  static int wait_event(Stream stream, EventHandle event, unsigned) {
    lines[stream].waits.push_back(*static_cast<Event*>(event));
    return 0;
  }
  static int error_name(int, const char** name) { return *name = "CUDA_ERROR_ILLEGAL_ADDRESS", 0; }
  static int count_devices(int* count) { return *count = 1, 0; }
  static int context_state(int, unsigned*, int* active) { return *active = 1, 0; }
  static int pointer_attributes(unsigned, int*, void**, std::uintptr_t) { return 0; }
  /// The place of what has been told to all lines together is kept as that of a line of its own.
  static int record_context(void*, EventHandle event) {
    if (is_broken) return 700;
    *static_cast<Event*>(event) = {kAll, told_to_all()};
    return 0;
  }
  static int synchronize_context() { return is_broken ? 700 : 0; }

  static constexpr Driver kDriver{
      get_device,    retain_context,     current_context, push_context,        pop_context, exchange_capture_mode,
      create_stream, create_event,       record_event,    query_event,         wait_event,  count_devices,
      context_state, pointer_attributes, record_context,  synchronize_context, error_name};

  static std::uint64_t told_to_all() { return lines[kProducer].told + lines[kConsumer].told + lines[kOther].told; }

  Device device;
  Simulated() : device((lines.clear(), events.clear(), is_broken = false, kDriver), 0) {
    for (const Stream stream : {kProducer, kConsumer, kOther, kAll}) lines[stream];
  }

  void tell(Stream stream) { ++lines[stream].told; }
  void finish(Stream stream) {
    lines[stream].done = lines[stream].told;
    lines[kAll].done = lines[kProducer].done + lines[kConsumer].done + lines[kOther].done;
  }
};

}  // namespace

TEST_CASE("a receiver's stream waits for what the exporter's was told before the export") {
  Simulated gpu;
  gpu.tell(kProducer);
  Order order(gpu.device, kProducer);
  gpu.tell(kProducer);
  order.begin_use(kConsumer);
  REQUIRE(Simulated::lines[kConsumer].waits.size() == 1);
  CHECK(Simulated::lines[kConsumer].waits[0].stream == kProducer);
  CHECK(Simulated::lines[kConsumer].waits[0].place == 1);
  CHECK(Simulated::contexts == 0);
}

TEST_CASE("on the exporter's own stream there is nothing to wait for, and no use to be awaited") {
  Simulated gpu;
  Order order(gpu.device, kProducer);
  order.begin_use(kProducer);
  gpu.tell(kProducer);
  order.end_use(kProducer);
  CHECK(Simulated::lines[kProducer].waits.empty());
  CHECK(order.is_over());
}

TEST_CASE("uses are over when every receiver's stream has come to where the use ended") {
  Simulated gpu;
  Order order(gpu.device, kProducer);
  for (const Stream stream : {kConsumer, kOther}) {
    order.begin_use(stream);
    gpu.tell(stream);
    order.end_use(stream);
  }
  CHECK_FALSE(order.is_over());
  gpu.finish(kConsumer);
  CHECK_FALSE(order.is_over());
  gpu.finish(kOther);
  CHECK(order.is_over());
}

TEST_CASE("many uses on one stream need one event, and the last of them counts") {
  Simulated gpu;
  Order order(gpu.device, kProducer);
  for (int i = 0; i < 100; ++i) {
    order.begin_use(kConsumer);
    gpu.finish(kConsumer);
    gpu.tell(kConsumer);
    order.end_use(kConsumer);
  }
  CHECK_FALSE(order.is_over());
  CHECK(Simulated::events.size() == 2);
}

TEST_CASE("events are used again") {
  Simulated gpu;
  for (int i = 0; i < 100; ++i) {
    Order order(gpu.device, kProducer);
    order.begin_use(kConsumer);
    order.end_use(kConsumer);
  }
  CHECK(Simulated::events.size() == 2);
}

TEST_CASE("a stream is one holder's at a time, and used again") {
  Simulated gpu;
  const Stream first = gpu.device.take_stream();
  const Stream second = gpu.device.take_stream();
  CHECK(first != second);
  gpu.device.give_back_stream(first);
  CHECK(gpu.device.take_stream() == first);
}

TEST_CASE("a release comes home only when the GPU is done, without anybody waiting for it") {
  Simulated gpu;
  auto order = std::make_unique<Order>(gpu.device, kProducer);
  order->begin_use(kConsumer);
  gpu.tell(kConsumer);
  order->end_use(kConsumer);
  auto owner = std::make_shared<ReturnQueue>();
  static std::atomic<int> released = 0;
  released = 0;
  std::atomic<bool> arrived = false;
  owner->set_wake([&] {
    arrived = true;
    arrived.notify_all();
  });
  release_after(std::move(order), owner, {{[](void*) { ++released; }, nullptr}});
  CHECK(owner->drain() == 0);
  CHECK_FALSE(arrived);
  gpu.finish(kConsumer);
  arrived.wait(false);
  CHECK(owner->drain() == 1);
  CHECK(released == 1);
  owner->set_wake(nullptr);
}

TEST_CASE("one that is over already does not wait for one that is not") {
  Simulated gpu;
  static std::atomic<int> released = 0;
  released = 0;
  const auto count = [](void*) {
    ++released;
    released.notify_all();
  };
  auto slow = std::make_unique<Order>(gpu.device, kProducer);
  slow->begin_use(kConsumer);
  gpu.tell(kConsumer);
  slow->end_use(kConsumer);
  release_after(std::move(slow), nullptr, {{count, nullptr}});
  auto quick = std::make_unique<Order>(gpu.device, kProducer);
  quick->begin_use(kOther);
  quick->end_use(kOther);
  release_after(std::move(quick), nullptr, {{count, nullptr}});
  CHECK(released == 1);
  gpu.finish(kConsumer);
  released.wait(1);
  CHECK(released == 2);
}

TEST_CASE("a lost context is an error for who exports, and ends all waiting") {
  Simulated gpu;
  Order order(gpu.device, kProducer);
  for (const Stream stream : {kConsumer, kOther}) order.begin_use(stream);
  gpu.tell(kConsumer);
  order.end_use(kConsumer);
  CHECK_FALSE(order.is_over());
  Simulated::is_broken = true;
  CHECK(order.is_over());
  CHECK_NOTHROW(order.end_use(kOther));
  CHECK_THROWS_WITH_AS(Order(gpu.device, kProducer), doctest::Contains("CUDA_ERROR_ILLEGAL_ADDRESS"), multipy::Error);
}

TEST_CASE("pinned memory is in use until all is done that any stream had been told by then") {
  Simulated gpu;
  gpu.tell(kConsumer);
  gpu.tell(kOther);
  PinnedWork work({&gpu.device});
  CHECK_FALSE(work.is_over());
  gpu.finish(kConsumer);
  CHECK_FALSE(work.is_over());
  gpu.finish(kOther);
  CHECK(work.is_over());
  CHECK(Simulated::contexts == 0);
}

TEST_CASE("pinned memory stays in use while a stream is being captured") {
  Simulated gpu;
  PinnedWork work({&gpu.device});
  CHECK(GraphCaptures::begin([] { return 1; }) == 1);  // it did not begin
  CHECK(GraphCaptures::begin([] { return 0; }) == 0);
  CHECK_FALSE(work.is_over());
  gpu.tell(kConsumer);
  GraphCaptures::end();
  CHECK_FALSE(work.is_over());
  gpu.finish(kConsumer);
  CHECK(work.is_over());
}

TEST_CASE("pinned memory comes home when the GPU is done, and at once where its context is lost") {
  Simulated gpu;
  static std::atomic<int> released = 0;
  released = 0;
  const auto count = [](void*) {
    ++released;
    released.notify_all();
  };
  gpu.tell(kConsumer);
  release_after(std::make_unique<PinnedWork>(std::vector<Device*>{&gpu.device}), nullptr, {{count, nullptr}});
  CHECK(released == 0);
  gpu.finish(kConsumer);
  released.wait(0);
  Simulated::is_broken = true;
  release_after(std::make_unique<PinnedWork>(std::vector<Device*>{&gpu.device}), nullptr, {{count, nullptr}});
  CHECK(released == 2);
}

TEST_CASE("what a GPU uses comes home, or stays for good where there is no memory to wait for that") {
  static std::atomic<int> released = 0;
  const auto count = [](void*) {
    ++released;
    released.notify_all();
  };
  bool is_short = true;
  for (int nth = 1; is_short; ++nth) {
    CAPTURE(nth);
    Simulated gpu;
    released = 0;
    std::unique_ptr<multipy::cuda::PendingWork> works[2];
    bool stays[2] = {false, false};
    {
      const WithoutMemory failure(nth);
      try {
        auto order = std::make_unique<Order>(gpu.device, kProducer);
        order->begin_use(kConsumer);
        gpu.tell(kConsumer);
        order->end_use(kConsumer);
        works[0] = std::move(order);
      } catch (const std::bad_alloc&) {
        stays[0] = true;  // nobody could use it
      }
      for (const int i : {0, 1}) {
        try {
          if (i == 1) works[1] = std::make_unique<PinnedWork>(std::vector<Device*>{&gpu.device});
          if (!stays[i]) release_after(std::move(works[i]), nullptr, {{count, nullptr}});
        } catch (const std::bad_alloc&) {
          stays[i] = true;
        }
      }
      is_short = failure.failed();
    }
    gpu.finish(kConsumer);
    const int expected = !stays[0] + !stays[1];
    for (int now = released; now < expected; now = released) released.wait(now);
    CHECK(released == expected);
  }
}

TEST_CASE("without CUDA no memory is pinned, and there is nothing to wait for") {
  int here = 0;
  CHECK_FALSE(is_pinned(&here));
  CHECK_FALSE(is_pinned(nullptr));
  CHECK(PinnedWork().is_over());
}
