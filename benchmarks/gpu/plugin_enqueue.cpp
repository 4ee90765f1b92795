// Calls the plugins of libwagi_trt.so as TensorRT does at run time: creator, plugin, onShapeChange,
// attachToContext, enqueue, directly and inside a CUDA graph. Compares with haar_math.h and skip_math.h on the host.
//   plugin_enqueue LIBRARY        prints one line per case: name, largest difference, "ok" or "WRONG"
// Methods of a C++ plugin cannot be called from Python, so this is a program of its own.
#include "../../runtime/plugins/haar_math.h"
#include "../../runtime/plugins/skip_math.h"

#include <NvInfer.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    std::fprintf(stderr, "error: %s: %s\n", what, cudaGetErrorString(status));
    std::exit(1);
}

struct Case {
    bool forward, half, hwc8;
    wagi::HaarShape shape;
};

// What a plugin is given and what it must answer.
template <typename T>
struct Work {
    std::vector<PluginTensorDesc> in;
    PluginTensorDesc out;
    std::vector<std::vector<T>> sources;
    std::vector<T> wanted;
};

template <typename T>
std::vector<T> noise(std::size_t count) {
    static std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<T> values(count);
    for (T& value : values) value = T(normal(random));
    return values;
}

PluginTensorDesc row_major(bool half, int n, int c, int h, int w) {
    PluginTensorDesc desc{};
    desc.dims.nbDims = 4;
    const int64_t sides[4] = {n, c, h, w};
    std::copy(sides, sides + 4, desc.dims.d);
    desc.type = half ? DataType::kHALF : DataType::kFLOAT;
    desc.format = TensorFormat::kLINEAR;
    desc.scale = 1.f;
    return desc;
}

PluginTensorDesc describe(const Case& c, bool image) {
    const wagi::HaarShape s = c.shape;
    PluginTensorDesc desc = image ? row_major(c.half, s.n, s.c, s.h, s.w)
                                  : row_major(c.half, s.n, 4 * s.c, s.h / 2, s.w / 2);
    if (c.hwc8) desc.format = TensorFormat::kHWC8;
    return desc;
}

std::size_t elements(const Case& c, bool image) {
    const int channels = image ? c.shape.c : 4 * c.shape.c;
    const std::size_t plane = static_cast<std::size_t>(c.shape.h) * c.shape.w / (image ? 1 : 4);
    return c.shape.n * plane * (c.hwc8 ? wagi::padded(channels) : channels);
}

template <bool kForward, typename T>
void on_host(const Case& c, const std::vector<T>& in, std::vector<T>& out) {
    const wagi::HaarLayout layout = c.hwc8 ? wagi::hwc8_layout(c.shape) : wagi::linear_layout(c.shape);
    for (int n = 0; n < c.shape.n; ++n)
        for (int k = 0; k < c.shape.c; ++k)
            for (int i = 0; i < c.shape.h / 2; ++i)
                for (int j = 0; j < c.shape.w / 2; ++j)
                    wagi::haar_block<kForward>(in.data(), out.data(), layout, {n, k, i, j});
}

template <typename T>
Work<T> haar_work(const Case& c) {
    Work<T> work{{describe(c, c.forward)}, describe(c, !c.forward), {noise<T>(elements(c, c.forward))}, {}};
    work.wanted.assign(elements(c, !c.forward), T(0.f));
    c.forward ? on_host<true>(c, work.sources[0], work.wanted) : on_host<false>(c, work.sources[0], work.wanted);
    return work;
}

template <typename T>
Work<T> skip_work(wagi::SkipShape s) {
    const bool half = sizeof(T) == 2;
    const std::size_t count = std::size_t{4} * s.n * s.c * s.h * s.w;
    const PluginTensorDesc larger = row_major(half, s.n, 4 * s.c, 2 * s.h, 2 * s.w);
    Work<T> work{{row_major(half, s.n, 4 * s.c, s.h, s.w), larger}, larger, {noise<T>(count), noise<T>(4 * count)}, {}};
    work.wanted.resize(4 * count);
    for (unsigned at = 0; at < count / 4; ++at)
        wagi::skip_block(work.sources[0].data(), work.sources[1].data(), work.wanted.data(), s,
                         wagi::haar_index(at, s.c, s.h, s.w));
    return work;
}

template <typename T>
double largest_difference(const std::vector<T>& a, const std::vector<T>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(static_cast<float>(a[i])) - static_cast<float>(b[i]));
        if (!(difference <= largest)) largest = difference;  // NaN wins
    }
    return largest;
}

// The difference after a plain enqueue and after the replay of a captured one.
template <typename T>
std::pair<double, double> enqueue(IPluginV3& plugin, const Work<T>& work) {
    auto* const runtime = static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    if (!runtime) std::exit((std::fprintf(stderr, "error: no runtime capability\n"), 1));
    const int32_t count = static_cast<int32_t>(work.in.size());
    if (runtime->onShapeChange(work.in.data(), count, &work.out, 1))
        std::exit((std::fprintf(stderr, "error: onShapeChange\n"), 1));
    std::vector<T> found(work.wanted.size());
    std::vector<void*> device_in(work.in.size());
    void* device_out = nullptr;
    cudaStream_t stream = nullptr;
    const std::size_t out_bytes = found.size() * sizeof(T);
    for (std::size_t i = 0; i < device_in.size(); ++i) {
        const std::size_t bytes = work.sources[i].size() * sizeof(T);
        check(cudaMalloc(&device_in[i], bytes), "malloc");
        check(cudaMemcpy(device_in[i], work.sources[i].data(), bytes, cudaMemcpyHostToDevice), "upload");
    }
    check(cudaMalloc(&device_out, out_bytes), "malloc");
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    void* const outputs[] = {device_out};
    const auto run = [&] {
        if (runtime->enqueue(work.in.data(), &work.out, device_in.data(), outputs, nullptr, stream))
            std::exit((std::fprintf(stderr, "error: enqueue refused\n"), 1));
    };
    const auto result = [&] {
        check(cudaStreamSynchronize(stream), "synchronise");
        check(cudaMemcpy(found.data(), device_out, out_bytes, cudaMemcpyDeviceToHost), "download");
        return largest_difference(found, work.wanted);
    };
    run();
    const double plain = result();

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    check(cudaMemset(device_out, 0xff, out_bytes), "clear");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    run();
    check(cudaStreamEndCapture(stream, &graph), "end capture");
    check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
    check(cudaGraphLaunch(replay, stream), "launch");
    const double captured = result();
    for (void* const memory : device_in) check(cudaFree(memory), "free");
    for (const auto status : {cudaGraphExecDestroy(replay), cudaGraphDestroy(graph), cudaStreamDestroy(stream),
                              cudaFree(device_out)})
        check(status, "free");
    return {plain, captured};
}

// One case: its line, and whether it is right.
template <typename T>
bool judge(IPluginV3& plugin, const std::string& name, const Work<T>& work) {
    const auto [plain, captured] = enqueue<T>(plugin, work);
    const double limit = sizeof(T) == 2 ? 1.0 / 256 : 2e-6;  // one unit in the last place of values below 8
    const bool good = plain <= limit && captured <= limit;
    const Dims& d = work.out.dims;
    std::printf("%s %s %s %dx%dx%dx%d %.3g %.3g %s\n", name.c_str(), sizeof(T) == 2 ? "fp16" : "fp32",
                work.out.format == TensorFormat::kHWC8 ? "hwc8" : "linear", static_cast<int>(d.d[0]),
                static_cast<int>(d.d[1]), static_cast<int>(d.d[2]), static_cast<int>(d.d[3]), plain, captured,
                good ? "ok" : "WRONG");
    return good;
}

int judge_haar(IPluginV3& plugin, const std::string& name) {
    int wrong = 0;
    for (const wagi::HaarShape shape : {wagi::HaarShape{1, 3, 64, 64}, {2, 3, 34, 18}, {3, 5, 6, 10}})
        for (const auto& [half, hwc8] : {std::pair{false, false}, {true, false}, {true, true}}) {
            const Case c{name == "HaarDWT", half, hwc8, shape};
            wrong += !(half ? judge(plugin, name, haar_work<__half>(c)) : judge(plugin, name, haar_work<float>(c)));
        }
    return wrong;
}

int judge_skip(IPluginV3& plugin, const std::string& name) {
    int wrong = 0;
    for (const wagi::SkipShape shape : {wagi::SkipShape{1, 3, 64, 64}, {2, 3, 17, 9}, {3, 5, 1, 2}}) {
        wrong += !judge(plugin, name, skip_work<__half>(shape));
        wrong += !judge(plugin, name, skip_work<float>(shape));
    }
    return wrong;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: plugin_enqueue LIBRARY\n"), 2;
    void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) return std::fprintf(stderr, "error: %s\n", dlerror()), 1;
    using Creators = IPluginCreatorInterface* const* (*)(int32_t&);
    const auto creators = reinterpret_cast<Creators>(dlsym(library, "getCreators"));
    if (!creators) return std::fprintf(stderr, "error: no getCreators\n"), 1;
    int32_t count = 0;
    IPluginCreatorInterface* const* const found = creators(count);
    int wrong = 0;
    for (int32_t i = 0; i < count; ++i) {
        auto* const creator = static_cast<IPluginCreatorV3One*>(found[i]);
        const std::string name = creator->getPluginName();
        const PluginFieldCollection none{0, nullptr};
        IPluginV3* const made = creator->createPlugin(name.c_str(), &none, TensorRTPhase::kRUNTIME);
        auto* const core = static_cast<IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
        IPluginV3* const plugin = core->attachToContext(nullptr);
        wrong += name == "SkipUpsample" ? judge_skip(*plugin, name) : judge_haar(*plugin, name);
        delete plugin;
        delete made;
    }
    return wrong ? 1 : 0;
}
