// A pass of the whole model over some tokens, each against the keys and values that a cache holds of its story: what a
// token costs in decoding. One parallel region for all of it; between two operations threads wait for each other and
// do nothing else.
//
// Whatever is read beside it, a token's scores are the same to the bit: every sum of fp32 or bf16 numbers is taken in
// one order, by place in the story, and those of int8 are whole numbers.
//
// B tokens, D width, H query heads, G key/value heads, K head width, F feed-forward width, V vocabulary

#include <algorithm>
#include <cmath>
#if defined(_OPENMP)
#include <omp.h>
#else  // one thread does it all
inline int omp_get_thread_num() { return 0; }
inline int omp_get_num_threads() { return 1; }
#endif

#include "vectors.h"
#if defined(__AVX512VNNI__) || defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

enum Activation : int64_t { GELU, GELU_TANH, SILU, RELU, RELU2 };

// Packed in panels of LANES outputs, [outputs/LANES][inputs/DEPTH][LANES][DEPTH], with zeros behind the last of either.
struct Matrix {
    const void* panels;
    const float *scales, *bias;  // [outputs] each, or null
    const int32_t* sums;         // of int8 numbers: 128 times the sum of each output's
    int64_t outputs, inputs;
};
struct Norm {
    const float *gain, *bias;  // no gain: no norm; no bias: RMSNorm
};
// What is kept of the story in slot s: keys at s * G * size * K4, in blocks of LANES places, [G][size/LANES][K4][LANES];
// values at s * G * size * Kp, [G][size][Kp]; K4 and Kp are K, up to a multiple of four and of 16. Of int8 numbers the four
// that are taken one after the other share a lane: [G][size/LANES][K4/4][LANES][4] and [G][size/4][Kp][4]; each key and
// value has a scale, [G][size]. The token at place p stands at p modulo `size`.
struct Layer {
    Norm attention_norm, ff_norm, q_norm, k_norm;
    Matrix qkv, out, up, down;  // where gated, panels of `up` and of the gate take turns, the gate's first
    void *keys, *values;
    float *key_scales, *value_scales;  // null unless the numbers are int8
    int64_t window, size;  // no window: 0
};
struct Model {
    const Layer* layers;
    int64_t depth, width, heads, groups, head_width, ff_width, activation, gated, interleaved;
    const float *embedding, *positions, *cos, *sin;  // the last three null where there are none
    Norm norm;
    Matrix head;
    float eps, scale;
};
struct Pass {
    const int64_t *tokens, *places, *slots;  // [B] each; no slot twice with places out of order
    const int64_t* wanted;                   // which of the tokens to score what follows of
    float* logits;                           // [wanted, V padded]
    void* room;                              // `room_for` bytes
    int64_t count, wanted_count, distinct, threads;  // distinct: no slot comes twice
};

struct Thread {
    int64_t index, count;
    int64_t begin(int64_t size) const { return size * index / count; }
    int64_t end(int64_t size) const { return size * (index + 1) / count; }
};

// Functions of their own where they stand in code that is compiled several times: each time with the same roundings.
#define ONCE __attribute__((noinline))

ONCE Floats scaled(Floats sum, const float* scales, float scale, const float* bias) {
    if (scales) sum = sum * (load(scales) * scale);
    return bias ? sum + load(bias) : sum;
}

inline int64_t fours(int64_t size) { return (size + 3) / 4 * 4; }
inline int64_t padded(int64_t size) { return (size + 15) / 16 * 16; }  // floats: a line of the cache

// What numbers are multiplied with: the weights' type, that of what comes in, and how products are summed.
struct Fp32 {
    typedef float Weight;
    typedef float Input;
    typedef float Cached;
    typedef Floats Sum;
    static constexpr int DEPTH = 1;
    static constexpr bool CONVERTS = false;
    static Floats weights(const float* p) { return in_register(load(p)); }
    static Floats input(const float* x, int64_t step) { return all(x[step]); }
    static Floats add(Floats sum, Floats weight, Floats x) { return sum + weight * x; }
    static float convert(const float*, int64_t, Input*) { return 1.0f; }
    static Floats value(Floats sum, const Matrix&, int64_t) { return sum; }
};
struct Int8Weights : Fp32 {  // int8 numbers times fp32 ones, for processors without VNNI
    typedef int8_t Weight;
    typedef int8_t Cached;
    static constexpr int DEPTH = 4;
    static Ints weights(const int8_t* p) { return *reinterpret_cast<const Ints*>(p); }
    static const float* input(const float* x, int64_t step) { return x + 4 * step; }
    static Floats add(Floats sum, Ints weight, const float* x) {
        for (int j = 0; j < 4; ++j) sum += __builtin_convertvector((weight << (24 - 8 * j)) >> 24, Floats) * x[j];
        return sum;
    }
};
struct Bf16 {
    typedef bf16 Weight;
    typedef bf16 Input;
    typedef bf16 Cached;
    typedef Floats Sum;
    static constexpr int DEPTH = 2;
    static constexpr bool CONVERTS = true;
    static Bits weights(const bf16* p) { return *reinterpret_cast<const Bits*>(p); }
    static Bits input(const bf16* x, int64_t step) {
        uint32_t pair;
        std::memcpy(&pair, x + 2 * step, 4);
        return pair - Bits{};
    }
    static Floats add(Floats sum, Bits weight, Bits x) {
#if defined(__AVX512BF16__)
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)weight, (__m512bh)(__m512i)x);
#else
        sum = sum + (Floats)(weight << 16) * (Floats)(x << 16);
        return sum + (Floats)(weight & 0xffff0000u) * (Floats)(x & 0xffff0000u);
#endif
    }
    static float convert(const float* from, int64_t size, bf16* to) {
        for (int64_t i = 0; i < size; i += LANES) store(load(from + i), to + i);
        return 1.0f;
    }
    static Floats value(Floats sum, const Matrix&, int64_t) { return sum; }
};
#if defined(__AVX512VNNI__)
struct Int8 {  // what comes in is made int8 too, each row by a scale of its own, and 128 is added to have no signs
    typedef int8_t Weight;
    typedef uint8_t Input;
    typedef int8_t Cached;
    typedef Ints Sum;
    static constexpr int DEPTH = 4;
    static constexpr bool CONVERTS = true;
    static Ints weights(const int8_t* p) { return *reinterpret_cast<const Ints*>(p); }
    static Ints input(const uint8_t* x, int64_t step) {
        int32_t four;
        std::memcpy(&four, x + 4 * step, 4);
        return four - Ints{};
    }
    static Ints add(Ints sum, Ints weight, Ints x) {
        return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)weight);
    }
    static float convert(const float* from, int64_t size, uint8_t* to) {
        typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
        Floats most{};
        for (int64_t i = 0; i < size; i += LANES) {
            const Floats x = load(from + i), y = x < 0.0f ? -x : x;
            most = y > most ? y : most;
        }
        const float scale = std::max(largest(most) / 127.0f, 1e-30f);
        const Floats inverse = all(1.0f / scale), magic = all(12582912.0f + 128.0f);  // 1.5 * 2^23 rounds, see vectors.h
        for (int64_t i = 0; i < size; i += LANES) {
            const Bits rounded = (Bits)(load(from + i) * inverse + magic) & 0xffu;
            *reinterpret_cast<Bytes*>(to + i) = __builtin_convertvector(rounded, Bytes);
        }
        return scale;
    }
    static Floats value(Ints sum, const Matrix& m, int64_t output) {
        return __builtin_convertvector(sum - *reinterpret_cast<const Ints*>(m.sums + output), Floats);
    }
};
#endif

// Rows that a matrix is multiplied with, [B][stride], and what their numbers are to be multiplied by.
template <class Input>
struct Rows {
    const Input* numbers;
    const float* scales;
    int64_t stride, count;
};

template <class Kind, int P, int R, class Finish>
inline void tile(const Matrix& m, int64_t panel, const Rows<typename Kind::Input>& x, int64_t row, Finish finish) {
    const int64_t steps = m.inputs / Kind::DEPTH, length = steps * LANES * Kind::DEPTH;
    const auto* weights = (const typename Kind::Weight*)m.panels + panel * length;
    const auto* numbers = x.numbers + row * x.stride;
    typename Kind::Sum sums[R][P] = {};
    for (int64_t step = 0; step < steps; ++step, weights += LANES * Kind::DEPTH) {
        decltype(Kind::weights(weights)) taken[P];
        #pragma GCC unroll 8
        for (int p = 0; p < P; ++p) taken[p] = Kind::weights(weights + p * length);
        #pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const auto number = Kind::input(numbers + r * x.stride, step);
            #pragma GCC unroll 8
            for (int p = 0; p < P; ++p) sums[r][p] = Kind::add(sums[r][p], taken[p], number);
        }
    }
    for (int r = 0; r < R; ++r) {
        Floats values[P];
        for (int p = 0; p < P; ++p) {
            const int64_t output = (panel + p) * LANES;
            const float *scales = m.scales ? m.scales + output : nullptr, *bias = m.bias ? m.bias + output : nullptr;
            values[p] = scaled(Kind::value(sums[r][p], m, output), scales, x.scales[row + r], bias);
        }
        finish(row + r, panel, values, P);
    }
}
template <class Kind, int P, class Finish>
inline void strip(const Matrix& m, int64_t panel, const Rows<typename Kind::Input>& x, Finish finish) {
    int64_t row = 0;
    if constexpr (P <= 4) {
        for (; row + 4 <= x.count; row += 4) tile<Kind, P, 4>(m, panel, x, row, finish);
        if (row + 2 <= x.count) tile<Kind, P, 2>(m, panel, x, row, finish), row += 2;
    }
    for (; row < x.count; ++row) tile<Kind, P, 1>(m, panel, x, row, finish);
}
// Each thread takes some of the panels, in whole units of one or two, for all rows.
template <class Kind, int UNIT = 1, class Finish>
void multiply(const Matrix& m, const Rows<typename Kind::Input>& x, Thread t, Finish finish) {
    const int64_t units = m.outputs / LANES / UNIT, end = t.end(units) * UNIT;
    int64_t panel = t.begin(units) * UNIT;
    if (x.count == 1)  // as many sums at once as hide how long one takes
        for (; panel + 8 <= end; panel += 8) strip<Kind, 8>(m, panel, x, finish);
    for (; panel + 4 <= end; panel += 4) strip<Kind, 4>(m, panel, x, finish);
    for (; panel + 2 <= end; panel += 2) strip<Kind, 2>(m, panel, x, finish);
    if constexpr (UNIT == 1)
        for (; panel < end; ++panel) strip<Kind, 1>(m, panel, x, finish);
}

void normalise(const Norm& n, const float* x, float* out, int64_t width, float eps) {
    float mean = 0, square = 0;
    if (n.bias) {
        #pragma omp simd reduction(+ : mean)
        for (int64_t i = 0; i < width; ++i) mean += x[i];
        mean /= float(width);
    }
    #pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / std::sqrt(square / float(width) + eps);
    for (int64_t i = 0; i < width; ++i) out[i] = (x[i] - mean) * scale * n.gain[i] + (n.bias ? n.bias[i] : 0.0f);
}

void rotate(float* x, const float* cos, const float* sin, bool interleaved, int64_t width) {
    const int64_t planes = width / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : planes;
    for (int64_t i = 0; i < planes; ++i) {
        const float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * cos[i] - b * sin[i];
        x[i * step + apart] = b * cos[i] + a * sin[i];
    }
}

ONCE Floats activated(Floats x, int64_t kind) {
    const Floats positive = x > 0.0f ? x : Floats{};
    switch (kind) {
        case GELU:
            for (int lane = 0; lane < LANES; ++lane) x[lane] = 0.5f * x[lane] * (1.0f + std::erf(x[lane] * 0.707106781f));
            return x;
        case GELU_TANH: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        case SILU: return x * sigmoid(x);
        case RELU: return positive;
        default: return positive * positive;
    }
}

// Where a number of a key, or of a value, stands in what is kept of a head.
template <class E>
inline int64_t key_at(int64_t place, int64_t k, int64_t deep) {
    const int64_t block = place / LANES * LANES * deep, lane = place % LANES;
    return block + (sizeof(E) == 1 ? k / 4 * 4 * LANES + lane * 4 + k % 4 : k * LANES + lane);
}
template <class E>
inline int64_t value_at(int64_t place, int64_t k, int64_t wide) {
    return sizeof(E) == 1 ? place / 4 * 4 * wide + k * 4 + place % 4 : place * wide + k;
}
template <class E, class At>
inline void keep(const float* x, int64_t width, E* kept, float* scale, At where) {
    if constexpr (sizeof(E) == 1) {
        float most = 0.0f;
        for (int64_t k = 0; k < width; ++k) most = std::max(most, std::fabs(x[k]));
        *scale = most / 127.0f;
        const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
        for (int64_t k = 0; k < width; ++k) kept[where(k)] = int8_t(std::lrintf(x[k] * inverse));
    } else {
        for (int64_t k = 0; k < width; ++k) narrow(x[k], kept[where(k)]);
    }
}

// One of four vectors: of those that follow each other at `stride`, or of one with four int8 numbers in each lane.
template <class E>
inline Floats one_of(const E* four, int64_t stride, int j) {
    return load(four + j * stride);
}
inline Floats one_of(const int8_t* four, int64_t, int j) {
    return __builtin_convertvector((*reinterpret_cast<const Ints*>(four) << (24 - 8 * j)) >> 24, Floats);
}
// Asks for what is read soon: stories by the dozen lie beyond the caches, in pieces too short for the processor to foresee.
template <int BYTES>
inline void foresee(const void* p) {
    for (int byte = 0; byte < BYTES; byte += 64) __builtin_prefetch((const char*)p + 4096 + byte);
}

// N vectors of what one head finds, from places in blocks; the sums of even and of odd places apart.
template <int N, class E>
inline void gather(const E* values, float* out, const float* weights, int64_t from, int64_t to, int64_t blocks, int64_t width) {
    constexpr int64_t PACK = sizeof(E) == 1 ? 4 : 1;
    Floats sums[2][N] = {};
    for (int64_t block = from; block <= to; ++block) {
        const E* four = values + block % blocks * LANES * width;
        for (int lane = 0; lane < LANES; lane += 4, four += 4 * width, weights += 4)
            for (int j = 0; j < 4; ++j) {
                foresee<N * LANES * sizeof(E)>(four + j * (PACK == 1 ? width : N * LANES));
                for (int n = 0; n < N; ++n) sums[j % 2][n] += weights[j] * one_of(four + n * LANES * PACK, width, j);
            }
    }
    for (int n = 0; n < N; ++n) at(out + n * LANES) = sums[0][n] + sums[1][n];
}
// What one head finds for the token at `place`, in the places from `first` on.
template <class E>
void attend(const float* q, const E* keys, const E* values, const float* key_scales, const float* value_scales, float* out,
            float* weights, int64_t first, int64_t place, int64_t size, int64_t width, float scale) {
    constexpr int64_t PACK = sizeof(E) == 1 ? 4 : 1;
    const int64_t blocks = size / LANES, from = first / LANES, to = place / LANES, wide = padded(width);
    Floats most = all(-INFINITY);
    for (int64_t block = from; block <= to; ++block) {
        const E* key = keys + block % blocks * LANES * fours(width);
        Floats sums[4] = {};
        int64_t k = 0;
        for (; k + 4 <= width; k += 4) {
            foresee<4 * LANES * sizeof(E)>(key + k * LANES);
            for (int j = 0; j < 4; ++j) sums[j] += q[k + j] * one_of(key + k * LANES, LANES, j);
        }
        for (int j = 0; k + j < width; ++j) sums[0] += q[k + j] * one_of(key + k * LANES, LANES, j);
        const Ints places = lanes_from(block * LANES);
        Floats score = ((sums[0] + sums[1]) + (sums[2] + sums[3])) * scale;
        if constexpr (PACK > 1) score *= load(key_scales + block % blocks * LANES);
        const Floats seen = (places < int32_t(first)) | (places > int32_t(place)) ? all(-INFINITY) : score;
        at(weights + (block - from) * LANES) = seen;
        most = seen > most ? seen : most;
    }
    const float top = largest(most);
    Floats sum{};
    for (int64_t block = 0; block <= to - from; ++block) {
        Floats weight = exp_nonpositive(at(weights + block * LANES) - top);
        sum += weight;
        if constexpr (PACK > 1) weight *= load(value_scales + (from + block) % blocks * LANES);
        at(weights + block * LANES) = weight;
    }
    int64_t done = 0;
    for (; done + 4 * LANES <= wide; done += 4 * LANES)
        gather<4>(values + done * PACK, out + done, weights, from, to, blocks, wide);
    for (; done < wide; done += LANES) gather<1>(values + done * PACK, out + done, weights, from, to, blocks, wide);
    const float share = 1.0f / total(sum);
    for (int64_t i = 0; i < wide; ++i) out[i] *= share;
}

// Where a pass keeps what it is at, in floats from the beginning of its room.
struct Plan {
    int64_t width, qkv_width, y_width, ff_width, widest, x, qkv, y, ff, inputs, scales, own, own_size, size;
    Plan(const Model& m, int64_t count, int64_t threads) {
        int64_t longest = 0;
        for (int64_t l = 0; l < m.depth; ++l) longest = std::max(longest, m.layers[l].size);
        const int64_t rows = std::max(count, threads);
        width = padded(m.width), qkv_width = padded((m.heads + 2 * m.groups) * m.head_width);
        y_width = padded(m.heads * m.head_width), ff_width = padded(m.ff_width);
        widest = std::max({width, y_width, ff_width});
        x = 0, qkv = x + count * width, y = qkv + count * qkv_width, ff = y + count * y_width;
        inputs = ff + count * ff_width, scales = inputs + rows * widest, own = scales + padded(rows);
        own_size = widest + padded(m.head_width) + padded(longest);  // of each thread
        size = own + threads * own_size;
    }
};

template <class Kind>
void read(const Model& m, const Pass& pass, const Plan& plan, Thread t) {
    typedef typename Kind::Input Input;
    typedef typename Kind::Cached Cached;
    const int64_t B = pass.count, D = m.width, K = m.head_width, wide = padded(K);
    float* room = (float*)pass.room;
    float *x = room + plan.x, *qkv = room + plan.qkv, *y = room + plan.y, *ff = room + plan.ff;
    float *scales = room + plan.scales, *own = room + plan.own + t.index * plan.own_size;
    float *found = own + plan.widest, *weights = found + wide;
    const auto together = [&] {
        #pragma omp barrier
    };
    // Rows made ready for a matrix by `make(row, floats)`; one row alone is quicker made by each thread for itself.
    const auto ready = [&](int64_t count, auto make) {
        Input* inputs = (Input*)(room + plan.inputs);
        const int64_t stride = plan.widest * sizeof(float) / sizeof(Input);
        const bool alone = count == 1;
        Input* to = alone ? inputs + t.index * stride : inputs;
        float* to_scales = alone ? scales + t.index : scales;
        for (int64_t b = alone ? 0 : t.begin(count); b < (alone ? 1 : t.end(count)); ++b) {
            float* row = Kind::CONVERTS ? own : (float*)(to + b * stride);
            const int64_t size = make(b, row);
            to_scales[b] = Kind::convert(row, size, to + b * stride);
        }
        if (!alone) together();
        return Rows<Input>{to, to_scales, stride, count};
    };
    const auto normed = [&](const Norm& norm) {
        return [&, norm](int64_t b, float* row) {
            normalise(norm, x + b * plan.width, row, D, m.eps);
            std::fill(row + D, row + plan.width, 0.0f);
            return plan.width;
        };
    };
    const auto copied = [&](const float* from, int64_t width) {
        return [=](int64_t b, float* row) {
            std::memcpy(row, from + b * width, width * sizeof(float));
            return width;
        };
    };
    const auto to = [&](float* out, int64_t width) {
        return [=](int64_t b, int64_t panel, const Floats* values, int count) {
            for (int p = 0; p < count; ++p) at(out + b * width + (panel + p) * LANES) = values[p];
        };
    };
    const auto onto_x = [&](int64_t b, int64_t panel, const Floats* values, int count) {
        for (int p = 0; p < count; ++p) at(x + b * plan.width + (panel + p) * LANES) += values[p];
    };
    const auto fed = [&](int64_t b, int64_t panel, const Floats* values, int count) {
        for (int p = 0; p < count; ++p)
            at(ff + b * plan.ff_width + (panel + p) * LANES) = activated(values[p], m.activation);
    };
    const auto fed_gated = [&](int64_t b, int64_t panel, const Floats* values, int count) {
        for (int p = 0; p < count; p += 2)
            at(ff + b * plan.ff_width + (panel + p) / 2 * LANES) = activated(values[p], m.activation) * values[p + 1];
    };

    for (int64_t b = t.begin(B); b < t.end(B); ++b) {
        const float* token = m.embedding + pass.tokens[b] * D;
        for (int64_t i = 0; i < D; ++i)
            x[b * plan.width + i] = token[i] + (m.positions ? m.positions[pass.places[b] * D + i] : 0.0f);
        std::fill(x + b * plan.width + D, x + (b + 1) * plan.width, 0.0f);
    }
    together();
    for (int64_t l = 0; l < m.depth; ++l) {
        const Layer& layer = m.layers[l];
        multiply<Kind>(layer.qkv, ready(B, normed(layer.attention_norm)), t, to(qkv, plan.qkv_width));
        together();
        const auto turned = [&](const Norm& norm, float* head, int64_t place) {
            if (norm.gain) normalise(norm, head, head, K, m.eps);
            if (m.cos) rotate(head, m.cos + place * (K / 2), m.sin + place * (K / 2), m.interleaved, K);
        };
        for (int64_t task = t.begin(B * m.groups); task < t.end(B * m.groups); ++task) {
            const int64_t b = task / m.groups, g = task % m.groups, at_place = pass.places[b] % layer.size;
            float *key = qkv + b * plan.qkv_width + (m.heads + g) * K, *value = key + m.groups * K;
            turned(layer.k_norm, key, pass.places[b]);
            const int64_t before = (pass.slots[b] * m.groups + g) * layer.size;
            keep(key, K, (Cached*)layer.keys + before * fours(K), layer.key_scales + before + at_place,
                 [=](int64_t k) { return key_at<Cached>(at_place, k, fours(K)); });
            keep(value, K, (Cached*)layer.values + before * wide, layer.value_scales + before + at_place,
                 [=](int64_t k) { return value_at<Cached>(at_place, k, wide); });
        }
        if (!pass.distinct || m.heads != m.groups) together();  // else a thread needs only what it has written itself
        for (int64_t task = t.begin(B * m.heads); task < t.end(B * m.heads); ++task) {
            const int64_t b = task / m.heads, h = task % m.heads, place = pass.places[b];
            float* query = qkv + b * plan.qkv_width + h * K;
            turned(layer.q_norm, query, place);
            const int64_t before = (pass.slots[b] * m.groups + h / (m.heads / m.groups)) * layer.size;
            const int64_t first = layer.window ? std::max<int64_t>(0, place - layer.window + 1) : 0;
            attend(query, (const Cached*)layer.keys + before * fours(K), (const Cached*)layer.values + before * wide,
                   layer.key_scales + before, layer.value_scales + before, found, weights, first, place, layer.size, K,
                   m.scale);
            std::memcpy(y + b * plan.y_width + h * K, found, K * sizeof(float));
        }
        together();
        multiply<Kind>(layer.out, ready(B, copied(y, plan.y_width)), t, onto_x);
        together();
        const Rows<Input> h = ready(B, normed(layer.ff_norm));
        if (m.gated)
            multiply<Kind, 2>(layer.up, h, t, fed_gated);
        else
            multiply<Kind>(layer.up, h, t, fed);
        together();
        multiply<Kind>(layer.down, ready(B, copied(ff, plan.ff_width)), t, onto_x);
        together();
    }
    const auto last = [&](int64_t b, float* row) { return normed(m.norm)(pass.wanted[b], row); };
    multiply<Kind>(m.head, ready(pass.wanted_count, last), t, to(pass.logits, m.head.outputs));
}

template <class Kind>
void read_together(const Model& m, const Pass& pass) {
    const Plan plan(m, pass.count, pass.threads);
    float* y = (float*)pass.room + plan.y;
    for (int64_t b = 0; b < pass.count; ++b)  // behind the heads there is nothing
        std::fill(y + b * plan.y_width + m.heads * m.head_width, y + (b + 1) * plan.y_width, 0.0f);
    #pragma omp parallel num_threads(pass.threads)
    read<Kind>(m, pass, plan, Thread{omp_get_thread_num(), omp_get_num_threads()});
}

}  // namespace

extern "C" {
int64_t decode_lanes() { return LANES; }
// Whether int8 weights are multiplied with int8 numbers, or with fp32 ones.
int64_t decode_has_int8() {
#if defined(__AVX512VNNI__)
    return 1;
#else
    return 0;
#endif
}
int64_t decode_room(const Model* m, int64_t count, int64_t threads) { return Plan(*m, count, threads).size * 4; }
void decode_fp32(const Model* m, const Pass* pass) { read_together<Fp32>(*m, *pass); }
void decode_bf16(const Model* m, const Pass* pass) { read_together<Bf16>(*m, *pass); }
void decode_int8_weights(const Model* m, const Pass* pass) { read_together<Int8Weights>(*m, *pass); }
#if defined(__AVX512VNNI__)
void decode_int8(const Model* m, const Pass* pass) { read_together<Int8>(*m, *pass); }
#endif
}
