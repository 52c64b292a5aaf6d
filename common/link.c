/* gal-link: talks to other organizations and to its own private process, and understands neither residuals
 * nor models. It holds the organization's key and the trace; it opens no data. Every message from outside
 * passes one table (what may come from whom), every transfer is checked chunk by chunk, traced and passed on
 * at once. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/child.h"
#include "common/key.h"
#include "common/log.h"
#include "common/net.h"
#include "common/sandbox.h"
#include "common/trace.h"
#include "common/transfer.h"
#include "common/wire.h"

enum {
    WINDOW = 6,         /* chunks on their way to a peer, not yet acknowledged */
    ACK_EVERY = 3,      /* chunks */
    BACKLOG = 16 << 20, /* bytes queued to our own process before reading from outside pauses */
    LOCAL =
        0, /* the index of a sponsor's own worker; others count from 1 in the order of the configuration */
    RUNS = 64,     /* known of one organization; the oldest gives way, and its Task is sent again before it is
                      used */
    REFUSALS = 16, /* waiting for a peer that does not read them */
    TOLD = 12,     /* lines about a peer that comes and goes, in 10 s */
    LOG_DECODE = 8,
    LOG_STATE,
    LOG_RUN,
    LOG_TRANSFER,
    LOG_HEAD,
    LOG_VERSION,
};

#define REPLACED "E_REPLACED"

/* A message, or a transfer and how far it is, in a peer's queue. */
struct item {
    struct item *next;
    struct msg name; /* kind, run, round, array */
    uint8_t *header;
    size_t header_len;
    struct outgoing *out; /* NULL: a message of one frame */
    uint32_t sent, acked; /* chunks */
    bool opened, waiting; /* for the Ack that says where to resume */
    uint64_t wire;
};

/* A run whose trace key we were told. */
struct known_run {
    uint8_t run[RUN_BYTES], key[DIGEST_BYTES];
};

struct remote {
    const char *name;
    bool up, blocked;
    enum msg_kind owes_hello; /* Hello or Welcome, not taken by the socket yet; 0: none */
    bool owes_ack;
    time_t since, counted; /* since when its comings and goings are counted */
    unsigned changes;
    struct item *first, *last;
    struct msg opened; /* the transfer that was begun last: beginning it again means resuming */
    struct incoming in;
    struct known_run run[RUNS]; /* each its own: no peer can make us forget another's */
    size_t n_runs;
};

struct link {
    struct child child;
    struct pipe *private, *local; /* core or assistor's worker; a sponsor's worker or NULL */
    bool sponsor;
    struct key *key;
    struct net *net;
    struct net_peer *peers; /* n, without LOCAL */
    struct remote *remote;  /* n + 1, by index */
    size_t n;
    struct trace *trace;
    struct outgoing *filling; /* the transfer that is coming from the private process */
    bool dropping;            /* … or one that nobody is waiting for any more */
    uint32_t *filling_peers;
    size_t n_filling;
    uint64_t instance, bytes_out, bytes_in;
    bool changed; /* status to be told */
};

/* ---- runs ---- */

static const uint8_t *run_key(const struct link *l, uint32_t peer, const struct msg *m)
{
    const struct remote *r = &l->remote[peer];
    for (size_t i = r->n_runs < RUNS ? r->n_runs : RUNS; i-- > 0;)
        if (m->has_run && !memcmp(r->run[i].run, m->run, RUN_BYTES))
            return r->run[i].key;
    return NULL;
}

/* Remembers a Task's trace key; the oldest run gives way. */
static void run_learn(struct link *l, uint32_t peer, const struct msg *task)
{
    if (run_key(l, peer, task))
        return;
    struct known_run *r = &l->remote[peer].run[l->remote[peer].n_runs++ % RUNS];
    memcpy(r->run, task->run, RUN_BYTES);
    memcpy(r->key, task->u.task.trace_key, DIGEST_BYTES);
}

/* ---- status ---- */

static void tell_status(struct link *l)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    const char *listening = net_listening(l->net);
    fprintf(f, "{\"listening\":%s%s%s,\"bytes_out\":%lu,\"bytes_in\":%lu,\"peers\":[", listening ? "\"" : "",
            listening ? listening : "null", listening ? "\"" : "", (unsigned long)l->bytes_out,
            (unsigned long)l->bytes_in);
    for (size_t i = 1; i <= l->n; i++)
        fprintf(f, "%s{\"name\":\"%s\",\"up\":%s,\"since\":%ld}", i > 1 ? "," : "", l->remote[i].name,
                l->remote[i].up ? "true" : "false", (long)l->remote[i].since);
    fprintf(f, "]}");
    fclose(f);
    child_status(&l->child, "%s", text);
    free(text);
    l->changed = false;
}

static void to_private(struct link *l, uint32_t peer, const struct msg *m, const void *payload, size_t len)
{
    if (wire_send(l->private, &peer, 1, m, payload, len) < 0)
        child_orphaned(&l->child);
}

static void tell_peer(struct link *l, uint32_t peer, enum peer_state state)
{
    struct msg m = {.kind = MSG_PEER, .u.peer = {state, l->bytes_out, l->bytes_in}};
    to_private(l, peer, &m, NULL, 0);
}

/* ---- sending ---- */

static void item_free(struct item *i)
{
    outgoing_release(i->out);
    free(i->header);
    free(i);
}

/* True if so many refusals wait already that one more would only cost memory. */
static bool refused_enough(const struct remote *r, const struct msg *m)
{
    size_t n = 0;
    if (m->kind != MSG_ERROR && m->kind != MSG_REFUSE)
        return false;
    for (const struct item *i = r->first; i; i = i->next)
        n += i->name.kind == m->kind;
    return n >= REFUSALS;
}

static void enqueue(struct link *l, uint32_t peer, const struct msg *m, struct outgoing *out)
{
    uint8_t header[MSG_MAX_HEADER];
    struct remote *r = &l->remote[peer];
    struct msg copy = *m;
    if (refused_enough(r, m))
        return;
    struct item *i = calloc(1, sizeof *i);
    copy.array.resume = out && transfer_same(&r->opened, m);
    copy.array.again = false;
    size_t len = msg_pack(&copy, header);
    if (!i || !len || !(i->header = malloc(len)))
        log_die(1, "out of memory");
    memcpy(i->header, header, len);
    i->header_len = len;
    i->name = copy;
    i->out = out;
    if (out)
        out->users++;
    *(r->first ? &r->last->next : &r->first) = i;
    r->last = i;
}

static void dequeue(struct remote *r)
{
    struct item *i = r->first;
    r->first = i->next;
    item_free(i);
}

/* Whether a line is due: a peer that comes and goes all the time does not fill the log. */
static bool told(struct remote *r)
{
    if (r->since - r->counted >= 10 || r->since < r->counted) {
        r->counted = r->since;
        r->changes = 0;
    }
    if (++r->changes == TOLD)
        log_info("%s comes and goes: no more of that for 10 seconds", r->name);
    return r->changes < TOLD;
}

/* The connection is gone: what was queued is forgotten. The private process is told, and asks again. */
static void peer_down(struct link *l, uint32_t peer)
{
    struct remote *r = &l->remote[peer];
    while (r->first)
        dequeue(r);
    r->blocked = r->owes_ack = false;
    r->owes_hello = 0;
    if (!r->up)
        return;
    r->up = false;
    r->since = time(NULL);
    l->changed = true;
    if (told(r))
        log_info("%s is gone; waiting for it to come back", r->name);
    tell_peer(l, peer, PEER_GONE);
}

/* One message onto the socket: 1 sent, 0 not now. */
static int put(struct link *l, uint32_t peer, const uint8_t *header, size_t len, const void *payload,
               size_t payload_len)
{
    int bad = net_send(l->net, peer - 1, header, len, payload, payload_len);
    if (bad < 0)
        peer_down(l, peer);
    else
        l->remote[peer].blocked = bad;
    if (bad)
        return 0;
    l->bytes_out += len + payload_len;
    return 1;
}

static int put_msg(struct link *l, uint32_t peer, const struct msg *m, const void *payload,
                   size_t payload_len)
{
    uint8_t header[MSG_MAX_HEADER];
    return put(l, peer, header, msg_pack(m, header), payload, payload_len);
}

/* A word of the link's own, outside a run: Hello, Welcome, Bye. */
static bool put_word(struct link *l, uint32_t peer, const struct msg *m)
{
    uint64_t before = l->bytes_out;
    struct trace_entry e = {.direction = "out", .peer = l->remote[peer].name, .m = m};
    if (!put_msg(l, peer, m, NULL, 0))
        return false;
    e.wire = l->bytes_out - before;
    trace_add(l->trace, &e);
    return true;
}

/* A socket may not take the first word at once: its pipe is made by another thread, and tells us later than
 * the handshake does. */
static bool say_hello(struct link *l, uint32_t peer)
{
    struct remote *r = &l->remote[peer];
    struct msg m = {.kind = r->owes_hello, .u.hello = {.version = PROTOCOL_VERSION, .instance = l->instance}};
    snprintf(m.u.hello.program, MSG_NAME, "gal-link %s", GAL_VERSION);
    if (!put_word(l, peer, &m))
        return false;
    r->owes_hello = 0;
    return true;
}

static bool send_ack(struct link *l, uint32_t peer)
{
    const struct incoming *in = &l->remote[peer].in;
    struct msg m = {.kind = MSG_ACK,
                    .has_run = true,
                    .round = in->opening.round,
                    .u.ack = {.kind = in->opening.kind, .next = in->next}};
    memcpy(m.run, in->opening.run, RUN_BYTES);
    if (!put_msg(l, peer, &m, NULL, 0))
        return false;
    l->remote[peer].owes_ack = false;
    return true;
}

static void trace_item(struct link *l, uint32_t peer, const struct item *i, const uint8_t *digest)
{
    struct trace_entry e = {.direction = "out",
                            .peer = l->remote[peer].name,
                            .m = &i->name,
                            .bytes = i->out ? shape_bytes(&i->name.array) : 0,
                            .wire = i->wire,
                            .digest = digest};
    trace_add(l->trace, &e);
}

/* The head goes into a Settle when it leaves, as it stands then. */
static void fill_head(struct link *l, uint32_t peer, struct item *i)
{
    uint8_t header[MSG_MAX_HEADER];
    memcpy(i->name.u.settle.head, trace_head(l->trace, i->name.run, l->remote[peer].name), DIGEST_BYTES);
    size_t len = msg_pack(&i->name, header);
    if (len == i->header_len)
        memcpy(i->header, header, len);
}

static bool send_small(struct link *l, uint32_t peer, struct item *i)
{
    uint8_t digest[DIGEST_BYTES];
    if (i->name.kind == MSG_SETTLE)
        fill_head(l, peer, i);
    const uint8_t *key = run_key(l, peer, &i->name);
    if (key)
        digest_bytes(key, i->header, i->header_len, digest);
    if (!put(l, peer, i->header, i->header_len, NULL, 0))
        return false;
    i->wire = i->header_len;
    trace_item(l, peer, i, key ? digest : NULL);
    dequeue(&l->remote[peer]);
    return true;
}

static bool send_close(struct link *l, uint32_t peer, struct item *i)
{
    struct msg m = {
        .kind = MSG_CLOSE,
        .has_run = true,
        .round = i->name.round,
        .u.close = {.chunks = i->out->chunks, .rows = i->name.array.rows, .cols = i->name.array.cols}};
    memcpy(m.run, i->name.run, RUN_BYTES);
    memcpy(m.u.close.digest, i->out->digest, DIGEST_BYTES);
    if (!put_msg(l, peer, &m, NULL, 0))
        return false;
    i->wire += 2 * DIGEST_BYTES;
    trace_item(l, peer, i, i->out->digest);
    dequeue(&l->remote[peer]);
    return true;
}

/* The next frame of a transfer, if it may go now. */
static bool send_step(struct link *l, uint32_t peer, struct item *i)
{
    if (!i->opened) {
        if (!put(l, peer, i->header, i->header_len, NULL, 0))
            return false;
        i->wire = i->header_len;
        i->opened = true;
        i->waiting = i->name.array.resume;
        l->remote[peer].opened = i->name;
        return true;
    }
    if (i->waiting)
        return false;
    if (i->sent == i->out->chunks)
        return i->out->closed && send_close(l, peer, i);
    if (i->sent >= i->out->have || i->sent >= i->acked + WINDOW)
        return false;
    struct msg m = {.kind = MSG_CHUNK, .has_run = true, .round = i->name.round, .u.chunk.index = i->sent};
    memcpy(m.run, i->name.run, RUN_BYTES);
    memcpy(m.u.chunk.digest, i->out->chunk[i->sent].digest, DIGEST_BYTES);
    uint64_t before = l->bytes_out;
    if (!put_msg(l, peer, &m, i->out->chunk[i->sent].bytes, i->out->chunk[i->sent].len))
        return false;
    i->wire += l->bytes_out - before;
    i->sent++;
    return true;
}

/* One frame to each peer in turn, until none can take another: chunk j reaches all before j + 1 leaves, and a
 * slow one holds up nobody. */
static void pump(struct link *l)
{
    for (bool more = true; more;) {
        more = false;
        for (uint32_t p = 1; p <= l->n; p++) {
            struct remote *r = &l->remote[p];
            if (r->owes_hello && !say_hello(l, p))
                continue;
            if (r->owes_ack && r->up && !send_ack(l, p))
                continue;
            if (r->first && r->up)
                more |= r->first->out ? send_step(l, p, r->first) : send_small(l, p, r->first);
        }
    }
}

/* ---- from our own processes ---- */

/* To a sponsor's own worker: the same frames, by pipe. */
static void to_local(struct link *l, const struct msg *m, const void *payload, size_t len)
{
    uint32_t self = LOCAL;
    if (l->local && wire_send(l->local, &self, 1, m, payload, len) < 0)
        child_orphaned(&l->child);
}

static void trace_local(struct link *l, const char *direction, const struct msg *m, const uint8_t *digest)
{
    struct trace_entry e = {.direction = direction,
                            .peer = l->child.name,
                            .m = m,
                            .bytes = msg_is_transfer(m->kind) ? shape_bytes(&m->array) : 0,
                            .digest = digest};
    trace_add(l->trace, &e);
}

static void fill_begin(struct link *l, const struct frame *f, const struct msg *m)
{
    const uint8_t *key = NULL;
    for (size_t i = 0; i < f->n_peers && m->kind == MSG_TASK; i++)
        run_learn(l, f->peers[i], m);
    for (size_t i = 0; i < f->n_peers && !key; i++)
        key = run_key(l, f->peers[i], m);
    outgoing_release(l->filling);
    l->filling = key ? outgoing_new(m, key) : NULL;
    l->dropping =
        !key; /* the peer began so many runs since that this one is forgotten: it asks again if it wants it */
    if (l->dropping) {
        log_limited(LOG_RUN, "a %s of our own for a run that is not known any more; dropped",
                    msg_name(m->kind));
        return;
    }
    uint32_t *peers = reallocarray(l->filling_peers, f->n_peers + 1, sizeof *peers);
    if (!l->filling || !peers)
        log_die(1, "out of memory");
    l->filling_peers = peers;
    memcpy(peers, f->peers, f->n_peers * sizeof *peers);
    l->n_filling = f->n_peers;
    for (size_t i = 0; i < f->n_peers; i++)
        if (peers[i] == LOCAL)
            to_local(l, m, NULL, 0);
        else if (l->remote[peers[i]].up)
            enqueue(l, peers[i], m, l->filling);
}

static bool filling_local(const struct link *l)
{
    for (size_t i = 0; i < l->n_filling; i++)
        if (l->filling_peers[i] == LOCAL)
            return true;
    return false;
}

static void fill_chunk(struct link *l, const struct frame *f, const struct msg *m)
{
    if (l->dropping)
        return;
    if (!l->filling || outgoing_add(l->filling, f->payload, f->payload_len) < 0)
        log_die(1, "our own process sent a chunk of the wrong length");
    if (filling_local(l))
        to_local(l, m, f->payload, f->payload_len);
}

static void fill_end(struct link *l)
{
    struct outgoing *o = l->filling;
    if (l->dropping)
        return;
    if (!o || outgoing_close(o) < 0)
        log_die(1, "our own process ended a transfer early");
    if (filling_local(l)) {
        struct msg m = {.kind = MSG_CLOSE, .u.close = {.chunks = o->chunks}};
        memcpy(m.u.close.digest, o->digest, DIGEST_BYTES);
        to_local(l, &m, NULL, 0);
        trace_local(l, "local-out", &o->opening, o->digest);
    }
    outgoing_release(o);
    l->filling = NULL;
}

/* A message of one frame from our own process. The digest is over the header as it is packed here. */
static void pass_out(struct link *l, const struct frame *f, const struct msg *m)
{
    for (size_t i = 0; i < f->n_peers; i++)
        if (f->peers[i] == LOCAL) {
            uint8_t digest[DIGEST_BYTES];
            const uint8_t *key = run_key(l, LOCAL, m);
            if (key)
                digest_bytes(key, f->header, f->header_len, digest);
            to_local(l, m, NULL, 0);
            trace_local(l, "local-out", m, key ? digest : NULL);
        } else if (l->remote[f->peers[i]].up) {
            enqueue(l, f->peers[i], m, NULL);
        }
}

static void from_private(struct link *l, const struct frame *f)
{
    struct msg m;
    const char *bad = msg_unpack(f->header, f->header_len, &m);
    for (size_t i = 0; i < f->n_peers; i++)
        if (f->peers[i] > l->n)
            bad = "no such peer";
    if (bad)
        log_die(1, "our own process sent what is no message: %s", bad);
    if (msg_is_transfer(m.kind))
        fill_begin(l, f, &m);
    else if (m.kind == MSG_CHUNK)
        fill_chunk(l, f, &m);
    else if (m.kind == MSG_CLOSE)
        fill_end(l);
    else
        pass_out(l, f, &m);
}

/* From a sponsor's own worker to its core, as organization 1: digested and traced like the others. */
static void from_local(struct link *l, const struct frame *f)
{
    struct msg m;
    struct incoming *in = &l->remote[LOCAL].in;
    const char *bad = msg_unpack(f->header, f->header_len, &m);
    const uint8_t *key = bad ? NULL : run_key(l, LOCAL, &m);
    if (!bad && msg_is_transfer(m.kind) && key)
        incoming_open(in, &m, key);
    else if (!bad && m.kind == MSG_CHUNK)
        bad = incoming_chunk(in, m.u.chunk.index, f->payload, f->payload_len, NULL);
    else if (!bad && m.kind == MSG_CLOSE && !(bad = incoming_close(in, NULL))) {
        memcpy(m.u.close.digest, in->digest, DIGEST_BYTES);
        trace_local(l, "local-in", &in->opening, in->digest);
        tell_peer(l, LOCAL, PEER_TRAFFIC);
    } else if (!bad) {
        uint8_t digest[DIGEST_BYTES];
        if (key)
            digest_bytes(key, f->header, f->header_len, digest);
        trace_local(l, "local-in", &m, key ? digest : NULL);
    }
    if (bad)
        log_die(1, "our own worker sent what is no message: %s", bad);
    to_private(l, LOCAL, &m, f->payload, f->payload_len);
}

/* ---- from other organizations ---- */

struct arrival {
    uint32_t peer;
    const struct net_event *e;
    struct msg m;
};

static void refuse(struct link *l, const struct arrival *a, const char *code, const char *text)
{
    struct msg m = {.kind = MSG_ERROR, .has_run = a->m.has_run, .round = a->m.round};
    memcpy(m.run, a->m.run, RUN_BYTES);
    snprintf(m.u.refuse.code, MSG_NAME, "%s", code);
    snprintf(m.u.refuse.text, MSG_TEXT, "%s", text);
    log_limited(LOG_TRANSFER, "%s sent %s; dropped", l->remote[a->peer].name, text);
    if (l->remote[a->peer].up)
        enqueue(l, a->peer, &m, NULL);
}

static void trace_in(struct link *l, const struct arrival *a, const struct msg *m, uint64_t wire,
                     const uint8_t *digest)
{
    struct trace_entry e = {.direction = "in",
                            .peer = l->remote[a->peer].name,
                            .m = m,
                            .bytes = msg_is_transfer(m->kind) ? shape_bytes(&m->array) : 0,
                            .wire = wire,
                            .digest = digest};
    trace_add(l->trace, &e);
}

static void peer_up(struct link *l, uint32_t peer, const char *program)
{
    struct remote *r = &l->remote[peer];
    r->up = true;
    r->since = time(NULL);
    l->changed = true;
    if (told(r))
        log_info("%s is there (%s)", r->name, program);
    tell_peer(l, peer, PEER_THERE);
}

static void on_hello(struct link *l, struct arrival *a)
{
    if (a->m.u.hello.version != PROTOCOL_VERSION) {
        log_limited(LOG_VERSION,
                    "%s speaks version %u of the protocol, this is version %u: install the same release",
                    l->remote[a->peer].name, a->m.u.hello.version, PROTOCOL_VERSION);
        return;
    }
    if (l->remote[a->peer].up && !a->e->current) { /* perhaps alive: it shall know, and dial again */
        struct msg m = {.kind = MSG_ERROR,
                        .u.refuse = {.code = REPLACED,
                                     .text = "a newer connection has your key: is a daemon running twice?"}};
        put_msg(l, a->peer, &m, NULL, 0);
    }
    peer_down(l, a->peer);
    net_adopt(l->net, a->peer - 1, &a->e->route);
    trace_in(l, a, &a->m, a->e->header_len, NULL);
    l->remote[a->peer].owes_hello = MSG_WELCOME;
    peer_up(l, a->peer, a->m.u.hello.program);
}

static void on_welcome(struct link *l, struct arrival *a)
{
    trace_in(l, a, &a->m, a->e->header_len, NULL);
    if (a->m.u.hello.version != PROTOCOL_VERSION)
        log_limited(
            LOG_VERSION,
            "sponsor %s speaks version %u of the protocol, this is version %u: install the same release",
            l->remote[a->peer].name, a->m.u.hello.version, PROTOCOL_VERSION);
    else if (!l->remote[a->peer].up)
        peer_up(l, a->peer, a->m.u.hello.program);
}

static void on_opening(struct link *l, struct arrival *a)
{
    struct incoming *in = &l->remote[a->peer].in;
    if (a->m.kind == MSG_TASK && a->m.has_run)
        run_learn(l, a->peer, &a->m);
    const uint8_t *key = run_key(l, a->peer, &a->m);
    if (!key) {
        refuse(l, a, "E_RUN", "a transfer of a run whose Task was not sent on this connection");
        return;
    }
    bool resumed = incoming_open(in, &a->m, key);
    in->wire += a->e->header_len;
    if (a->m.array.resume)
        l->remote[a->peer].owes_ack = true;
    if (!resumed)
        to_private(l, a->peer, &a->m, NULL, 0);
}

static bool of_transfer(const struct incoming *in, const struct msg *m)
{
    return in->active && m->has_run && m->round == in->opening.round &&
           !memcmp(m->run, in->opening.run, RUN_BYTES);
}

static void on_chunk(struct link *l, struct arrival *a)
{
    struct incoming *in = &l->remote[a->peer].in;
    const char *bad =
        !of_transfer(in, &a->m) || !a->e->payload
            ? "a chunk outside a transfer"
            : incoming_chunk(in, a->m.u.chunk.index, a->e->payload, a->e->payload_len, a->m.u.chunk.digest);
    if (bad) {
        refuse(l, a, "E_CHUNK", bad);
        return;
    }
    in->wire += a->e->header_len + a->e->payload_len;
    to_private(l, a->peer, &a->m, a->e->payload, a->e->payload_len);
    if (in->next % ACK_EVERY == 0)
        l->remote[a->peer].owes_ack = true;
}

static void on_close(struct link *l, struct arrival *a)
{
    struct incoming *in = &l->remote[a->peer].in;
    bool again = in->complete;
    const char *bad =
        of_transfer(in, &a->m) ? incoming_close(in, &a->m) : "the end of a transfer that did not begin";
    if (bad) {
        in->active = false;
        refuse(l, a, "E_CLOSE", bad);
        return;
    }
    trace_in(l, a, &in->opening, in->wire + a->e->header_len, in->digest);
    if (again) { /* only asked again: our process has it, and answers from its store */
        struct msg opening = in->opening;
        opening.array.again = true;
        to_private(l, a->peer, &opening, NULL, 0);
    }
    tell_peer(l, a->peer, PEER_TRAFFIC);
    to_private(l, a->peer, &a->m, NULL, 0);
}

static void on_ack(struct link *l, struct arrival *a)
{
    struct item *i = l->remote[a->peer].first;
    const struct msg name = {
        .kind = (enum msg_kind)a->m.u.ack.kind, .has_run = a->m.has_run, .round = a->m.round};
    struct msg own = name;
    memcpy(own.run, a->m.run, RUN_BYTES);
    if (!i || !i->out || !transfer_same(&i->name, &own) || a->m.u.ack.next > i->out->chunks)
        return; /* of a transfer that is over */
    if (i->waiting) {
        i->waiting = false;
        i->sent = a->m.u.ack.next;
    }
    if (a->m.u.ack.next > i->acked && a->m.u.ack.next <= i->sent)
        i->acked = a->m.u.ack.next;
}

static void on_small(struct link *l, struct arrival *a)
{
    uint8_t digest[DIGEST_BYTES];
    if (a->m.kind == MSG_ERROR && !a->m.has_run && !strcmp(a->m.u.refuse.code, REPLACED) && !l->sponsor) {
        log_limited(LOG_STATE, "%s: %s; dialling again", l->remote[a->peer].name, a->m.u.refuse.text);
        net_redial(l->net, a->peer - 1);
        peer_down(l, a->peer);
        return;
    }
    const uint8_t *key = run_key(l, a->peer, &a->m);
    if (!key && a->m.kind != MSG_ERROR) {
        log_limited(LOG_RUN, "%s sent %s for a run that is not known; dropped", l->remote[a->peer].name,
                    msg_name(a->m.kind));
        return;
    }
    if (a->m.kind == MSG_SETTLE &&
        memcmp(a->m.u.settle.head, trace_head(l->trace, a->m.run, l->remote[a->peer].name), DIGEST_BYTES))
        log_limited(LOG_HEAD,
                    "%s has another record of what crossed than this host (at the end of round %u): compare "
                    "the traces with gal "
                    "trace --verify",
                    l->remote[a->peer].name, a->m.round);
    if (key)
        digest_bytes(key, a->e->header, a->e->header_len, digest);
    trace_in(l, a, &a->m, a->e->header_len, key ? digest : NULL);
    if (a->m.kind == MSG_ACCEPT)
        tell_peer(l, a->peer, PEER_TRAFFIC); /* the Task is not counted as part of round 1 */
    to_private(l, a->peer, &a->m, NULL, 0);
}

static void on_bye(struct link *l, struct arrival *a)
{
    if (!a->e->current || !l->remote[a->peer].up)
        return; /* the end of the connection was told first, or it speaks on another one by now */
    trace_in(l, a, &a->m, a->e->header_len, NULL);
    if (l->remote[a->peer].changes < TOLD)
        log_info("%s says goodbye: %s", l->remote[a->peer].name, a->m.u.refuse.text);
    peer_down(l, a->peer);
}

/* What may come from whom. */
enum from { ASSISTOR = 1, SPONSOR = 2, EITHER = 3 };
static const struct {
    enum msg_kind kind;
    enum from from;
    bool before_hello;
    void (*handle)(struct link *, struct arrival *);
} table[] = {
    {MSG_HELLO, ASSISTOR, true, on_hello},     {MSG_WELCOME, SPONSOR, true, on_welcome},
    {MSG_TASK, SPONSOR, false, on_opening},    {MSG_ACCEPT, ASSISTOR, false, on_small},
    {MSG_REFUSE, ASSISTOR, false, on_small},   {MSG_ALIGN, SPONSOR, false, on_small},
    {MSG_ALIGNED, ASSISTOR, false, on_small},  {MSG_FIT, SPONSOR, false, on_opening},
    {MSG_FITTED, ASSISTOR, false, on_opening}, {MSG_SETTLE, SPONSOR, false, on_small},
    {MSG_PREDICT, SPONSOR, false, on_opening}, {MSG_PREDICTED, ASSISTOR, false, on_opening},
    {MSG_ERROR, EITHER, false, on_small},      {MSG_BYE, EITHER, true, on_bye},
    {MSG_CHUNK, EITHER, false, on_chunk},      {MSG_CLOSE, EITHER, false, on_close},
    {MSG_ACK, EITHER, false, on_ack},
};

static void from_peer(struct link *l, const struct net_event *e)
{
    struct arrival a = {.peer = e->peer + 1, .e = e};
    const char *name = l->remote[a.peer].name, *bad = msg_unpack(e->header, e->header_len, &a.m);
    l->bytes_in += e->header_len + e->payload_len;
    if (bad || (e->payload && a.m.kind != MSG_CHUNK)) {
        log_limited(LOG_DECODE, "%s sent what is no message (%s); dropped", name,
                    bad ? bad : "a payload without a chunk");
        return;
    }
    a.m.array.again = false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].kind != a.m.kind || !(table[i].from & (l->sponsor ? ASSISTOR : SPONSOR)))
            continue;
        if (table[i].before_hello || (e->current && l->remote[a.peer].up)) {
            table[i].handle(l, &a);
            return;
        }
    }
    log_limited(LOG_STATE, "%s sent %s, which it may not send now; dropped", name, msg_name(a.m.kind));
}

static void on_net(struct link *l, const struct net_event *e)
{
    if (e->kind == NET_UP)
        l->remote[e->peer + 1].owes_hello = MSG_HELLO;
    else if (e->kind == NET_DOWN)
        peer_down(l, e->peer + 1);
    else
        from_peer(l, e);
}

/* ---- start ---- */

/* The keys of one peer; NULL, or the reason why they cannot be used. */
static const char *read_keys(const struct conf *c, const char *section, struct net_peer *p)
{
    static const char *const keys[] = {"key", "key2"};
    static char text[512];
    p->n_keys = 0;
    for (size_t k = 0; k < 2; k++) {
        const struct conf_item *item = conf_find(c, section, p->name, keys[k]);
        if (!item)
            continue;
        if (key_z85_decode(item->value, p->key[p->n_keys++], NET_KEY) < 0) {
            snprintf(text, sizeof text, "%s:%u: %s is not a public key: paste the line of NAME.pub", c->file,
                     item->line, keys[k]);
            return text;
        }
    }
    return NULL;
}

/* No key may stand for two names. */
static const char *same_keys(const struct link *l, const struct net_peer *peers)
{
    static char text[512];
    for (size_t i = 0; i < l->n; i++)
        for (size_t j = 0; j < i; j++)
            for (size_t a = 0; a < peers[i].n_keys; a++)
                for (size_t b = 0; b < peers[j].n_keys; b++)
                    if (!memcmp(peers[i].key[a], peers[j].key[b], NET_KEY)) {
                        snprintf(text, sizeof text, "%s: %s and %s have the same key", l->child.conf.file,
                                 peers[j].name, peers[i].name);
                        return text;
                    }
    return NULL;
}

static void read_peers(struct link *l)
{
    const char *section = l->sponsor ? "peer" : "sponsor", *name, *bad = NULL;
    const struct conf *c = &l->child.conf;
    while (conf_name(c, section, l->n))
        l->n++;
    l->peers = calloc(l->n + 1, sizeof *l->peers);
    l->remote = calloc(l->n + 1, sizeof *l->remote);
    if (!l->peers || !l->remote)
        log_die(1, "out of memory");
    l->remote[LOCAL].name = l->child.name;
    for (size_t i = 0; (name = conf_name(c, section, i)); i++) {
        struct net_peer *p = &l->peers[i];
        p->name = l->remote[i + 1].name = name;
        l->remote[i + 1].since = time(NULL);
        p->address = l->sponsor ? NULL : conf_text(c, section, name, "address", NULL);
        if ((bad = read_keys(c, section, p)))
            log_die(2, "%s", bad);
    }
    if ((bad = same_keys(l, l->peers)))
        log_die(2, "%s", bad);
}

static int open_net(struct link *l, const char *listen)
{
    struct net_conf net = {.listen = l->n ? listen : NULL, /* alone: nobody to listen to */
                           .public_key = key_public(l->key),
                           .secret_key = key_secret(l->key),
                           .peers = l->peers,
                           .n_peers = l->n,
                           .heartbeat_ms = (int)conf_int(&l->child.conf, "link", "", "heartbeat", 1000),
                           .max_frame = CHUNK_MAX};
    l->net = net_open(&net);
    return l->net ? 0 : -1;
}

/* Keys are read again. libzmq cannot drop one peer of a listening socket, so all sockets are made anew:
 * whoever's key still stands comes back at once and goes on from the last chunk; a key that is gone is
 * neither read nor sent to from here on. */
static void reload(struct link *l, const struct frame *f)
{
    const char *section = l->sponsor ? "peer" : "sponsor", *bad = NULL;
    char error[512] = "the key file did not come with the request", listen[256] = "";
    int fd = pipe_take_fd(l->child.control);
    struct conf fresh;
    struct net_peer *peers = calloc(l->n + 1, sizeof *peers);
    if (!peers || conf_unpack(f->payload, f->payload_len, &fresh) < 0)
        log_die(1, "out of memory");
    struct key *key =
        fd < 0 ? NULL : key_load(fd, conf_text(&fresh, "organization", "", "key", ""), error, sizeof error);
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; i < l->n && !bad; i++) {
        peers[i] = l->peers[i];
        bad = read_keys(&fresh, section, &peers[i]);
        if (!bad && !peers[i].n_keys)
            log_info("%s has no key any more: nothing of it is read or sent to it", peers[i].name);
    }
    bad = bad ? bad : key ? same_keys(l, peers) : error;
    conf_free(&fresh);
    if (bad) {
        log_error("%s: nothing is changed", bad);
        key_free(key);
        free(peers);
        return;
    }
    if (net_listening(l->net))
        snprintf(listen, sizeof listen, "%s", net_listening(l->net));
    for (uint32_t p = 1; p <= l->n; p++)
        peer_down(l, p);
    net_free(l->net);
    key_free(l->key);
    l->key = key;
    memcpy(l->peers, peers, l->n * sizeof *peers);
    free(peers);
    if (open_net(l, *listen ? listen : NULL) < 0)
        exit(1);
    log_info("keys are in force");
}

static void open_all(struct link *l)
{
    char error[512];
    child_start(&l->child, "gal-link");
    const struct conf *c = &l->child.conf;
    static char state[4200];
    snprintf(state, sizeof state, "%s/link", conf_text(c, "organization", "", "state", ""));
    l->child.network = true;
    sandbox_enter(&l->child,
                  &(struct sandbox){.read = {"/etc", "/lib", "/lib64", "/usr/lib"}, .write = {state}});
    if (sodium_init() < 0)
        log_die(1, "libsodium cannot be initialised");
    l->sponsor = !conf_name(c, "sponsor", 0);
    l->private = pipe_new(CHILD_PIPE, false);
    l->local = l->sponsor && fcntl(CHILD_LOCAL, F_GETFD) >= 0 ? pipe_new(CHILD_LOCAL, false) : NULL;
    l->key = key_load(CHILD_KEY, conf_text(c, "organization", "", "key", ""), error, sizeof error);
    if (!l->key)
        log_die(2, "%s", error);
    l->trace = trace_open(CHILD_TRACE);
    if (!l->trace)
        exit(2);
    read_peers(l);
    randombytes_buf(&l->instance, sizeof l->instance);
    if (open_net(l, conf_text(c, "listen", "", "address", NULL)) < 0)
        exit(1);
    l->remote[LOCAL].up = l->local;
    l->changed = true;
    if (l->local)
        tell_peer(l, LOCAL, PEER_THERE);
}

static void goodbye(struct link *l)
{
    for (uint32_t p = 1; p <= l->n; p++)
        if (l->remote[p].up) {
            struct msg m = {.kind = MSG_BYE};
            snprintf(m.u.refuse.text, MSG_TEXT, "stopping");
            put_word(l, p, &m);
        }
    net_free(l->net);
    trace_free(l->trace);
    key_free(l->key);
    exit(0);
}

/* ---- the loop ---- */

static void read_pipe(struct link *l, struct pipe *p, void (*handle)(struct link *, const struct frame *))
{
    struct frame f;
    int got;
    while (p && (got = pipe_recv(p, &f)) != 0) {
        if (got < 0)
            child_orphaned(&l->child);
        handle(l, &f);
    }
}

static void read_control(struct link *l)
{
    struct frame f;
    if (pipe_recv(l->child.control, &f) < 0)
        exit(0); /* the supervisor is gone */
    if (f.kind == CONTROL_STOP)
        goodbye(l);
    if (f.kind == CONTROL_RELOAD)
        reload(l, &f);
}

static short wants(const struct pipe *p)
{
    return (short)(POLLIN | (pipe_queued(p) ? POLLOUT : 0));
}

static bool anybody_blocked(const struct link *l)
{
    for (size_t i = 1; i <= l->n; i++)
        if (l->remote[i].blocked)
            return true;
    return false;
}

int main(void)
{
    static struct link l;
    struct net_event e;
    open_all(&l);
    for (;;) {
        if (l.changed)
            tell_status(&l);
        struct pollfd fds[3] = {{.fd = CHILD_CONTROL, .events = POLLIN},
                                {.fd = CHILD_PIPE, .events = wants(l.private)},
                                {.fd = CHILD_LOCAL, .events = l.local ? wants(l.local) : 0}};
        bool room = pipe_queued(l.private) < BACKLOG;
        if (net_wait(l.net, fds, l.local ? 3 : 2, room, anybody_blocked(&l) ? 1 : -1) < 0)
            log_die(1, "waiting failed: %s", strerror(errno));
        if (fds[0].revents)
            read_control(&l);
        if (pipe_flush(l.private) < 0 || (l.local && pipe_flush(l.local) < 0))
            child_orphaned(&l.child);
        read_pipe(&l, l.private, from_private);
        if (room)
            read_pipe(&l, l.local, from_local);
        while (pipe_queued(l.private) < BACKLOG && net_next(l.net, &e))
            on_net(&l, &e);
        pump(&l);
    }
}
