// The kernel of the skip path. The work of a thread is skip_block of skip_math.h; here is only its place in the grid.
#include "skip_kernels.h"

#include "skip_math.h"

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

namespace {

constexpr unsigned kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    skip_kernel(const T* skip, const T* coefficients, T* out, wagi::SkipShape s, unsigned count) {
    const unsigned at = blockIdx.x * kThreads + threadIdx.x;
    if (at >= count) return;
    wagi::skip_block(skip, coefficients, out, s, wagi::haar_index(at, s.c, s.h, s.w));
}

template <typename T>
void launch(const void* skip, const void* coefficients, void* out, wagi::SkipShape s, unsigned count,
            cudaStream_t stream) {
    const unsigned blocks = (count + kThreads - 1) / kThreads;
    skip_kernel<T><<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(skip), static_cast<const T*>(coefficients),
                                                    static_cast<T*>(out), s, count);
}

}  // namespace

int wagi_skip_upsample(const void* skip, const void* coefficients, void* out, int n, int c, int h, int w, int type,
                       void* stream) {
    constexpr std::size_t kMostBlocks = std::size_t{1} << 31;  // an index of 32 bits
    if ((type != WAGI_FLOAT && type != WAGI_HALF) || !skip || !coefficients || !out) return cudaErrorInvalidValue;
    std::size_t items = 1;
    for (const int side : {n, c, h, w}) {
        if (side < 1) return cudaErrorInvalidValue;
        items *= static_cast<std::size_t>(side);
        if (items >= kMostBlocks) return cudaErrorInvalidValue;
    }
    const auto work = type == WAGI_FLOAT ? launch<float> : launch<__half>;
    work(skip, coefficients, out, {n, c, h, w}, static_cast<unsigned>(items), static_cast<cudaStream_t>(stream));
    return cudaGetLastError();
}
