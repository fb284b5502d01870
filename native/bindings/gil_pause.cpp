#include "bindings/gil_pause.h"

#include <atomic>

#include "base/spin.h"

namespace multipy::bindings {

namespace {

std::atomic<int> in_python = 0;  // in this interpreter, whose copy of the extension this is
thread_local bool is_counted = false;

bool nobody_is() noexcept { return in_python.load(std::memory_order_acquire) == 0; }

}  // namespace

GilPause::GilPause() noexcept : thread_(PyEval_SaveThread()) {
  if (is_counted) in_python.fetch_sub(1, std::memory_order_release);
}

GilPause::~GilPause() {
  if (is_counted) {
    thread_local SpinCredit credit;
    if (!nobody_is()) credit.spin(nobody_is);
    in_python.fetch_add(1, std::memory_order_relaxed);
  }
  PyEval_RestoreThread(thread_);
}

void count_in_python(bool counts) noexcept {
  is_counted = counts;
  in_python.fetch_add(counts ? 1 : -1, std::memory_order_relaxed);
}

}  // namespace multipy::bindings
