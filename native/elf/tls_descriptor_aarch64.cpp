// The functions keep every register but x0 (result), x30 (return address) and the flags. Vector registers are kept as
// the base architecture has them, 128 bits: compilers take what SVE adds to be lost across the call, as with glibc's
// own functions. Each starts with `hint #34`, BTI's landing pad for calls through a register.
#include <map>
#include <mutex>
#include <utility>

#include "base/process_lock.h"
#include "elf/tls_descriptor.h"

extern "C" void* __tls_get_addr(void* module_and_offset);

// What __tls_get_addr takes; descriptors of dynamic blocks point to one.
namespace {
struct Variable {
  std::size_t module = 0;
  std::size_t offset = 0;
};
}  // namespace

extern "C" {
[[gnu::visibility("hidden")]] void multipy_tls_at_offset();  // argument: the offset, in the static block
[[gnu::visibility("hidden")]] void multipy_tls_absent();     // argument: the address
[[gnu::visibility("hidden")]] void multipy_tls_dynamic();    // argument: a Variable
}

__asm__(R"(
    .text
    .macro multipy_function name
    .p2align 4
    .globl \name
    .hidden \name
    .type \name, %function
\name:
    .cfi_startproc
    hint #34
    .endm
    .macro multipy_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

    multipy_function multipy_tls_at_offset
    ldr x0, [x0, #8]
    ret
    multipy_end multipy_tls_at_offset

    multipy_function multipy_tls_absent
    str x1, [sp, #-16]!
    .cfi_def_cfa_offset 16
    ldr x0, [x0, #8]
    mrs x1, tpidr_el0
    sub x0, x0, x1
    ldr x1, [sp], #16
    .cfi_def_cfa_offset 0
    ret
    multipy_end multipy_tls_absent

    multipy_function multipy_tls_dynamic
    stp x29, x30, [sp, #-160]!
    .cfi_def_cfa_offset 160
    .cfi_offset 29, -160
    .cfi_offset 30, -152
    mov x29, sp
    .cfi_def_cfa_register 29
    stp x1, x2, [sp, #16]
    stp x3, x4, [sp, #32]
    stp x5, x6, [sp, #48]
    stp x7, x8, [sp, #64]
    stp x9, x10, [sp, #80]
    stp x11, x12, [sp, #96]
    stp x13, x14, [sp, #112]
    stp x15, x16, [sp, #128]
    stp x17, x18, [sp, #144]
    stp q0, q1, [sp, #-512]!
    stp q2, q3, [sp, #32]
    stp q4, q5, [sp, #64]
    stp q6, q7, [sp, #96]
    stp q8, q9, [sp, #128]
    stp q10, q11, [sp, #160]
    stp q12, q13, [sp, #192]
    stp q14, q15, [sp, #224]
    stp q16, q17, [sp, #256]
    stp q18, q19, [sp, #288]
    stp q20, q21, [sp, #320]
    stp q22, q23, [sp, #352]
    stp q24, q25, [sp, #384]
    stp q26, q27, [sp, #416]
    stp q28, q29, [sp, #448]
    stp q30, q31, [sp, #480]
    ldr x0, [x0, #8]
    bl __tls_get_addr
    mrs x1, tpidr_el0
    sub x0, x0, x1
    ldp q2, q3, [sp, #32]
    ldp q4, q5, [sp, #64]
    ldp q6, q7, [sp, #96]
    ldp q8, q9, [sp, #128]
    ldp q10, q11, [sp, #160]
    ldp q12, q13, [sp, #192]
    ldp q14, q15, [sp, #224]
    ldp q16, q17, [sp, #256]
    ldp q18, q19, [sp, #288]
    ldp q20, q21, [sp, #320]
    ldp q22, q23, [sp, #352]
    ldp q24, q25, [sp, #384]
    ldp q26, q27, [sp, #416]
    ldp q28, q29, [sp, #448]
    ldp q30, q31, [sp, #480]
    ldp q0, q1, [sp], #512
    ldp x1, x2, [sp, #16]
    ldp x3, x4, [sp, #32]
    ldp x5, x6, [sp, #48]
    ldp x7, x8, [sp, #64]
    ldp x9, x10, [sp, #80]
    ldp x11, x12, [sp, #96]
    ldp x13, x14, [sp, #112]
    ldp x15, x16, [sp, #128]
    ldp x17, x18, [sp, #144]
    .cfi_def_cfa_register 31
    ldp x29, x30, [sp], #160
    .cfi_restore 30
    .cfi_restore 29
    .cfi_def_cfa_offset 0
    ret
    multipy_end multipy_tls_dynamic

    .purgem multipy_function
    .purgem multipy_end
)");

namespace multipy::elf {

namespace {

/// One Variable for all descriptors that name it.
const Variable* kept(std::size_t module, std::size_t offset) {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::thread_locals);
  static auto& variables = *new std::map<std::pair<std::size_t, std::size_t>, Variable>();
  const std::lock_guard lock(mutex);
  return &variables.try_emplace({module, offset}, Variable{module, offset}).first->second;
}

TlsDescriptor descriptor(void (*function)(), std::uintptr_t argument) {
  return {reinterpret_cast<std::uintptr_t>(function), argument};
}

}  // namespace

std::optional<TlsDescriptor> describe(const Target& target, std::uint64_t addend) {
  if (target.kind != Target::Kind::tls) return descriptor(multipy_tls_absent, addend);
  if (!target.tls_static) {
    return descriptor(multipy_tls_dynamic,
                      reinterpret_cast<std::uintptr_t>(kept(target.tls_module, target.value + addend)));
  }
  Variable variable{target.tls_module, target.value};
  const auto address = reinterpret_cast<std::uintptr_t>(__tls_get_addr(&variable)) + addend;
  return descriptor(multipy_tls_at_offset, address - reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer()));
}

}  // namespace multipy::elf
