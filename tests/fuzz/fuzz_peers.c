/* The core's from_link: a script of what organizations answer, mixed with what the core asks, for a run of
 * six rows with three organizations. Operations: 0 a header as it stands; 1 the Task; 2 Fit; 3 Predict; 4
 * Settle; 5 the rest of an answer in hand. */
#include "sponsor/peers.c"

#include "tests/fuzz/fuzz.h"

enum { HEADER, TASK, FIT, PREDICT, SETTLE, PAYLOAD, M = 3, FIT_ROWS = 4, ANSWER_ROWS = 2, K = 2 };

struct state {
    struct peers p;
    struct child child;
    struct run run;
    struct mat f[M];
};

static void begin_core(struct state *s)
{
    static struct conf_item items[] = {{"organization", "", "name", "clinic", 1},
                                       {"data", "", "path", "/data.csv", 2},
                                       {"peer", "lab", "key", "k", 3},
                                       {"peer", "bank", "key", "k", 4}};
    static uint32_t rows[] = {0, 2, 3, 5, 1, 4};
    s->child.conf = (struct conf){.file = "clinic.conf", .items = items, .n = 4};
    s->child.name = "clinic";
    peers_open(&s->p, &s->child, NULL);
    MUST(s->p.M == M && !strcmp(s->p.names, "clinic,lab,bank"));
    s->run = (struct run){
        .M = M, .K = K, .T = 3, .n_fit = FIT_ROWS, .n_answer = ANSWER_ROWS, .common = FUZZ_IDS, .rows = rows};
    snprintf(s->run.task_name, MSG_NAME, "main");
    memset(s->run.trace_key, 'k', DIGEST_BYTES);
    fuzz_run(1, s->run.name);
}

/* As at the end of peers_gather. */
static void end_gather(struct state *s)
{
    s->p.into = NULL;
    s->p.request.kind = 0;
    for (size_t i = 0; i < M; i++) {
        inbox_clear(&s->p.peer[i].inbox);
        mat_free(&s->f[i]);
    }
}

static void begin_gather(struct state *s)
{
    for (size_t i = 0; i < M; i++)
        MUST(!mat_init(&s->f[i], s->p.expect.rows, s->p.expect.cols));
    s->p.into = s->f;
}

static void forget(struct state *s)
{
    end_gather(s);
    for (size_t i = 0; i < M; i++) {
        const char *name = s->p.peer[i].name;
        s->p.peer[i] = (struct peer){.name = name, .index = s->p.peer[i].index};
    }
    free(s->p.payload);
    free(s->p.task_rows);
    s->p.payload = NULL;
    s->p.task_rows = NULL;
    s->p.task.kind = 0;
    *s->p.failure = 0;
}

/* peers_task and peers_gather, less the waiting. */
static void ask(struct state *s, struct operation *o)
{
    static const double coefficients[M * 4] = {0.5, 1, 2};
    static const uint32_t rows[4] = {5, 1, 1, 0};
    uint8_t how = take_u8(o), commitment[DIGEST_BYTES] = {0};
    struct mat r;
    end_gather(s);
    *s->p.failure = 0;
    switch (o->code) {
    case TASK:
        s->p.task.kind = MSG_TASK;
        memcpy(s->p.task.run, s->run.name, RUN_BYTES);
        s->p.peer[0].accepted = s->p.peer[1].accepted = s->p.peer[2].accepted = false;
        s->p.task = describe(&s->p, &s->run, how & 1 ? fuzz_ids : NULL);
        free(s->p.task_rows);
        s->p.task_rows = need(malloc(s->p.task.array.rows * sizeof *s->p.task_rows + 1));
        memcpy(s->p.task_rows, s->run.rows, s->p.task.array.rows * sizeof *s->p.task_rows);
        s->p.ids = how & 1 ? fuzz_ids : NULL;
        for (size_t i = 0; i < M; i++)
            s->p.peer[i].tasked = s->p.peer[i].accepted = false;
        drive(&s->p);
        break;
    case FIT:
        MUST(!mat_init(&r, FIT_ROWS, K));
        s->p.dtype = how & 1 ? DTYPE_F64 : DTYPE_F32;
        peers_broadcast(&s->p, &s->run, how >> 1, &r);
        mat_free(&r);
        begin_gather(s);
        break;
    case PREDICT:
        peers_ask(&s->p, &s->run, how >> 4, rows, how & 4 ? 4 : 0, how >> 2 & 3,
                  how & 1 ? coefficients : NULL);
        begin_gather(s);
        break;
    default:
        peers_settle(&s->p, &s->run, how, commitment);
    }
    (void)peers_deterministic(&s->p);
}

static void give(struct state *s, uint32_t peer, const struct msg *m, const uint8_t *payload, size_t len)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg back;
    size_t n = msg_pack(m, header);
    if (!n || msg_unpack(header, n, &back))
        return; /* the link would not have passed it on */
    struct frame f = {WIRE_FRAME, 1, &peer, header, (uint32_t)n, payload, (uint32_t)len};
    from_link(&s->p, &f);
}

/* u8 peer, u8 byte of which all values are made (0xff: not a number), u8 1: half of it. */
static void give_payload(struct state *s, struct operation *o)
{
    static uint8_t bytes[1 << 16];
    uint32_t peer = take_u8(o) % M;
    const struct inbox *b = &s->p.peer[peer].inbox;
    size_t len = b->active ? (size_t)(shape_bytes(&b->opening.array) - b->used) : 8;
    MUST(len < sizeof bytes); /* only what was asked for is let in */
    memset(bytes, take_u8(o), len);
    struct msg m = {.kind = MSG_CHUNK};
    give(s, peer, &m, bytes, take_u8(o) & 1 ? len / 2 : len);
}

static void check(const struct state *s)
{
    for (size_t i = 0; i < M; i++) {
        const struct peer *one = &s->p.peer[i];
        MUST(one->lo <= one->hi || !s->p.ids);
        MUST(!one->accepted || one->tasked);
        MUST(!one->inbox.active || one->inbox.used <= shape_bytes(&one->inbox.opening.array));
        if (s->p.into)
            MUST(mat_nonfinite(s->f[i].a, s->f[i].n * s->f[i].k) < 0);
    }
}

static void step(struct state *s, struct operation *o)
{
    struct msg m;
    uint8_t peer;
    if (o->code == HEADER) {
        uint32_t index = take_u8(o);
        struct frame f = {WIRE_FRAME, 1, &index, o->p, (uint32_t)(o->end - o->p), NULL, 0};
        from_link(&s->p, &f);
    } else if (o->code < PAYLOAD) {
        ask(s, o);
    } else if (o->code == PAYLOAD) {
        give_payload(s, o);
    } else if (operation_is_message(o)) {
        take_msg(o, &m, &peer);
        give(s, peer % M, &m, o->p, (size_t)(o->end - o->p));
    }
    check(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    struct script script = {data, data + size};
    struct operation o;
    if (!s.p.M)
        begin_core(&s);
    fuzz_may_die = "the link sent";
    if (setjmp(fuzz_died) == 0)
        for (int steps = 0; steps < 100 && script_next(&script, &o); steps++)
            step(&s, &o);
    forget(&s);
    return 0;
}
