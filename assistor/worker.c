/* gal-worker: one organization's private process. It holds the feature slice and the models, and answers
 * Task, Align, Fit and Predict. It has no socket: everything it says goes through its link. A sponsor is
 * trusted with nothing: not its shapes, its rows, its values or their order. */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assistor/runs.h"
#include "common/child.h"
#include "common/digest.h"
#include "common/inbox.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/wire.h"

enum { SPONSORS = 256, PARAMS = 64, LOG_REQUEST = 1, LOG_SPONSOR };

/* What one sponsor is doing with us. */
struct sponsor {
    struct policy policy; /* with its key, by which runs are stored; "self" for a sponsor's own worker */
    struct inbox inbox;
    double *coefficients;
    uint32_t questions; /* Align asked for the present Task */
    struct msg task;    /* the present Task while it is being aligned */
    struct run *run;
};

struct worker {
    struct child child;
    struct pipe *link;
    struct owner own;
    struct model_param param[PARAMS];
    char *exclude;
    const char **ids; /* of every row of the table, or NULL */
    uint32_t n;       /* rows of the table */
    size_t columns;   /* of it, without id and target */
    struct sponsor sponsor[SPONSORS];
};

static void send(struct worker *w, uint32_t peer, const struct msg *m, const uint8_t *array)
{
    int bad = array ? wire_send_array(w->link, &peer, 1, m, array) : wire_send(w->link, &peer, 1, m, NULL, 0);
    if (bad)
        child_orphaned(&w->child);
}

/* An answer's name: that of the request, with another kind. */
static struct msg reply_to(const struct msg *request, enum msg_kind kind)
{
    struct msg m = {.kind = kind, .has_run = true, .round = request->round};
    memcpy(m.run, request->run, RUN_BYTES);
    return m;
}

__attribute__((format(printf, 5, 6))) static void
refuse(struct worker *w, uint32_t peer, const struct msg *request, const char *code, const char *format, ...)
{
    struct msg m = reply_to(request, request->kind == MSG_TASK ? MSG_REFUSE : MSG_ERROR);
    va_list ap;
    va_start(ap, format);
    vsnprintf(m.u.refuse.text, MSG_TEXT, format, ap);
    va_end(ap);
    snprintf(m.u.refuse.code, MSG_NAME, "%s", code);
    m.u.refuse.rows = w->n;
    log_limited(LOG_REQUEST, "refused %s of round %u: %s", msg_name(request->kind), request->round,
                m.u.refuse.text);
    send(w, peer, &m, NULL);
}

static void tell_status(struct worker *w, const char *state)
{
    char *json = NULL;
    size_t size;
    FILE *f = open_memstream(&json, &size);
    if (!f)
        log_die(1, "out of memory");
    fprintf(f, "{\"state\":\"%s\",\"rows\":%u,\"columns\":%zu,\"model\":\"%s\",\"consent\":[", state, w->n,
            w->columns, w->own.kind->name);
    for (size_t i = 1; i < SPONSORS && w->sponsor[i].policy.sponsor; i++) {
        char *one = policy_status(&w->sponsor[i].policy, &w->own.store);
        fprintf(f, "%s%s", i > 1 ? "," : "", one ? one : "null");
        free(one);
    }
    fputs("]}", f);
    fclose(f);
    child_status(&w->child, "%s", json);
    free(json);
}

/* ---- Task and Align ---- */

/* NULL if the rows are those of a Task on our table: in range, none twice. */
static const char *rows_check(const uint32_t *rows, size_t n, uint32_t limit)
{
    uint8_t *seen = calloc(limit / 8 + 1, 1);
    const char *bad = seen ? NULL : "out of memory";
    for (size_t i = 0; i < n && !bad; i++) {
        if (rows[i] >= limit)
            bad = "a row number beyond the common rows";
        else if (seen[rows[i] / 8] & (1 << rows[i] % 8))
            bad = "a row number twice";
        else
            seen[rows[i] / 8] |= (uint8_t)(1 << rows[i] % 8);
    }
    free(seen);
    return bad;
}

/* True if both sides number the same rows: equal ids where both name an id column, else as many rows. */
static bool aligned(const struct worker *w, const struct msg *task, bool *by_ids)
{
    uint8_t digest[DIGEST_BYTES];
    *by_ids = w->ids && task->u.task.has_ids;
    if (task->u.task.common_rows != w->n)
        return false;
    if (!*by_ids)
        return true;
    digest_ids(task->u.task.trace_key, w->ids, w->n, digest);
    return !memcmp(digest, task->u.task.ids, DIGEST_BYTES);
}

static void accept_task(struct worker *w, uint32_t peer, const struct msg *task)
{
    struct msg m = reply_to(task, MSG_ACCEPT);
    m.u.accept.deterministic = w->own.kind->deterministic;
    m.u.accept.linear = w->own.kind->linear;
    send(w, peer, &m, NULL);
}

/* True if both say the same, but for how the row list travels and what may change between training and
 * prediction. */
static bool same_task(const struct msg *a, const struct msg *b)
{
    static uint8_t one[MSG_MAX_HEADER], other[MSG_MAX_HEADER];
    struct msg x = *a, y = *b;
    x.array = y.array = (struct shape){.chunk = CHUNK_MIN};
    memset(x.u.task.loss, 0, MSG_NAME);
    memset(y.u.task.loss, 0, MSG_NAME);
    memset(x.u.task.predict, 0, MSG_NAME);
    memset(y.u.task.predict, 0, MSG_NAME);
    size_t n = msg_pack(&x, one);
    return n == msg_pack(&y, other) && !memcmp(one, other, n);
}

static void on_task(struct worker *w, uint32_t peer, struct sponsor *s, const uint8_t *digest)
{
    const struct msg task = s->inbox.opening;
    uint32_t *rows = (uint32_t *)(void *)s->inbox.bytes;
    char error[512] = "";
    bool by_ids;
    s->task = task;
    s->questions = 0;
    if (s->run)
        runs_free(&w->own, s->run);
    s->run = NULL;
    if (!aligned(w, &task, &by_ids)) {
        if (by_ids)
            refuse(w, peer, &task, "E_IDS", "the ids of our %u rows are not the sponsor's, in its order",
                   w->n);
        else
            refuse(w, peer, &task, "E_ROWS",
                   "we have %u rows, the sponsor has %u: both sides need the same rows, in the same order",
                   w->n, task.u.task.common_rows);
        return;
    }
    s->run = runs_load(&w->own, &s->policy, task.run, error, sizeof error);
    if (s->run && (memcmp(s->run->digest, digest, DIGEST_BYTES) || !same_task(&s->run->task, &task))) {
        refuse(w, peer, &task, "E_EQUIVOCATION", "this run was begun with another Task");
        runs_free(&w->own, s->run);
        s->run = NULL;
        return;
    }
    const char *bad = *error ? error : rows_check(rows, task.array.rows, w->n);
    if (s->run && !bad)
        bad = policy_task(&s->policy, &w->own.store, &task, 0, w->own.kind->linear, true);
    if (!s->run && !bad) {
        s->inbox.bytes = NULL; /* the run takes it over */
        s->run = runs_create(&w->own, &s->policy, &task, digest, rows, error, sizeof error);
        if (!s->run)
            bad = error;
    }
    if (bad) {
        refuse(w, peer, &task, "E_TASK", "%s", bad);
        runs_free(&w->own, s->run);
        s->run = NULL;
        return;
    }
    log_info("task %s: accepted %u rounds on %u rows, %zu features, model %s", task.u.task.name,
             task.u.task.rounds, task.array.rows, features_width(s->run->features), w->own.kind->name);
    accept_task(w, peer, &task);
}

/* Is the digest of our first `prefix` ids this one? Answered for the present Task alone, and no oftener than
 * bisection needs. */
static void on_align(struct worker *w, uint32_t peer, struct sponsor *s, const struct msg *m)
{
    struct msg answer = reply_to(m, MSG_ALIGNED);
    uint8_t digest[DIGEST_BYTES];
    bool present = s->task.kind == MSG_TASK && !memcmp(s->task.run, m->run, RUN_BYTES);
    if (!present || !w->ids || !s->task.u.task.has_ids ||
        s->questions >= 2 * (uint32_t)ceil(log2((double)w->n + 1)) + 2) {
        refuse(w, peer, m, "E_ALIGN", "no (further) questions about ids are answered");
        return;
    }
    s->questions++;
    answer.u.aligned.rows = w->n;
    if (m->u.align.prefix <= w->n) {
        digest_ids(s->task.u.task.trace_key, w->ids, m->u.align.prefix, digest);
        answer.u.aligned.equal = !memcmp(digest, m->u.align.ids, DIGEST_BYTES);
    }
    send(w, peer, &answer, NULL);
}

/* ---- Fit ---- */

static struct run *run_named(const struct sponsor *s, const struct msg *m)
{
    return s->run && m->has_run && !memcmp(s->run->task.run, m->run, RUN_BYTES) ? s->run : NULL;
}

static void send_fitted(struct worker *w, uint32_t peer, const struct msg *request, const struct run *r,
                        uint8_t *answer)
{
    struct msg m = reply_to(request, MSG_FITTED);
    m.array = (struct shape){
        r->task.array.rows, r->task.u.task.outputs, r->task.u.task.dtype, r->task.array.chunk, false, false};
    send(w, peer, &m, answer);
    free(answer);
}

static void on_fit(struct worker *w, uint32_t peer, struct sponsor *s, const uint8_t *digest)
{
    const struct msg request = s->inbox.opening;
    struct run *r = run_named(s, &request);
    char error[512] = "out of memory";
    bool other;
    uint8_t *answer = runs_answer(&w->own, r, request.round, digest, &other);
    if (answer) {
        send_fitted(w, peer, &request, r, answer);
        return;
    }
    if (other || request.round != r->fitted + 1) {
        refuse(w, peer, &request, other ? "E_EQUIVOCATION" : "E_ROUND",
               other ? "round %u was asked before with other residuals" : "round %u is not the next one",
               request.round);
        return;
    }
    if (request.array.again || !inbox_whole(&s->inbox)) {
        refuse(w, peer, &request, "E_AGAIN", "the residuals are not here any more: send them again");
        return;
    }
    struct mat residual = {0};
    if (mat_init(&residual, request.array.rows, request.array.cols) == 0) {
        mat_decode(s->inbox.bytes, residual.n * residual.k, request.array.dtype, residual.a);
        if (mat_nonfinite(residual.a, residual.n * residual.k) >= 0)
            snprintf(error, sizeof error, "a residual is not finite");
        else
            answer = runs_fit(&w->own, r, &residual, digest, error, sizeof error);
    }
    mat_free(&residual);
    if (answer)
        send_fitted(w, peer, &request, r, answer);
    else
        refuse(w, peer, &request, "E_FIT", "%s", error);
}

/* ---- Predict ---- */

static void on_predict(struct worker *w, uint32_t peer, struct sponsor *s, const uint8_t *digest)
{
    (void)digest;
    const struct msg request = s->inbox.opening;
    struct run *r = run_named(s, &request);
    uint32_t *rows = (uint32_t *)(void *)s->inbox.bytes, rounds = request.u.predict.rounds;
    struct msg m = reply_to(&request, MSG_PREDICTED);
    struct mat f = {0};
    char error[512] = "";
    uint8_t *bytes = NULL;
    for (size_t i = 0; i < request.array.rows; i++)
        if (rows[i] >= w->n) {
            refuse(w, peer, &request, "E_ROWS", "row %u is beyond our %u rows", rows[i], w->n);
            return;
        }
    const double *c = request.u.predict.n_coefficients ? s->coefficients : NULL;
    if (runs_predict(&w->own, r, rows, request.array.rows, c, rounds, &f, error, sizeof error) == 0) {
        m.array = (struct shape){(uint32_t)f.n,       (uint32_t)f.k, r->task.u.task.dtype,
                                 r->task.array.chunk, false,         false};
        bytes = malloc(f.n * f.k * dtype_size(m.array.dtype) + 1);
    }
    if (bytes) {
        mat_encode(f.a, f.n * f.k, m.array.dtype, bytes);
        send(w, peer, &m, bytes);
    } else {
        refuse(w, peer, &request, "E_PREDICT", "%s", *error ? error : "out of memory");
    }
    free(bytes);
    mat_free(&f);
}

/* ---- transfers ---- */

/* NULL if a transfer of this shape may begin now: checked before memory is taken for it. */
static const char *opening_check(const struct worker *w, const struct sponsor *s, const struct msg *m)
{
    const struct run *r = run_named(s, m);
    if (!m->has_run)
        return "no run is named";
    if (m->kind == MSG_TASK)
        return m->array.rows > m->u.task.common_rows || m->u.task.common_rows > 2 * (uint64_t)w->n + 1000000
                   ? "more rows than a table like ours can have in common"
                   : NULL;
    if (!r)
        return "its Task was not accepted";
    if (m->kind == MSG_FIT)
        return m->array.rows != r->task.u.task.fit_rows || m->array.cols != r->task.u.task.outputs ||
                       m->array.dtype != r->task.u.task.dtype || m->round < 1 ||
                       m->round > r->task.u.task.rounds
                   ? "the residuals' shape is not the Task's"
                   : NULL;
    if (!m->u.predict.n_coefficients &&
        (uint64_t)m->u.predict.rounds * r->task.u.task.outputs > MSG_MAX_OUTPUTS * 16u)
        return "more values in a row than an answer can hold: ask for fewer rounds"; /* the link would not
                                                                                        take it */
    return m->u.predict.rounds > r->fitted || m->array.rows > 4 * (uint64_t)w->n + 1000000
               ? "more rounds or rows than there are"
               : NULL;
}

static void begin(struct worker *w, uint32_t peer, struct sponsor *s, const struct msg *m)
{
    const char *bad = opening_check(w, s, m);
    inbox_clear(&s->inbox);
    if (bad) {
        refuse(w, peer, m, "E_SHAPE", "%s", bad);
        return;
    }
    if (m->array.again) {
        s->inbox.opening = *m;
        return;
    }
    if (inbox_open(&s->inbox, m) < 0) {
        refuse(w, peer, m, "E_MEMORY", "out of memory");
        return;
    }
    if (m->kind == MSG_PREDICT && m->u.predict.n_coefficients) {
        free(s->coefficients);
        s->coefficients = malloc(m->u.predict.n_coefficients * sizeof(double));
        if (!s->coefficients)
            log_die(1, "out of memory");
        memcpy(s->coefficients, m->u.predict.coefficients, m->u.predict.n_coefficients * sizeof(double));
    }
}

/* The end of a transfer: the request is served. */
static void end(struct worker *w, uint32_t peer, struct sponsor *s, const uint8_t *digest)
{
    struct msg request = s->inbox.opening;
    if (!inbox_whole(&s->inbox) && !request.array.again)
        return; /* its opening was refused */
    if (request.kind == MSG_TASK && !request.array.again)
        on_task(w, peer, s, digest);
    else if (request.kind == MSG_TASK && run_named(s, &request))
        accept_task(w, peer, &request);
    else if (request.kind == MSG_FIT)
        on_fit(w, peer, s, digest);
    else if (request.kind == MSG_PREDICT && !request.array.again)
        on_predict(w, peer, s, digest);
    else
        refuse(w, peer, &request, "E_AGAIN", "this cannot be answered again: ask under a new number");
    inbox_clear(&s->inbox);
}

static void from_link(struct worker *w, const struct frame *f)
{
    struct msg m;
    const char *bad = msg_unpack(f->header, f->header_len, &m);
    if (bad || f->n_peers != 1 || f->peers[0] >= SPONSORS)
        log_die(1, "the link sent what is no message: %s", bad ? bad : "no such peer");
    uint32_t peer = f->peers[0];
    struct sponsor *s = &w->sponsor[peer];
    switch (m.kind) {
    case MSG_TASK:
    case MSG_FIT:
    case MSG_PREDICT:
        begin(w, peer, s, &m);
        break;
    case MSG_CHUNK:
        inbox_chunk(&s->inbox, f->payload, f->payload_len);
        break;
    case MSG_CLOSE:
        end(w, peer, s, m.u.close.digest);
        break;
    case MSG_ALIGN:
        on_align(w, peer, s, &m);
        break;
    case MSG_ERROR:
        log_limited(LOG_SPONSOR, "the sponsor says: %s %s", m.u.refuse.code, m.u.refuse.text);
        break;
    case MSG_SETTLE:
        if (run_named(s, &m) && m.round <= s->run->fitted)
            runs_settle(&w->own, s->run, m.round, m.u.settle.commitment);
        tell_status(w, "ready");
        break;
    case MSG_PEER:
        break;
    default:
        log_die(1, "the link sent %s, which a worker does not know", msg_name(m.kind));
    }
}

/* ---- start ---- */

static void read_model(struct worker *w)
{
    const struct conf *c = &w->child.conf;
    const char *name = conf_text(c, "model", "", "name", "linear");
    w->own.kind = model_find(name);
    if (!w->own.kind)
        log_die(2, "%s:%u: model %s is not known: one of %s", c->file,
                conf_find(c, "model", "", "name")->line, name, model_names());
    uint32_t line = 0;
    for (size_t i = 0; i < c->n && w->own.n_params < PARAMS; i++)
        if (!strcmp(c->items[i].section, "model") && strcmp(c->items[i].key, "name")) {
            w->param[w->own.n_params++] = (struct model_param){c->items[i].key, c->items[i].value};
            line = c->items[i].line;
        }
    w->own.param = w->param;
    const char *bad = w->own.kind->check(w->param, w->own.n_params);
    if (bad)
        log_die(2, "%s:%u: [model] %s: %s", c->file, line, name, bad);
}

/* The target and the id are never features, whatever the configuration says. */
static void read_columns(struct worker *w)
{
    const struct conf *c = &w->child.conf;
    const char *own = conf_text(c, "data", "", "exclude", ""), *id = conf_text(c, "data", "", "id", NULL),
               *target = conf_text(c, "labels", "", "target", NULL);
    if (target && table_find(w->own.table, target) < 0)
        target = NULL;
    if (asprintf(&w->exclude, "%s%s%s%s%s", own, id ? "," : "", id ? id : "", target ? "," : "",
                 target ? target : "") < 0)
        log_die(1, "out of memory");
    w->columns = table_cols(w->own.table) - (id && table_find(w->own.table, id) >= 0) - (target != NULL);
    w->own.columns = conf_text(c, "data", "", "columns", NULL);
    w->own.exclude = *w->exclude == ',' ? w->exclude + 1 : *w->exclude ? w->exclude : NULL;
}

static void read_ids(struct worker *w)
{
    const struct conf *c = &w->child.conf;
    const char *id = conf_text(c, "data", "", "id", NULL);
    if (!id)
        return;
    int column = table_find(w->own.table, id);
    if (column < 0)
        log_die(2, "%s:%u: id = %s: no such column in %s", c->file, conf_find(c, "data", "", "id")->line, id,
                conf_text(c, "data", "", "path", ""));
    w->ids = calloc(w->n + 1, sizeof *w->ids);
    for (uint32_t i = 0; w->ids && i < w->n; i++)
        w->ids[i] = table_text(w->own.table, i, (size_t)column);
    if (!w->ids || (w->n && !w->ids[w->n - 1]))
        log_die(1, "out of memory");
}

static void start(struct worker *w)
{
    static char path[4300], state[4200];
    char error[1024];
    const char *name;
    child_start(&w->child, "gal-worker");
    const struct conf *c = &w->child.conf;
    snprintf(state, sizeof state, "%s/worker", conf_text(c, "organization", "", "state", ""));
    sandbox_enter(&w->child,
                  &(struct sandbox){.read = {conf_text(c, "data", "", "path", "")}, .write = {state}});
    openblas_set_num_threads(child_threads());
    if (sodium_init() < 0)
        log_die(1, "libsodium cannot be initialised");
    w->link = pipe_new(CHILD_PIPE, true);
    snprintf(path, sizeof path, "%s/worker.db", state);
    char schema[4096];
    snprintf(schema, sizeof schema, "%s%s", runs_schema, policy_schema);
    store_open(&w->own.store, path, schema, RUNS_FORMAT);
    read_model(w);
    w->own.table = table_open(conf_text(c, "data", "", "path", ""), error, sizeof error);
    if (!w->own.table)
        log_die(2, "%s", error);
    if (table_rows(w->own.table) > INT32_MAX)
        log_die(2, "%s: more than %d rows", conf_text(c, "data", "", "path", ""), INT32_MAX);
    w->n = (uint32_t)table_rows(w->own.table);
    read_columns(w);
    read_ids(w);
    w->sponsor[0].policy = (struct policy){c, NULL, "self"};
    for (size_t i = 0; (name = conf_name(c, "sponsor", i)) && i + 1 < SPONSORS; i++)
        w->sponsor[i + 1].policy = (struct policy){c, name, conf_text(c, "sponsor", name, "key", "")};
    if (w->own.kind->linear && conf_name(c, "sponsor", 0))
        log_info("the model is linear: a sponsor that sees as many rounds as there are columns can REBUILD "
                 "them; a task with so many "
                 "is %s",
                 !strcmp(conf_text(c, "policy", "", "allow_reconstruction", "no"), "yes")
                     ? "accepted (allow_reconstruction = yes)"
                     : "refused unless a policy says allow_reconstruction = yes");
    tell_status(w, "ready");
}

int main(void)
{
    static struct worker w;
    struct frame f;
    start(&w);
    while (pipe_recv(w.link, &f) == 1)
        from_link(&w, &f);
    child_orphaned(&w.child);
}
