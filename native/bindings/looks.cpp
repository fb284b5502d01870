#include "bindings/looks.h"

#include <Python.h>
#include <pthread.h>

#include <atomic>
#include <memory>
#include <new>

#include "base/blocked_signals.h"
#include "bindings/import.h"
#include "interpreter/abi.h"

namespace multipy::bindings {

namespace {

/// Who is to be told.
struct Look {
  void (*tell)(void* context, const char* text);
  void* context;
};

std::atomic<int> looks{0};  // threads that may use Python

void done() {
  --looks;
  looks.notify_all();
}

void* run_thread(void* argument) {
  const std::unique_ptr<Look> look(static_cast<Look*>(argument));
  const PyGILState_STATE state = PyGILState_Ensure();
  PyObject* module = import_module("multipy_actors.worker.serve");
  PyObject* text = module == nullptr ? nullptr : PyObject_CallMethod(module, "describe_threads", nullptr);
  const char* utf8 = text == nullptr ? nullptr : PyUnicode_AsUTF8(text);
  PyErr_Clear();
  look->tell(look->context, utf8 == nullptr ? "" : utf8);
  Py_XDECREF(text);
  Py_XDECREF(module);
  PyGILState_Release(state);
  done();
  return nullptr;
}

int start(void (*tell)(void* context, const char* text), void* context) {
  std::unique_ptr<Look> look(new (std::nothrow) Look{tell, context});
  if (look == nullptr) return -1;
  const BlockedSignals blocked;
  pthread_t thread;
  ++looks;
  const int failure = ::pthread_create(&thread, nullptr, run_thread, look.get());
  if (failure != 0) {
    done();
    return failure;
  }
  look.release();
  ::pthread_detach(thread);
  return 0;
}

}  // namespace

void wait_for_looks() {
  Py_BEGIN_ALLOW_THREADS;
  for (int count = looks; count != 0; count = looks) looks.wait(count);
  Py_END_ALLOW_THREADS;
}

}  // namespace multipy::bindings

extern "C" __attribute__((visibility("default"))) int32_t multipy_interpreter_look(void (*tell)(void* context,
                                                                                                const char* text),
                                                                                   void* context) {
  return multipy::bindings::start(tell, context);
}
