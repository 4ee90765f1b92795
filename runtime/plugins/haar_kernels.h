/* The Haar transform on the GPU behind a C ABI of raw pointers (haar.md is the contract).
 *
 * image [n, c, h, w] <-> bands [n, 4c, h/2, w/2], h and w even, in the same type and layout, not overlapping.
 * WAGI_LINEAR is row-major, WAGI_HWC8 is [n, h, w, channels rounded up to 8] and needs WAGI_HALF.
 * Pointers are device memory. The call only launches on `stream` (a cudaStream_t; NULL: the default stream):
 * it neither allocates nor waits, so it may be captured in a CUDA graph.
 * Returns a cudaError_t: 0, cudaErrorInvalidValue (1) for arguments outside this contract, or the error of
 * the launch. */
#ifndef WAGI_HAAR_KERNELS_H
#define WAGI_HAAR_KERNELS_H

#define WAGI_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum WagiType { WAGI_FLOAT = 0, WAGI_HALF = 1 };
enum WagiLayout { WAGI_LINEAR = 0, WAGI_HWC8 = 1 };

/* image -> bands (HaarDWT) */
WAGI_API int wagi_haar_forward(const void* image, void* bands, int n, int c, int h, int w, int type,
                               int layout, void* stream);

/* bands -> image (HaarIDWT) */
WAGI_API int wagi_haar_inverse(const void* bands, void* image, int n, int c, int h, int w, int type,
                               int layout, void* stream);

#ifdef __cplusplus
}
#endif

#endif
