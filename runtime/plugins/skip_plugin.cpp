// TensorRT plugin SkipUpsample (skip.md is the contract).
#include "plugin.h"
#include "skip_kernels.h"

#include <cuda_runtime_api.h>

namespace {

using namespace nvinfer1;

class SkipUpsample final : public wagi::Plugin {
public:
    SkipUpsample() noexcept : Plugin("SkipUpsample") {}

    IPluginV3* clone() noexcept override { return new (std::nothrow) SkipUpsample; }

    int32_t getOutputDataTypes(DataType* out, int32_t, const DataType* in,
                               int32_t inputs) const noexcept override {
        const bool good = inputs == 2 && in[0] == in[1] && (in[0] == DataType::kFLOAT || in[0] == DataType::kHALF);
        if (!good) return refuse("needs two inputs of one type, float or half");
        out[0] = in[0];
        return 0;
    }

    // The larger coefficients' shape; sides that are known now are checked now.
    int32_t getOutputShapes(const DimsExprs* in, int32_t inputs, const DimsExprs*, int32_t, DimsExprs* out, int32_t,
                            IExprBuilder&) noexcept override {
        if (inputs != 2 || in[0].nbDims != 4 || in[1].nbDims != 4)
            return refuse("needs bands [N, 4C, H, W] and coefficients [N, 4C, 2H, 2W]");
        for (int d = 1; d < 4; ++d) {
            const bool known = in[0].d[d]->isConstant() && in[1].d[d]->isConstant();
            if (known && !fits(d, in[0].d[d]->getConstantValue(), in[1].d[d]->getConstantValue())) return wrong();
        }
        out[0] = in[1];
        return 0;
    }

    // FP32 or FP16, row-major; everything as the first input.
    bool supportsFormatCombination(int32_t pos, const DynamicPluginTensorDesc* all, int32_t,
                                   int32_t) noexcept override {
        const PluginTensorDesc& asked = all[pos].desc;
        const bool known = asked.type == DataType::kFLOAT || asked.type == DataType::kHALF;
        return known && asked.format == TensorFormat::kLINEAR && asked.type == all[0].desc.type;
    }

    int32_t onShapeChange(const PluginTensorDesc* in, int32_t, const PluginTensorDesc*, int32_t) noexcept override {
        for (int d = 0; d < 4; ++d) {
            if (!fits(d, in[0].dims.d[d], in[1].dims.d[d])) return wrong();
            if (in[1].dims.d[d] > INT_MAX / 4) return refuse("a side is too large");
        }
        return 0;
    }

    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs,
                    void* const* outputs, void*, cudaStream_t stream) noexcept override {
        const Dims& skip = in[0].dims;
        if (skip.d[0] == 0) return 0;  // an empty batch is not an error
        const auto side = [&](int d) { return static_cast<int>(skip.d[d]); };
        const int type = in[0].type == DataType::kHALF ? WAGI_HALF : WAGI_FLOAT;
        const int status = wagi_skip_upsample(inputs[0], inputs[1], outputs[0], side(0), side(1) / 4, side(2), side(3),
                                              type, stream);
        return status ? refuse(cudaGetErrorString(static_cast<cudaError_t>(status))) : 0;
    }

private:
    static bool fits(int d, int64_t skip, int64_t coefficients) noexcept {
        return coefficients == (d >= 2 ? 2 * skip : skip) && (d != 1 || skip % 4 == 0);
    }
    int32_t wrong() const noexcept {
        return refuse("coefficients must have the bands' channels, a multiple of 4, and twice their sides");
    }
};

}  // namespace

wagi::Plugin& wagi::skip_plugin() {
    static SkipUpsample plugin;
    return plugin;
}
