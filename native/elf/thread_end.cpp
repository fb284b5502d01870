#include "elf/thread_end.h"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>
#include <unwind.h>

#include <cstdint>
#include <string_view>

#include "elf/rebinding.h"

namespace multipy::elf {

namespace {

struct Look {
  std::uintptr_t from;  // where the stack begins that matters
  bool begun = false;
  bool found = false;
};

_Unwind_Reason_Code look(_Unwind_Context* context, void* argument) {
  auto& self = *static_cast<Look*>(argument);
  self.begun |= _Unwind_GetIP(context) == self.from;
  self.found = self.begun && _Unwind_GetLanguageSpecificData(context) != 0;
  return self.found ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

[[noreturn]] void end_thread_of_python(void* value) { end_thread(value, __builtin_return_address(0)); }

}  // namespace

void end_thread(void* value, const void* caller) {
  Look stack{reinterpret_cast<std::uintptr_t>(caller)};
  _Unwind_Backtrace(look, &stack);
  if (stack.begun && !stack.found) ::pthread_exit(value);
  for (;;) ::pause();
}

int let_threads_rest(const void* address) {
  Dl_info info{};
  void* map = nullptr;
  if (::dladdr1(address, &info, &map, RTLD_DL_LINKMAP) == 0 || map == nullptr) return 0;
  return rebind(*static_cast<link_map*>(map), [](std::string_view name) -> std::uintptr_t {
    return name == "pthread_exit" ? reinterpret_cast<std::uintptr_t>(end_thread_of_python) : 0;
  });
}

}  // namespace multipy::elf
