// GELU in its tanh form and its gradient: x * sigmoid(2u) with u = sqrt(2/pi) * (x + 0.044715 x^3); and what SwiGLU is
// made of, gate * sigmoid(gate) * up, with both of its gradients.
//
// PyTorch's takes a tanh, which costs several times what the sigmoid does here.

#include <algorithm>

#include "vectors.h"

namespace {

constexpr float SCALE = 2 * 0.797884561f, CUBE = 0.044715f;
constexpr int64_t PART = 1 << 13;  // numbers that one thread takes at a time

struct Gelu {
    static Floats value(Floats x, Floats) { return x * sigmoid(SCALE * (x + CUBE * x * x * x)); }
};
struct GeluGradient {
    static Floats value(Floats x, Floats gradient) {
        const Floats s = sigmoid(SCALE * (x + CUBE * x * x * x));
        return gradient * (s + x * s * (1.0f - s) * SCALE * (1.0f + 3.0f * CUBE * x * x));
    }
};

template <class Function, class E>
void apply(const E* x, const E* gradients, E* out, int64_t size, int64_t threads) {
    #pragma omp parallel for num_threads(threads) if (size > 8 * PART)
    for (int64_t begin = 0; begin < size; begin += PART) {
        int64_t i = begin, end = std::min(begin + PART, size);
        for (; i + LANES <= end; i += LANES) store(Function::value(load(x + i), load(gradients + i)), out + i);
        for (; i < end; ++i)
            narrow(Function::value(all(widen(x[i])), all(widen(gradients[i])))[0], out[i]);
    }
}

template <class E>
void gated(const E* gate, const E* up, E* out, int64_t size, int64_t threads) {
    #pragma omp parallel for num_threads(threads) if (size > 8 * PART)
    for (int64_t begin = 0; begin < size; begin += PART) {
        int64_t i = begin, end = std::min(begin + PART, size);
        for (; i + LANES <= end; i += LANES) {
            const Floats x = load(gate + i);
            store(x * sigmoid(x) * load(up + i), out + i);
        }
        for (; i < end; ++i) {
            const float x = widen(gate[i]);
            narrow(x * sigmoid(all(x))[0] * widen(up[i]), out[i]);
        }
    }
}
template <class E>
void gated_gradient(const E* gate, const E* up, const E* gradients, E* gate_out, E* up_out, int64_t size, int64_t threads) {
    #pragma omp parallel for num_threads(threads) if (size > 8 * PART)
    for (int64_t begin = 0; begin < size; begin += PART) {
        int64_t i = begin, end = std::min(begin + PART, size);
        for (; i + LANES <= end; i += LANES) {
            const Floats x = load(gate + i), dy = load(gradients + i), s = sigmoid(x);
            store(dy * load(up + i) * s * (1.0f + x * (1.0f - s)), gate_out + i);
            store(dy * x * s, up_out + i);
        }
        for (; i < end; ++i) {
            const float x = widen(gate[i]), dy = widen(gradients[i]), s = sigmoid(all(x))[0];
            narrow(dy * widen(up[i]) * s * (1.0f + x * (1.0f - s)), gate_out[i]);
            narrow(dy * x * s, up_out[i]);
        }
    }
}

}  // namespace

extern "C" {
void silu_gated(const void* gate, const void* up, void* out, int half, int64_t size, int64_t threads) {
    if (half)
        gated((const bf16*)gate, (const bf16*)up, (bf16*)out, size, threads);
    else
        gated((const float*)gate, (const float*)up, (float*)out, size, threads);
}
void silu_gated_gradient(const void* gate, const void* up, const void* gradients, void* gate_out, void* up_out, int half,
                         int64_t size, int64_t threads) {
    if (half)
        gated_gradient((const bf16*)gate, (const bf16*)up, (const bf16*)gradients, (bf16*)gate_out, (bf16*)up_out, size,
                       threads);
    else
        gated_gradient((const float*)gate, (const float*)up, (const float*)gradients, (float*)gate_out, (float*)up_out,
                       size, threads);
}
void gelu_tanh(const void* x, void* out, int half, int64_t size, int64_t threads) {
    if (half)
        apply<Gelu>((const bf16*)x, (const bf16*)x, (bf16*)out, size, threads);
    else
        apply<Gelu>((const float*)x, (const float*)x, (float*)out, size, threads);
}
void gelu_tanh_gradient(const void* x, const void* gradients, void* out, int half, int64_t size, int64_t threads) {
    if (half)
        apply<GeluGradient>((const bf16*)x, (const bf16*)gradients, (bf16*)out, size, threads);
    else
        apply<GeluGradient>((const float*)x, (const float*)gradients, (float*)out, size, threads);
}
}
