// Interpreters of Python in a C++ program: all of it but torch.h, which needs libtorch.
#pragma once

#include "multipy_actors/environment.h"
#include "multipy_actors/errors.h"
#include "multipy_actors/future.h"
#include "multipy_actors/interpreter_manager.h"
#include "multipy_actors/package.h"
#include "multipy_actors/session.h"
#include "multipy_actors/tensor.h"
#include "multipy_actors/value.h"
