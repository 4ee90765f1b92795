// The skip path of a SWAGAN block: bands as bands of the image of twice the size, plus this block's own.
//
// Per colour: inverse Haar transform, StyleGAN2's upsampling (zero insertion, FIR 1 3 3 1 of gain 4, zeros outside
// the image), Haar transform, sum; the definition is skip_upsample of wagi_rt/haar.py. Channels are band-major.
// The work of a thread is skip_block, so that g++ alone can test all but the launch. Arithmetic is float.
#pragma once

#include "haar_math.h"

namespace wagi {

// Shape of the smaller bands, [n, 4c, h, w]; the larger ones are [n, 4c, 2h, 2w]. All row-major.
struct SkipShape {
    int n, c, h, w;
};

// Four values behind one another, each made of the two of `pixel` that lie nearest to it.
WAGI_HOST_DEVICE inline float upsampled(const float pixel[4], int at) {
    const int near = 1 + at / 2;
    return 0.75f * pixel[near] + 0.25f * pixel[at % 2 ? near + 1 : near - 1];
}

// Pixels of one colour: rows 2i - 1 to 2i + 2 and columns 2j - 1 to 2j + 2 around the block (i, j) of `skip`.
template <typename T>
WAGI_HOST_DEVICE inline void skip_pixels(const T* skip, SkipShape s, HaarIndex x, float pixel[4][4]) {
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(s.h) * s.w, band = s.c * plane;
    const T* const from = skip + (static_cast<std::ptrdiff_t>(x.n) * 4 * s.c + x.c) * plane;
    for (int di = -1; di <= 1; ++di)
        for (int dj = -1; dj <= 1; ++dj) {
            const int i = x.i + di, j = x.j + dj;
            Quad q{};
            if (i >= 0 && i < s.h && j >= 0 && j < s.w)
                for (int k = 0; k < 4; ++k)
                    q.v[k] = static_cast<float>(from[k * band + static_cast<std::ptrdiff_t>(i) * s.w + j]);
            q = haar_butterfly(q);
            for (int k = 0; k < 4; ++k) {
                const int row = 2 * di + k / 2 + 1, column = 2 * dj + k % 2 + 1;
                if (row >= 0 && row < 4 && column >= 0 && column < 4) pixel[row][column] = q.v[k];
            }
        }
}

// All four bands at the 2 x 2 places that lie over the block x of `skip`: out = coefficients + upsampled skip.
template <typename T>
WAGI_HOST_DEVICE inline void skip_block(const T* skip, const T* coefficients, T* out, SkipShape s, HaarIndex x) {
    float pixel[4][4], tall[4][4], wide[4][4];
    skip_pixels(skip, s, x, pixel);
    for (int column = 0; column < 4; ++column) {
        const float line[4] = {pixel[0][column], pixel[1][column], pixel[2][column], pixel[3][column]};
        for (int row = 0; row < 4; ++row) tall[row][column] = upsampled(line, row);
    }
    for (int row = 0; row < 4; ++row)
        for (int column = 0; column < 4; ++column) wide[row][column] = upsampled(tall[row], column);
    const std::ptrdiff_t width = 2 * s.w, plane = 2 * s.h * width, band = s.c * plane;
    const std::ptrdiff_t first = (static_cast<std::ptrdiff_t>(x.n) * 4 * s.c + x.c) * plane;
    for (int a = 0; a < 2; ++a)
        for (int b = 0; b < 2; ++b) {
            const Quad q = haar_butterfly(
                {{wide[2 * a][2 * b], wide[2 * a][2 * b + 1], wide[2 * a + 1][2 * b], wide[2 * a + 1][2 * b + 1]}});
            const std::ptrdiff_t at = first + (2 * x.i + a) * width + 2 * x.j + b;
            for (int k = 0; k < 4; ++k)
                out[at + k * band] = static_cast<T>(q.v[k] + static_cast<float>(coefficients[at + k * band]));
        }
}

}  // namespace wagi
