// Dropout: each number is dropped or divided by the share that is kept. Its own gradient is the same function.

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int64_t ROW = 4096;  // numbers that share a hashed row; a row is worked on by one thread

template <class E>
void drop(const E* in, E* out, int64_t size, float kept, uint64_t seed, int64_t threads) {
    const uint32_t threshold = kept_below(kept);
    const float share = 1.0f / kept;
    const int64_t rows = (size + ROW - 1) / ROW;
    #pragma omp parallel for num_threads(threads) if (rows > 8)
    for (int64_t row = 0; row < rows; ++row) {
        const uint32_t hash = hash_of_row(seed, row);
        const int64_t first = row * ROW, length = std::min(ROW, size - first);
        int64_t i = 0;
        for (; i + LANES <= length; i += LANES) {
            const Ints kept_lanes = is_kept(hash, (Bits)lanes_from(i), threshold);
            store(kept_lanes ? load(in + first + i) * share : Floats{}, out + first + i);
        }
        const Ints kept_lanes = is_kept(hash, (Bits)lanes_from(i), threshold);
        for (int lane = 0; i < length; ++i, ++lane)
            narrow(kept_lanes[lane] ? widen(in[first + i]) * share : 0.0f, out[first + i]);
    }
}

}  // namespace

extern "C" void dropout(const void* in, void* out, int half, int64_t size, float kept, uint64_t seed,
                        int64_t threads) {
    if (half)
        drop((const bf16*)in, (bf16*)out, size, kept, seed, threads);
    else
        drop((const float*)in, (float*)out, size, kept, seed, threads);
}
