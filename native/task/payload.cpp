#include "task/payload.h"

namespace multipy {

// Out of line, so that the type information lives in this library and a cast from Attachment works for
// every copy of the extension module.
Attachment::~Attachment() = default;

}  // namespace multipy
