#include "bindings/interrupts.h"

#include <frameobject.h>  // PyFrame_GetBack, before 3.11
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/blocked_signals.h"
#include "bindings/import.h"
#include "bindings/worker.h"
#include "interpreter/abi.h"

namespace multipy::bindings {

namespace {

using std::chrono::steady_clock;

constexpr steady_clock::duration kLongestHold = std::chrono::minutes(5);
constexpr auto kFirstNap = std::chrono::milliseconds(1);
constexpr auto kLongestNap = std::chrono::milliseconds(20);

struct Due {
  std::mutex mutex;                     // guards all
  std::atomic<std::uint64_t> turn = 0;  // 0: none; may be read without
  steady_clock::time_point since;
  bool seen_to = false;  // a thread is at it
  int threads = 0;       // that may use Python
  std::condition_variable fewer;
};
Due& due() {
  static Due& instance = *new Due;
  return instance;
}

// Written and read with the GIL.
PyThreadState* worker_thread = nullptr;
PyThreadState* event_loop = nullptr;
std::vector<PyCodeObject*> held_codes;  // they live as long as Python

/// The class that is raised, borrowed; null with an exception set. It may run Python code.
PyObject* interruption() {
  static PyObject* type = nullptr;
  if (type != nullptr) return type;
  PyObject* module = import_module("multipy_actors.errors");
  if (module == nullptr) return nullptr;
  type = PyObject_GetAttrString(module, "Interruption");
  Py_DECREF(module);
  return type;
}

class NoCollection {
 public:
  NoCollection() : was_on_(PyGC_Disable()) {}
  ~NoCollection() {
    if (was_on_ != 0) PyGC_Enable();
  }
  NoCollection(const NoCollection&) = delete;
  NoCollection& operator=(const NoCollection&) = delete;

 private:
  const int was_on_;
};

std::string_view text_of(PyObject* text) {
  Py_ssize_t size = 0;
  const char* const bytes = PyUnicode_AsUTF8AndSize(text, &size);
  if (bytes != nullptr) return {bytes, static_cast<std::size_t>(size)};
  PyErr_Clear();
  return {};
}

/// Code of asyncio that would lose a callback, and what waits for it would sleep for ever. `innermost`: it is what
/// runs.
bool loses_callbacks(std::string_view file, std::string_view name, bool innermost) {
  if (innermost && file.ends_with("asyncio/events.py")) return name == "_run";
  if (!file.ends_with("asyncio/base_events.py")) return false;
  return name == "call_soon" || name == "_call_soon" || name == "call_soon_threadsafe" ||
         (innermost && name == "_run_once");
}

bool is_held(PyCodeObject* code, bool innermost) {
  if (std::find(held_codes.begin(), held_codes.end(), code) != held_codes.end()) return true;
  const std::string_view file = text_of(code->co_filename);
  return file == "<frozen importlib._bootstrap>" || loses_callbacks(file, text_of(code->co_name), innermost);
}

/// Whether one of the frames of `thread` holds interrupts.
bool is_held(PyThreadState* thread) {
  bool held = false;
  bool innermost = true;
  PyFrameObject* frame = PyThreadState_GetFrame(thread);
  while (frame != nullptr && !held) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    held = is_held(code, std::exchange(innermost, false));
    Py_DECREF(code);
    PyFrameObject* caller = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = caller;
  }
  Py_XDECREF(frame);
  return held;
}

void raise_in(PyThreadState* thread, PyObject* type) { PyThreadState_SetAsyncExc(thread->thread_id, type); }

/// The turn under way, as interrupts name it.
std::uint64_t turn_under_way() {
  const std::uint64_t turn = worker()->turn();
  return turn == 0 ? MULTIPY_NO_TURN : turn;
}

/// Takes what is due in the turn under way; false if nothing is.
bool take_due() {
  if (due().turn == 0) return false;
  const std::lock_guard lock(due().mutex);
  if (due().turn == 0 || due().turn != turn_under_way()) return false;
  due().turn = 0;
  return true;
}

/// With the GIL: has what is due raised; false if it is to be tried again.
bool see_to_it() {
  PyObject* const type = interruption();
  if (type == nullptr) PyErr_Clear();
  const NoCollection none;
  steady_clock::time_point since;
  {
    const std::lock_guard lock(due().mutex);
    if (due().turn != turn_under_way()) due().turn = 0;
    if (due().turn == 0) return true;
    since = due().since;
  }
  if (type == nullptr || (is_held(worker_thread) && steady_clock::now() - since < kLongestHold)) return false;
  if (take_due()) raise_in(worker_thread, type);
  return true;
}

void* run_thread(void*) {
  const PyGILState_STATE state = PyGILState_Ensure();
  for (auto nap = kFirstNap;; nap = std::min(2 * nap, kLongestNap)) {
    if (!see_to_it()) {
      Py_BEGIN_ALLOW_THREADS;
      std::this_thread::sleep_for(nap);
      Py_END_ALLOW_THREADS;
      continue;
    }
    const std::lock_guard lock(due().mutex);
    if (due().turn != 0) continue;
    due().seen_to = false;
    break;
  }
  PyGILState_Release(state);
  const std::lock_guard lock(due().mutex);
  --due().threads;
  due().fewer.notify_all();
  return nullptr;
}

int start_thread() {
  const BlockedSignals blocked;
  pthread_t thread;
  const int failure = ::pthread_create(&thread, nullptr, run_thread, nullptr);
  if (failure == 0) ::pthread_detach(thread);
  return failure;
}

/// Has what runs in `turn` interrupted; any thread, without a GIL. Nonzero: there is no thread for it.
int interrupt(std::uint64_t turn) {
  const std::lock_guard lock(due().mutex);
  if (due().turn != turn) due().since = steady_clock::now();
  due().turn = turn;
  if (due().seen_to) return 0;
  const int failure = start_thread();
  if (failure != 0) return failure;
  due().seen_to = true;
  ++due().threads;
  return 0;
}

}  // namespace

void note_worker_thread() noexcept { worker_thread = PyThreadState_Get(); }

void note_event_loop() noexcept { event_loop = PyThreadState_Get(); }

void hold_interrupts_in(PyCodeObject* code) {
  Py_INCREF(code);
  held_codes.push_back(code);
}

void end_turn() noexcept {
  if (due().turn != 0) {
    const std::lock_guard lock(due().mutex);
    due().turn = 0;
  }
  if (worker_thread->async_exc != nullptr) raise_in(worker_thread, nullptr);
}

bool raise_due() {
  PyThreadState* const thread = PyThreadState_Get();
  if (thread == worker_thread && take_due()) {
    if (PyObject* const type = interruption()) PyErr_SetNone(type);
    return true;
  }
  if (thread->async_exc == nullptr) return false;
  PyObject* const type = thread->async_exc;
  Py_INCREF(type);
  raise_in(thread, nullptr);
  PyErr_SetNone(type);
  Py_DECREF(type);
  return true;
}

void raise_again() noexcept {
  const std::uint64_t turn = PyThreadState_Get() == worker_thread ? worker()->turn() : 0;
  if (turn != 0) interrupt(turn);
}

bool interrupt_job(PyObject* variable, PyObject* job, PyObject* machinery, bool held) {
  PyObject* const type = interruption();
  if (type == nullptr) {
    PyErr_Clear();
    return false;
  }
  const NoCollection none;
  if (event_loop == nullptr || event_loop->context == nullptr) return false;
  PyObject* const context = event_loop->context;
  Py_INCREF(context);
  PyObject* const found = PyObject_CallMethod(context, "get", "O", variable);
  Py_DECREF(context);
  if (found == nullptr) PyErr_Clear();
  Py_XDECREF(found);
  if (found != job || (held && is_held(event_loop))) return false;
  PyFrameObject* const frame = PyThreadState_GetFrame(event_loop);
  if (frame == nullptr) return false;
  PyCodeObject* const code = PyFrame_GetCode(frame);
  Py_DECREF(frame);
  bool passive = false;
  for (Py_ssize_t i = 0; i < PyTuple_Size(machinery); ++i)
    passive |= PyTuple_GetItem(machinery, i) == reinterpret_cast<PyObject*>(code);
  Py_DECREF(code);
  if (passive) return false;
  raise_in(event_loop, type);
  worker()->disturb_event_loop();
  return true;
}

void wait_for_threads_of_interrupts() {
  Py_BEGIN_ALLOW_THREADS;
  {
    std::unique_lock lock(due().mutex);
    due().fewer.wait(lock, [] { return due().threads == 0; });
  }
  Py_END_ALLOW_THREADS;
}

}  // namespace multipy::bindings

extern "C" __attribute__((visibility("default"))) int32_t multipy_interpreter_interrupt(uint64_t turn) {
  return multipy::bindings::interrupt(turn);
}
