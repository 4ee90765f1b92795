// The library of TensorRT plugins: HaarDWT, HaarIDWT (haar.md) and SkipUpsample (skip.md).
//
// Only getCreators and setLoggerFinder leave this library: IPluginRegistry::loadLibrary calls them, and
// nothing here needs libnvinfer. REGISTER_TENSORRT_PLUGIN is not used: it registers under "", where a look-up
// by our namespace finds nothing.
#include "haar_kernels.h"
#include "plugin.h"

#include <array>
#include <string>

namespace {

nvinfer1::ILoggerFinder* logger_finder = nullptr;

}  // namespace

int32_t wagi::refuse(const char* plugin, const char* what) noexcept try {
    nvinfer1::ILogger* const logger = logger_finder ? logger_finder->findLogger() : nullptr;
    const std::string line = std::string("wagi::") + plugin + ": " + what;
    if (logger) logger->log(nvinfer1::ILogger::Severity::kERROR, line.c_str());
    return -1;
} catch (...) {
    return -1;
}

extern "C" WAGI_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static wagi::Creator forward(wagi::haar_plugin(true)), inverse(wagi::haar_plugin(false)), skip(wagi::skip_plugin());
    static const std::array<nvinfer1::IPluginCreatorInterface*, 3> creators{&forward, &inverse, &skip};
    count = static_cast<int32_t>(creators.size());
    return creators.data();
}

extern "C" WAGI_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { logger_finder = finder; }
