// A transformer's step without any instruction that a processor may lack: what every other path is compared with.
#define HWY_COMPILE_ONLY_SCALAR
#include "models/transformer_kernel-inl.h"

namespace alcedo::models::transformer {

const Kernel& scalar_kernel() { return N_SCALAR::kernel(); }

}  // namespace alcedo::models::transformer
