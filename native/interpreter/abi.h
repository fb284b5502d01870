/* How the core enters a private image: plain C, so that nothing but pointers and numbers crosses the boundary.
 *
 * The extension module `_native` exports `multipy_interpreter_main`. The core finds it in the interpreter's own image
 * of that module and calls it on the interpreter's thread; it initialises Python, calls `started` once, runs the worker
 * loop of multipy_actors/worker/serve.py and finalises Python before it returns. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MULTIPY_ABI_VERSION 4
#define MULTIPY_INTERPRETER_MAIN "multipy_interpreter_main"
#define MULTIPY_INTERPRETER_INTERRUPT "multipy_interpreter_interrupt"
#define MULTIPY_INTERPRETER_WORK "multipy_interpreter_work"
#define MULTIPY_INTERPRETER_LOOK "multipy_interpreter_look"
#define MULTIPY_NO_TURN UINT64_MAX

/* One field of PyConfig or PyPreConfig by its name; a list's field is repeated once per item. */
typedef struct multipy_setting {
  const char* name;
  const char* value; /* bytes in the file system encoding; numbers in decimal */
} multipy_setting;

typedef struct multipy_boot {
  uint32_t size;    /* sizeof(multipy_boot) of who fills it in */
  uint32_t version; /* MULTIPY_ABI_VERSION */
  const multipy_setting* settings;
  size_t setting_count;
  void* worker; /* multipy::Worker*, for the extension module of this interpreter */
  void* context;
  /* Python is up (message == NULL) or is not and why. Called exactly once, before main returns. */
  void (*started)(void* context, const char* message);
  /* Python is about to be finalised: no more interrupts. Called once if Python was up. */
  void (*ending)(void* context);
} multipy_boot;

/* 0: finalised. 1: it did not start. 2: left unfinalised, because threads of the user's code still run in it. */
typedef int32_t (*multipy_interpreter_main_t)(const multipy_boot* boot);

/* From any thread, between `started` and `ending`, without a GIL: raises Interrupted in what the worker runs whose turn
 * `turn` is (see pool/pool.h:Worker) at its next bytecode, or does nothing if that is over by then.
 * MULTIPY_NO_TURN means what it runs outside its turns. Nonzero: there is no thread for it. */
typedef int32_t (*multipy_interpreter_interrupt_t)(uint64_t turn);

/* On a thread of the interpreter, between `started` and `ending`, without its GIL: starts a thread that runs calls for
 * `worker`, a multipy::Worker*. Nonzero: there is no thread for it. */
typedef int32_t (*multipy_interpreter_work_t)(void* worker);

/* From any thread, as the one before the last: has `tell` called once with what the threads of this Python are doing,
 * when its GIL can be had; perhaps never. Nonzero: it will not be. */
typedef int32_t (*multipy_interpreter_look_t)(void (*tell)(void* context, const char* text), void* context);

#ifdef __cplusplus
static_assert(sizeof(multipy_setting) == 2 * sizeof(void*), "the layout both sides were compiled with");
static_assert(sizeof(multipy_boot) == 8 + 6 * sizeof(void*), "the layout both sides were compiled with");
}
#endif
