/* Chunks put together: whatever comes in whatever order, what is refused changes nothing, and only the whole
 * array, unchanged, closes. */
#include <stdlib.h>
#include <string.h>

#include "common/transfer.h"
#include "tests/fuzz/fuzz.h"

enum { OPEN, CHUNK, CLOSE, OUT_NEW, OUT_ADD, OUT_CLOSE, OUT_TO_IN, OPERATIONS };

struct state {
    struct incoming in;
    struct outgoing *out;
    uint8_t bytes[256 << 10];
};

static void key_of(uint8_t n, uint8_t key[static DIGEST_BYTES])
{
    memset(key, n & 3, DIGEST_BYTES);
}

static void take_opening(struct operation *o, struct msg *m, uint8_t key[static DIGEST_BYTES])
{
    uint8_t how = take_u8(o);
    *m = (struct msg){.kind = how & 4 ? MSG_FIT : MSG_FITTED, .has_run = how & 8, .round = how >> 6};
    key_of(how, key);
    m->array.rows = take_u8(o);
    m->array.cols = take_u8(o) & 63;
    m->array.dtype = how & 16 ? 2 : 1;
    m->array.resume = how & 32;
    m->array.chunk = CHUNK_MIN + 8u * take_u8(o);
}

static size_t length_of(const struct shape *s, uint32_t i)
{
    uint64_t begin = (uint64_t)i * s->chunk, all = shape_bytes(s);
    return begin >= all ? 0 : (size_t)(all - begin < s->chunk ? all - begin : s->chunk);
}

static void open_one(struct state *s, struct operation *o)
{
    struct msg m;
    uint8_t key[DIGEST_BYTES];
    uint32_t before = s->in.next;
    bool active = s->in.active;
    take_opening(o, &m, key);
    bool resumed = incoming_open(&s->in, &m, key);
    MUST(s->in.active && s->in.chunks == shape_chunks(&m.array));
    MUST(resumed ? active && m.array.resume && s->in.next == before : s->in.next == 0 && !s->in.complete);
}

static void add_chunk(struct state *s, struct operation *o)
{
    uint8_t how = take_u8(o), digest[DIGEST_BYTES];
    uint32_t index = s->in.next + (how & 1 ? take_u32(o) : 0);
    size_t len = s->in.active ? length_of(&s->in.opening.array, s->in.next) : 0;
    len = how & 2 ? take_u8(o) : len;
    memset(s->bytes, take_u8(o), len);
    digest_bytes(s->in.key, s->bytes, len, digest);
    digest[0] ^= how & 4;
    struct incoming before = s->in;
    const char *bad = incoming_chunk(&s->in, index, s->bytes, len, how & 8 ? NULL : digest);
    if (bad)
        MUST(!memcmp(&before, &s->in, sizeof before));
    else
        MUST(before.active && !before.complete && index == before.next && s->in.next == before.next + 1 &&
             s->in.next <= s->in.chunks && (how & 8 || !(how & 4)));
}

static void close_one(struct state *s, struct operation *o)
{
    uint8_t how = take_u8(o);
    struct msg m = {.kind = MSG_CLOSE};
    struct incoming end = s->in;
    if (!end.complete)
        digest_end(&end.digesting, &end.opening, end.digest);
    m.u.close.chunks = s->in.chunks ^ (how & 1);
    m.u.close.rows = s->in.opening.array.rows ^ (how >> 1 & 1);
    m.u.close.cols = s->in.opening.array.cols ^ (how >> 2 & 1);
    memcpy(m.u.close.digest, end.digest, DIGEST_BYTES);
    m.u.close.digest[0] ^= how & 8;
    const char *bad = incoming_close(&s->in, how & 16 ? NULL : &m);
    bool right = s->in.active && s->in.next == s->in.chunks && (how & 16 || !(how & 15));
    MUST(right == !bad);
    MUST(bad || s->in.complete);
}

static void out_new(struct state *s, struct operation *o)
{
    struct msg m;
    uint8_t key[DIGEST_BYTES];
    take_opening(o, &m, key);
    outgoing_release(s->out);
    s->out = outgoing_new(&m, key);
    MUST(s->out);
}

static void out_add(struct state *s, struct operation *o)
{
    size_t right = length_of(&s->out->opening.array, s->out->have), len = take_u8(o) & 1 ? take_u8(o) : right;
    uint32_t have = s->out->have;
    memset(s->bytes, take_u8(o), len);
    int bad = outgoing_add(s->out, s->bytes, len);
    MUST(bad ? s->out->have == have : have < s->out->chunks && len == right && s->out->have == have + 1);
}

static void out_close(struct state *s)
{
    bool whole = s->out->have == s->out->chunks && !s->out->closed;
    MUST(outgoing_close(s->out) == (whole ? 0 : -1));
}

/* What was sent arrives, with one byte changed or not. */
static void out_to_in(struct state *s, struct operation *o)
{
    uint8_t key[DIGEST_BYTES], how = take_u8(o);
    struct outgoing *out = s->out;
    struct msg opening = out->opening, close = {.kind = MSG_CLOSE};
    if (!out->closed)
        return;
    opening.array.resume = false;
    key_of(how, key);
    incoming_open(&s->in, &opening, key);
    bool accepted = true;
    for (uint32_t i = 0; i < out->chunks; i++) {
        size_t at = take_u8(o) % out->chunk[i].len;
        out->chunk[i].bytes[at] ^= how & 4;
        accepted &= !incoming_chunk(&s->in, i, out->chunk[i].bytes, out->chunk[i].len, out->chunk[i].digest);
        out->chunk[i].bytes[at] ^= how & 4;
    }
    close.u.close.chunks = out->chunks;
    close.u.close.rows = opening.array.rows;
    close.u.close.cols = opening.array.cols;
    memcpy(close.u.close.digest, out->digest, DIGEST_BYTES);
    MUST(accepted || incoming_close(&s->in, &close));
    MUST(!(how & 4) || !out->chunks || !accepted);
}

static void out_step(struct state *s, struct operation *o)
{
    if (o->code % OPERATIONS == OUT_NEW)
        out_new(s, o);
    else if (!s->out)
        return;
    else if (o->code % OPERATIONS == OUT_ADD)
        out_add(s, o);
    else if (o->code % OPERATIONS == OUT_CLOSE)
        out_close(s);
    else
        out_to_in(s, o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    struct script script = {data, data + size};
    struct operation o;
    memset(&s.in, 0, sizeof s.in);
    for (int steps = 0; steps < 200 && script_next(&script, &o); steps++)
        switch (o.code % OPERATIONS) {
        case OPEN:
            open_one(&s, &o);
            break;
        case CHUNK:
            add_chunk(&s, &o);
            break;
        case CLOSE:
            close_one(&s, &o);
            break;
        default:
            out_step(&s, &o);
        }
    outgoing_release(s.out);
    s.out = NULL;
    return 0;
}
