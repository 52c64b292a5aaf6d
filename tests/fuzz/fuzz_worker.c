/* The worker's from_link: a script of messages from sponsors, on a small table and a store in memory.
 * Operation 0 is a header as it stands; 1 sends the whole payload that the transfer in hand asks for. */
int worker_main(void);
#define main worker_main
#include "assistor/worker.c"
#undef main

#include "tests/fuzz/fuzz.h"

enum { HEADER, PAYLOAD, PEERS = 3 };

static const char csv[] = "id,a,b,c\np1,1,red,4\np2,2,red,\np3,3,blue,1\np4,4,,1\np5,5,blue,0\np6,7,red,3\n";

static void begin_worker(struct worker *w)
{
    char error[256];
    fuzz_file(csv, sizeof csv - 1);
    w->own.table = table_open(fuzz_path(), error, sizeof error);
    w->own.kind = model_find("linear");
    w->own.exclude = "id";
    MUST(w->own.table && w->own.kind && sodium_init() >= 0);
    w->n = (uint32_t)table_rows(w->own.table);
    w->ids = (const char **)(uintptr_t)fuzz_ids;
    static char schema[4096];
    static struct conf_item consent[] = {{"policy", "", "allow_reconstruction", "yes", 1},
                                         {"policy", "b", "max_rounds_total", "3", 2},
                                         {"policy", "b", "max_predictions_per_day", "9", 3}};
    w->child.conf = (struct conf){.file = "fuzz", .items = consent, .n = 3};
    snprintf(schema, sizeof schema, "%s%s", runs_schema, policy_schema);
    store_open(&w->own.store, ":memory:", schema, RUNS_FORMAT);
    static const char *const names[PEERS] = {NULL, "a", "b"}; /* the first is our own organization */
    for (uint32_t i = 0; i < PEERS; i++)
        w->sponsor[i].policy = (struct policy){&w->child.conf, names[i], names[i] ? names[i] : "self"};
}

static void forget(struct worker *w)
{
    bool used = false;
    for (uint32_t i = 0; i < PEERS; i++) {
        struct sponsor *s = &w->sponsor[i];
        used |= s->task.kind != 0;
        runs_free(&w->own, s->run);
        inbox_clear(&s->inbox);
        free(s->coefficients);
        s->run = NULL;
        s->coefficients = NULL;
        s->questions = 0;
        s->task.kind = 0;
    }
    if (used) {
        store_run(&w->own.store, "DELETE FROM runs", "");
        store_run(&w->own.store, "DELETE FROM rounds_used", "");
        store_run(&w->own.store, "DELETE FROM rows_predicted", "");
    }
}

static void give(struct worker *w, uint32_t peer, const struct msg *m, const uint8_t *payload, size_t len)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg back;
    size_t n = msg_pack(m, header);
    if (!n || msg_unpack(header, n, &back))
        return; /* the link would not have passed it on */
    struct frame f = {WIRE_FRAME, 1, &peer, header, (uint32_t)n, payload, (uint32_t)len};
    from_link(w, &f);
}

/* u8 peer, u8 what: row numbers that count up from u8, or values made of the bytes that follow. */
static void give_payload(struct worker *w, struct operation *o)
{
    static uint8_t bytes[1 << 20];
    uint32_t peer = take_u8(o) % PEERS;
    uint8_t what = take_u8(o), first = take_u8(o);
    const struct inbox *b = &w->sponsor[peer].inbox;
    size_t len = b->active ? (size_t)(shape_bytes(&b->opening.array) - b->used) : 8;
    if (len > sizeof bytes)
        len = sizeof bytes;
    for (size_t i = 0; i < len / 4; i++) {
        uint32_t row = (uint32_t)(first + i);
        float x = (float)(int8_t)take_u8(o) / 8;
        memcpy(bytes + 4 * i, what & 1 ? (const void *)&x : &row, 4);
    }
    if (what & 2 && b->active && b->opening.array.dtype == DTYPE_F64)
        for (size_t i = 0; i < len / 8; i++) {
            double x = (double)(i % 7) - first / 16.0;
            memcpy(bytes + 8 * i, &x, 8);
        }
    struct msg m = {.kind = MSG_CHUNK};
    give(w, peer, &m, bytes, what & 4 ? len / 2 : len);
}

static void give_message(struct worker *w, struct operation *o)
{
    struct msg m;
    uint8_t peer;
    take_msg(o, &m, &peer);
    struct sponsor *s = &w->sponsor[peer % PEERS];
    if (m.kind == MSG_CLOSE)
        memset(m.u.close.digest, take_u8(o), DIGEST_BYTES);
    if (m.kind == MSG_ALIGN && s->task.kind && m.u.align.prefix <= FUZZ_IDS)
        digest_ids(s->task.u.task.trace_key, fuzz_ids, m.u.align.prefix, m.u.align.ids);
    give(w, peer % PEERS, &m, o->p, (size_t)(o->end - o->p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct worker w;
    struct script script = {data, data + size};
    struct operation o;
    if (!w.own.table)
        begin_worker(&w);
    fuzz_may_die = "the link sent";
    if (setjmp(fuzz_died) == 0)
        for (int steps = 0; steps < 60 && script_next(&script, &o); steps++) {
            if (o.code == HEADER) {
                uint32_t peer = take_u8(&o);
                struct frame f = {WIRE_FRAME, 1, &peer, o.p, (uint32_t)(o.end - o.p), NULL, 0};
                from_link(&w, &f);
            } else if (o.code == PAYLOAD)
                give_payload(&w, &o);
            else if (operation_is_message(&o))
                give_message(&w, &o);
        }
    forget(&w);
    return 0;
}
