// DLPack 1.3: the C ABI in which tensors are handed from one library to another.
//
// Stated from its specification (https://dmlc.github.io/dlpack/latest/c_api.html), as far as it is used here. The
// structs have the names of the specification and no namespace, so that programs of libmultipy_embed can pass on what
// other libraries give them.
#pragma once

#include <cstddef>
#include <cstdint>

inline constexpr std::uint32_t kDLPackMajor = 1;
inline constexpr std::uint32_t kDLPackMinor = 3;

struct DLPackVersion {
  std::uint32_t major;
  std::uint32_t minor;
};

enum DLDeviceType : std::int32_t {
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3,  // pinned
};

struct DLDevice {
  DLDeviceType device_type;
  std::int32_t device_id;  // 0 for the memory of the host
};

enum DLDataTypeCode : std::uint8_t {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLBfloat = 4,
  kDLComplex = 5,
  kDLBool = 6
};

struct DLDataType {
  std::uint8_t code;  // a DLDataTypeCode, or one of those for numbers of fewer than 16 bits
  std::uint8_t bits;  // of one lane
  std::uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;    // `ndim` numbers; may be null if that is 0
  std::int64_t* strides;  // in elements; before DLPack 1.2 null says that they are compact, in row-major order
  std::uint64_t byte_offset;
};

/// Whoever has one calls `deleter` with it once, if that is not null.
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;  // the exporter's own
  void (*deleter)(DLManagedTensor* self);
};

// What `flags` says.
inline constexpr std::uint64_t kDLReadOnly = 1 << 0;
inline constexpr std::uint64_t kDLIsCopied = 1 << 1;
inline constexpr std::uint64_t kDLSubbytePadded = 1 << 2;  // each number of fewer than 8 bits has a byte of its own

/// The same since DLPack 1.0. All but `dl_tensor` is alike in later major versions, so that any can be deleted.
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  std::uint64_t flags;
  DLTensor dl_tensor;
};

static_assert(sizeof(DLPackVersion) == 8 && offsetof(DLPackVersion, major) == 0 && offsetof(DLPackVersion, minor) == 4);
static_assert(sizeof(DLDevice) == 8 && offsetof(DLDevice, device_type) == 0 && offsetof(DLDevice, device_id) == 4);
static_assert(sizeof(DLDataType) == 4 && offsetof(DLDataType, code) == 0 && offsetof(DLDataType, bits) == 1 &&
              offsetof(DLDataType, lanes) == 2);
static_assert(sizeof(DLTensor) == 48 && offsetof(DLTensor, data) == 0 && offsetof(DLTensor, device) == 8 &&
              offsetof(DLTensor, ndim) == 16 && offsetof(DLTensor, dtype) == 20 && offsetof(DLTensor, shape) == 24 &&
              offsetof(DLTensor, strides) == 32 && offsetof(DLTensor, byte_offset) == 40);
static_assert(sizeof(DLManagedTensor) == 64 && offsetof(DLManagedTensor, dl_tensor) == 0 &&
              offsetof(DLManagedTensor, manager_ctx) == 48 && offsetof(DLManagedTensor, deleter) == 56);
static_assert(sizeof(DLManagedTensorVersioned) == 80 && offsetof(DLManagedTensorVersioned, version) == 0 &&
              offsetof(DLManagedTensorVersioned, manager_ctx) == 8 &&
              offsetof(DLManagedTensorVersioned, deleter) == 16 && offsetof(DLManagedTensorVersioned, flags) == 24 &&
              offsetof(DLManagedTensorVersioned, dl_tensor) == 32);
