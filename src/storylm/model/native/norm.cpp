// RMSNorm and its gradient, over rows or over the heads of a projection; heads are rotated in the same visit (RoPE).
//
// A row is read, changed as floats near at hand, and written: once forward, and once backward. Sums over all rows, which
// the gradient of the gain is, are taken in blocks of BLOCK rows and then in order, so that threads change nothing.

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 64;

template <class E>
void read(const E* from, float* to, int64_t size) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) at(to + i) = load(from + i);
    for (; i < size; ++i) to[i] = widen(from[i]);
}
template <class E>
void write(const float* from, E* to, int64_t size) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) store(at(from + i), to + i);
    for (; i < size; ++i) narrow(from[i], to[i]);
}

// One over the root of the mean square.
float scale_of(const float* x, int64_t width, float eps) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += x[i] * x[i];
    return 1.0f / std::sqrt(sum / float(width) + eps);
}
void normalise(float* x, const float* gain, float scale, int64_t width) {
    #pragma omp simd
    for (int64_t i = 0; i < width; ++i) x[i] = x[i] * scale * gain[i];
}
// `dy` becomes the gradient of the row `x`; what the gain's gradient has of it is added to `gains`.
void normalise_back(const float* x, const float* gain, float scale, float* dy, float* gains, int64_t width) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) {
        gains[i] += dy[i] * x[i] * scale;
        dy[i] *= gain[i];
        sum += dy[i] * x[i];
    }
    const float share = sum * scale * scale / float(width);
    #pragma omp simd
    for (int64_t i = 0; i < width; ++i) dy[i] = scale * (dy[i] - share * x[i]);
}

// Each plane of features turns by its angle; the other way round with `turn` -1. Planes are features i and i + width/2, or,
// interleaved, 2i and 2i + 1.
void rotate(float* x, const float* cos, const float* sin, float turn, bool interleaved, int64_t width) {
    const int64_t planes = width / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : planes;
    #pragma omp simd
    for (int64_t i = 0; i < planes; ++i) {
        const float a = x[i * step], b = x[i * step + apart], s = turn * sin[i];
        x[i * step] = a * cos[i] - b * s;
        x[i * step + apart] = b * cos[i] + a * s;
    }
}

// What all calls on one tensor share. Rows of `width` numbers, `heads` of them to a token; tables of angles have
// width/2 columns and a row for each of `places` tokens, after which they begin again.
struct Rows {
    const float *gain, *cos, *sin;  // null: no norm; no rotation
    float* scales;                  // one for each row
    int64_t rows, width, heads, places, interleaved;
    float eps;
    int64_t threads;
};

const float* angles(const float* table, const Rows& r, int64_t row) {
    return table + row / r.heads % r.places * (r.width / 2);
}

template <class E, class O>
void forward(const E* x, O* y, const Rows& r) {
    #pragma omp parallel num_threads(r.threads) if (r.rows * r.width > 1 << 14)
    {
        Buffer numbers(r.width);
        float* row = numbers.data();
        #pragma omp for
        for (int64_t n = 0; n < r.rows; ++n) {
            read(x + n * r.width, row, r.width);
            if (r.gain) normalise(row, r.gain, r.scales[n] = scale_of(row, r.width, r.eps), r.width);
            if (r.cos) rotate(row, angles(r.cos, r, n), angles(r.sin, r, n), 1.0f, r.interleaved, r.width);
            write(row, y + n * r.width, r.width);
        }
    }
}

// `partial` has a row of width zeros for each block.
template <class E, class O>
void backward(const E* x, const O* dy, E* dx, float* partial, const Rows& r) {
    #pragma omp parallel num_threads(r.threads) if (r.rows * r.width > 1 << 14)
    {
        Buffer numbers(r.width), gradients(r.width);
        float *row = numbers.data(), *gradient = gradients.data();
        #pragma omp for
        for (int64_t block = 0; block < (r.rows + BLOCK - 1) / BLOCK; ++block)
            for (int64_t n = block * BLOCK; n < std::min((block + 1) * BLOCK, r.rows); ++n) {
                read(dy + n * r.width, gradient, r.width);
                if (r.cos) rotate(gradient, angles(r.cos, r, n), angles(r.sin, r, n), -1.0f, r.interleaved, r.width);
                if (r.gain) {
                    read(x + n * r.width, row, r.width);
                    normalise_back(row, r.gain, r.scales[n], gradient, partial + block * r.width, r.width);
                }
                write(gradient, dx + n * r.width, r.width);
            }
    }
}

}  // namespace

extern "C" {
int64_t norm_block() { return BLOCK; }
// x and dx are bf16 where `x_half`, y and dy where `y_half`, else fp32.
void norm_forward(const void* x, void* y, int x_half, int y_half, const Rows* rows) {
    if (x_half && y_half)
        forward((const bf16*)x, (bf16*)y, *rows);
    else if (x_half)
        forward((const bf16*)x, (float*)y, *rows);
    else if (y_half)
        forward((const float*)x, (bf16*)y, *rows);
    else
        forward((const float*)x, (float*)y, *rows);
}
void norm_backward(const void* x, const void* dy, void* dx, float* partial, int x_half, int y_half, const Rows* rows) {
    if (x_half && y_half)
        backward((const bf16*)x, (const bf16*)dy, (bf16*)dx, partial, *rows);
    else if (x_half)
        backward((const bf16*)x, (const float*)dy, (bf16*)dx, partial, *rows);
    else if (y_half)
        backward((const float*)x, (const bf16*)dy, (float*)dx, partial, *rows);
    else
        backward((const float*)x, (const float*)dy, (float*)dx, partial, *rows);
}
}
