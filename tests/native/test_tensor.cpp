// One exported tensor and its many views: same memory, same properties, one release in the right place.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "exchange/return_queue.h"
#include "exchange/tensor.h"

using multipy::Attachment;
using multipy::ReturnQueue;
using multipy::SharedTensor;

namespace {

/// What a library exports: a 2 × 3 float tensor that counts the calls of its deleter.
template <typename Managed>
struct Exporter {
  std::array<float, 6> values{1, 2, 3, 4, 5, 6};
  std::array<std::int64_t, 2> shape{2, 3};
  std::array<std::int64_t, 2> strides{3, 1};
  std::atomic<int> deleted = 0;
  std::thread::id deleted_on;
  Managed managed{};

  Exporter() {
    managed.dl_tensor = {values.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape.data(), strides.data(), 0};
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) {
      auto& exporter = *static_cast<Exporter*>(self->manager_ctx);
      exporter.deleted_on = std::this_thread::get_id();
      ++exporter.deleted;
    };
    if constexpr (requires { managed.version; }) managed.version = {kDLPackMajor, 0};
  }
};

using Plain = Exporter<DLManagedTensor>;
using Versioned = Exporter<DLManagedTensorVersioned>;

template <typename Managed>
void release(Managed* view) {
  view->deleter(view);
}

}  // namespace

TEST_CASE_TEMPLATE("an adopted tensor is deleted once, with its last reference", Kind, Plain, Versioned) {
  Kind exporter;
  auto tensor = SharedTensor::adopt(&exporter.managed, nullptr);
  std::shared_ptr<Attachment> attachment = tensor;
  tensor.reset();
  CHECK(exporter.deleted == 0);
  attachment.reset();
  CHECK(exporter.deleted == 1);
}

TEST_CASE_TEMPLATE("a view shows the same memory and keeps it alive", Kind, Plain, Versioned) {
  Kind exporter;
  auto tensor = SharedTensor::adopt(&exporter.managed, nullptr);
  DLManagedTensor* plain = tensor->view();
  DLManagedTensorVersioned* versioned = tensor->view_versioned();
  tensor.reset();
  for (const DLTensor& seen : {plain->dl_tensor, versioned->dl_tensor}) {
    CHECK(seen.data == exporter.values.data());
    CHECK(seen.ndim == 2);
    CHECK(seen.shape[1] == 3);
    CHECK(seen.strides[0] == 3);
    CHECK(seen.dtype.bits == 32);
    CHECK(seen.device.device_type == kDLCPU);
  }
  CHECK(versioned->version.major == kDLPackMajor);
  CHECK(versioned->flags == 0);
  release(plain);
  CHECK(exporter.deleted == 0);
  release(versioned);
  CHECK(exporter.deleted == 1);
}

TEST_CASE("read only and padded are passed on; that a copy was made is not, for no receiver owns it alone") {
  Versioned exporter;
  exporter.managed.flags = kDLReadOnly | kDLIsCopied | kDLSubbytePadded;
  const auto tensor = SharedTensor::adopt(&exporter.managed, nullptr);
  CHECK(tensor->read_only());
  DLManagedTensorVersioned* view = tensor->view_versioned();
  CHECK(view->flags == (kDLReadOnly | kDLSubbytePadded));
  release(view);
}

TEST_CASE("a tensor without strides is contiguous, and its views say so") {
  Plain exporter;
  exporter.managed.dl_tensor.strides = nullptr;
  const auto tensor = SharedTensor::adopt(&exporter.managed, nullptr);
  DLManagedTensor* view = tensor->view();
  REQUIRE(view->dl_tensor.strides != nullptr);
  CHECK(view->dl_tensor.strides[0] == 3);
  CHECK(view->dl_tensor.strides[1] == 1);
  release(view);
}

TEST_CASE("a scalar needs neither shape nor strides") {
  Plain exporter;
  exporter.managed.dl_tensor.ndim = 0;
  exporter.managed.dl_tensor.shape = nullptr;
  exporter.managed.dl_tensor.strides = nullptr;
  const auto tensor = SharedTensor::adopt(&exporter.managed, nullptr);
  CHECK(tensor->nbytes() == 4);
  CHECK(tensor->tensor().ndim == 0);
}

TEST_CASE("the size counts elements of any width, padded or packed") {
  const auto size_of = [](std::int64_t rows, std::uint8_t bits, std::uint16_t lanes, std::uint64_t flags) {
    Versioned exporter;
    exporter.shape = {rows, 3};
    exporter.managed.dl_tensor.dtype = {kDLUInt, bits, lanes};
    exporter.managed.flags = flags;
    return SharedTensor::adopt(&exporter.managed, nullptr)->nbytes();
  };
  CHECK(size_of(2, 32, 1, 0) == 24);
  CHECK(size_of(2, 16, 4, 0) == 48);
  CHECK(size_of(0, 64, 1, 0) == 0);
  CHECK(size_of(3, 4, 1, 0) == 5);
  CHECK(size_of(3, 4, 1, kDLSubbytePadded) == 9);
  CHECK(size_of(std::numeric_limits<std::int64_t>::max(), 32, 1, 0) == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("what DLPack does not allow is refused and stays the caller's") {
  Versioned newer;
  newer.managed.version.major = kDLPackMajor + 1;
  CHECK_THROWS_WITH_AS(SharedTensor::adopt(&newer.managed, nullptr), "DLPack major version 2, expected 1",
                       multipy::Error);
  CHECK(newer.deleted == 0);

  Plain negative;
  negative.shape = {2, -3};
  CHECK_THROWS_WITH_AS(SharedTensor::adopt(&negative.managed, nullptr), "DLPack tensor of length -3 along axis 1",
                       multipy::Error);
  CHECK(negative.deleted == 0);

  Plain shapeless;
  shapeless.managed.dl_tensor.shape = nullptr;
  CHECK_THROWS_AS(SharedTensor::adopt(&shapeless.managed, nullptr), multipy::Error);

  Plain dimensionless;
  dimensionless.managed.dl_tensor.ndim = -1;
  CHECK_THROWS_AS(SharedTensor::adopt(&dimensionless.managed, nullptr), multipy::Error);
}

TEST_CASE("a tensor whose exporter gave no deleter is simply let go") {
  Plain exporter;
  exporter.managed.deleter = nullptr;
  SharedTensor::adopt(&exporter.managed, nullptr).reset();
  CHECK(exporter.deleted == 0);
}

TEST_CASE("the release goes home: the owner's thread calls the deleter, whoever lets go last") {
  Plain exporter;
  const auto owner = std::make_shared<ReturnQueue>();
  DLManagedTensor* view = SharedTensor::adopt(&exporter.managed, owner)->view();
  std::thread([view] { release(view); }).join();
  CHECK(exporter.deleted == 0);
  CHECK(owner->drain() == 1);
  CHECK(exporter.deleted == 1);
  CHECK(exporter.deleted_on == std::this_thread::get_id());
}

TEST_CASE("a tensor may outlive its owner, and is then released where it is let go") {
  Plain exporter;
  auto owner = std::make_shared<ReturnQueue>();
  DLManagedTensor* view = SharedTensor::adopt(&exporter.managed, owner)->view();
  owner->close();
  owner.reset();
  release(view);
  CHECK(exporter.deleted == 1);
}

TEST_CASE("views made and dropped on many threads release the tensor once") {
  Versioned exporter;
  const auto owner = std::make_shared<ReturnQueue>();
  auto tensor = SharedTensor::adopt(&exporter.managed, owner);
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([tensor] {
      for (int round = 0; round < 2000; ++round) {
        DLManagedTensorVersioned* kept = tensor->view_versioned();
        release(tensor->view());
        release(kept);
      }
    });
  }
  tensor.reset();
  for (auto& thread : threads) thread.join();
  CHECK(owner->drain() == 1);
  CHECK(exporter.deleted == 1);
}
