// step times decode steps of llama.cpp with a full cache that took no long prefill: a chunk of tokens is read once, and
// its state is restored behind each sequence until that has its context. Every cell belongs to one sequence, as after a
// real prefill, and what a step computes does not depend on the values.
//
//	step MODEL THREADS BATCH CONTEXT CACHE(f32|f16|bf16) FLASH(0|1) PROMPT(own|shared) STEPS
//
// With a shared prompt all sequences attend to the same cells (llama-batched-bench -pps): the cache is read once for the batch.
//
// It prints the median, the fastest and the slowest step in milliseconds.
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static void require(bool ok, const char * what) {
    if (!ok) {
        fprintf(stderr, "step: %s failed\n", what);
        exit(1);
    }
}

static ggml_type cache_type(const char * name) {
    if (!strcmp(name, "f32")) return GGML_TYPE_F32;
    if (!strcmp(name, "f16")) return GGML_TYPE_F16;
    require(!strcmp(name, "bf16"), "reading the cache's type (f32, f16, bf16)");
    return GGML_TYPE_BF16;
}

static void add(llama_batch & batch, int pos, int seq, bool logits) {
    const int i = batch.n_tokens++;
    batch.token[i]     = (7 * i + 3) % 1000;
    batch.pos[i]       = pos;
    batch.n_seq_id[i]  = 1;
    batch.seq_id[i][0] = seq;
    batch.logits[i]    = logits;
}

// chunk_state reads tokens as one sequence and returns its state.
static std::vector<uint8_t> chunk_state(llama_context * ctx, llama_batch & batch, int tokens) {
    batch.n_tokens = 0;
    for (int i = 0; i < tokens; i++) add(batch, i, 0, i == tokens - 1);
    require(llama_decode(ctx, batch) == 0, "the prefill");
    std::vector<uint8_t> state(llama_state_seq_get_size(ctx, 0));
    require(llama_state_seq_get_data(ctx, state.data(), state.size(), 0) > 0, "saving the state");
    llama_kv_cache_seq_rm(ctx, 0, -1, -1);
    return state;
}

// fill gives every sequence its context; sequence spare holds a chunk for a moment, as restoring replaces a sequence.
static void fill(llama_context * ctx, const std::vector<uint8_t> & state, int chunks, int seqs, bool shared) {
    const int spare = seqs;
    for (int i = 0; i < (shared ? chunks : chunks * seqs); i++) {
        require(llama_state_seq_set_data(ctx, state.data(), state.size(), spare) > 0, "restoring the state");
        for (int seq = 0; seq < seqs; seq++) {
            if (shared || seq == i / chunks) llama_kv_cache_seq_cp(ctx, spare, seq, -1, -1);
        }
        llama_kv_cache_seq_rm(ctx, spare, -1, -1);
    }
}

static double step(llama_context * ctx, llama_batch & batch, int seqs, int context) {
    batch.n_tokens = 0;
    for (int i = 0; i < seqs; i++) add(batch, context, i, true);
    const auto start = std::chrono::steady_clock::now();
    require(llama_decode(ctx, batch) == 0, "a step");
    llama_synchronize(ctx);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    for (int i = 0; i < seqs; i++) llama_kv_cache_seq_rm(ctx, i, context, -1);
    return time.count();
}

int main(int argc, char ** argv) {
    if (argc != 9) {
        fprintf(stderr, "usage: step MODEL THREADS BATCH CONTEXT CACHE FLASH PROMPT STEPS\n");
        return 2;
    }
    const int threads = atoi(argv[2]), seqs = atoi(argv[3]), context = atoi(argv[4]), steps = atoi(argv[8]);
    const bool shared = !strcmp(argv[7], "shared");
    const int chunk = std::min(context, 128);
    require(threads > 0 && seqs > 0 && context > 0 && steps > 0 && context % chunk == 0, "reading the numbers");
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    require(model != nullptr, "loading the model");
    llama_context_params p = llama_context_default_params();
    p.n_ctx     = seqs * context + 256;
    p.n_seq_max = seqs + 1;
    p.n_threads = p.n_threads_batch = threads;
    p.type_k = p.type_v = cache_type(argv[5]);
    p.flash_attn = atoi(argv[6]) != 0;
    llama_context * ctx = llama_init_from_model(model, p);
    require(ctx != nullptr, "making the context");
    llama_batch batch = llama_batch_init(std::max(chunk, seqs), 0, 1);
    fill(ctx, chunk_state(ctx, batch, chunk), context / chunk, seqs, shared);
    require(llama_get_kv_cache_used_cells(ctx) == (shared ? 1 : seqs) * context, "filling the cache");
    std::vector<double> times;
    step(ctx, batch, seqs, context); // warm up
    for (int i = 0; i < steps; i++) times.push_back(step(ctx, batch, seqs, context));
    std::sort(times.begin(), times.end());
    printf("%.1f %.1f %.1f\n", times[steps / 2], times.front(), times.back());
}
