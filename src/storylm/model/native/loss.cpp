// The softmax of a chunk of logits and its gradient, in one visit to each row, and the sum that weights' gradients are.
//
// C rows of the chunk, V vocabulary

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.h"

namespace {

// A row of logits becomes the gradient of its target's nats by them, softmax - one-hot; returns the nats.
// `weights` has room for a row. Columns from `vocabulary` on are padding: their gradient is 0.
template <class E>
float row_gradient(E* row, int64_t stride, int64_t vocabulary, int64_t target, float* weights) {
    const int64_t whole = vocabulary / LANES * LANES;
    Floats most = all(-std::numeric_limits<float>::infinity());
    for (int64_t v = 0; v < whole; v += LANES) {
        const Floats logits = load(row + v);
        most = logits > most ? logits : most;
    }
    float highest = largest(most);
    for (int64_t v = whole; v < vocabulary; ++v) highest = std::max(highest, widen(row[v]));
    const float chosen = widen(row[target]);
    Floats sums{};
    int64_t v = 0;
    for (; v < whole; v += LANES) {
        const Floats weight = exp_nonpositive(load(row + v) - highest);
        sums += weight;
        at(weights + v) = weight;
    }
    float sum = total(sums);
    for (; v < vocabulary; ++v) sum += weights[v] = std::exp(widen(row[v]) - highest);
    const float share = 1.0f / sum;
    for (v = 0; v < whole; v += LANES) store(at(weights + v) * share, row + v);
    for (; v < vocabulary; ++v) narrow(weights[v] * share, row[v]);
    for (; v < stride; ++v) narrow(0.0f, row[v]);
    narrow(weights[target] * share - 1.0f, row[target]);
    return std::log(sum) - (chosen - highest);
}

template <class E>
void gradient(E* logits, const int64_t* targets, float* nats, int64_t rows, int64_t stride, int64_t vocabulary,
              int64_t threads) {
    #pragma omp parallel num_threads(threads)
    {
        Buffer weights(vocabulary);
        #pragma omp for schedule(dynamic, 4)
        for (int64_t c = 0; c < rows; ++c) {
            E* row = logits + c * stride;
            if (targets[c] >= 0) {
                nats[c] = row_gradient(row, stride, vocabulary, targets[c], weights.data());
            } else {  // no target: no loss and no gradient
                nats[c] = 0;
                for (int64_t v = 0; v < stride; ++v) narrow(0.0f, row[v]);
            }
        }
    }
}

template <class E>
void add(float* sums, const E* more, int64_t size, bool first, int64_t threads) {
    constexpr int64_t PART = 1 << 14;
    #pragma omp parallel for num_threads(threads)
    for (int64_t begin = 0; begin < size; begin += PART) {
        int64_t i = begin, end = std::min(begin + PART, size);
        for (; i + LANES <= end; i += LANES) at(sums + i) = first ? load(more + i) : at(sums + i) + load(more + i);
        for (; i < end; ++i) sums[i] = first ? widen(more[i]) : sums[i] + widen(more[i]);
    }
}

}  // namespace

extern "C" {
// Rows of `stride` numbers each, of which the first `vocabulary` are logits; they become the gradient.
void softmax_gradient(void* logits, const int64_t* targets, float* nats, int half, int64_t rows, int64_t stride,
                      int64_t vocabulary, int64_t threads) {
    if (half)
        gradient((bf16*)logits, targets, nats, rows, stride, vocabulary, threads);
    else
        gradient((float*)logits, targets, nats, rows, stride, vocabulary, threads);
}
// sums += more, or sums = more the first time, without a copy of `more` in fp32.
void add_to(float* sums, const void* more, int half, int64_t size, int first, int64_t threads) {
    if (half)
        add(sums, (const bf16*)more, size, first, threads);
    else
        add(sums, (const float*)more, size, first, threads);
}
}
