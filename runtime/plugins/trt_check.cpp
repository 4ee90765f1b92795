// Parses and builds one ONNX graph ahead of time, without a GPU; run by export/trt_check.py.
//   wagi_trt_check LIBTENSORRT LIBONNXPARSER GRAPH.onnx MAX_BATCH [PLUGIN_LIBRARY]
// Prints "layers L plugins P bytes B" and ends with 0; the libraries' own messages go to stderr.
//
// The libraries are opened by name (those of the TensorRT-RTX wheel), so nothing is linked. Their interface is
// that of the public headers, which NVIDIA does not promise: each graph gets a process of its own.
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <memory>
#include <unistd.h>

namespace {

using namespace nvinfer1;

struct Logger final : ILogger {
    void log(Severity severity, const char* text) noexcept override {
        if (severity <= Severity::kWARNING)
            std::fprintf(stderr, "%s: %s\n", severity == Severity::kWARNING ? "warning" : "error", text);
    }
};

[[noreturn]] void fail(const char* what, const char* detail) {
    std::fprintf(stderr, "error: %s: %s\n", what, detail ? detail : "no reason given");
    std::exit(1);
}

template <typename Function>
Function* symbol(const char* library, const char* name) {
    void* const handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) fail("cannot load", dlerror());
    void* const found = dlsym(handle, name);
    if (!found) fail("cannot find", dlerror());
    return reinterpret_cast<Function*>(found);
}

void parse(const char* library, INetworkDefinition& network, ILogger& logger, const char* graph) {
    const auto create = symbol<decltype(createNvOnnxParser_INTERNAL)>(library, "createNvOnnxParser_INTERNAL");
    auto* const parser = static_cast<nvonnxparser::IParser*>(create(&network, &logger, NV_ONNX_PARSER_VERSION));
    if (!parser) fail("parser", "not created");
    if (parser->parseFromFile(graph, static_cast<int>(ILogger::Severity::kWARNING))) return;  // kept alive
    for (int i = 0; i < parser->getNbErrors(); ++i) {
        const nvonnxparser::IParserError& error = *parser->getError(i);
        std::fprintf(stderr, "error: node %d %s (%s): %s\n", error.node(), error.nodeName(), error.nodeOperator(),
                     error.desc());
    }
    fail("parser", "the graph was refused");
}

// One profile: the batch from 1 to `most`, every other side as in the graph.
IOptimizationProfile& profile(IBuilder& builder, const INetworkDefinition& network, int most) {
    IOptimizationProfile* const made = builder.createOptimizationProfile();
    for (int i = 0; i < network.getNbInputs(); ++i) {
        const ITensor& input = *network.getInput(i);
        Dims dims = input.getDimensions();
        dims.d[0] = 1;
        bool good = made->setDimensions(input.getName(), OptProfileSelector::kMIN, dims) &&
                    made->setDimensions(input.getName(), OptProfileSelector::kOPT, dims);
        dims.d[0] = most;
        good = good && made->setDimensions(input.getName(), OptProfileSelector::kMAX, dims);
        if (!good) fail("profile refused for input", input.getName());
    }
    return *made;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) fail("usage", "wagi_trt_check LIBTENSORRT LIBONNXPARSER GRAPH.onnx MAX_BATCH [PLUGIN_LIBRARY]");
    static Logger logger;
    const auto create = symbol<decltype(createInferBuilder_INTERNAL)>(argv[1], "createInferBuilder_INTERNAL");
    auto* const builder = static_cast<IBuilder*>(create(&logger, NV_TENSORRT_VERSION));
    if (!builder) fail("builder", "not created");
    if (argc > 5 && !builder->getPluginRegistry().loadLibrary(argv[5])) fail("cannot load plugins", argv[5]);
    INetworkDefinition* const network = builder->createNetworkV2(0);
    if (!network) fail("network", "not created");
    parse(argv[2], *network, logger, argv[3]);

    int plugins = 0;
    for (int i = 0; i < network->getNbLayers(); ++i)
        plugins += network->getLayer(i)->getType() == LayerType::kPLUGIN_V3;
    IBuilderConfig* const config = builder->createBuilderConfig();
    if (!config) fail("configuration", "not created");
    config->addOptimizationProfile(&profile(*builder, *network, std::atoi(argv[4])));
    const IHostMemory* const plan = builder->buildSerializedNetwork(*network, *config);
    if (!plan || !plan->size()) fail("builder", "built nothing");
    std::printf("layers %d plugins %d bytes %zu\n", network->getNbLayers(), plugins, plan->size());
    std::fflush(stdout);
    _exit(0);  // plugin objects must not outlive their library, so nothing is taken apart
}
