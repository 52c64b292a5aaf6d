#include "common/msg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/gal.pb-c.h"

static const char *const names[MSG_KINDS] = {
    [MSG_HELLO] = "Hello",     [MSG_WELCOME] = "Welcome", [MSG_TASK] = "Task",
    [MSG_ACCEPT] = "Accept",   [MSG_REFUSE] = "Refuse",   [MSG_ALIGN] = "Align",
    [MSG_ALIGNED] = "Aligned", [MSG_FIT] = "Fit",         [MSG_FITTED] = "Fitted",
    [MSG_SETTLE] = "Settle",   [MSG_PREDICT] = "Predict", [MSG_PREDICTED] = "Predicted",
    [MSG_ERROR] = "Error",     [MSG_BYE] = "Bye",         [MSG_CHUNK] = "Chunk",
    [MSG_CLOSE] = "Close",     [MSG_ACK] = "Ack",         [MSG_PEER] = "Peer"};

const char *msg_name(uint32_t kind)
{
    return kind < MSG_KINDS && names[kind] ? names[kind] : "?";
}

bool msg_is_transfer(uint32_t kind)
{
    return kind == MSG_TASK || kind == MSG_FIT || kind == MSG_FITTED || kind == MSG_PREDICT ||
           kind == MSG_PREDICTED;
}

static uint64_t element(uint32_t dtype)
{
    return dtype == 2 ? 8 : 4;
}

uint64_t shape_bytes(const struct shape *s)
{
    return (uint64_t)s->rows * s->cols * element(s->dtype);
}

uint32_t shape_chunks(const struct shape *s)
{
    return (uint32_t)((shape_bytes(s) + s->chunk - 1) / s->chunk);
}

void msg_run_hex(const uint8_t run[static RUN_BYTES], char hex[static 2 * RUN_BYTES + 1])
{
    for (size_t i = 0; i < RUN_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", run[i]);
}

/* ---- packing: each kind's protobuf structure points into the struct msg ---- */

#define BYTES(p, n) ((ProtobufCBinaryData){(n), (uint8_t *)(uintptr_t)(p)})
#define TEXT(p)     ((char *)(uintptr_t)(p))

union body {
    Gal__Hello hello;
    Gal__Welcome welcome;
    Gal__Task task;
    Gal__Accept accept;
    Gal__Refuse refuse;
    Gal__Align align;
    Gal__Aligned aligned;
    Gal__Settle settle;
    Gal__Predict predict;
    Gal__Error error;
    Gal__Bye bye;
    Gal__Chunk chunk;
    Gal__Close close;
    Gal__Ack ack;
    Gal__Peer peer;
    Gal__Array array;
};

static void put_array(const struct shape *s, Gal__Array *a)
{
    gal__array__init(a);
    a->rows = s->rows;
    a->cols = s->cols;
    a->dtype = s->dtype;
    a->chunk = s->chunk;
    a->resume = s->resume;
    a->again = s->again;
}

static void put_task(const struct msg *m, Gal__Task *t, Gal__Array *rows)
{
    gal__task__init(t);
    t->rows = rows;
    t->name = TEXT(m->u.task.name);
    t->outputs = m->u.task.outputs;
    t->rounds = m->u.task.rounds;
    t->fit_rows = m->u.task.fit_rows;
    t->answer_rows = m->u.task.answer_rows;
    t->dtype = m->u.task.dtype;
    t->loss = TEXT(m->u.task.loss);
    t->common_rows = m->u.task.common_rows;
    t->ids = BYTES(m->u.task.ids, m->u.task.has_ids ? DIGEST_BYTES : 0);
    t->trace_key = BYTES(m->u.task.trace_key, DIGEST_BYTES);
    t->predict = TEXT(m->u.task.predict);
}

/* The kinds between organizations that carry no array. */
static void put_small(const struct msg *m, union body *b, Gal__Header *h)
{
    switch (m->kind) {
    case MSG_HELLO:
        gal__hello__init(h->hello = &b->hello);
        b->hello.version = m->u.hello.version;
        b->hello.program = TEXT(m->u.hello.program);
        b->hello.instance = m->u.hello.instance;
        break;
    case MSG_WELCOME:
        gal__welcome__init(h->welcome = &b->welcome);
        b->welcome.version = m->u.hello.version;
        b->welcome.program = TEXT(m->u.hello.program);
        break;
    case MSG_ACCEPT:
        gal__accept__init(h->accept = &b->accept);
        b->accept.deterministic = m->u.accept.deterministic;
        b->accept.linear = m->u.accept.linear;
        break;
    case MSG_REFUSE:
        gal__refuse__init(h->refuse = &b->refuse);
        b->refuse.code = TEXT(m->u.refuse.code);
        b->refuse.text = TEXT(m->u.refuse.text);
        b->refuse.rows = m->u.refuse.rows;
        break;
    case MSG_ALIGN:
        gal__align__init(h->align = &b->align);
        b->align.prefix = m->u.align.prefix;
        b->align.ids = BYTES(m->u.align.ids, DIGEST_BYTES);
        break;
    case MSG_ALIGNED:
        gal__aligned__init(h->aligned = &b->aligned);
        b->aligned.equal = m->u.aligned.equal;
        b->aligned.rows = m->u.aligned.rows;
        break;
    case MSG_SETTLE:
        gal__settle__init(h->settle = &b->settle);
        b->settle.settled = m->u.settle.settled;
        b->settle.commitment = BYTES(m->u.settle.commitment, DIGEST_BYTES);
        b->settle.head = BYTES(m->u.settle.head, DIGEST_BYTES);
        break;
    case MSG_ERROR:
        gal__error__init(h->error = &b->error);
        b->error.code = TEXT(m->u.refuse.code);
        b->error.text = TEXT(m->u.refuse.text);
        break;
    case MSG_BYE:
        gal__bye__init(h->bye = &b->bye);
        b->bye.text = TEXT(m->u.refuse.text);
        break;
    default:
        break;
    }
}

/* The kinds that serve a transfer, and Peer. */
static void put_transfer(const struct msg *m, union body *b, Gal__Header *h)
{
    switch (m->kind) {
    case MSG_CHUNK:
        gal__chunk__init(h->chunk = &b->chunk);
        b->chunk.index = m->u.chunk.index;
        b->chunk.digest = BYTES(m->u.chunk.digest, DIGEST_BYTES);
        break;
    case MSG_CLOSE:
        gal__close__init(h->close = &b->close);
        b->close.digest = BYTES(m->u.close.digest, DIGEST_BYTES);
        b->close.chunks = m->u.close.chunks;
        b->close.rows = m->u.close.rows;
        b->close.cols = m->u.close.cols;
        break;
    case MSG_ACK:
        gal__ack__init(h->ack = &b->ack);
        b->ack.kind = m->u.ack.kind;
        b->ack.next = m->u.ack.next;
        break;
    case MSG_PEER:
        gal__peer__init(h->peer = &b->peer);
        b->peer.state = m->u.peer.state;
        b->peer.bytes_out = m->u.peer.bytes_out;
        b->peer.bytes_in = m->u.peer.bytes_in;
        break;
    default:
        put_small(m, b, h);
    }
}

size_t msg_pack(const struct msg *m, uint8_t bytes[static MSG_MAX_HEADER])
{
    Gal__Header h = GAL__HEADER__INIT;
    Gal__Array array;
    union body b;
    h.run = BYTES(m->run, m->has_run ? RUN_BYTES : 0);
    h.round = m->round;
    h.body_case = (Gal__Header__BodyCase)m->kind;
    put_array(&m->array, &array);
    switch (m->kind) {
    case MSG_TASK:
        put_task(m, h.task = &b.task, &array);
        break;
    case MSG_PREDICT:
        gal__predict__init(h.predict = &b.predict);
        b.predict.rows = &array;
        b.predict.rounds = m->u.predict.rounds;
        b.predict.n_coefficients = m->u.predict.n_coefficients;
        b.predict.coefficients = (double *)(uintptr_t)m->u.predict.coefficients;
        break;
    case MSG_FIT:
    case MSG_FITTED:
    case MSG_PREDICTED:
        h.fit = &array; /* one member of the oneof's union */
        break;
    default:
        put_transfer(m, &b, &h);
    }
    if (gal__header__get_packed_size(&h) > MSG_MAX_HEADER)
        return 0;
    return gal__header__pack(&h, bytes);
}

/* ---- unpacking ---- */

/* protobuf-c asks for up to 68 times the bytes it reads; here it gets 4 times and 64 KiB, from a fixed place.
 */
static struct {
    _Alignas(16) uint8_t bytes[4 * MSG_MAX_HEADER + (64 << 10)];
    size_t used;
} arena;

static void *arena_alloc(void *unused, size_t size)
{
    (void)unused;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof arena.bytes - arena.used)
        return NULL;
    void *p = arena.bytes + arena.used;
    arena.used += size;
    return p;
}

static void arena_release(void *unused, void *p)
{
    (void)unused;
    (void)p;
}

#define CHECK(condition, reason)                                                                             \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return reason;                                                                                   \
    } while (0)

/* Copies a string that may be logged: control characters, those of U+0080 to U+009F too, become '?'. */
static bool get_text(const char *from, char *to, size_t size)
{
    size_t n = strlen(from);
    if (n >= size)
        return false;
    for (size_t i = 0; i <= n; i++)
        to[i] = (from[i] && ((unsigned char)from[i] < 32 || from[i] == 127)) ? '?' : from[i];
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)to[i] == 0xc2 && (unsigned char)to[i + 1] >= 0x80 &&
            (unsigned char)to[i + 1] < 0xa0)
            to[i] = to[i + 1] = '?';
    return true;
}

static bool get_digest(const ProtobufCBinaryData *from, uint8_t to[static DIGEST_BYTES])
{
    if (from->len != DIGEST_BYTES)
        return false;
    memcpy(to, from->data, DIGEST_BYTES);
    return true;
}

static const char *get_array(const Gal__Array *a, struct shape *s)
{
    CHECK(a, "no shape");
    CHECK(!a->base.n_unknown_fields, "unknown field");
    CHECK(a->dtype >= 1 && a->dtype <= 3, "unknown element type");
    CHECK(a->chunk >= CHUNK_MIN && a->chunk <= CHUNK_MAX && a->chunk % 8 == 0, "chunk size out of range");
    CHECK(a->cols <= MSG_MAX_OUTPUTS * 16u && a->rows <= INT32_MAX, "shape out of range");
    *s = (struct shape){a->rows, a->cols, a->dtype, a->chunk, a->resume, a->again};
    CHECK(shape_bytes(s) <= (uint64_t)1 << 40, "shape out of range");
    return NULL;
}

static const char *get_task(const Gal__Task *t, struct msg *m)
{
    const char *bad = get_array(t->rows, &m->array);
    CHECK(!bad, bad);
    CHECK(get_text(t->name, m->u.task.name, MSG_NAME) && get_text(t->loss, m->u.task.loss, MSG_NAME) &&
              get_text(t->predict, m->u.task.predict, MSG_NAME),
          "text too long");
    CHECK(t->outputs >= 1 && t->outputs <= MSG_MAX_OUTPUTS, "number of outputs out of range");
    CHECK(t->rounds >= 1 && t->rounds <= MSG_MAX_ROUNDS, "number of rounds out of range");
    CHECK(t->dtype == 1 || t->dtype == 2, "unknown element type");
    CHECK(m->array.dtype == 3 && m->array.cols == 1 && t->fit_rows >= 1 &&
              (uint64_t)t->fit_rows + t->answer_rows == m->array.rows && m->array.rows <= t->common_rows,
          "row counts do not agree");
    CHECK(t->ids.len == 0 || get_digest(&t->ids, m->u.task.ids), "digest has the wrong length");
    CHECK(get_digest(&t->trace_key, m->u.task.trace_key), "trace key has the wrong length");
    m->u.task.has_ids = t->ids.len != 0;
    m->u.task.outputs = t->outputs;
    m->u.task.rounds = t->rounds;
    m->u.task.fit_rows = t->fit_rows;
    m->u.task.answer_rows = t->answer_rows;
    m->u.task.dtype = t->dtype;
    m->u.task.common_rows = t->common_rows;
    return NULL;
}

static const char *get_predict(const Gal__Predict *p, struct msg *m)
{
    static double coefficients[MSG_MAX_ROUNDS];
    const char *bad = get_array(p->rows, &m->array);
    CHECK(!bad, bad);
    CHECK(m->array.dtype == 3 && m->array.cols == 1, "rows are a list of numbers");
    CHECK(p->rounds <= MSG_MAX_ROUNDS, "number of rounds out of range");
    CHECK(p->n_coefficients == 0 || p->n_coefficients == p->rounds, "one coefficient for each round");
    for (size_t i = 0; i < p->n_coefficients; i++) {
        CHECK(isfinite(p->coefficients[i]), "coefficient is not finite");
        coefficients[i] = p->coefficients[i];
    }
    m->u.predict.rounds = p->rounds;
    m->u.predict.n_coefficients = (uint32_t)p->n_coefficients;
    m->u.predict.coefficients = coefficients;
    return NULL;
}

static const char *get_words(const Gal__Header *h, struct msg *m)
{
    bool fits = true;
    switch (m->kind) {
    case MSG_HELLO:
        m->u.hello.version = h->hello->version;
        m->u.hello.instance = h->hello->instance;
        fits = get_text(h->hello->program, m->u.hello.program, MSG_NAME);
        break;
    case MSG_WELCOME:
        m->u.hello.version = h->welcome->version;
        fits = get_text(h->welcome->program, m->u.hello.program, MSG_NAME);
        break;
    case MSG_REFUSE:
        m->u.refuse.rows = h->refuse->rows;
        fits = get_text(h->refuse->code, m->u.refuse.code, MSG_NAME) &&
               get_text(h->refuse->text, m->u.refuse.text, MSG_TEXT);
        break;
    case MSG_ERROR:
        fits = get_text(h->error->code, m->u.refuse.code, MSG_NAME) &&
               get_text(h->error->text, m->u.refuse.text, MSG_TEXT);
        break;
    case MSG_BYE:
        fits = get_text(h->bye->text, m->u.refuse.text, MSG_TEXT);
        break;
    default:
        break;
    }
    CHECK(fits, "text too long");
    return NULL;
}

static const char *get_numbers(const Gal__Header *h, struct msg *m)
{
    bool fits = true;
    switch (m->kind) {
    case MSG_ACCEPT:
        m->u.accept.deterministic = h->accept->deterministic;
        m->u.accept.linear = h->accept->linear;
        break;
    case MSG_ALIGN:
        m->u.align.prefix = h->align->prefix;
        fits = get_digest(&h->align->ids, m->u.align.ids);
        break;
    case MSG_ALIGNED:
        m->u.aligned.equal = h->aligned->equal;
        m->u.aligned.rows = h->aligned->rows;
        break;
    case MSG_SETTLE:
        m->u.settle.settled = h->settle->settled;
        fits = get_digest(&h->settle->commitment, m->u.settle.commitment) &&
               get_digest(&h->settle->head, m->u.settle.head);
        break;
    case MSG_CHUNK:
        m->u.chunk.index = h->chunk->index;
        fits = get_digest(&h->chunk->digest, m->u.chunk.digest);
        break;
    case MSG_CLOSE:
        m->u.close.chunks = h->close->chunks;
        m->u.close.rows = h->close->rows;
        m->u.close.cols = h->close->cols;
        fits = get_digest(&h->close->digest, m->u.close.digest);
        break;
    case MSG_ACK:
        m->u.ack.kind = h->ack->kind;
        m->u.ack.next = h->ack->next;
        break;
    case MSG_PEER:
        m->u.peer.state = h->peer->state;
        m->u.peer.bytes_out = h->peer->bytes_out;
        m->u.peer.bytes_in = h->peer->bytes_in;
        break;
    default:
        return get_words(h, m);
    }
    CHECK(fits, "digest has the wrong length");
    return NULL;
}

static const char *get_body(const Gal__Header *h, struct msg *m)
{
    m->kind = (enum msg_kind)h->body_case;
    CHECK(h->body_case != GAL__HEADER__BODY__NOT_SET && h->hello, "no body");
    CHECK(!((const ProtobufCMessage *)h->hello)->n_unknown_fields, "unknown field");
    switch (m->kind) {
    case MSG_TASK:
        return get_task(h->task, m);
    case MSG_FIT:
    case MSG_FITTED:
    case MSG_PREDICTED:
        return get_array(h->fit, &m->array);
    case MSG_PREDICT:
        return get_predict(h->predict, m);
    default:
        return get_numbers(h, m);
    }
}

const char *msg_unpack(const uint8_t *bytes, size_t size, struct msg *m)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_release, NULL};
    CHECK(size <= MSG_MAX_HEADER, "header too long");
    arena.used = 0;
    memset(m, 0, sizeof *m);
    const Gal__Header *h = gal__header__unpack(&allocator, size, bytes);
    CHECK(h, "not a Header");
    CHECK(!h->base.n_unknown_fields, "unknown field");
    CHECK(h->run.len == 0 || h->run.len == RUN_BYTES, "run has the wrong length");
    m->has_run = h->run.len != 0;
    if (m->has_run)
        memcpy(m->run, h->run.data, RUN_BYTES);
    m->round = h->round;
    return get_body(h, m);
}
