// peer MODEL tokenize|greedy|logits|hidden [ids…]: what llama.cpp makes of a GGUF file, for tests to compare with.
//   tokenize  text on standard input -> ids with special tokens, a line of numbers
//   greedy    a number, and ids or else text on standard input -> as many most probable tokens after it, a line of numbers
//   logits    ids -> one row of logits for each, little-endian f32
// Of a model with an encoder, greedy and logits take its ids, "-", and the decoder's.
//   hidden    ids -> one row of the last hidden state for each (encoders), little-endian f32
// Build: cc peer.c -I LLAMA/include -I LLAMA/ggml/include -L LLAMA/build/bin -lllama -lggml-base -o peer
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

static void fail(const char *what) {
    fprintf(stderr, "peer: %s\n", what);
    exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static llama_token ids[1 << 20];

static int tokenize(const struct llama_vocab *vocab) {
    static char text[1 << 20];
    int n = (int)fread(text, 1, sizeof text, stdin);
    n = llama_tokenize(vocab, text, n, ids, 1 << 20, true, true);
    if (n < 0) fail("too many tokens");
    return n;
}

static void print(int n, const llama_token *tokens) {
    for (int i = 0; i < n; i++) printf("%d\n", tokens[i]);
}

static struct llama_context *context(struct llama_model *model, int n, int hidden) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = n;
    p.type_k = p.type_v = GGML_TYPE_F32;
    p.n_threads = p.n_threads_batch = 2;
    p.embeddings = hidden;
    if (hidden) p.pooling_type = LLAMA_POOLING_TYPE_NONE;
    struct llama_context *ctx = llama_init_from_model(model, p);
    if (!ctx) fail("no context");
    return ctx;
}

// encode sends the ids before a "-" through the encoder, if there is one, and says where those behind it begin.
static int encode(struct llama_model *model, struct llama_context *ctx, int n, char **args) {
    int source = 0;
    while (source < n && strcmp(args[source], "-") != 0) source++;
    if (source == n) return 0;
    if (!llama_model_has_encoder(model)) fail("there is no encoder");
    for (int i = 0; i < source; i++) ids[i] = atoi(args[i]);
    if (llama_encode(ctx, llama_batch_get_one(ids, source)) != 0) fail("encode");
    return source + 1;
}

static void greedy(struct llama_model *model, int tokens, int n, char **args) {
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int vocab_size = llama_vocab_n_tokens(vocab);
    if (n == 0) n = tokenize(vocab), args = NULL;
    struct llama_context *ctx = context(model, n + tokens, 0);
    int from = args ? encode(model, ctx, n, args) : 0;
    n -= from;
    for (int i = 0; args && i < n; i++) ids[i] = atoi(args[from + i]);
    llama_token *next = ids, best;
    for (int i = 0; i < tokens; i++) {
        if (llama_decode(ctx, llama_batch_get_one(next, i ? 1 : n)) != 0) fail("decode");
        const float *logits = llama_get_logits_ith(ctx, -1);
        best = 0;
        for (int v = 1; v < vocab_size; v++) {
            if (logits[v] > logits[best]) best = v;
        }
        print(1, &best);
        next = &best;
    }
    llama_free(ctx);
}

static void run(struct llama_model *model, int hidden, int n, char **args) {
    struct llama_context *ctx = context(model, n, hidden);
    int from = encode(model, ctx, n, args);
    n -= from, args += from;
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        batch.token[i] = atoi(args[i]);
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = n;
    if (llama_decode(ctx, batch) != 0) fail("decode");
    size_t width = hidden ? (size_t)llama_model_n_embd(model) : (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 0; i < n; i++) {
        fwrite(hidden ? llama_get_embeddings_ith(ctx, i) : llama_get_logits_ith(ctx, i), sizeof(float), width, stdout);
    }
    llama_free(ctx);
}

int main(int argc, char **argv) {
    if (argc < 3) fail("usage: peer MODEL tokenize|greedy|logits|hidden [ids...]");
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params p = llama_model_default_params();
    p.vocab_only = strcmp(argv[2], "tokenize") == 0;
    struct llama_model *model = llama_model_load_from_file(argv[1], p);
    if (!model) fail("the model does not load");
    if (p.vocab_only) {
        print(tokenize(llama_model_get_vocab(model)), ids);
    } else if (strcmp(argv[2], "greedy") == 0) {
        if (argc < 4) fail("greedy: how many tokens?");
        greedy(model, atoi(argv[3]), argc - 4, argv + 4);
    } else {
        run(model, strcmp(argv[2], "hidden") == 0, argc - 3, argv + 3);
    }
    llama_model_free(model);
    return 0;
}
