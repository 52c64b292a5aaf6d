#include "sponsor/peers.h"

#include <errno.h>
#include <math.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/digest.h"
#include "common/log.h"
#include "common/wire.h"

enum { LOG_ANSWER = 1, LOG_ERROR, LOG_VALUE };
static const double GREATEST = 1e100;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *need(void *p)
{
    if (!p)
        log_die(1, "out of memory");
    return p;
}

__attribute__((format(printf, 2, 3))) static void fail(struct peers *p, const char *format, ...)
{
    va_list ap;
    if (*p->failure)
        return;
    va_start(ap, format);
    vsnprintf(p->failure, sizeof p->failure, format, ap);
    va_end(ap);
}

void peers_open(struct peers *p, struct child *child, struct pipe *link)
{
    const struct conf *c = &child->conf;
    const char *name;
    size_t len = 1;
    *p = (struct peers){.child = child, .link = link};
    for (size_t i = 0; (name = conf_name(c, "peer", i)); i++)
        p->M++;
    bool self = conf_find(c, "data", "", "path");
    p->M += self;
    p->peer = need(calloc(p->M, sizeof *p->peer));
    p->to = need(calloc(p->M, sizeof *p->to));
    for (size_t m = 0; m < p->M; m++) {
        p->peer[m].index = (uint32_t)(self ? m : m + 1);
        p->peer[m].name = p->peer[m].index ? conf_name(c, "peer", p->peer[m].index - 1) : child->name;
        len += strlen(p->peer[m].name) + 1;
    }
    char *at = p->names = need(calloc(len, 1));
    for (size_t m = 0; m < p->M; m++)
        at = stpcpy(stpcpy(at, m ? "," : ""), p->peer[m].name);
    p->chunk = (uint32_t)conf_int(c, "link", "", "chunk", 256 << 10) & ~7u;
    p->dtype = !strcmp(conf_text(c, "link", "", "dtype", "f32"), "f64") ? DTYPE_F64 : DTYPE_F32;
}

bool peers_deterministic(const struct peers *p)
{
    for (size_t m = 0; m < p->M; m++)
        if (!p->peer[m].deterministic)
            return false;
    return true;
}

/* ---- asking ---- */

static void send_array(struct peers *p, const uint32_t *to, size_t n, const struct msg *m,
                       const uint8_t *bytes)
{
    if (n && wire_send_array(p->link, to, n, m, bytes) < 0)
        child_orphaned(p->child);
}

/* Gives the Task, and then the request, to everybody who is there and has not had it on this connection: one
 * broadcast to all of them. */
static void drive(struct peers *p)
{
    uint32_t *to = p->to;
    size_t n = 0;
    for (size_t m = 0; m < p->M; m++)
        if (p->task.kind && p->peer[m].up && !p->peer[m].tasked) {
            p->peer[m].tasked = true;
            to[n++] = p->peer[m].index;
        }
    send_array(p, to, n, &p->task, (const uint8_t *)p->task_rows);
    n = 0;
    for (size_t m = 0; m < p->M; m++) {
        struct peer *one = &p->peer[m];
        if (!p->request.kind || !one->up || !one->accepted || one->asked || one->answered)
            continue;
        one->asked = one->expected = true;
        to[n++] = one->index;
        if (!p->coefficients)
            continue;
        struct msg own = p->request; /* each its own coefficients */
        own.u.predict.n_coefficients = own.u.predict.rounds;
        own.u.predict.coefficients = p->coefficients + m * own.u.predict.rounds;
        send_array(p, &one->index, 1, &own, p->payload);
    }
    if (!p->coefficients)
        send_array(p, to, n, &p->request, p->payload);
}

static struct msg named(const struct run *r, enum msg_kind kind, uint32_t round)
{
    struct msg m = {.kind = kind, .has_run = true, .round = round};
    memcpy(m.run, r->name, RUN_BYTES);
    return m;
}

static void begin_request(struct peers *p, const struct msg *m, uint8_t *payload, enum msg_kind answer,
                          const struct shape *expect)
{
    free(p->payload);
    p->request = *m;
    p->payload = payload;
    p->answer = answer;
    p->expect = *expect;
    p->round = m->round;
    for (size_t i = 0; i < p->M; i++) {
        p->peer[i].asked = p->peer[i].expected = p->peer[i].answered = p->peer[i].invalid = false;
        inbox_clear(&p->peer[i].inbox);
    }
    drive(p);
}

void peers_broadcast(struct peers *p, const struct run *run, uint32_t t, const struct mat *r)
{
    struct msg m = named(run, MSG_FIT, t);
    m.array = (struct shape){run->n_fit, run->K, p->dtype, p->chunk, false, false};
    struct shape expect = {run->n_fit + run->n_answer, run->K, p->dtype, p->chunk, false, false};
    uint8_t *bytes = need(malloc(shape_bytes(&m.array)));
    mat_encode(r->a, r->n * r->k, p->dtype, bytes);
    p->coefficients = NULL;
    p->doing = "training";
    begin_request(p, &m, bytes, MSG_FITTED, &expect);
}

void peers_ask(struct peers *p, const struct run *run, uint32_t number, const uint32_t *rows, size_t n,
               uint32_t rounds, const double *coefficients)
{
    struct msg m = named(run, MSG_PREDICT, number);
    m.array = (struct shape){(uint32_t)n, 1, DTYPE_U32, p->chunk, false, false};
    m.u.predict.rounds = rounds;
    struct shape expect = {(uint32_t)n, coefficients ? run->K : run->K * rounds, p->dtype, p->chunk, false,
                           false};
    uint8_t *bytes = need(malloc(n * sizeof *rows + 1));
    memcpy(bytes, rows, n * sizeof *rows);
    p->coefficients = coefficients;
    p->doing = "predicting";
    begin_request(p, &m, bytes, MSG_PREDICTED, &expect);
}

void peers_settle(struct peers *p, const struct run *run, uint32_t t,
                  const uint8_t commitment[static DIGEST_BYTES])
{
    struct msg m = named(run, MSG_SETTLE, t);
    uint32_t *to = p->to;
    size_t n = 0;
    m.u.settle.settled = true;
    memcpy(m.u.settle.commitment, commitment, DIGEST_BYTES);
    for (size_t i = 0; i < p->M; i++)
        if (p->peer[i].up && p->peer[i].accepted)
            to[n++] = p->peer[i].index;
    if (n && wire_send(p->link, to, n, &m, NULL, 0) < 0)
        child_orphaned(p->child);
}

/* ---- ids that do not agree: where first? ---- */

static void align_ask(struct peers *p, struct peer *one, uint32_t prefix)
{
    struct msg m = {.kind = MSG_ALIGN, .has_run = true, .round = ++one->questions, .u.align.prefix = prefix};
    memcpy(m.run, p->task.run, RUN_BYTES);
    digest_ids(p->task.u.task.trace_key, p->ids, prefix, m.u.align.ids);
    if (wire_send(p->link, &one->index, 1, &m, NULL, 0) < 0)
        child_orphaned(p->child);
}

/* The prefix in question: first all that both can have, then by halves. */
static uint32_t align_prefix(const struct peer *one)
{
    return one->questions <= 1 ? one->hi : one->lo + (one->hi - one->lo) / 2;
}

static void align_begin(struct peers *p, struct peer *one, uint32_t rows)
{
    one->lo = one->questions = 0;
    one->hi = rows < p->task.u.task.common_rows ? rows : p->task.u.task.common_rows;
    align_ask(p, one, one->hi);
}

static void align_end(struct peers *p, const struct peer *one, uint32_t rows, uint32_t first)
{
    fail(p,
         "%s has %u rows, this organization %u; their ids differ first in row %u: put the same rows in the "
         "same order on both "
         "sides",
         one->name, rows, p->task.u.task.common_rows, first + 1);
}

static void on_aligned(struct peers *p, struct peer *one, const struct msg *m)
{
    uint32_t prefix = align_prefix(one);
    if (one->questions == 0 || m->round != one->questions)
        return;
    *(m->u.aligned.equal ? &one->lo : &one->hi) = prefix;
    if (m->u.aligned.equal && one->questions == 1)
        align_end(p, one, m->u.aligned.rows, prefix); /* one side has more rows */
    else if (one->hi - one->lo <= 1)
        align_end(p, one, m->u.aligned.rows, one->lo);
    else {
        uint32_t next = one->lo + (one->hi - one->lo) / 2;
        align_ask(p, one, next);
    }
}

/* ---- what comes from the link ---- */

static bool of_task(const struct peers *p, const struct msg *m)
{
    return p->task.kind && m->has_run && !memcmp(m->run, p->task.run, RUN_BYTES);
}

static void on_peer(struct peers *p, struct peer *one, const struct msg *m)
{
    p->bytes_out = m->u.peer.bytes_out;
    p->bytes_in = m->u.peer.bytes_in;
    if (m->u.peer.state == PEER_TRAFFIC)
        return;
    one->up = m->u.peer.state == PEER_THERE;
    one->tasked = one->accepted = one->asked = false;
    one->questions = 0;
}

static void on_refuse(struct peers *p, struct peer *one, const struct msg *m)
{
    if (!of_task(p, m) || !one->tasked || one->accepted || one->questions)
        return;
    if (!strcmp(m->u.refuse.code, "E_IDS") && p->ids)
        align_begin(p, one, m->u.refuse.rows);
    else
        fail(p, "%s refuses task %s: %s (%s)", one->name, p->task.u.task.name, m->u.refuse.text,
             m->u.refuse.code);
}

/* An answer begins: memory is taken for it only if it was asked for and has the shape that was agreed. */
static void on_opening(struct peers *p, struct peer *one, const struct msg *m)
{
    const struct shape *a = &m->array, *b = &p->expect;
    inbox_clear(&one->inbox);
    if (!of_task(p, m) || m->kind != p->answer || m->round != p->request.round || !one->expected ||
        one->answered)
        return; /* an answer that came twice, or late */
    if (a->rows != b->rows || a->cols != b->cols || a->dtype != b->dtype) {
        log_limited(LOG_ANSWER,
                    "%s answers round %u with %u×%u values of type %u, expected %u×%u of type %u; dropped",
                    one->name, m->round, a->rows, a->cols, a->dtype, b->rows, b->cols, b->dtype);
        return;
    }
    if (inbox_open(&one->inbox, m) < 0)
        log_die(1, "out of memory");
}

/* The first value from which no weights can be computed: not finite, or so great that squares of it might not
 * be. −1: none. */
static ssize_t unusable(const struct mat *f)
{
    for (size_t i = 0; i < f->n * f->k; i++)
        if (!(fabs(f->a[i]) <= GREATEST))
            return (ssize_t)i;
    return -1;
}

static void on_close(struct peers *p, size_t i)
{
    struct peer *one = &p->peer[i];
    if (!inbox_whole(&one->inbox) || !p->into)
        return;
    struct mat *f = &p->into[i];
    mat_decode(one->inbox.bytes, f->n * f->k, one->inbox.opening.array.dtype, f->a);
    inbox_clear(&one->inbox);
    one->answered = true;
    ssize_t bad = unusable(f);
    if (bad < 0)
        return;
    log_limited(LOG_VALUE,
                "%s answers round %u with a value that is not finite, or beyond 1e100 (row %zd): it counts "
                "as absent in this round",
                one->name, p->round, bad / (ssize_t)f->k);
    memset(f->a, 0, f->n * f->k * sizeof *f->a);
    one->invalid = true;
}

static void on_error(struct peers *p, struct peer *one, const struct msg *m)
{
    log_limited(LOG_ERROR, "%s says: %s (%s)", one->name, m->u.refuse.text, m->u.refuse.code);
    if (of_task(p, m) && one->questions && m->round == one->questions)
        fail(p, "%s does not say which ids differ: %s (%s)", one->name, m->u.refuse.text, m->u.refuse.code);
    else if (of_task(p, m) && m->round == p->request.round && one->asked && !one->answered)
        fail(p, "%s cannot answer round %u: %s (%s)", one->name, m->round, m->u.refuse.text,
             m->u.refuse.code);
}

static void from_link(struct peers *p, const struct frame *f)
{
    struct msg m;
    const char *bad = msg_unpack(f->header, f->header_len, &m);
    size_t i = 0;
    while (i < p->M && (f->n_peers != 1 || p->peer[i].index != f->peers[0]))
        i++;
    if (bad || i == p->M)
        log_die(1, "the link sent what is no message: %s", bad ? bad : "no such peer");
    struct peer *one = &p->peer[i];
    switch (m.kind) {
    case MSG_PEER:
        on_peer(p, one, &m);
        break;
    case MSG_ACCEPT:
        if (of_task(p, &m) && one->tasked && !one->accepted && !one->questions) {
            one->accepted = true;
            one->deterministic = m.u.accept.deterministic;
            one->linear = m.u.accept.linear;
        }
        break;
    case MSG_REFUSE:
        on_refuse(p, one, &m);
        break;
    case MSG_ALIGNED:
        if (of_task(p, &m) && p->ids)
            on_aligned(p, one, &m);
        break;
    case MSG_FITTED:
    case MSG_PREDICTED:
        on_opening(p, one, &m);
        break;
    case MSG_CHUNK:
        inbox_chunk(&one->inbox, f->payload, f->payload_len);
        break;
    case MSG_CLOSE:
        on_close(p, i);
        break;
    case MSG_ERROR:
        on_error(p, one, &m);
        break;
    default:
        log_die(1, "the link sent %s, which a core does not know", msg_name(m.kind));
    }
    drive(p);
}

/* ---- waiting ---- */

void peers_serve(struct peers *p, int timeout_ms)
{
    struct frame f;
    struct pollfd fds[2] = {{.fd = pipe_fd(p->link), .events = POLLIN},
                            {.fd = pipe_fd(p->child->control), .events = POLLIN}};
    if (pipe_ready(p->link) || pipe_ready(p->child->control))
        timeout_ms = 0;
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
        log_die(1, "waiting failed: %s", strerror(errno));
    if (pipe_ready(p->link) || fds[0].revents) {
        if (pipe_recv(p->link, &f) != 1)
            child_orphaned(p->child);
        from_link(p, &f);
    }
    if (pipe_ready(p->child->control) || fds[1].revents) {
        if (pipe_recv(p->child->control, &f) != 1)
            exit(0);
        p->serve(p->context, &f);
    }
}

/* Who has not done it yet, as a JSON list; returns how many. */
static size_t missing(const struct peers *p, bool request, char *json, size_t size)
{
    size_t n = 0, used = 0;
    *json = 0;
    for (size_t m = 0; m < p->M; m++) {
        bool done = request ? p->peer[m].answered : p->peer[m].accepted;
        if (!done && used + MSG_NAME + 8 < size)
            used += (size_t)snprintf(json + used, size - used, "%s\"%s\"", n ? "," : "", p->peer[m].name);
        n += !done;
    }
    return n;
}

static void tell_waiting(struct peers *p, bool request, double since)
{
    char names[2048], run[2 * RUN_BYTES + 1];
    missing(p, request, names, sizeof names);
    msg_run_hex(p->task.run, run);
    const char *text = request ? "they have been asked and have not answered"
                               : "they have not connected and accepted: are their daemons running?";
    child_status(p->child,
                 "{\"state\":\"%s\",\"task\":\"%s\",\"run\":\"%s\",\"round\":%u,\"rounds\":%u,\"waiting_"
                 "for\":[%s],\"since\":%ld,"
                 "\"text\":\"%s\"}",
                 request ? p->doing : "waiting", p->task.u.task.name, run, p->round, p->task.u.task.rounds,
                 names, (long)(time(NULL) - (long)(now() - since)), text);
    child_event(p->child, "{\"event\":\"waiting\",\"for\":[%s],\"text\":\"%s\"}", names, text);
}

/* Until all have answered (or accepted), or the task failed, or the deadline passed. */
static int wait_for_all(struct peers *p, bool request, double deadline)
{
    char names[2048];
    double since = now(), told = since;
    while (!*p->failure && missing(p, request, names, sizeof names)) {
        double t = now();
        if (t - told >= 1 && (told == since || t - told >= 10)) {
            tell_waiting(p, request, since);
            told = t;
        }
        if (deadline > 0 && t - since > deadline)
            fail(p, "no answer from %s within %.0f s: is the daemon running? (gal status)", names, deadline);
        else
            peers_serve(p, 250);
    }
    return *p->failure ? -1 : 0;
}

static struct msg describe(const struct peers *p, const struct run *r, const char *const *ids)
{
    struct msg m = named(r, MSG_TASK, 0);
    m.array = (struct shape){r->n_fit + r->n_answer, 1, DTYPE_U32, p->chunk, false, false};
    snprintf(m.u.task.name, MSG_NAME, "%s", r->task_name);
    snprintf(m.u.task.loss, MSG_NAME, "%s", r->task && r->task->declare_loss ? r->L->name : "");
    snprintf(m.u.task.predict, MSG_NAME, "%s", r->task && r->task->per_round ? "per-round" : "sum");
    m.u.task.outputs = r->K;
    m.u.task.rounds = r->T;
    m.u.task.fit_rows = r->n_fit;
    m.u.task.answer_rows = r->n_answer;
    m.u.task.dtype = p->dtype;
    m.u.task.common_rows = r->common;
    memcpy(m.u.task.trace_key, r->trace_key, DIGEST_BYTES);
    m.u.task.has_ids = ids;
    if (ids)
        digest_ids(r->trace_key, ids, r->common, m.u.task.ids);
    return m;
}

int peers_task(struct peers *p, const struct run *r, const char *const *ids, double deadline)
{
    bool same = p->task.kind && !memcmp(p->task.run, r->name, RUN_BYTES);
    *p->failure = 0;
    p->request.kind = 0;
    p->round = r->t;
    if (!same) {
        p->task = describe(p, r, ids);
        free(p->task_rows);
        p->task_rows = need(malloc(p->task.array.rows * sizeof *p->task_rows + 1));
        memcpy(p->task_rows, r->rows, p->task.array.rows * sizeof *p->task_rows);
        for (size_t m = 0; m < p->M; m++) {
            p->peer[m].tasked = p->peer[m].accepted = false;
            p->peer[m].questions = 0;
        }
    }
    p->ids = ids; /* the labels may have been read again */
    drive(p);
    int bad = wait_for_all(p, false, deadline);
    if (bad)
        p->task.kind = 0; /* the next one begins anew */
    return bad;
}

int peers_gather(struct peers *p, struct mat *f, bool *absent, double deadline)
{
    p->into = f;
    int bad = wait_for_all(p, true, deadline);
    p->into = NULL;
    p->request.kind = 0;
    for (size_t m = 0; m < p->M; m++) {
        absent[m] = p->peer[m].invalid;
        inbox_clear(&p->peer[m].inbox);
    }
    return bad;
}
