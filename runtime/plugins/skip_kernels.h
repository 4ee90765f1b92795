/* SWAGAN's skip path on the GPU behind a C ABI of raw pointers (skip.md is the contract).
 *
 * skip [n, 4c, h, w] and coefficients [n, 4c, 2h, 2w] -> out [n, 4c, 2h, 2w], row-major, all of one type.
 * Pointers are device memory; `out` may be `coefficients`. The call only launches on `stream` (a cudaStream_t; NULL:
 * the default stream): it neither allocates nor waits, so it may be captured in a CUDA graph.
 * Returns a cudaError_t: 0, cudaErrorInvalidValue (1) for arguments outside this contract, or the error of
 * the launch. */
#ifndef WAGI_SKIP_KERNELS_H
#define WAGI_SKIP_KERNELS_H

#include "haar_kernels.h" /* WagiType, WAGI_API */

#ifdef __cplusplus
extern "C" {
#endif

WAGI_API int wagi_skip_upsample(const void* skip, const void* coefficients, void* out, int n, int c, int h, int w,
                                int type, void* stream);

#ifdef __cplusplus
}
#endif

#endif
