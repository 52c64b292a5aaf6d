/* trace_verify: is a trace what its link wrote, and do two organizations' traces tell the same story?
 *
 *   chain_n = BLAKE2b-256(chain_{n−1} ‖ the line's bytes before `,"chain":`), from 32 zero bytes;
 *   head    = per (run, peer) BLAKE2b-256(head ‖ kind ‖ round ‖ rows ‖ cols ‖ dtype ‖ digest), likewise,
 *             numbers as little-endian u32; a repeat, and a kind not listed here, leave it as it was.
 *
 * Both ends compute the same heads. Written apart from the link's own trace.c on purpose: a judge that shares
 * the writer's code shares its mistakes. */
#include "deploy/gal/trace.h"

#include "common/log.h"
#include "deploy/gal/gal.h"

#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH DIGEST_BYTES
#define HEX  (2 * HASH)
#define TAIL ",\"chain\":\""

static const struct {
    const char *name;
    uint32_t number;
} kinds[] = {{"Task", MSG_TASK},     {"Accept", MSG_ACCEPT},   {"Refuse", MSG_REFUSE},
             {"Align", MSG_ALIGN},   {"Aligned", MSG_ALIGNED}, {"Fit", MSG_FIT},
             {"Fitted", MSG_FITTED}, {"Predict", MSG_PREDICT}, {"Predicted", MSG_PREDICTED}};
static const char *const dtypes[] = {"", "f32", "f64", "u32"};

/* The lines of one exchange: a run with one peer. */
struct exchange {
    const char *run, *peer;
    uint8_t head[HASH];
    const struct trace_line **line;
    size_t n;
};

struct exchanges {
    struct exchange *of;
    size_t n;
};

static void exchanges_free(struct exchanges *e)
{
    for (size_t i = 0; i < e->n; i++)
        free(e->of[i].line);
    free(e->of);
}

/* From the end, as runs follow each other. */
static struct exchange *exchange_of(struct exchanges *e, const struct trace_line *l)
{
    for (size_t i = e->n; i-- > 0;)
        if (!strcmp(e->of[i].run, l->run) && !strcmp(e->of[i].peer, l->peer))
            return &e->of[i];
    struct exchange *longer = reallocarray(e->of, e->n + 1, sizeof *longer);
    if (!longer)
        log_die(GAL_FAILED, "out of memory");
    e->of = longer;
    e->of[e->n] = (struct exchange){.run = l->run, .peer = l->peer};
    return &e->of[e->n++];
}

static void exchange_add(struct exchange *x, const struct trace_line *l)
{
    if ((x->n & (x->n - 1)) == 0) { /* full at every power of two */
        const struct trace_line **longer = reallocarray(x->line, x->n ? 2 * x->n : 1, sizeof *longer);
        if (!longer)
            log_die(GAL_FAILED, "out of memory");
        x->line = longer;
    }
    x->line[x->n++] = l;
}

static void put_u32(uint8_t at[static 4], uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i & 0xff);
}

static bool from_hex(const char *hex, uint8_t bytes[static HASH])
{
    size_t n;
    memset(bytes, 0, HASH);
    return !*hex ||
           (strlen(hex) == HEX && !sodium_hex2bin(bytes, HASH, hex, HEX, NULL, &n, NULL) && n == HASH);
}

/* 0: a kind that no head includes. */
static uint32_t kind_number(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, name))
            return kinds[i].number;
    return 0;
}

/* NULL, or what of the line cannot be part of a head. */
static const char *next_head(uint8_t head[static HASH], const struct trace_line *l)
{
    uint32_t dtype = 0;
    uint8_t block[HASH + 5 * 4 + HASH];
    while (dtype < sizeof dtypes / sizeof *dtypes && strcmp(dtypes[dtype], l->dtype))
        dtype++;
    if (dtype == sizeof dtypes / sizeof *dtypes)
        return "unknown dtype";
    memcpy(block, head, HASH);
    put_u32(block + HASH, kind_number(l->kind));
    put_u32(block + HASH + 4, l->round);
    put_u32(block + HASH + 8, l->rows);
    put_u32(block + HASH + 12, l->cols);
    put_u32(block + HASH + 16, dtype);
    if (!from_hex(l->digest, block + HASH + 20))
        return "digest is not 64 hexadecimal digits";
    crypto_generichash(head, HASH, block, sizeof block, NULL, 0);
    return NULL;
}

static const char *check_chain(uint8_t chain[static HASH], const struct trace_line *l)
{
    crypto_generichash_state state;
    char expected[HEX + 1];
    size_t tail = sizeof TAIL - 1 + HEX + 2;
    if (l->length < tail || memcmp(l->text + l->length - tail, TAIL, sizeof TAIL - 1) ||
        memcmp(l->text + l->length - 2, "\"}", 2))
        return "the line does not end with its chain";
    crypto_generichash_init(&state, NULL, 0, HASH);
    crypto_generichash_update(&state, chain, HASH);
    crypto_generichash_update(&state, (const uint8_t *)l->text, l->length - tail);
    crypto_generichash_final(&state, chain, HASH);
    sodium_bin2hex(expected, sizeof expected, chain, HASH);
    if (memcmp(expected, l->text + l->length - 2 - HEX, HEX))
        return "the chain breaks here: this line, or one before it that is gone, was changed after it was "
               "written";
    return NULL;
}

static const char *check_head(struct exchanges *e, const struct trace_line *l)
{
    char expected[HEX + 1];
    if (!*l->head)
        return NULL;
    struct exchange *x = exchange_of(e, l);
    const char *bad = l->repeat || !kind_number(l->kind) ? NULL : next_head(x->head, l);
    if (bad)
        return bad;
    sodium_bin2hex(expected, sizeof expected, x->head, HASH);
    return strcmp(expected, l->head) ? "the head does not follow from the lines before it" : NULL;
}

int trace_verify(const struct trace *t, char *error, size_t size)
{
    uint8_t chain[HASH] = {0};
    struct exchanges e = {0};
    const char *bad = NULL;
    size_t i;
    for (i = 0; i < t->n && !bad; i++) {
        bad = check_chain(chain, &t->line[i]);
        if (!bad)
            bad = check_head(&e, &t->line[i]);
    }
    exchanges_free(&e);
    if (!bad && t->cut) {
        bad = "the last line is cut short";
        i++;
    }
    if (bad)
        snprintf(error, size, "%s:%zu: %s", t->path, i, bad);
    return bad ? -1 : 0;
}

/* ---- two files ---- */

static struct exchanges collect(const struct trace *t)
{
    struct exchanges e = {0};
    for (size_t i = 0; i < t->n; i++) {
        const struct trace_line *l = &t->line[i];
        if (*l->head && !l->repeat && kind_number(l->kind) && !trace_local(l))
            exchange_add(exchange_of(&e, l), l);
    }
    return e;
}

static const char *difference(const struct trace_line *a, const struct trace_line *b)
{
    if (strcmp(a->kind, b->kind))
        return "kind";
    if (a->round != b->round)
        return "round";
    if (trace_outward(a) == trace_outward(b))
        return "direction";
    if (strcmp(a->digest, b->digest))
        return "digest";
    return strcmp(a->head, b->head) ? "head" : NULL;
}

static size_t equal_lines(const struct exchange *a, const struct exchange *b)
{
    size_t equal = 0;
    for (size_t i = 0; i < a->n && i < b->n; i++)
        equal += !difference(a->line[i], b->line[i]);
    return equal;
}

/* A file names its peers, not itself: the other end of `a` is the exchange of that run that agrees with most
 * of it. */
static const struct exchange *other_end(const struct exchange *a, const struct exchanges *among)
{
    const struct exchange *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < among->n; i++) {
        const struct exchange *b = &among->of[i];
        if (strcmp(a->run, b->run) || trace_outward(a->line[0]) == trace_outward(b->line[0]))
            continue;
        size_t equal = equal_lines(a, b);
        if (!best || equal > most) {
            best = b;
            most = equal;
        }
    }
    return best;
}

static size_t number_of(const struct trace *t, const struct trace_line *l)
{
    return (size_t)(l - t->line) + 1;
}

static int compare_pair(const struct trace *ta, const struct exchange *a, const struct trace *tb,
                        const struct exchange *b, char *error, size_t size)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        const struct trace_line *x = a->line[i], *y = b->line[i];
        const char *what = difference(x, y);
        if (!what)
            continue;
        snprintf(error, size,
                 "run %.8s: %s:%zu (%s, round %u, digest %.8s, head %.8s) and %s:%zu (%s, round %u, "
                 "digest %.8s, head %.8s) differ in %s",
                 x->run, ta->path, number_of(ta, x), x->kind, x->round, x->digest, x->head, tb->path,
                 number_of(tb, y), y->kind, y->round, y->digest, y->head, what);
        return -1;
    }
    if (a->n == b->n)
        return 0;
    const struct trace *longer = a->n > b->n ? ta : tb, *shorter = a->n > b->n ? tb : ta;
    size_t more = a->n > b->n ? b->n : a->n;
    const struct trace_line *next = (a->n > b->n ? a : b)->line[more];
    snprintf(error, size, "run %.8s: %s goes on at line %zu (%s, round %u) where %s ends", a->run,
             longer->path, number_of(longer, next), next->kind, next->round, shorter->path);
    return -1;
}

static size_t count_run(const struct exchanges *e, const char *run)
{
    size_t n = 0;
    for (size_t i = 0; i < e->n; i++)
        n += !strcmp(e->of[i].run, run);
    return n;
}

/* The side that spoke to fewer peers in a run (an assistor: one) looks for its other end on the other side.
 */
static int compare_from(const struct trace *ta, const struct exchanges *a, const struct trace *tb,
                        const struct exchanges *b, bool ties, size_t *shared, char *error, size_t size)
{
    for (size_t i = 0; i < a->n; i++) {
        size_t here = count_run(a, a->of[i].run), there = count_run(b, a->of[i].run);
        if (here > there || (here == there && !ties))
            continue;
        const struct exchange *end = other_end(&a->of[i], b);
        if (end && compare_pair(ta, &a->of[i], tb, end, error, size))
            return -1;
        *shared += end != NULL;
    }
    return 0;
}

int trace_compare(const struct trace *a, const struct trace *b, size_t *shared, char *error, size_t size)
{
    struct exchanges ea = collect(a), eb = collect(b);
    *shared = 0;
    int result = compare_from(a, &ea, b, &eb, true, shared, error, size);
    if (!result)
        result = compare_from(b, &eb, a, &ea, false, shared, error, size);
    if (!result && !*shared) {
        snprintf(error, size, "%s and %s: no run in which the two spoke with each other", a->path, b->path);
        result = -1;
    }
    exchanges_free(&ea);
    exchanges_free(&eb);
    return result;
}
