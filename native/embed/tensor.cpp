// A tensor is one of the core, and what Python is told of it; see multipy_actors/tensor.h.
#include "multipy_actors/tensor.h"

#include <utility>

#include "base/error.h"
#include "multipy_actors/errors.h"
#include "parts.h"

namespace multipy_actors {

namespace {

/// A managed tensor around memory of the program.
struct Around {
  DLManagedTensor managed{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::function<void()> release;

  static void destroy(DLManagedTensor* managed) {
    const std::unique_ptr<Around> self(static_cast<Around*>(managed->manager_ctx));
    if (self->release) self->release();
  }
};

std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t next = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = next;
    next *= shape[i];
  }
  return strides;
}

}  // namespace

std::string DType::name() const {
  std::string name;
  switch (code) {
    case integer:
      name = "int" + std::to_string(bits);
      break;
    case unsigned_integer:
      name = "uint" + std::to_string(bits);
      break;
    case real:
      name = "float" + std::to_string(bits);
      break;
    case bfloat:
      name = "bfloat" + std::to_string(bits);
      break;
    case complex:
      name = "complex" + std::to_string(bits);
      break;
    case boolean:
      name = "bool";
      break;
    default:
      name = "dlpack" + std::to_string(code) + "_" + std::to_string(bits);
  }
  return lanes == 1 ? name : name + "x" + std::to_string(lanes);
}

Tensor Tensor::adopt(DLManagedTensor* exported) {
  try {
    return detail::TensorParts::make({multipy::SharedTensor::adopt(exported, nullptr)});
  } catch (const multipy::Error& error) {
    throw ConversionError(error.what());
  }
}

Tensor Tensor::around(void* data, DType dtype, std::vector<std::int64_t> shape, std::function<void()> release,
                      std::vector<std::int64_t> strides, Device device) {
  if (!strides.empty() && strides.size() != shape.size())
    throw ConversionError("a tensor has as many strides as dimensions");
  auto around = std::make_unique<Around>();
  around->strides = strides.empty() ? dense_strides(shape) : std::move(strides);
  around->shape = std::move(shape);
  around->release = std::move(release);
  DLTensor& tensor = around->managed.dl_tensor;
  tensor.data = data;
  tensor.device = {static_cast<DLDeviceType>(device.type), device.index};
  tensor.ndim = static_cast<std::int32_t>(around->shape.size());
  tensor.dtype = {dtype.code, dtype.bits, dtype.lanes};
  tensor.shape = around->shape.data();
  tensor.strides = around->strides.data();
  around->managed.manager_ctx = around.get();
  around->managed.deleter = &Around::destroy;
  const Tensor adopted = adopt(&around->managed);
  around.release();
  return adopted;
}

DLManagedTensor* Tensor::view() const {
  if (readOnly()) throw ConversionError("the tensor is read-only, which this form of DLPack cannot say");
  return parts().shared->view();
}

const detail::TensorParts& Tensor::parts() const {
  if (parts_ == nullptr) throw ConversionError("there is no tensor");
  return *parts_;
}

void* Tensor::data() const {
  const DLTensor& tensor = parts().shared->tensor();
  return static_cast<char*>(tensor.data) + tensor.byte_offset;
}

DType Tensor::dtype() const {
  const DLDataType dtype = parts().shared->tensor().dtype;
  return {dtype.code, dtype.bits, dtype.lanes};
}

std::string Tensor::dtypeName() const {
  const bool named = !parts().told.empty() && !parts().told_as_bytes && kind() != Kind::array;
  return named ? parts().told : dtype().name();
}

Device Tensor::device() const {
  const DLDevice device = parts().shared->tensor().device;
  return {static_cast<int>(device.device_type), device.device_id};
}

std::vector<std::int64_t> Tensor::shape() const {
  const DLTensor& tensor = parts().shared->tensor();
  return {tensor.shape, tensor.shape + tensor.ndim};
}

std::vector<std::int64_t> Tensor::strides() const {
  const DLTensor& tensor = parts().shared->tensor();
  return {tensor.strides, tensor.strides + tensor.ndim};
}

std::int64_t Tensor::size() const {
  std::int64_t count = 1;
  for (const std::int64_t length : shape()) count *= length;
  return count;
}

bool Tensor::readOnly() const { return parts().shared->read_only(); }
Tensor::Kind Tensor::kind() const { return parts().kind; }
bool Tensor::requiresGrad() const { return parts().requires_grad; }

Tensor Tensor::as(Kind kind, bool requires_grad) const {
  detail::TensorParts changed{parts().shared, kind, requires_grad};
  if ((kind == Kind::array) == (this->kind() == Kind::array)) {
    changed.told = parts().told;
    changed.told_as_bytes = parts().told_as_bytes;
    changed.strides = parts().strides;
  }
  return detail::TensorParts::make(std::move(changed));
}

Tensor Tensor::named(std::string dtype) const {
  detail::TensorParts changed = parts();
  changed.told = std::move(dtype);
  return detail::TensorParts::make(std::move(changed));
}

void Tensor::check_count(const std::vector<std::int64_t>& shape, std::size_t count) {
  if (shape.empty()) return;
  std::size_t product = 1;
  for (const std::int64_t length : shape) product *= static_cast<std::size_t>(length);
  if (product != count) throw ConversionError("the shape is not that of " + std::to_string(count) + " elements");
}

void Tensor::check_elements(DType asked) const {
  if (dtype() != asked) throw ConversionError("the elements are " + dtypeName() + ", not " + asked.name());
  if (device().type != kDLCPU) throw ConversionError("the tensor is not in the memory of the CPU");
}

void Tensor::check_writable() const {
  if (readOnly()) throw ConversionError("the tensor is read-only; ask for constant elements");
}

std::vector<std::int64_t> Tensor::offsets() const {
  const auto lengths = shape();
  const auto steps = strides();
  std::vector<std::int64_t> out;
  const auto count = size();
  out.reserve(static_cast<std::size_t>(count));
  std::vector<std::int64_t> index(lengths.size());
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    out.push_back(offset);
    for (std::size_t d = lengths.size(); d-- > 0;) {
      offset += steps[d];
      if (++index[d] < lengths[d]) break;
      offset -= steps[d] * index[d];
      index[d] = 0;
    }
  }
  return out;
}

}  // namespace multipy_actors
