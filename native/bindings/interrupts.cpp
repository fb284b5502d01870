#include "bindings/interrupts.h"

#include <frameobject.h>  // PyFrame_GetBack, before 3.11
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/blocked_signals.h"
#include "bindings/gil_pause.h"
#include "bindings/import.h"
#include "bindings/worker.h"
#include "interpreter/abi.h"

namespace multipy::bindings {

namespace {

using std::chrono::steady_clock;

constexpr steady_clock::duration kLongestHold = std::chrono::minutes(5);
constexpr auto kFirstNap = std::chrono::milliseconds(1);
constexpr auto kLongestNap = std::chrono::milliseconds(20);

/// The thread of one worker.
struct Place {
  const Worker* worker = nullptr;
  PyThreadState* thread = nullptr;
  std::atomic<std::uint64_t> due = 0;  // the turn that is to be interrupted; 0: none. May be read without the mutex
  steady_clock::time_point since{};

  /// The turn under way, as interrupts name it; 0: there is none.
  std::uint64_t turn() const noexcept {
    const std::uint64_t turn = worker->turn();
    return turn == 0 && &worker->home == worker ? MULTIPY_NO_TURN : turn;
  }
};

struct Due {
  std::mutex mutex;                          // guards all
  std::list<std::unique_ptr<Place>> places;  // added and removed with the GIL, by their threads
  std::list<std::unique_ptr<Place>> spare;   // for threads that are being started
  bool seen_to = false;                      // a thread is at it
  int threads = 0;                           // that may use Python
  std::condition_variable fewer;

  bool any() const noexcept {
    return std::any_of(places.begin(), places.end(), [](const auto& place) { return place->due != 0; });
  }
};
Due& due() {
  static Due& instance = *new Due;
  return instance;
}

thread_local Place* here = nullptr;  // that of this thread

// Written and read with the GIL.
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

/// Takes what is due in the turn under way at `place`; false if nothing is.
bool take_due(Place& place) {
  if (place.due == 0) return false;
  const std::lock_guard lock(due().mutex);
  if (place.due == 0 || place.due != place.turn()) return false;
  place.due = 0;
  return true;
}

/// With the GIL: has what is due raised; false if some of it is to be tried again.
bool see_to_it() {
  PyObject* const type = interruption();
  if (type == nullptr) PyErr_Clear();
  const NoCollection none;
  bool all = true;
  for (const auto& place : due().places) {
    steady_clock::time_point since;
    {
      const std::lock_guard lock(due().mutex);
      if (place->due != 0 && place->due != place->turn()) place->due = 0;
      if (place->due == 0) continue;
      since = place->since;
    }
    if (type == nullptr || (is_held(place->thread) && steady_clock::now() - since < kLongestHold)) {
      all = false;
    } else if (take_due(*place)) {
      raise_in(place->thread, type);
    }
  }
  return all;
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
    if (due().any()) continue;
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

/// Has what runs in `turn` interrupted; any thread, without a GIL. With MULTIPY_NO_TURN, Python looks around in any
/// case. Nonzero: there is no thread for it.
int interrupt(std::uint64_t turn) {
  const std::lock_guard lock(due().mutex);
  const auto& places = due().places;
  const auto place =
      std::find_if(places.begin(), places.end(), [turn](const auto& one) { return one->turn() == turn; });
  if (place == places.end() && (turn != MULTIPY_NO_TURN || places.empty())) return 0;
  if (place != places.end()) {
    if ((*place)->due != turn) (*place)->since = steady_clock::now();
    (*place)->due = turn;
  }
  if (due().seen_to) return 0;
  const int failure = start_thread();
  if (failure != 0) return failure;
  due().seen_to = true;
  ++due().threads;
  return 0;
}

}  // namespace

void expect_thread() {
  std::list<std::unique_ptr<Place>> place;
  place.push_back(std::make_unique<Place>());
  const std::lock_guard lock(due().mutex);
  due().spare.splice(due().spare.end(), place);
}

void expect_no_thread() noexcept {
  const std::lock_guard lock(due().mutex);
  due().spare.pop_front();
}

void note_thread(const Worker& worker) noexcept {
  const std::lock_guard lock(due().mutex);
  here = due().spare.front().get();
  here->worker = &worker;
  here->thread = PyThreadState_Get();
  due().places.splice(due().places.end(), due().spare, due().spare.begin());
  count_in_python(true);
}

void forget_thread() noexcept {
  count_in_python(false);
  const Place* const mine = std::exchange(here, nullptr);
  const std::lock_guard lock(due().mutex);
  std::erase_if(due().places, [mine](const auto& place) { return place.get() == mine; });
}

void note_event_loop() noexcept { event_loop = PyThreadState_Get(); }

void hold_interrupts_in(PyCodeObject* code) {
  Py_INCREF(code);
  held_codes.push_back(code);
}

void end_turn() noexcept {
  if (here->due != 0) {
    const std::lock_guard lock(due().mutex);
    here->due = 0;
  }
  if (here->thread->async_exc != nullptr) raise_in(here->thread, nullptr);
}

bool raise_due() {
  PyThreadState* const thread = PyThreadState_Get();
  if (here != nullptr && take_due(*here)) {
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
  const std::uint64_t turn = here == nullptr ? 0 : here->worker->turn();
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
