// The 2x2 orthonormal Haar transform: arithmetic and addressing, for host and device.
//
// Block [[a, b], [c, d]] (design: the same definition as wagi_rt/haar.py and PyWavelets' dwt2 "haar"):
//   LL = (a + b + c + d) / 2    LH = (a + b - c - d) / 2
//   HL = (a - b + c - d) / 2    HH = (a - b - c + d) / 2
// The 4x4 matrix is orthonormal and symmetric, so the inverse is the same arithmetic.
// An image [N, C, H, W] becomes bands [N, 4C, H/2, W/2], band-major: C channels of LL, then LH, HL, HH.
// Storage may be float or a half type; the arithmetic is always float, rounded once at the store.
//
// A kernel's thread does what one of the functions haar_block, haar_columns, haar_rgb does, so that g++ alone
// can test all but the launch.
#pragma once

#include <cstddef>

#if defined(__CUDACC__)
#define WAGI_HOST_DEVICE __host__ __device__
#else
#define WAGI_HOST_DEVICE
#endif

namespace wagi {

// Four values: a pixel block (a, b, c, d) or its coefficients (LL, LH, HL, HH).
struct Quad {
    float v[4];
};

// The butterfly, 8 additions and 4 multiplications: pixels to coefficients, and coefficients to pixels.
WAGI_HOST_DEVICE inline Quad haar_butterfly(Quad q) {
    const float top = q.v[0] + q.v[1], bottom = q.v[2] + q.v[3];
    const float top_difference = q.v[0] - q.v[1], bottom_difference = q.v[2] - q.v[3];
    return {{0.5f * (top + bottom), 0.5f * (top - bottom), 0.5f * (top_difference + bottom_difference),
             0.5f * (top_difference - bottom_difference)}};
}

// The image's shape; the bands' follows from it. Height and width are even.
struct HaarShape {
    int n, c, h, w;
};

// Distances in elements between neighbours in the image and in its bands.
struct HaarLayout {
    std::ptrdiff_t image_batch, image_channel, image_row, image_column;
    std::ptrdiff_t bands_batch, band, band_channel, band_row, band_column;  // `band`: from LL to LH
};

// Row-major [N, C, H, W], TensorRT's kLINEAR.
WAGI_HOST_DEVICE inline HaarLayout linear_layout(HaarShape s) {
    const std::ptrdiff_t quarter = static_cast<std::ptrdiff_t>(s.h / 2) * (s.w / 2);
    const std::ptrdiff_t picture = 4 * s.c * quarter;
    return {picture, 4 * quarter, s.w, 1, picture, s.c * quarter, quarter, s.w / 2, 1};
}

constexpr int kPad = 8;

// Channels per pixel in memory.
WAGI_HOST_DEVICE constexpr int padded(int channels) { return (channels + kPad - 1) / kPad * kPad; }

// [N, H, W, padded(C)], TensorRT's kHWC8.
WAGI_HOST_DEVICE inline HaarLayout hwc8_layout(HaarShape s) {
    const std::ptrdiff_t image = padded(s.c), bands = padded(4 * s.c), h = s.h, w = s.w;
    return {h * w * image, 1, w * image, image, h / 2 * (w / 2) * bands, s.c, 1, w / 2 * bands, bands};
}

// A place: picture n, colour c, block in row i and column j.
struct HaarIndex {
    int n, c, i, j;
};

// The place of work item `at` when n is outermost and j innermost.
WAGI_HOST_DEVICE inline HaarIndex haar_index(unsigned at, unsigned channels, unsigned rows, unsigned columns) {
    const unsigned row = at / columns, plane = row / rows;
    return {static_cast<int>(plane / channels), static_cast<int>(plane % channels),
            static_cast<int>(row % rows), static_cast<int>(at % columns)};
}

WAGI_HOST_DEVICE inline std::ptrdiff_t image_offset(const HaarLayout& s, HaarIndex x) {
    return x.n * s.image_batch + x.c * s.image_channel + 2 * x.i * s.image_row + 2 * x.j * s.image_column;
}

WAGI_HOST_DEVICE inline std::ptrdiff_t bands_offset(const HaarLayout& s, HaarIndex x) {
    return x.n * s.bands_batch + x.c * s.band_channel + x.i * s.band_row + x.j * s.band_column;
}

// Of pixel k of a block (a, b, c, d) from its first.
WAGI_HOST_DEVICE inline std::ptrdiff_t pixel_offset(const HaarLayout& s, int k) {
    return k / 2 * s.image_row + k % 2 * s.image_column;
}

// One block, any layout. kForward: image -> bands; else bands -> image.
template <bool kForward, typename T>
WAGI_HOST_DEVICE inline void haar_block(const T* in, T* out, const HaarLayout& s, HaarIndex x) {
    const std::ptrdiff_t image = image_offset(s, x), bands = bands_offset(s, x);
    std::ptrdiff_t pixel[4], band[4];
    for (int k = 0; k < 4; ++k) {
        pixel[k] = image + pixel_offset(s, k);
        band[k] = bands + k * s.band;
    }
    Quad q;
    for (int k = 0; k < 4; ++k) q.v[k] = static_cast<float>(in[kForward ? pixel[k] : band[k]]);
    q = haar_butterfly(q);
    for (int k = 0; k < 4; ++k) out[kForward ? band[k] : pixel[k]] = static_cast<T>(q.v[k]);
}

// The padding channels of one block's result are zero, so that a reader of whole vectors sees no NaN.
template <bool kForward, typename T>
WAGI_HOST_DEVICE inline void haar_zero_padding(T* out, int channels, const HaarLayout& s, HaarIndex x) {
    const int used = kForward ? 4 * channels : channels;
    for (int c = used; c < padded(used); ++c)
        for (int k = 0; k < (kForward ? 1 : 4); ++k)
            out[(kForward ? bands_offset(s, x) : image_offset(s, x) + pixel_offset(s, k)) + c] = static_cast<T>(0.f);
}

// Values that are loaded and stored as vectors of 16 bytes.
template <typename T, int kCount>
struct alignas(16) Pack {
    T v[kCount];
};

template <typename P, typename T>
WAGI_HOST_DEVICE inline P load(const T* from) { return *reinterpret_cast<const P*>(from); }

template <typename P, typename T>
WAGI_HOST_DEVICE inline void store(T* to, const P& pack) {
#if defined(__CUDA_ARCH__)
    // nvcc splits some assignments of a Pack into scalar stores; the intrinsic is always one instruction.
    for (std::size_t k = 0; k < sizeof(P) / sizeof(uint4); ++k)
        __stwb(reinterpret_cast<uint4*>(to) + k, reinterpret_cast<const uint4*>(&pack)[k]);
#else
    *reinterpret_cast<P*>(to) = pack;
#endif
}

// Band columns of one vector.
template <typename T>
constexpr int kColumns = 16 / sizeof(T);

// kColumns neighbouring blocks of a linear layout, starting at x; every access is 16 bytes. Needs 16-byte
// aligned pointers and strides, that is W/2 a multiple of kColumns.
template <bool kForward, typename T>
WAGI_HOST_DEVICE inline void haar_columns(const T* in, T* out, const HaarLayout& s, HaarIndex x) {
    constexpr int kCount = kColumns<T>;
    using Row = Pack<T, 2 * kCount>;
    using Band = Pack<T, kCount>;
    const std::ptrdiff_t image = image_offset(s, x), bands = bands_offset(s, x);
    Row row[2];
    Band band[4];
    if constexpr (kForward)
        for (int k = 0; k < 2; ++k) row[k] = load<Row>(in + image + k * s.image_row);
    else
        for (int k = 0; k < 4; ++k) band[k] = load<Band>(in + bands + k * s.band);
    for (int j = 0; j < kCount; ++j) {
        Quad q;
        for (int k = 0; k < 4; ++k)
            q.v[k] = static_cast<float>(kForward ? row[k / 2].v[2 * j + k % 2] : band[k].v[j]);
        q = haar_butterfly(q);
        for (int k = 0; k < 4; ++k)
            (kForward ? band[k].v[j] : row[k / 2].v[2 * j + k % 2]) = static_cast<T>(q.v[k]);
    }
    if constexpr (kForward)
        for (int k = 0; k < 4; ++k) store(out + bands + k * s.band, band[k]);
    else
        for (int k = 0; k < 2; ++k) store(out + image + k * s.image_row, row[k]);
}

// All colours of one block of an RGB image in hwc8_layout, in whole vectors, padding zero. T has 2 bytes; x.c
// is 0.
template <bool kForward, typename T>
WAGI_HOST_DEVICE inline void haar_rgb(const T* in, T* out, const HaarLayout& s, HaarIndex x) {
    constexpr int kColours = 3;
    using Pixel = Pack<T, padded(kColours)>;
    using Bands = Pack<T, padded(4 * kColours)>;
    const std::ptrdiff_t image = image_offset(s, x), bands = bands_offset(s, x);
    Pixel pixel[4] = {};
    Bands band = {};
    if constexpr (kForward)
        for (int k = 0; k < 4; ++k)
            pixel[k] = load<Pixel>(in + image + pixel_offset(s, k));
    else
        band = load<Bands>(in + bands);
    for (int c = 0; c < kColours; ++c) {
        Quad q;
        for (int k = 0; k < 4; ++k)
            q.v[k] = static_cast<float>(kForward ? pixel[k].v[c] : band.v[k * kColours + c]);
        q = haar_butterfly(q);
        for (int k = 0; k < 4; ++k)
            (kForward ? band.v[k * kColours + c] : pixel[k].v[c]) = static_cast<T>(q.v[k]);
    }
    if constexpr (kForward)
        store(out + bands, band);
    else
        for (int k = 0; k < 4; ++k)
            store(out + image + pixel_offset(s, k), pixel[k]);
}

}  // namespace wagi
