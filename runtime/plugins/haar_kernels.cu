// Kernels of the Haar transform: one read and one write of each value, nothing else. The work of a thread is a
// function of haar_math.h; here are only its place in the grid and the choice of the function.
#include "haar_kernels.h"

#include "haar_math.h"

#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

namespace {

using namespace wagi;

constexpr unsigned kThreads = 256;

// A grid of work items: the places that haar_index gives for 0 <= at < count().
struct Grid {
    unsigned pictures, channels, rows, columns;

    WAGI_HOST_DEVICE std::size_t count() const {
        return std::size_t{pictures} * channels * rows * columns;
    }
};

// 64 bytes in and 64 bytes out per thread: 4 (float) or 8 (half) neighbouring blocks of one plane.
template <bool kForward, typename T>
__global__ void __launch_bounds__(kThreads) columns_kernel(const T* in, T* out, HaarLayout layout, Grid grid) {
    const unsigned at = blockIdx.x * kThreads + threadIdx.x;
    if (at >= grid.count()) return;
    HaarIndex x = haar_index(at, grid.channels, grid.rows, grid.columns);
    x.j *= kColumns<T>;
    haar_columns<kForward>(in, out, layout, x);
}

// 64 bytes of pixels and 32 bytes of bands per thread: one block in three colours.
template <bool kForward>
__global__ void __launch_bounds__(kThreads)
    rgb_kernel(const __half* in, __half* out, HaarLayout layout, Grid grid) {
    const unsigned at = blockIdx.x * kThreads + threadIdx.x;
    if (at >= grid.count()) return;
    haar_rgb<kForward>(in, out, layout, haar_index(at, grid.channels, grid.rows, grid.columns));
}

// Whatever fits no vector: one block of one colour per thread; the last colour's thread clears the padding.
template <bool kForward, typename T>
__global__ void __launch_bounds__(kThreads)
    block_kernel(const T* in, T* out, HaarLayout layout, Grid grid, bool padding) {
    const unsigned at = blockIdx.x * kThreads + threadIdx.x;
    if (at >= grid.count()) return;
    HaarIndex x = haar_index(at, grid.channels, grid.rows, grid.columns);
    haar_block<kForward>(in, out, layout, x);
    if (padding && x.c == static_cast<int>(grid.channels) - 1) {
        x.c = 0;
        haar_zero_padding<kForward>(out, static_cast<int>(grid.channels), layout, x);
    }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

unsigned blocks(Grid grid) { return static_cast<unsigned>((grid.count() + kThreads - 1) / kThreads); }

template <bool kForward, typename T>
void launch(const T* in, T* out, HaarShape s, bool hwc8, cudaStream_t stream) {
    const HaarLayout layout = hwc8 ? hwc8_layout(s) : linear_layout(s);
    Grid grid{static_cast<unsigned>(s.n), static_cast<unsigned>(s.c), static_cast<unsigned>(s.h / 2),
              static_cast<unsigned>(s.w / 2)};
    const bool vectors = aligned(in) && aligned(out);
    if constexpr (sizeof(T) == 2) {
        if (hwc8 && vectors && s.c == 3) {
            grid.channels = 1;
            rgb_kernel<kForward><<<blocks(grid), kThreads, 0, stream>>>(in, out, layout, grid);
            return;
        }
    }
    if (!hwc8 && vectors && grid.columns % kColumns<T> == 0) {
        grid.columns /= kColumns<T>;
        columns_kernel<kForward><<<blocks(grid), kThreads, 0, stream>>>(in, out, layout, grid);
        return;
    }
    block_kernel<kForward><<<blocks(grid), kThreads, 0, stream>>>(in, out, layout, grid, hwc8);
}

template <bool kForward>
int run(const void* in, void* out, HaarShape s, int type, int layout, void* stream) {
    constexpr std::size_t kMostBlocks = std::size_t{1} << 31;  // an index of 32 bits
    const bool known = (type == WAGI_FLOAT && layout == WAGI_LINEAR) ||
                       (type == WAGI_HALF && (layout == WAGI_LINEAR || layout == WAGI_HWC8));
    if (!known || !in || !out || s.n < 1 || s.c < 1 || s.h < 2 || s.w < 2 || s.h % 2 || s.w % 2)
        return cudaErrorInvalidValue;
    std::size_t items = 1;
    for (const int side : {s.n, s.c, s.h / 2, s.w / 2}) {
        items *= static_cast<std::size_t>(side);
        if (items >= kMostBlocks) return cudaErrorInvalidValue;
    }
    const auto on = static_cast<cudaStream_t>(stream);
    if (type == WAGI_FLOAT)
        launch<kForward>(static_cast<const float*>(in), static_cast<float*>(out), s, false, on);
    else
        launch<kForward>(static_cast<const __half*>(in), static_cast<__half*>(out), s, layout == WAGI_HWC8, on);
    return cudaGetLastError();
}

}  // namespace

int wagi_haar_forward(const void* image, void* bands, int n, int c, int h, int w, int type, int layout,
                      void* stream) {
    return run<true>(image, bands, {n, c, h, w}, type, layout, stream);
}

int wagi_haar_inverse(const void* bands, void* image, int n, int c, int h, int w, int type, int layout,
                      void* stream) {
    return run<false>(bands, image, {n, c, h, w}, type, layout, stream);
}
