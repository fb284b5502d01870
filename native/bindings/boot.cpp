// The inside of an interpreter's thread: initialise Python as the host's is, run the worker loop, finalise.
//
// Runs in the interpreter's own image of this extension, so every Py… name here is the private libpython's. The
// settings come from multipy_actors/pool/interpreter.py. Signals, locale and stdio belong to the host and are left
// alone.
#include <Python.h>
#include <pthread.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "base/blocked_signals.h"
#include "base/thread.h"
#include "bindings/import.h"
#include "bindings/interrupts.h"
#include "bindings/looks.h"
#include "bindings/python_memory.h"
#include "bindings/worker.h"
#include "interpreter/abi.h"

namespace {

using multipy::bindings::set_worker;

constexpr const char* kOutOfMemory = "out of memory";  // a std::string of it needs none

std::string describe(const PyStatus& status) noexcept {
  try {
    std::string text = status.func == nullptr ? "" : std::string(status.func) + ": ";
    return text + (status.err_msg == nullptr ? "unknown error" : status.err_msg);
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  }
}

PyStatus pre_initialise(const multipy_boot& boot) {
  PyPreConfig config;
  PyPreConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  config.configure_locale = 0;
  config.coerce_c_locale = 0;
  for (size_t i = 0; i < boot.setting_count; ++i) {
    const std::string_view name = boot.settings[i].name;
    const int value = std::atoi(boot.settings[i].value);
    if (name == "utf8_mode") config.utf8_mode = value;
    if (name == "dev_mode") config.dev_mode = value;
    if (name == "isolated") config.isolated = value;
    if (name == "use_environment") config.use_environment = value;
  }
  return Py_PreInitialize(&config);
}

struct NumberField {
  std::string_view name;
  int PyConfig::* field;
};
constexpr NumberField kNumbers[] = {
    {"bytes_warning", &PyConfig::bytes_warning},
    {"dev_mode", &PyConfig::dev_mode},
    {"inspect", &PyConfig::inspect},
    {"isolated", &PyConfig::isolated},
    {"optimization_level", &PyConfig::optimization_level},
    {"site_import", &PyConfig::site_import},
    {"use_environment", &PyConfig::use_environment},
    {"user_site_directory", &PyConfig::user_site_directory},
    {"write_bytecode", &PyConfig::write_bytecode},
    {"import_time", &PyConfig::import_time},
    {"verbose", &PyConfig::verbose},
};

struct TextField {
  std::string_view name;
  wchar_t* PyConfig::* field;
};
constexpr TextField kTexts[] = {
    {"base_exec_prefix", &PyConfig::base_exec_prefix},
    {"base_executable", &PyConfig::base_executable},
    {"base_prefix", &PyConfig::base_prefix},
    {"exec_prefix", &PyConfig::exec_prefix},
    {"executable", &PyConfig::executable},
    {"filesystem_encoding", &PyConfig::filesystem_encoding},
    {"filesystem_errors", &PyConfig::filesystem_errors},
    {"platlibdir", &PyConfig::platlibdir},
    {"prefix", &PyConfig::prefix},
    {"program_name", &PyConfig::program_name},
    {"pycache_prefix", &PyConfig::pycache_prefix},
    {"stdio_encoding", &PyConfig::stdio_encoding},
    {"stdio_errors", &PyConfig::stdio_errors},
#if PY_VERSION_HEX >= 0x030B0000
    {"stdlib_dir", &PyConfig::stdlib_dir},
#endif
};

struct ListField {
  std::string_view name;
  PyWideStringList PyConfig::* field;
};
constexpr ListField kLists[] = {
    {"argv", &PyConfig::argv},           {"module_search_paths", &PyConfig::module_search_paths},
    {"orig_argv", &PyConfig::orig_argv}, {"warnoptions", &PyConfig::warnoptions},
    {"xoptions", &PyConfig::xoptions},
};

PyStatus append(PyWideStringList& list, const char* value) {
  wchar_t* text = Py_DecodeLocale(value, nullptr);
  if (text == nullptr) return PyStatus_NoMemory();
  const PyStatus status = PyWideStringList_Append(&list, text);
  PyMem_RawFree(text);
  return status;
}

PyStatus apply(PyConfig& config, const multipy_setting& setting) {
  const std::string_view name = setting.name;
  for (const auto& entry : kNumbers) {
    if (entry.name == name) config.*entry.field = std::atoi(setting.value);
  }
  for (const auto& entry : kTexts) {
    if (entry.name == name) return PyConfig_SetBytesString(&config, &(config.*entry.field), setting.value);
  }
  for (const auto& entry : kLists) {
    if (entry.name == name) return append(config.*entry.field, setting.value);
  }
  if (name == "hash_seed") {
    config.use_hash_seed = 1;
    config.hash_seed = std::strtoul(setting.value, nullptr, 10);
  }
#if PY_VERSION_HEX >= 0x030B0000
  if (name == "safe_path") config.safe_path = std::atoi(setting.value);
#endif
  return PyStatus_Ok();
}

#if PY_VERSION_HEX >= 0x030B0000
/// Some versions of Python do not take the folder of the standard library from the configuration, and do not look for
/// it where they are given prefixes. Frozen modules have no `__file__` then: worker/serve.py:prepare.
void set_stdlib_dir(const multipy_boot& boot) {
  PyObject* const found = PySys_GetObject("_stdlib_dir");
  if (found != nullptr && found != Py_None) return;
  for (size_t i = 0; i < boot.setting_count; ++i) {
    if (std::string_view(boot.settings[i].name) != "stdlib_dir") continue;
    PyObject* const path = PyUnicode_DecodeFSDefault(boot.settings[i].value);
    if (path == nullptr || PySys_SetObject("_stdlib_dir", path) != 0) PyErr_Clear();
    Py_XDECREF(path);
  }
}
#endif

PyStatus initialise(const multipy_boot& boot) {
  PyStatus status = pre_initialise(boot);
  if (PyStatus_Exception(status)) return status;
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 1;  // the interpreter's own: system/signal_actions.h
  config.parse_argv = 0;
  config.module_search_paths_set = 1;
  config.configure_c_stdio = 0;
  config.pathconfig_warnings = 0;
  config.faulthandler = 0;
  for (size_t i = 0; i < boot.setting_count && !PyStatus_Exception(status); ++i)
    status = apply(config, boot.settings[i]);
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  return status;
}

/// The pending exception as text, with its traceback where that can be had.
void take_exception(std::string& text) noexcept {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject* module = multipy::bindings::import_module("traceback");
  PyObject* lines = module == nullptr ? nullptr
                                      : PyObject_CallMethod(module, "format_exception", "OOO", type,
                                                            value ? value : Py_None, traceback ? traceback : Py_None);
  PyObject* empty = PyUnicode_FromString("");
  PyObject* joined = lines == nullptr || empty == nullptr ? nullptr : PyUnicode_Join(empty, lines);
  if (joined == nullptr) {
    PyErr_Clear();
    joined = PyObject_Str(value ? value : type);
  }
  const char* const utf8 = joined == nullptr ? nullptr : PyUnicode_AsUTF8(joined);
  try {
    text = utf8 == nullptr ? "unknown error" : utf8;
  } catch (const std::bad_alloc&) {
    text = kOutOfMemory;
  }
  PyErr_Clear();
  for (PyObject* object : {type, value, traceback, module, lines, empty, joined}) Py_XDECREF(object);
}

/// Runs `name` of the worker module. False and `error` if it raised.
bool call_worker(const char* name, std::string& error, bool* truth = nullptr) noexcept {
  PyObject* module = multipy::bindings::import_module("multipy_actors.worker.serve");
  PyObject* result = module == nullptr ? nullptr : PyObject_CallMethod(module, name, nullptr);
  const bool ok = result != nullptr;
  if (!ok) {
    take_exception(error);
  } else if (truth != nullptr) {
    *truth = PyObject_IsTrue(result) == 1;
  }
  Py_XDECREF(result);
  Py_XDECREF(module);
  return ok;
}

/// Runs the worker loop, anew whenever it fails, until it has nothing more to do or fails over and over without a call;
/// then false.
bool run_calls(std::string& error) {
  constexpr int kVainAttempts = 100;
  const multipy::Worker& worker = multipy::bindings::worker()->home;
  std::uint64_t before = 0;
  for (int vain = 0; vain < kVainAttempts; ++vain) {
    if (call_worker("run", error)) return true;
    const std::uint64_t deliveries = worker.deliveries;
    if (std::exchange(before, deliveries) != deliveries) vain = 0;
  }
  PySys_WriteStderr("multipy: the worker loop of an interpreter failed:\n%.900s\n", error.c_str());
  return false;
}

/// A worker loop is over, having `failed` or not. Unless that is because the pool is closed, who waits for the
/// interpreter is told.
void tell_if_lost(bool failed) {
  multipy::Worker& worker = multipy::bindings::worker()->home;
  if (worker.pool.closed() && !failed && worker.gave_up.empty()) return;
  PyThreadState* const state = PyEval_SaveThread();
  worker.pool.lost(worker);
  PyEval_RestoreThread(state);
}

/// The threads of workers that are not the first.
struct Others {
  std::mutex mutex;
  int count = 0;  // that may use Python
  std::condition_variable fewer;
};
Others& others() {
  static Others& instance = *new Others;
  return instance;
}

void* run_other(void* argument) {
  auto& worker = *static_cast<multipy::Worker*>(argument);
  ::pthread_setname_np(::pthread_self(), worker.name().substr(0, 15).c_str());
  worker.adopt_thread();
  const PyGILState_STATE state = PyGILState_Ensure();
  multipy::bindings::note_thread(worker);
  std::string error;
  if (!run_calls(error)) tell_if_lost(true);
  if (!call_worker("forget_thread", error)) PySys_WriteStderr("multipy: %.900s\n", error.c_str());
  multipy::bindings::end_turn();
  multipy::bindings::forget_thread();
  PyGILState_Release(state);
  worker.rest();
  const std::lock_guard lock(others().mutex);
  --others().count;
  others().fewer.notify_all();
  return nullptr;
}

int start_other(void* worker) {
  const multipy::BlockedSignals blocked;
  try {
    multipy::bindings::expect_thread();
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, multipy::main_thread_stack());
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const std::lock_guard lock(others().mutex);
  pthread_t thread;
  const int failure = ::pthread_create(&thread, &attributes, run_other, worker);
  ::pthread_attr_destroy(&attributes);
  if (failure == 0) {
    ++others().count;
  } else {
    multipy::bindings::expect_no_thread();
  }
  return failure;
}

/// Whether the threads of all other workers have left Python; some that are lost may not.
bool wait_for_others() {
  constexpr auto kPatience = std::chrono::seconds(5);
  bool none = false;
  Py_BEGIN_ALLOW_THREADS;
  {
    std::unique_lock lock(others().mutex);
    none = others().fewer.wait_for(lock, kPatience, [] { return others().count == 0; });
  }
  Py_END_ALLOW_THREADS;
  return none;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int32_t multipy_interpreter_main(const multipy_boot* boot) {
  if (boot->size != sizeof(multipy_boot) || boot->version != MULTIPY_ABI_VERSION) {
    boot->started(boot->context, "the extension module and libmultipy_core are of different versions");
    return 1;
  }
  set_worker(static_cast<multipy::Worker*>(boot->worker));
  try {
    multipy::bindings::expect_thread();
  } catch (const std::bad_alloc&) {
    boot->started(boot->context, kOutOfMemory);
    return 1;
  }
  multipy::bindings::keep_pieces_of_stack();
  const PyStatus status = initialise(*boot);
  if (PyStatus_Exception(status)) {
    boot->started(boot->context, describe(status).c_str());
    return 1;
  }
#if PY_VERSION_HEX >= 0x030B0000
  set_stdlib_dir(*boot);
#endif
  multipy::bindings::note_thread(*multipy::bindings::worker());
  std::string error;
  const int collects = PyGC_Disable();  // modules that are being imported leave no garbage to look for
  const bool prepared = call_worker("prepare", error);
  if (collects != 0) PyGC_Enable();
  if (!prepared) {
    boot->started(boot->context, error.c_str());
    Py_FinalizeEx();
    return 1;
  }
  boot->started(boot->context, nullptr);
  tell_if_lost(!run_calls(error));
  bool finalisable = false;
  if (!call_worker("finish", error, &finalisable))
    PySys_WriteStderr("multipy: ending an interpreter failed:\n%.900s\n", error.c_str());
  boot->ending(boot->context);
  finalisable = wait_for_others() && finalisable;
  multipy::bindings::end_turn();
  multipy::bindings::wait_for_threads_of_interrupts();
  multipy::bindings::wait_for_looks();
  if (!finalisable) {
    // Threads of the user's code still run in here: it stays as it is, without its main thread.
    PyEval_SaveThread();
    return 2;
  }
  Py_FinalizeEx();
  multipy::bindings::release_pieces_of_stack();
  return 0;
}

extern "C" __attribute__((visibility("default"))) int32_t multipy_interpreter_work(void* worker) {
  return start_other(worker);
}
