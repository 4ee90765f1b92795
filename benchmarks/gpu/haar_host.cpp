// The kernels' C ABI on the CPU, for `gpu_check.py --cpu-dry-run`: the same functions of haar_math.h, chosen as
// haar_kernels.cu chooses them, with a loop in the place of the grid. Checks the flow, not the GPU.
#include "../../runtime/plugins/haar_kernels.h"
#include "../../runtime/plugins/haar_math.h"
#include "../../runtime/plugins/skip_kernels.h"
#include "../../runtime/plugins/skip_math.h"

#include <cstdint>

namespace {

using namespace wagi;

template <bool kForward, typename T>
void work(const T* in, T* out, HaarShape s, bool hwc8) {
    const HaarLayout layout = hwc8 ? hwc8_layout(s) : linear_layout(s);
    const bool vectors = reinterpret_cast<std::uintptr_t>(in) % 16 == 0 && reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
    const bool rgb = sizeof(T) == 2 && hwc8 && vectors && s.c == 3;
    const bool wide = !hwc8 && vectors && s.w / 2 % kColumns<T> == 0;
    const unsigned channels = rgb ? 1 : s.c, rows = s.h / 2, columns = s.w / 2 / (wide ? kColumns<T> : 1);
    for (unsigned at = 0; at < s.n * channels * rows * columns; ++at) {
        HaarIndex x = haar_index(at, channels, rows, columns);
        if constexpr (sizeof(T) == 2) {
            if (rgb) {
                haar_rgb<kForward>(in, out, layout, x);
                continue;
            }
        }
        if (wide) {
            x.j *= kColumns<T>;
            haar_columns<kForward>(in, out, layout, x);
            continue;
        }
        haar_block<kForward>(in, out, layout, x);
        if (hwc8 && x.c == s.c - 1) {
            x.c = 0;
            haar_zero_padding<kForward>(out, s.c, layout, x);
        }
    }
}

template <bool kForward>
int run(const void* in, void* out, HaarShape s, int type, int layout) {
    if (type == WAGI_FLOAT)
        work<kForward>(static_cast<const float*>(in), static_cast<float*>(out), s, false);
    else
        work<kForward>(static_cast<const _Float16*>(in), static_cast<_Float16*>(out), s, layout == WAGI_HWC8);
    return 0;
}

}  // namespace

extern "C" int wagi_haar_forward(const void* image, void* bands, int n, int c, int h, int w, int type, int layout,
                                 void*) {
    return run<true>(image, bands, {n, c, h, w}, type, layout);
}

extern "C" int wagi_haar_inverse(const void* bands, void* image, int n, int c, int h, int w, int type, int layout,
                                 void*) {
    return run<false>(bands, image, {n, c, h, w}, type, layout);
}

template <typename T>
int skip(const void* from, const void* coefficients, void* out, SkipShape s) {
    const unsigned count = static_cast<unsigned>(s.n) * s.c * s.h * s.w;
    for (unsigned at = 0; at < count; ++at)
        skip_block(static_cast<const T*>(from), static_cast<const T*>(coefficients), static_cast<T*>(out), s,
                   haar_index(at, s.c, s.h, s.w));
    return 0;
}

extern "C" int wagi_skip_upsample(const void* from, const void* coefficients, void* out, int n, int c, int h, int w,
                                  int type, void*) {
    return (type == WAGI_FLOAT ? skip<float> : skip<_Float16>)(from, coefficients, out, {n, c, h, w});
}
