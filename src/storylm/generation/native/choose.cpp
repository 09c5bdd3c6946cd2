// The next token of each row from its scores, as `generation.sampling` has it: temperature, filters, and the draw.
//
// B rows, V vocabulary

#include <algorithm>
#include <cmath>
#include <functional>

#include "vectors.h"

namespace {

struct Row {
    uint64_t seed, count;  // of its story, and how many tokens of it were drawn before
    int64_t top_k;         // 0: all
    float temperature, top_p, min_p;  // 0: greedy; 1: all; 0: all
};

// -log u for u from 0 to 1, neither included, to about 1e-7 of it: u = 2^e * m with m around 1, and of m the series of
// 2 artanh((m - 1) / (m + 1)).
inline Floats minus_log(Floats u) {
    const int32_t root = 0x3f3504f3;  // sqrt(1/2)
    const Ints bits = (Ints)u - root, mantissa = (bits & 0x7fffff) + root;
    const Floats f = (Floats)mantissa - 1.0f, s = f / (2.0f + f), z = s * s;
    const Floats of_m = 2.0f * s * (1.0f + z * (0.333333333f + z * (0.2f + z * (0.142857143f + z * 0.111111111f))));
    return -(__builtin_convertvector(bits >> 23, Floats) * 0.693147181f + of_m);
}
constexpr float SHORTEST = 5.9e-8f;  // no time is less

// The time for which a token runs before its likelihood is looked at: exponential, from a hash of the story's seed, the
// token's place and the token (the finalisers are SplitMix64's, lowbias32's and another by the same search).
struct Times {
    uint32_t low, high;
    explicit Times(const Row& row) {
        uint64_t x = row.seed + (row.count + 1) * 0x9e3779b97f4a7c15ull;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        x ^= x >> 31;
        low = uint32_t(x), high = uint32_t(x >> 32);
    }
    Floats of(Bits tokens) const {
        Bits x = tokens * 0x9e3779b9u + low;
        x = (x ^ (x >> 16)) * 0x7feb352du;
        x = (x ^ (x >> 15)) * 0x846ca68bu;
        x = x ^ (x >> 16) ^ high;
        x = (x ^ (x >> 16)) * 0x21f0aaadu;
        x = (x ^ (x >> 15)) * 0x735a2d97u;
        x = (x ^ (x >> 15)) >> 9;
        return minus_log((__builtin_convertvector((Ints)x, Floats) + 0.5f) * 1.1920929e-7f);
    }
};

struct Candidate {
    float score;  // log of its likelihood against the likeliest's
    int32_t token;
    bool operator<(const Candidate& other) const {
        return score != other.score ? score > other.score : token < other.token;
    }
};

// The token whose time over its likelihood is least.
class Race {
    const Times times;
    float best = INFINITY;

  public:
    int32_t winner = 0;
    float hopeless = -INFINITY;  // with scores up to this none can win any more

    explicit Race(const Row& row) : times(row) {}
    void run(Floats scores, Ints tokens, int lanes = LANES) {
        const Floats time = times.of((Bits)tokens) / exp_nonpositive(scores);
        if (largest(-time) < -best) return;
        for (int lane = 0; lane < lanes; ++lane)
            if (time[lane] < best || (time[lane] == best && tokens[lane] < winner)) {
                best = time[lane], winner = tokens[lane];
                hopeless = std::log(SHORTEST / best);
            }
    }
};

class Drawer {
    const float* logits;
    const int64_t vocabulary;
    const Row& row;
    float top = -INFINITY;
    int32_t likeliest = 0;
    std::vector<float> peaks;  // of each LANES tokens
    std::vector<Candidate> candidates;

    Floats scores(int64_t first) const { return (load(logits + first) - top) * (1.0f / row.temperature); }
    float score(int64_t token) const { return (logits[token] - top) * (1.0f / row.temperature); }
    int64_t whole() const { return vocabulary / LANES * LANES; }

    // All tokens with scores of `least` or more.
    void gather(float least) {
        for (int64_t block = 0; block < int64_t(peaks.size()); ++block) {
            if ((peaks[block] - top) * (1.0f / row.temperature) < least) continue;
            const int64_t first = block * LANES, end = std::min(first + LANES, vocabulary);
            for (int64_t token = first; token < end; ++token)
                if (score(token) >= least) candidates.push_back({score(token), int32_t(token)});
        }
    }
    float mass_of_all() const {
        Floats sum{};
        for (int64_t first = 0; first < whole(); first += LANES) sum += exp_nonpositive(scores(first));
        float mass = total(sum);
        for (int64_t token = whole(); token < vocabulary; ++token) mass += std::exp(score(token));
        return mass;
    }
    void keep_top_k() {
        // As many blocks have peaks of `least` or more, so at least so many tokens do.
        float least = -INFINITY;
        if (row.top_k < int64_t(peaks.size())) {
            std::vector<float> sorted(peaks);
            std::nth_element(sorted.begin(), sorted.begin() + (row.top_k - 1), sorted.end(), std::greater<float>());
            least = (sorted[row.top_k - 1] - top) * (1.0f / row.temperature);
        }
        gather(least);
        if (row.top_k < int64_t(candidates.size())) {
            std::nth_element(candidates.begin(), candidates.begin() + (row.top_k - 1), candidates.end());
            candidates.resize(row.top_k);
        }
    }
    void keep_top_p() {
        float mass = 0;
        if (row.top_k)
            for (const Candidate& each : candidates) mass += std::exp(each.score);
        else {
            mass = mass_of_all();
            // The less likely ones together do not make up what may be left out.
            gather(std::log((1.0f - row.top_p) * mass / float(vocabulary)));
        }
        std::sort(candidates.begin(), candidates.end());
        float likelier = 0;
        size_t kept = 0;
        for (; kept < candidates.size() && likelier < row.top_p * mass; ++kept) likelier += std::exp(candidates[kept].score);
        candidates.resize(kept);
    }

  public:
    Drawer(const float* logits, int64_t vocabulary, const Row& row) : logits(logits), vocabulary(vocabulary), row(row) {}

    int32_t draw() {
        for (int64_t first = 0; first < vocabulary; first += LANES) {
            const int64_t end = std::min(first + LANES, vocabulary);
            float peak = -INFINITY;
            if (end == first + LANES)
                peak = largest(load(logits + first));
            else
                for (int64_t token = first; token < end; ++token) peak = std::max(peak, logits[token]);
            peaks.push_back(peak);
            if (peak > top) top = peak, likeliest = int32_t(first);
        }
        while (logits[likeliest] < top) ++likeliest;
        if (row.temperature == 0) return likeliest;

        Race race(row);
        race.run(Floats{}, Ints{} + likeliest, 1);
        const float least = row.min_p > 0 ? std::log(row.min_p) : -INFINITY;
        if (row.top_k || row.top_p < 1) {
            if (row.top_k) keep_top_k();
            if (row.top_p < 1) keep_top_p();
            for (const Candidate& each : candidates)
                if (each.score >= least) race.run(all(each.score), Ints{} + each.token, 1);
            return race.winner;
        }
        for (size_t block = 0; block < peaks.size(); ++block) {
            if ((peaks[block] - top) * (1.0f / row.temperature) < std::max(least, race.hopeless)) continue;
            const int64_t first = block * LANES;
            if (first < whole()) {
                const Floats seen = scores(first);
                race.run(seen >= least ? seen : all(-INFINITY), lanes_from(first));
            } else
                for (int64_t token = first; token < vocabulary; ++token)
                    if (score(token) >= least) race.run(all(score(token)), Ints{} + int32_t(token), 1);
        }
        return race.winner;
    }
};

}  // namespace

extern "C" {
// logits [B][stride], of which the first V count; tokens [B].
void choose(const float* logits, int64_t stride, int64_t vocabulary, const Row* rows, int64_t count, int64_t* tokens,
            int64_t threads) {
    #pragma omp parallel for num_threads(threads) schedule(static) if (count > 1)
    for (int64_t b = 0; b < count; ++b) tokens[b] = Drawer(logits + b * stride, vocabulary, rows[b]).draw();
}
}
