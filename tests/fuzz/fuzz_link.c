/* The link's state machine: a script of what peers send, mixed with what our own processes ask, with a
 * network that takes what is sent, or does not. First byte: 1 a sponsor's link, 2 with its own worker.
 * Operations: 0 a header as it stands; 1 NET_UP; 2 NET_DOWN; 3 a transfer of our own; 4 a message of our own;
 * 5 the network's mood; 6 from our own worker; 7 a restart of the trace; 8 many Tasks. */
int link_main(void);
#define main link_main
#include "common/link.c"
#undef main

#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { HEADER, UP, DOWN, TRANSFER, SMALL, MOOD, FROM_LOCAL, RESTART, MANY, PEERS = 2, QUEUED = 256 };

/* ---- in the place of common/net.c ---- */

static int mood;            /* what net_send returns */
static bool adopted = true; /* is the next message's connection the adopted one? */

int net_send(struct net *n, uint32_t peer, const uint8_t *header, size_t header_len, const uint8_t *payload,
             size_t payload_len)
{
    struct msg m;
    (void)n;
    MUST(peer < PEERS && header_len > 0 && payload_len <= CHUNK_MAX);
    MUST(!msg_unpack(header, header_len, &m) && m.kind != MSG_PEER);
    MUST(!payload || m.kind == MSG_CHUNK);
    return mood;
}

void net_adopt(struct net *n, uint32_t peer, const struct net_route *route)
{
    (void)n;
    MUST(peer < PEERS && route);
}

void net_redial(struct net *n, uint32_t peer)
{
    (void)n;
    (void)peer;
}

const char *net_listening(const struct net *n)
{
    (void)n;
    return NULL;
}

struct net *net_open(const struct net_conf *conf)
{
    (void)conf;
    return NULL;
}

void net_free(struct net *n)
{
    (void)n;
}

int net_wait(struct net *n, struct pollfd *fds, size_t n_fds, bool messages, int timeout_ms)
{
    (void)n;
    (void)fds;
    (void)n_fds;
    (void)messages;
    (void)timeout_ms;
    return -1;
}

int net_next(struct net *n, struct net_event *e)
{
    (void)n;
    (void)e;
    return 0;
}

/* ---- the link ---- */

static void begin_link(struct link *l, uint8_t how)
{
    static const char *const names[] = {"clinic", "lab", "bank"};
    static struct remote remote[PEERS + 1];
    static char pipes[2];
    *l = (struct link){.sponsor = how & 1, .n = PEERS, .remote = remote};
    l->child.name = names[LOCAL];
    l->private = (struct pipe *)(void *)&pipes[0];
    l->local = how & 1 && how & 2 ? (struct pipe *)(void *)&pipes[1] : NULL;
    memset(remote, 0, sizeof remote);
    for (uint32_t i = 0; i <= PEERS; i++)
        remote[i].name = names[i];
    remote[LOCAL].up = l->local;
    l->trace = trace_open(dup(fuzz_file("", 0)));
    MUST(l->trace);
    mood = 0;
    adopted = true;
}

static void forget(struct link *l)
{
    for (uint32_t i = 0; i <= PEERS; i++)
        while (l->remote[i].first)
            dequeue(&l->remote[i]);
    outgoing_release(l->filling);
    free(l->filling_peers);
    trace_free(l->trace);
}

static size_t chunk_len(const struct shape *s, uint32_t i)
{
    uint64_t begin = (uint64_t)i * s->chunk, all = shape_bytes(s);
    return begin >= all ? 0 : (size_t)(all - begin < s->chunk ? all - begin : s->chunk);
}

static uint8_t bytes[CHUNK_MAX];

/* u8 how: 1 another index, 2 another length, 4 another digest, 8 no payload. */
static size_t complete_chunk(const struct link *l, uint32_t peer, struct msg *m, struct operation *o)
{
    const struct incoming *in = &l->remote[peer].in;
    const uint8_t *key = run_key(l, peer, m);
    uint8_t how = take_u8(o);
    size_t len = in->active && !(how & 2) ? chunk_len(&in->opening.array, in->next) : take_u8(o);
    m->u.chunk.index = in->next + (how & 1 ? take_u8(o) : 0);
    memset(bytes, take_u8(o), len);
    if (key)
        digest_bytes(key, bytes, len, m->u.chunk.digest);
    m->u.chunk.digest[0] ^= how & 4;
    return how & 8 ? SIZE_MAX : len;
}

static void complete_close(const struct link *l, uint32_t peer, struct msg *m, struct operation *o)
{
    struct incoming in = l->remote[peer].in;
    uint8_t how = take_u8(o);
    if (in.active && !in.complete)
        digest_end(&in.digesting, &in.opening, in.digest);
    m->u.close.chunks = in.chunks ^ (how & 1);
    m->u.close.rows = in.opening.array.rows ^ (how >> 1 & 1);
    m->u.close.cols = in.opening.array.cols;
    memcpy(m->u.close.digest, in.digest, DIGEST_BYTES);
    m->u.close.digest[0] ^= how & 4;
}

static void send_event(struct link *l, uint32_t peer, const uint8_t *header, size_t n, const uint8_t *payload,
                       size_t len)
{
    struct net_event e = {.kind = NET_MESSAGE,
                          .peer = peer - 1,
                          .current = adopted,
                          .header = header,
                          .header_len = n,
                          .payload = payload,
                          .payload_len = payload ? len : 0};
    on_net(l, &e);
}

static void peer_says(struct link *l, struct operation *o)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg m;
    uint8_t who;
    size_t len = SIZE_MAX;
    take_msg(o, &m, &who);
    uint32_t peer = 1 + who % PEERS;
    if (m.kind == MSG_CHUNK)
        len = complete_chunk(l, peer, &m, o);
    if (m.kind == MSG_CLOSE)
        complete_close(l, peer, &m, o);
    send_event(l, peer, header, msg_pack(&m, header), len == SIZE_MAX ? NULL : bytes, len);
}

/* Frames of our own process are well-formed: it is trusted, and the link ends when they are not. */
static bool own_frame(struct link *l, void (*handle)(struct link *, const struct frame *),
                      const uint32_t *peers, uint32_t n, const struct msg *m, size_t len)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg back;
    size_t size = msg_pack(m, header);
    if (!size || msg_unpack(header, size, &back))
        return false;
    struct frame f = {WIRE_FRAME, n, peers, header, (uint32_t)size, bytes, (uint32_t)len};
    handle(l, &f);
    return true;
}

static uint32_t own_peers(const struct link *l, uint8_t which, uint32_t to[static PEERS + 1])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i <= PEERS; i++)
        if (which & (1 << i) && (i || l->local))
            to[n++] = i;
    return n;
}

/* Opening, chunks, Close; u8 peers, u8 how many chunks now (the others never come), then the message as it
 * is. */
static void own_transfer(struct link *l, struct operation *o)
{
    uint32_t to[PEERS + 1], n = own_peers(l, take_u8(o), to), whole = take_u8(o), i = 0;
    struct msg m, part = {.kind = MSG_CHUNK};
    uint8_t who;
    o->code = take_u8(o);
    take_msg(o, &m, &who);
    if (!n || !msg_is_transfer(m.kind) || shape_bytes(&m.array) > 1 << 20 ||
        !own_frame(l, from_private, to, n, &m, 0))
        return;
    for (; i < shape_chunks(&m.array) && i < whole; i++)
        own_frame(l, from_private, to, n, &part, chunk_len(&m.array, i));
    if (i == shape_chunks(&m.array)) {
        part = (struct msg){.kind = MSG_CLOSE};
        own_frame(l, from_private, to, n, &part, 0);
    }
}

static void own_message(struct link *l, struct operation *o)
{
    uint32_t to[PEERS + 1], n = own_peers(l, take_u8(o), to);
    struct msg m;
    uint8_t who;
    o->code = take_u8(o);
    take_msg(o, &m, &who);
    if (n && operation_is_message(o) && !msg_is_transfer(m.kind) && m.kind != MSG_CHUNK &&
        m.kind != MSG_CLOSE && m.kind != MSG_PEER)
        own_frame(l, from_private, to, n, &m, 0);
}

/* A sponsor's own worker answers: a message, or a whole transfer. */
static void local_says(struct link *l, struct operation *o)
{
    uint32_t self = LOCAL;
    struct msg m, part = {.kind = MSG_CHUNK};
    uint8_t who;
    o->code = take_u8(o);
    take_msg(o, &m, &who);
    if (!l->local || !operation_is_message(o) || m.kind == MSG_CHUNK || m.kind == MSG_CLOSE ||
        shape_bytes(&m.array) > 1 << 20 || (msg_is_transfer(m.kind) && !run_key(l, LOCAL, &m)) ||
        !own_frame(l, from_local, &self, 1, &m, 0) || !msg_is_transfer(m.kind))
        return;
    for (uint32_t i = 0; i < shape_chunks(&m.array); i++) {
        part.u.chunk.index = i;
        own_frame(l, from_local, &self, 1, &part, chunk_len(&m.array, i));
    }
    part = (struct msg){.kind = MSG_CLOSE};
    own_frame(l, from_local, &self, 1, &part, 0);
}

/* What a peer may repeat as often as it likes. */
static void many(struct link *l, struct operation *o)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg m;
    uint8_t who;
    uint32_t times = 8u * take_u8(o);
    o->code = take_u8(o);
    take_msg(o, &m, &who);
    struct msg run1 = {.has_run = true};
    fuzz_run(1, run1.run);
    uint32_t other = 1 + (who + 1u) % PEERS;
    bool known = run_key(l, other, &run1);
    for (uint32_t i = 0; i < times; i++) {
        m.has_run = true;
        memcpy(m.run, &i, sizeof i);
        send_event(l, 1 + who % PEERS, header, msg_pack(&m, header), NULL, 0);
    }
    MUST(!known || run_key(l, other, &run1)); /* at the other's cost */
}

static void restart_trace(struct link *l)
{
    trace_free(l->trace);
    l->trace = trace_open(open(fuzz_path(), O_RDWR | O_APPEND | O_CLOEXEC));
    MUST(l->trace);
}

static void check(const struct link *l)
{
    for (uint32_t p = 1; p <= PEERS; p++) {
        const struct remote *r = &l->remote[p];
        size_t queued = 0;
        MUST(r->in.next <= r->in.chunks && (!r->in.complete || r->in.next == r->in.chunks));
        for (const struct item *i = r->first; i; i = i->next, queued++)
            if (i->out)
                MUST(i->sent <= i->out->chunks && i->acked <= i->sent && i->out->users > 0);
        MUST(r->up || !r->first);
        MUST(queued < QUEUED);
    }
}

static void step(struct link *l, struct operation *o)
{
    struct net_event e = {.kind = o->code == UP ? NET_UP : NET_DOWN};
    if (o->code == HEADER) {
        uint32_t who = take_u8(o);
        send_event(l, 1 + (who & 15) % PEERS, o->p, (size_t)(o->end - o->p), who & 16 ? bytes : NULL, who);
    } else if (o->code == UP || o->code == DOWN) {
        e.peer = take_u8(o) % PEERS;
        on_net(l, &e);
    } else if (o->code == TRANSFER) {
        own_transfer(l, o);
    } else if (o->code == SMALL) {
        own_message(l, o);
    } else if (o->code == MOOD) {
        uint8_t how = take_u8(o);
        mood = how % 3 - 1;
        adopted = !(how & 4);
    } else if (o->code == FROM_LOCAL) {
        local_says(l, o);
    } else if (o->code == RESTART) {
        restart_trace(l);
    } else if (o->code == MANY) {
        many(l, o);
    } else if (operation_is_message(o)) {
        peer_says(l, o);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct link l;
    struct script script = {data + 1, data + size};
    struct operation o;
    if (size < 1)
        return 0;
    begin_link(&l, data[0]);
    for (int steps = 0; steps < 100 && script_next(&script, &o); steps++) {
        step(&l, &o);
        pump(&l);
        if (l.changed)
            tell_status(&l);
        check(&l);
    }
    forget(&l);
    return 0;
}
