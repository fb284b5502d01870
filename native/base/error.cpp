#include "base/error.h"

namespace multipy {

namespace {

std::string describe(const std::string& file, const std::string& reason, const std::string& symbol) {
  std::string text = file + ": " + reason;
  if (!symbol.empty()) text += ": " + symbol;
  return text;
}

}  // namespace

// Out-of-line destructors anchor the type information in this library, so that an exception thrown here is
// recognised by every copy of the extension module.
Error::~Error() = default;
ImageError::~ImageError() = default;
StartError::~StartError() = default;
ClosedError::~ClosedError() = default;

ImageError::ImageError(std::string file, const std::string& reason, std::string symbol)
    : Error(describe(file, reason, symbol)), file_(std::move(file)), symbol_(std::move(symbol)) {}

}  // namespace multipy
