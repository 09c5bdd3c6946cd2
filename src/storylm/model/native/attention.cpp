// Causal self-attention for training on a CPU: forward and backward, any head width, any first visible key.
//
// A query sees an unbroken run of keys: from `first[b][t]` (0, or where its window or its story begins) to
// itself. Every head of every row is worked on alone, four queries at a time, and a query's scores are one
// row of a buffer that stays in the cache: no [T, T] matrix is ever in memory, and what the mask hides is
// not computed. Arithmetic is fp32; tensors are fp32 or bf16. The backward pass computes the scores anew
// from the normalisers that the forward pass leaves (FlashAttention, Dao et al. 2022).
//
// Heads narrower than a vector (4 in GPT-Neo's smallest) are worked on across keys instead of across
// features. Vectors are those of GCC and Clang, so this compiles for any processor.
//
// B rows, T tokens, H query heads, G key/value heads, K head width

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.h"

namespace {

constexpr int ROWS = 4;             // queries at a time
constexpr int TILE = 4 * LANES;     // keys at a time
constexpr int NARROW = 4;           // features at a time where heads are narrower than a vector

struct Problem {
    int64_t batch, tokens, heads, groups, width;
    int64_t q_strides[3], k_strides[3], v_strides[3];  // of row, head and token, in elements; features lie together
    float scale;
    float kept;         // share of weights that dropout keeps; 1: no dropout
    uint64_t seed;      // of dropout
    int64_t threads;
};

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// How one head lies in memory while it is worked on. Rows [T, KP] serve the wide, columns [KP, TP] the narrow.
struct Layout {
    int64_t tokens, width, padded_tokens, padded_width;
    bool wide;
    explicit Layout(const Problem& p)
        : tokens(p.tokens), width(p.width), padded_tokens(round_up(p.tokens, TILE)),
          padded_width(round_up(p.width, p.width < LANES ? NARROW : LANES)), wide(p.width >= LANES) {}
    int64_t size() const { return padded_tokens * padded_width; }
};

template <class E>
void read_rows(const Layout& l, const E* from, int64_t stride, float* to) {
    for (int64_t t = 0; t < l.tokens; ++t)
        for (int64_t k = 0; k < l.width; ++k) to[t * l.padded_width + k] = widen(from[t * stride + k]);
}
template <class E>
void read_columns(const Layout& l, const E* from, int64_t stride, float* to) {
    constexpr int64_t BLOCK = 16;  // so that lines of the cache are used whole
    for (int64_t first = 0; first < l.tokens; first += BLOCK)
        for (int64_t k = 0; k < l.width; ++k)
            for (int64_t t = first; t < std::min(first + BLOCK, l.tokens); ++t)
                to[k * l.padded_tokens + t] = widen(from[t * stride + k]);
}
template <class E>
void write_rows(const Layout& l, const float* from, E* to, int64_t stride) {
    for (int64_t t = 0; t < l.tokens; ++t)
        for (int64_t k = 0; k < l.width; ++k) narrow(from[t * l.padded_width + k], to[t * stride + k]);
}
template <class E>
void write_columns(const Layout& l, const float* from, E* to, int64_t stride) {
    for (int64_t t = 0; t < l.tokens; ++t)
        for (int64_t k = 0; k < l.width; ++k) narrow(from[k * l.padded_tokens + t], to[t * stride + k]);
}

// products[r][t] = queries[r] . keys[t] for keys from..to, both multiples of LANES; keys as columns.
template <int N>
inline void products_of(const Layout& l, const float* queries, const float* columns, float* products, int64_t t) {
    Floats sums[ROWS][N] = {};
    for (int64_t k = 0; k < l.width; ++k) {
        const float* key = columns + k * l.padded_tokens + t;
        for (int n = 0; n < N; ++n) {
            const Floats these = in_register(at(key + n * LANES));
            for (int r = 0; r < ROWS; ++r) sums[r][n] += queries[r * l.padded_width + k] * these;
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < N; ++n) at(products + r * l.padded_tokens + t + n * LANES) = sums[r][n];
}
void products(const Layout& l, const float* queries, const float* columns, float* out, int64_t from, int64_t to) {
    int64_t t = from;
    for (; t + TILE <= to; t += TILE) products_of<4>(l, queries, columns, out, t);
    for (; t < to; t += LANES) products_of<1>(l, queries, columns, out, t);
}

// out[r] = sum over keys of weights[r][t] * values[t].
template <int N>
inline void mix_rows(const Layout& l, const float* weights, const float* values, float* out, int64_t from, int64_t to) {
    Floats sums[ROWS][N] = {};
    for (int64_t t = from; t < to; ++t)
        for (int n = 0; n < N; ++n) {
            const Floats value = in_register(at(values + t * l.padded_width + n * LANES));
            for (int r = 0; r < ROWS; ++r) sums[r][n] += weights[r * l.padded_tokens + t] * value;
        }
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < N; ++n) at(out + r * l.padded_width + n * LANES) = sums[r][n];
}
void mix_columns(const Layout& l, const float* weights, const float* values, float* out, int64_t from, int64_t to) {
    for (int64_t k = 0; k < l.padded_width; k += NARROW) {
        Floats sums[ROWS][NARROW] = {};
        for (int64_t t = from; t < to; t += LANES)
            for (int n = 0; n < NARROW; ++n) {
                const Floats value = at(values + (k + n) * l.padded_tokens + t);
                for (int r = 0; r < ROWS; ++r) sums[r][n] += at(weights + r * l.padded_tokens + t) * value;
            }
        for (int r = 0; r < ROWS; ++r)
            for (int n = 0; n < NARROW; ++n) out[r * l.padded_width + k + n] = total(sums[r][n]);
    }
}
void mix(const Layout& l, const float* weights, const float* values, float* out, int64_t from, int64_t to) {
    if (!l.wide) return mix_columns(l, weights, values, out, from, to);
    int64_t k = 0;
    for (; k + 4 * LANES <= l.padded_width; k += 4 * LANES) mix_rows<4>(l, weights, values + k, out + k, from, to);
    for (; k + 2 * LANES <= l.padded_width; k += 2 * LANES) mix_rows<2>(l, weights, values + k, out + k, from, to);
    for (; k < l.padded_width; k += LANES) mix_rows<1>(l, weights, values + k, out + k, from, to);
}

// sums[t] += sum over the queries of weights[r][t] * vectors[r].
template <int N>
inline void spread_rows(const Layout& l, const float* weights, const float* vectors, float* sums, int64_t from,
                        int64_t to) {
    Floats these[ROWS][N];
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < N; ++n) these[r][n] = at(vectors + r * l.padded_width + n * LANES);
    for (int64_t t = from; t < to; ++t)
        for (int n = 0; n < N; ++n) {
            Floats sum = at(sums + t * l.padded_width + n * LANES);
            for (int r = 0; r < ROWS; ++r) sum += weights[r * l.padded_tokens + t] * these[r][n];
            at(sums + t * l.padded_width + n * LANES) = sum;
        }
}
void spread(const Layout& l, const float* weights, const float* vectors, float* sums, int64_t from, int64_t to) {
    int64_t k = 0;
    if (l.wide) {
        for (; k + 4 * LANES <= l.padded_width; k += 4 * LANES)
            spread_rows<4>(l, weights, vectors + k, sums + k, from, to);
        for (; k + 2 * LANES <= l.padded_width; k += 2 * LANES)
            spread_rows<2>(l, weights, vectors + k, sums + k, from, to);
        for (; k < l.padded_width; k += LANES) spread_rows<1>(l, weights, vectors + k, sums + k, from, to);
        return;
    }
    for (int64_t t = from; t < to; t += LANES)
        for (k = 0; k < l.width; ++k) {
            Floats sum = at(sums + k * l.padded_tokens + t);
            for (int r = 0; r < ROWS; ++r)
                sum += at(weights + r * l.padded_tokens + t) * vectors[r * l.padded_width + k];
            at(sums + k * l.padded_tokens + t) = sum;
        }
}

// The keys that a block of queries is worked on with: multiples of LANES around all that one of them sees.
struct Block {
    int64_t first_row, rows, from, to;
    Block(const int32_t* first, int64_t tokens, int64_t t) : first_row(t), rows(std::min<int64_t>(ROWS, tokens - t)) {
        from = *std::min_element(first + t, first + t + rows) / LANES * LANES;
        to = round_up(t + rows, LANES);
    }
};

inline Ints sees(int64_t first, int64_t query, int64_t t) {
    const Ints keys = lanes_from(t);
    return (keys >= int32_t(first)) & (keys <= int32_t(query));
}

// Scores become weights, with dropout where there is any; returns the normaliser log(sum(exp(scores))).
float softmax(const Problem& p, const Block& block, int64_t query, int64_t first, uint32_t row, uint32_t threshold,
              float* scores) {
    const Floats hidden = all(-std::numeric_limits<float>::infinity());
    Floats most = hidden;
    for (int64_t t = block.from; t < block.to; t += LANES) {
        Floats score = at(scores + t) * p.scale;
        if (t < first || t + LANES > query) score = sees(first, query, t) ? score : hidden;
        most = score > most ? score : most;
        at(scores + t) = score;
    }
    const float highest = largest(most);
    Floats sums{};
    for (int64_t t = block.from; t < block.to; t += LANES) {
        const Floats weight = exp_nonpositive(at(scores + t) - highest);
        sums += weight;
        at(scores + t) = weight;
    }
    const float sum = total(sums), share = 1.0f / (sum * p.kept);
    for (int64_t t = block.from; t < block.to; t += LANES) {
        Floats weight = at(scores + t) * share;
        if (p.kept < 1.0f) weight = is_kept(row, (Bits)lanes_from(t), threshold) ? weight : Floats{};
        at(scores + t) = weight;
    }
    return highest + std::log(sum);
}

template <class E>
void forward(const Problem& p, const E* q, const E* k, const E* v, const int32_t* first, E* out, float* normalisers) {
    const Layout l(p);
    const uint32_t threshold = kept_below(p.kept);
    const int64_t per_group = p.heads / p.groups, row = p.heads * p.width;
    #pragma omp parallel num_threads(p.threads)
    {
        Buffer keys(l.size()), values(l.size()), queries(l.size() + ROWS * l.padded_width);
        Buffer scores(ROWS * l.padded_tokens), mixed(l.size() + ROWS * l.padded_width);
        #pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < p.batch * p.groups; ++task) {
            const int64_t b = task / p.groups, g = task % p.groups;
            const int32_t* firsts = first + b * p.tokens;
            read_columns(l, k + b * p.k_strides[0] + g * p.k_strides[1], p.k_strides[2], keys.data());
            const E* value = v + b * p.v_strides[0] + g * p.v_strides[1];
            if (l.wide) read_rows(l, value, p.v_strides[2], values.data());
            else read_columns(l, value, p.v_strides[2], values.data());
            for (int64_t h = g * per_group; h < (g + 1) * per_group; ++h) {
                read_rows(l, q + b * p.q_strides[0] + h * p.q_strides[1], p.q_strides[2], queries.data());
                for (int64_t t = 0; t < p.tokens; t += ROWS) {
                    const Block block(firsts, p.tokens, t);
                    products(l, &queries[t * l.padded_width], keys.data(), scores.data(), block.from, block.to);
                    for (int64_t r = 0; r < block.rows; ++r) {
                        const int64_t number = (b * p.heads + h) * p.tokens + t + r;
                        normalisers[number] = softmax(p, block, t + r, firsts[t + r], hash_of_row(p.seed, number),
                                                      threshold, &scores[r * l.padded_tokens]);
                    }
                    mix(l, scores.data(), values.data(), &mixed[t * l.padded_width], block.from, block.to);
                }
                write_rows(l, mixed.data(), out + b * p.tokens * row + h * p.width, row);
            }
        }
    }
}

// Scores become weights after dropout, and what came in for them (d_weights) the gradient of the scores.
void softmax_backward(const Problem& p, const Block& block, int64_t query, int64_t first, uint32_t row,
                      uint32_t threshold, float normaliser, float dot, float* scores, float* d_weights) {
    const float share = 1.0f / p.kept;
    for (int64_t t = block.from; t < block.to; t += LANES) {
        Floats weight = exp_nonpositive(at(scores + t) * p.scale - normaliser);
        if (t < first || t + LANES > query) weight = sees(first, query, t) ? weight : Floats{};
        Floats kept = all(share);
        if (p.kept < 1.0f) kept = is_kept(row, (Bits)lanes_from(t), threshold) ? kept : Floats{};
        at(d_weights + t) = weight * (at(d_weights + t) * kept - dot) * p.scale;
        at(scores + t) = weight * kept;
    }
}

template <class E>
void backward(const Problem& p, const E* q, const E* k, const E* v, const int32_t* first, const E* out,
              const float* normalisers, const E* d_out, E* d_q, E* d_k, E* d_v) {
    const Layout l(p);
    const uint32_t threshold = kept_below(p.kept);
    const int64_t per_group = p.heads / p.groups, row = p.heads * p.width, group_row = p.groups * p.width;
    #pragma omp parallel num_threads(p.threads)
    {
        const int64_t spare = ROWS * l.padded_width;
        Buffer keys(l.size()), key_rows(l.wide ? l.size() : 0), values(l.size());
        Buffer queries(l.size() + spare), outs(l.size() + spare), d_outs(l.size() + spare);
        Buffer d_queries(l.size() + spare), d_keys(l.size()), d_values(l.size());
        Buffer scores(ROWS * l.padded_tokens), d_weights(ROWS * l.padded_tokens);
        #pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < p.batch * p.groups; ++task) {
            const int64_t b = task / p.groups, g = task % p.groups;
            const int32_t* firsts = first + b * p.tokens;
            const E* key = k + b * p.k_strides[0] + g * p.k_strides[1];
            read_columns(l, key, p.k_strides[2], keys.data());
            if (l.wide) read_rows(l, key, p.k_strides[2], key_rows.data());
            read_columns(l, v + b * p.v_strides[0] + g * p.v_strides[1], p.v_strides[2], values.data());
            d_keys.clear();
            d_values.clear();
            for (int64_t h = g * per_group; h < (g + 1) * per_group; ++h) {
                const int64_t place = b * p.tokens * row + h * p.width;
                read_rows(l, q + b * p.q_strides[0] + h * p.q_strides[1], p.q_strides[2], queries.data());
                read_rows(l, out + place, row, outs.data());
                read_rows(l, d_out + place, row, d_outs.data());
                for (int64_t t = 0; t < p.tokens; t += ROWS) {
                    const Block block(firsts, p.tokens, t);
                    const int64_t here = t * l.padded_width;
                    products(l, &queries[here], keys.data(), scores.data(), block.from, block.to);
                    products(l, &d_outs[here], values.data(), d_weights.data(), block.from, block.to);
                    for (int64_t r = 0; r < ROWS; ++r) {
                        float* score = &scores[r * l.padded_tokens];
                        float* d_weight = &d_weights[r * l.padded_tokens];
                        if (r >= block.rows) {  // the last block of a row may be short
                            std::fill(score + block.from, score + block.to, 0.0f);
                            std::fill(d_weight + block.from, d_weight + block.to, 0.0f);
                            continue;
                        }
                        const int64_t number = (b * p.heads + h) * p.tokens + t + r;
                        float dot = 0;
                        for (int64_t i = here + r * l.padded_width, n = i + l.width; i < n; ++i)
                            dot += outs[i] * d_outs[i];
                        softmax_backward(p, block, t + r, firsts[t + r], hash_of_row(p.seed, number), threshold,
                                         normalisers[number], dot, score, d_weight);
                    }
                    mix(l, d_weights.data(), l.wide ? key_rows.data() : keys.data(), &d_queries[here], block.from,
                        block.to);
                    spread(l, d_weights.data(), &queries[here], d_keys.data(), block.from, block.to);
                    spread(l, scores.data(), &d_outs[here], d_values.data(), block.from, block.to);
                }
                write_rows(l, d_queries.data(), d_q + place, row);
            }
            const int64_t place = b * p.tokens * group_row + g * p.width;
            if (l.wide) {
                write_rows(l, d_keys.data(), d_k + place, group_row);
                write_rows(l, d_values.data(), d_v + place, group_row);
            } else {
                write_columns(l, d_keys.data(), d_k + place, group_row);
                write_columns(l, d_values.data(), d_v + place, group_row);
            }
        }
    }
}

}  // namespace

// Outputs and gradients lie as [B, T, H or G, K]; normalisers as [B, H, T].
extern "C" {
void attention_forward(const Problem* p, int half, const void* q, const void* k, const void* v, const int32_t* first,
                       void* out, float* normalisers) {
    if (half)
        forward(*p, (const bf16*)q, (const bf16*)k, (const bf16*)v, first, (bf16*)out, normalisers);
    else
        forward(*p, (const float*)q, (const float*)k, (const float*)v, first, (float*)out, normalisers);
}
void attention_backward(const Problem* p, int half, const void* q, const void* k, const void* v, const int32_t* first,
                        const void* out, const float* normalisers, const void* d_out, void* d_q, void* d_k,
                        void* d_v) {
    if (half)
        backward(*p, (const bf16*)q, (const bf16*)k, (const bf16*)v, first, (const bf16*)out, normalisers,
                 (const bf16*)d_out, (bf16*)d_q, (bf16*)d_k, (bf16*)d_v);
    else
        backward(*p, (const float*)q, (const float*)k, (const float*)v, first, (const float*)out, normalisers,
                 (const float*)d_out, (float*)d_q, (float*)d_k, (float*)d_v);
}
}
