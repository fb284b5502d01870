// Which interpreter this copy of the extension belongs to: a worker of a pool, or (null) the host.
#pragma once

#include "pool/pool.h"

namespace multipy::bindings {

void set_worker(Worker* worker) noexcept;
Worker* worker() noexcept;

/// Where releases of what this interpreter exported wait for it: the worker's queue, or the host's.
const std::shared_ptr<ReturnQueue>& returns();

/// The GPU memory of this interpreter; null in the host, whose own is not counted.
DeviceMemory* device_memory() noexcept;

}  // namespace multipy::bindings
