// The work of a SkipUpsample thread against PyWavelets and SciPy (skip_scipy.txt of make_golden.py).
// Usage: skip_math_test golden|half GOLDEN_FILE
#include "skip_math.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace {

struct Case {
    wagi::SkipShape shape;
    std::vector<float> skip, coefficients, want;
};

std::vector<float> read(std::istream& in, std::size_t count) {
    std::vector<float> values(count, std::nanf(""));
    for (float& v : values) in >> v;
    return values;
}

std::vector<Case> cases(const char* path) {
    std::ifstream in(path);
    std::string comment;
    std::getline(in, comment);
    std::vector<Case> found;
    for (wagi::SkipShape s{}; in >> s.n >> s.c >> s.h >> s.w;) {
        const std::size_t count = std::size_t{4} * s.n * s.c * s.h * s.w;
        found.push_back({s, read(in, count), read(in, 4 * count), read(in, 4 * count)});
    }
    return found;
}

// The largest difference of the results in units of `T`'s rounding; NaN where a value was not written.
template <typename T>
double worst(const Case& one) {
    const wagi::SkipShape s = one.shape;
    const std::vector<T> skip(one.skip.begin(), one.skip.end());
    // In place, as the contract allows.
    std::vector<T> out(one.coefficients.begin(), one.coefficients.end());
    std::vector<T> other(out.size(), static_cast<T>(std::nanf("")));
    const unsigned count = static_cast<unsigned>(s.n) * s.c * s.h * s.w;
    for (unsigned at = 0; at < count; ++at)
        wagi::skip_block(skip.data(), out.data(), other.data(), s, wagi::haar_index(at, s.c, s.h, s.w));
    for (unsigned at = 0; at < count; ++at)
        wagi::skip_block(skip.data(), out.data(), out.data(), s, wagi::haar_index(at, s.c, s.h, s.w));
    double difference = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (static_cast<float>(out[i]) != static_cast<float>(other[i])) return std::nan("");
        difference = std::fmax(difference, std::fabs(static_cast<double>(out[i]) - one.want[i]));
    }
    return difference;
}

template <typename T>
int compare(const char* path, double limit) {
    const std::vector<Case> all = cases(path);
    int failures = all.size() != 4;  // the number of golden cases
    for (const Case& one : all) {
        const double found = worst<T>(one);
        failures += !(found <= limit);
        std::printf("%d x %d x %d x %d: %g, the limit is %g\n", one.shape.n, one.shape.c, one.shape.h, one.shape.w,
                    found, limit);
    }
    return failures ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string name = argc == 3 ? argv[1] : "";
    if (name == "golden") return compare<float>(argv[2], 1e-6);
#if defined(__FLT16_MAX__)
    // Inputs are rounded to half too: 2^-11 of values up to 4, a few of which meet in a result.
    if (name == "half") return compare<_Float16>(argv[2], 4e-3);
#else
    if (name == "half") return 77;  // no half type in this compiler: ctest reports a skip
#endif
    std::printf("usage: skip_math_test golden|half GOLDEN_FILE\n");
    return 2;
}
