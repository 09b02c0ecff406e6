// Compiles a transformer's step for each kind of processor, and takes the best that this one has.
#include "models/transformer_kernel.h"

// What adds nothing to these loops beyond the targets kept, and what has registers of a length unknown to the compiler.
#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/transformer_kernel.cc"
#include <hwy/foreach_target.h>  // includes this file again, once a target

#include "models/transformer_kernel-inl.h"

#if HWY_ONCE
namespace alcedo::models::transformer {

HWY_EXPORT(kernel);

const Kernel& best_kernel() { return HWY_DYNAMIC_DISPATCH(kernel)(); }

}  // namespace alcedo::models::transformer
#endif
