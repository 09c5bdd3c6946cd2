// Vectors of floats in the notation of GCC and Clang, which compiles for any processor, and what the kernels share.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float Floats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

// Zeros to begin with, and where lines of the cache begin: a vector across two lines costs twice.
class Buffer {
    struct alignas(64) Line {
        float numbers[16] = {};
    };
    std::vector<Line> lines;

  public:
    explicit Buffer(int64_t size) : lines((size + 15) / 16) {}
    float* data() { return lines.data()->numbers; }
    float& operator[](int64_t i) { return data()[i]; }
    void clear() { std::memset(data(), 0, lines.size() * sizeof(Line)); }
};

inline Floats& at(float* p) { return *reinterpret_cast<Floats*>(p); }
inline const Floats& at(const float* p) { return *reinterpret_cast<const Floats*>(p); }
inline Floats all(float x) { return x - Floats{}; }

// Without this GCC reads a number that is used four times four times, and reading is what the products wait for.
inline Floats in_register(Floats x) {
#if defined(__AVX__)
    asm("" : "+v"(x));
#endif
    return x;
}

inline float total(Floats x) {
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += x[lane];
    return sum;
}
inline float largest(Floats x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; ++lane) most = x[lane] > most ? x[lane] : most;
    return most;
}
inline Ints lanes_from(int64_t first) {
    Ints numbers;
    for (int lane = 0; lane < LANES; ++lane) numbers[lane] = int32_t(first) + lane;
    return numbers;
}

struct bf16 {
    uint16_t bits;
};
static_assert(sizeof(bf16) == 2, "bf16 is two bytes");

inline float widen(float x) { return x; }
inline float widen(bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline void narrow(float x, float& y) { y = x; }
inline void narrow(float x, bf16& y) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    y.bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// LANES of them at once.
inline Floats load(const float* p) { return at(p); }
inline Floats load(const bf16* p) {
    return (Floats)(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Bits) << 16);
}
inline void store(Floats x, float* p) { at(p) = x; }
inline void store(Floats x, bf16* p) {
    const Bits bits = (Bits)x, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    *reinterpret_cast<Halves*>(p) = __builtin_convertvector(x == x ? rounded : Bits{} + 0x7fc0u, Halves);
}

// e^x for x <= 0, to about 1e-7 of it: 2^n * 2^f, n whole and |f| <= 1/2, the latter a Taylor polynomial.
inline Floats exp_nonpositive(Floats x) {
    x = x * 1.44269504f;
    const Ints vanishes = x < -126.0f;
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
    const Floats shifted = x + magic;
    const Floats f = x - (shifted - magic);
    const Floats y = 1.0f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f +
                     f * (0.00133335581f + f * 0.000154035304f)))));
    const Ints n = (Ints)shifted - (Ints)magic;
    return vanishes ? Floats{} : x == x ? (Floats)((Ints)y + (n << 23)) : x;  // NaN stays NaN
}

inline Floats sigmoid(Floats z) {
    const Floats e = exp_nonpositive(z < 0.0f ? z : -z);
    return (z < 0.0f ? e : all(1.0f)) / (1.0f + e);
}

// What dropout keeps is decided by a hash of a seed, a row and a column: the same whatever the order of the work,
// and to be had again in the backward pass. The finalisers are those of SplitMix64 and lowbias32.
inline uint32_t hash_of_row(uint64_t seed, uint64_t row) {
    uint64_t x = seed + (row + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return uint32_t((x ^ (x >> 31)) >> 32);
}
inline uint32_t kept_below(float share) { return uint32_t(share * 16777216.0f); }  // of 24 bits
inline Ints is_kept(uint32_t row, Bits columns, uint32_t threshold) {
    Bits x = columns * 0x9e3779b9u + row;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x = (x ^ (x >> 16)) >> 8;
    return (Ints)(x < threshold);
}

}  // namespace
