// Locks that are looked at before they are slept on are still libc's: of every kind, and for one at a time.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "elf/patient_locks.h"

namespace {

/// The sample, with its references redirected.
struct Sample {
  void* handle = ::dlopen(MULTIPY_LOCKS_SAMPLE, RTLD_NOW | RTLD_LOCAL);
  int count = multipy::elf::make_locks_patient(handle);

  template <typename Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(::dlsym(handle, name));
  }
  int (*lock)(pthread_mutex_t*) = find<int(pthread_mutex_t*)>("sample_lock");
  int (*read)(pthread_rwlock_t*) = find<int(pthread_rwlock_t*)>("sample_read");
  int (*write)(pthread_rwlock_t*) = find<int(pthread_rwlock_t*)>("sample_write");
};

const Sample& sample() {
  static const Sample instance;
  return instance;
}

struct Mutex {
  pthread_mutex_t mutex{};
  explicit Mutex(int kind) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, kind);
    pthread_mutex_init(&mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  ~Mutex() { pthread_mutex_destroy(&mutex); }
};

}  // namespace

TEST_CASE("a library's references to the functions that wait are found") {
  REQUIRE(sample().handle != nullptr);
  CHECK(sample().count == 3);
}

TEST_CASE("many threads have a mutex one after the other, held for short and for long") {
  Mutex mutex(PTHREAD_MUTEX_NORMAL);
  int counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        CHECK(sample().lock(&mutex.mutex) == 0);
        ++counter;
        if (j % 500 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // longer than anybody looks on
        pthread_mutex_unlock(&mutex.mutex);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(counter == 8000);
}

TEST_CASE("a mutex that its owner may lock again is, and one that may not says so") {
  Mutex recursive(PTHREAD_MUTEX_RECURSIVE);
  CHECK(sample().lock(&recursive.mutex) == 0);
  CHECK(sample().lock(&recursive.mutex) == 0);
  CHECK(pthread_mutex_unlock(&recursive.mutex) == 0);
  CHECK(pthread_mutex_unlock(&recursive.mutex) == 0);
  Mutex checked(PTHREAD_MUTEX_ERRORCHECK);
  CHECK(sample().lock(&checked.mutex) == 0);
  CHECK(sample().lock(&checked.mutex) == EDEADLK);
  CHECK(pthread_mutex_unlock(&checked.mutex) == 0);
}

TEST_CASE("readers share a lock, writers have it alone") {
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  CHECK(sample().read(&lock) == 0);
  std::thread([&] {
    CHECK(sample().read(&lock) == 0);
    pthread_rwlock_unlock(&lock);
  }).join();
  pthread_rwlock_unlock(&lock);

  std::atomic<int> inside = 0;
  int written = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        CHECK(sample().write(&lock) == 0);
        CHECK(inside == 0);
        ++written;
        pthread_rwlock_unlock(&lock);
      }
    });
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        CHECK(sample().read(&lock) == 0);
        ++inside;
        const int seen = written;
        CHECK(written == seen);
        --inside;
        pthread_rwlock_unlock(&lock);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(written == 4000);
  pthread_rwlock_destroy(&lock);
}
