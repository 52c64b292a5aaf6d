/* gal-core: the sponsor's private process. It holds the labels and the scores, runs Algorithm 1 and answers
 * the operator. It has no socket, no features and no model: everything it asks of an organization goes
 * through its link. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/sandbox.h"
#include "sponsor/gal.h"
#include "sponsor/metric.h"
#include "sponsor/predict.h"
#include "sponsor/replay.h"

enum { TASKS = 64 };

struct core {
    struct child child;
    struct peers peers;
    struct store store;
    struct task task[TASKS];
    size_t n_tasks;
    struct labels labels; /* of labels_task */
    const struct task *labels_task;
    bool busy;                 /* training or predicting */
    const struct task *wanted; /* to be trained next */
};

/* ---- JSON text (the core links no library for it) ---- */

struct text {
    char *s;
    size_t n;
    FILE *f;
};

static void text_open(struct text *t)
{
    t->f = open_memstream(&t->s, &t->n);
    if (!t->f)
        log_die(1, "out of memory");
}

static void text_real(FILE *f, double x)
{
    if (isfinite(x))
        fprintf(f, "%.17g", x);
    else
        fputs("null", f);
}

static void text_reals(FILE *f, const double *x, size_t n)
{
    fputc('[', f);
    for (size_t i = 0; i < n; i++) {
        if (i)
            fputc(',', f);
        text_real(f, x[i]);
    }
    fputc(']', f);
}

static void text_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 32)
            fprintf(f, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, f);
    fputc('"', f);
}

/* Names joined by commas, as a list. */
static void text_names(FILE *f, const char *names)
{
    fputs("[\"", f);
    for (; *names; names++)
        fputs(*names == ',' ? "\",\"" : (char[]){*names, 0}, f);
    fputs("\"]", f);
}

static void send_event(struct core *c, struct text *t)
{
    fclose(t->f);
    child_event(&c->child, "%s", t->s);
    free(t->s);
}

static void send_reply(struct core *c, uint32_t connection, struct text *t)
{
    fclose(t->f);
    child_reply(&c->child, connection, t->s, t->n);
    free(t->s);
}

static void reply_error(struct core *c, uint32_t connection, const char *error)
{
    struct text t;
    text_open(&t);
    fputs("{\"error\":", t.f);
    text_string(t.f, error);
    fputs("}", t.f);
    send_reply(c, connection, &t);
}

static void tell_state(struct core *c, const char *state, const struct run *r)
{
    child_status(&c->child,
                 "{\"state\":\"%s\",\"task\":\"%s\",\"run\":\"%s\",\"round\":%u,\"rounds\":%u,\"waiting_"
                 "for\":[],\"since\":%ld,"
                 "\"text\":\"\"}",
                 state, r ? r->task_name : "", r ? r->hex : "", r ? r->t : 0, r ? r->T : 0, (long)time(NULL));
}

/* ---- training ---- */

static struct core *self; /* for the callbacks of peers and gal */

static void tell_start(struct core *c, const struct run *r)
{
    struct text t;
    text_open(&t);
    fprintf(t.f, "{\"event\":\"start\",\"run\":\"%s\",\"task\":\"%s\",\"orgs\":", r->hex, r->task_name);
    text_names(t.f, r->organizations);
    fprintf(t.f,
            ",\"outputs\":%u,\"loss\":\"%s\",\"solver\":\"paper\",\"rounds\":%u,\"round\":%u,\"rows\":{"
            "\"fit\":%u,\"answer\":%u},"
            "\"objective\":",
            r->K, r->L->name, r->T, r->t, r->n_fit, r->n_answer);
    text_real(t.f, r->objective);
    fputs("}", t.f);
    send_event(c, &t);
    tell_state(c, "training", r);
}

static void write_round(FILE *f, uint32_t number, const struct round *round, size_t M)
{
    fprintf(f, "\"round\":%u,\"objective\":", number);
    text_real(f, round->objective);
    fputs(",\"validation\":", f);
    text_real(f, round->validation);
    fputs(",\"rate\":", f);
    text_real(f, round->rate);
    fputs(",\"weights\":", f);
    text_reals(f, round->w, M);
    fputs(",\"seconds\":", f);
    text_real(f, round->seconds);
    fprintf(f, ",\"bytes_out\":%lu,\"bytes_in\":%lu", (unsigned long)round->bytes_out,
            (unsigned long)round->bytes_in);
}

static void tell_round(const struct run *r, struct peers *p)
{
    struct text t;
    (void)p;
    text_open(&t);
    fputs("{\"event\":\"round\",", t.f);
    write_round(t.f, r->t, &r->round[r->t - 1], r->M);
    fputs("}", t.f);
    send_event(self, &t);
    tell_state(self, "training", r);
}

static void tell_end(struct core *c, const struct run *r)
{
    struct text t;
    double seconds = 0;
    for (uint32_t i = 0; i < r->t; i++)
        seconds += r->round[i].seconds;
    text_open(&t);
    fprintf(t.f,
            "{\"event\":\"done\",\"run\":\"%s\",\"rounds\":%u,\"best_round\":%u,\"seconds\":%.6f,\"stopped\":"
            "\"%s\"}",
            r->hex, r->t, r->best_round, seconds, r->stopped);
    send_event(c, &t);
    tell_state(c, "done", r);
    log_info("task %s: done after %u rounds (%s), best round %u, objective %.6g", r->task_name, r->t,
             r->stopped, r->best_round, r->objective);
}

static void tell_failure(struct core *c, const struct run *r, const char *error)
{
    struct text t;
    log_error("%s", error);
    text_open(&t);
    fputs("{\"event\":\"failed\",\"error\":", t.f);
    text_string(t.f, error);
    fputs("}", t.f);
    send_event(c, &t);
    tell_state(c, "failed", r);
}

static enum task_kind task_kind(const struct core *c, const struct task *task)
{
    static const char *const names[] = {"regression", "count", "binary", "multiclass"};
    const char *kind = conf_text(&c->child.conf, "task", task->name, "kind", "");
    size_t i = 0;
    while (i < 3 && strcmp(names[i], kind))
        i++;
    return (enum task_kind)i;
}

/* The labels as this task reads them; kept until another task needs them. */
static int take_labels(struct core *c, const struct task *task, char *error, size_t size)
{
    if (c->labels_task == task)
        return 0;
    if (c->labels_task)
        labels_free(&c->labels);
    c->labels_task = NULL;
    if (labels_read(&c->child.conf, task_kind(c, task), &c->labels, error, size) < 0)
        return -1;
    c->labels_task = task;
    return 0;
}

static const char *const *ids_of(const struct core *c)
{
    return conf_find(&c->child.conf, "data", "", "id") ? (const char *const *)c->labels.id : NULL;
}

static void train(struct core *c, const struct task *task)
{
    char error[1024] = "";
    struct run *r = NULL;
    c->busy = true;
    if (take_labels(c, task, error, sizeof error) == 0 &&
        !(r = run_resume(&c->store, task, &c->labels, c->peers.names, error, sizeof error))) {
        if (*error)
            log_error("%s", error);
        *error = 0;
        r = run_begin(&c->store, task, &c->labels, c->peers.names, c->peers.M, error, sizeof error);
    }
    if (!r) {
        tell_failure(c, NULL, error);
    } else {
        if (r->t)
            log_info("task %s: going on with run %s after round %u", task->name, r->hex, r->t);
        if (peers_task(&c->peers, r, ids_of(c), 0) == 0) {
            tell_start(c, r);
            if (gal_train(r, &c->peers, &c->store, tell_round) == 0)
                run_finish(&c->store, r, run_over(r, peers_deterministic(&c->peers)));
        }
        if (r->state == RUN_DONE) {
            tell_end(c, r);
        } else {
            run_fail(&c->store, r, c->peers.failure);
            tell_failure(c, r, c->peers.failure);
        }
        run_free(r);
    }
    c->busy = false;
}

/* ---- the operator's requests ---- */

static const struct task *task_named(struct core *c, const char *name)
{
    for (size_t i = 0; i < c->n_tasks; i++)
        if (!strcmp(c->task[i].name, name) || (!*name && c->n_tasks == 1))
            return &c->task[i];
    return NULL;
}

static void on_train(struct core *c, const struct frame *f)
{
    const struct task *task = task_named(c, child_word(f, 1));
    if (!task)
        reply_error(c, f->peers[0], *child_word(f, 1) ? "no such task" : "there are several tasks: name one");
    else if (!c->busy && !c->wanted)
        c->wanted = task;
    else if (!c->busy || c->labels_task != task)
        reply_error(c, f->peers[0], "the core is at work on another task: ask again when it is done");
    /* else: at work on this very task; its events follow */
}

/* Rows asked for, as positions; NULL after replying with what is wrong. truth: as many labels, or NULL. */
static uint32_t *read_rows(struct core *c, const struct frame *f, size_t *n, const char **truth)
{
    const char *at = (const char *)f->payload, *end = at + f->payload_len;
    bool by_id = !strcmp(child_word(f, 2), "ids"), has_truth = *child_word(f, 3);
    char error[512];
    size_t items = 0;
    for (const char *s = at; s < end; s++)
        items += !*s;
    *n = has_truth ? items / 2 : items;
    uint32_t *rows = calloc(*n + 1, sizeof *rows);
    if (!rows)
        log_die(1, "out of memory");
    for (size_t i = 0; i < *n; i++, at += strlen(at) + 1) {
        int64_t row = by_id ? labels_find(&c->labels, at) : strtol(at, NULL, 10);
        if (by_id && !c->labels.by_id)
            snprintf(error, sizeof error, "this organization names no id column: ask by row numbers");
        else if (row < 0 || row >= c->labels.common)
            snprintf(error, sizeof error, by_id ? "id \"%s\" is not in [data]" : "row %s is not in [data]",
                     at);
        else {
            rows[i] = (uint32_t)row;
            continue;
        }
        reply_error(c, f->peers[0], error);
        free(rows);
        return NULL;
    }
    *truth = has_truth && items == 2 * *n ? at : NULL;
    return rows;
}

/* The metrics of the scores against labels given as text, as a JSON object. False if one is no label. */
static bool write_metrics(struct core *c, FILE *out, const char *truth, const struct mat *F)
{
    struct metric metric[METRICS_MAX];
    double *y = calloc(F->n + 1, sizeof *y);
    bool good = y;
    for (size_t i = 0; i < F->n && good; i++, truth += strlen(truth) + 1)
        good = labels_value(&c->labels, truth, &y[i]);
    size_t n = good ? metric_score(c->labels.kind, y, F, metric) : 0;
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%c\"%s\":", i ? ',' : '{', metric[i].name);
        text_real(out, metric[i].value);
    }
    if (n)
        fputs("}", out);
    free(y);
    return n;
}

static void reply_scores(struct core *c, uint32_t connection, const struct run *r, const struct mat *F,
                         const char *truth)
{
    struct text t;
    text_open(&t);
    fprintf(t.f, "{\"run\":\"%s\",\"task_kind\":\"%s\",\"best_round\":%u,\"classes\":", r->hex, r->kind,
            r->best_round);
    for (const char *name = r->classes; name && *name; name += strlen(name) + 1) {
        fputs(name == r->classes ? "[" : ",", t.f);
        text_string(t.f, name);
    }
    fprintf(t.f, "%s,\"outputs\":%u,\"scores\":[", r->classes ? "]" : "null", r->K);
    for (size_t i = 0; i < F->n; i++) {
        if (i)
            fputc(',', t.f);
        text_reals(t.f, F->a + i * r->K, r->K);
    }
    fputs("],\"metrics\":", t.f);
    if (!truth) {
        fputs("null", t.f);
    } else if (!write_metrics(c, t.f, truth, F)) {
        fclose(t.f);
        free(t.s);
        reply_error(c, connection, "a value of the truth is no label of this task");
        return;
    }
    fputs("}", t.f);
    send_reply(c, connection, &t);
}

static void on_predict(struct core *c, const struct frame *f)
{
    uint32_t connection = f->peers[0];
    char error[1024] = "";
    struct mat F = {0};
    size_t n;
    const char *truth;
    if (c->busy || c->wanted) {
        reply_error(c, connection, "a run is being trained: ask again when it is done (gal status)");
        return;
    }
    struct run *r = run_open(&c->store, child_word(f, 1));
    const struct task *task = r ? task_named(c, r->task_name) : NULL;
    char *payload = malloc(f->payload_len + 1u); /* the pipe's memory goes with the next frame */
    if (!payload)
        log_die(1, "out of memory");
    memcpy(payload, f->payload, f->payload_len);
    struct frame own = *f;
    own.payload = (const uint8_t *)payload;
    uint32_t *rows = NULL;
    if (!r || !task)
        reply_error(c, connection,
                    r ? "the run's task is not in the configuration any more"
                      : "no run is done yet: gal train first");
    else if (take_labels(c, task, error, sizeof error) < 0)
        reply_error(c, connection, error);
    else
        rows = read_rows(c, &own, &n, &truth);
    if (rows) {
        c->busy = true;
        if (predict_rows(r, &c->peers, &c->store, ids_of(c), rows, n, task->per_round, &F) == 0)
            reply_scores(c, connection, r, &F, truth);
        else
            reply_error(c, connection, c->peers.failure);
        c->busy = false;
        tell_state(c, "idle", r);
    }
    mat_free(&F);
    free(rows);
    free(payload);
    run_free(r);
}

struct replayed {
    FILE *f;
    bool first;
};

static void tell_replayed(void *context, uint32_t t, double eta, bool same, bool opened)
{
    struct replayed *r = context;
    fprintf(r->f, "%s{\"round\":%u,\"rate\":", r->first ? "" : ",", t);
    text_real(r->f, eta);
    fprintf(r->f, ",\"same\":%s,\"opened\":%s}", same ? "true" : "false", opened ? "true" : "false");
    r->first = false;
}

static void on_replay(struct core *c, const struct frame *f)
{
    char error[1024] = "";
    uint32_t connection = f->peers[0];
    struct run *name = run_open(&c->store, child_word(f, 1)), *r = NULL;
    const struct task *task = name ? task_named(c, name->task_name) : NULL;
    if (c->busy || c->wanted)
        snprintf(error, sizeof error, "a run is being trained: ask again when it is done (gal status)");
    else if (!task)
        snprintf(error, sizeof error,
                 name ? "the run's task is not in the configuration any more" : "no such run is done");
    else if (take_labels(c, task, error, sizeof error) == 0)
        r = run_rewind(&c->store, name, task, &c->labels, c->peers.names, error, sizeof error);
    struct text t;
    text_open(&t);
    struct replayed told = {t.f, true};
    fprintf(t.f, "{\"run\":\"%s\",\"rounds\":[", name ? name->hex : "");
    int differ = r ? replay_run(&c->store, r, tell_replayed, &told, error, sizeof error) : -1;
    fprintf(t.f, "],\"differ\":%d}", differ);
    if (differ >= 0) {
        send_reply(c, connection, &t);
    } else {
        fclose(t.f);
        free(t.s);
        reply_error(c, connection, error);
    }
    run_free(name);
    run_free(r);
}

static void on_runs(struct core *c, const struct frame *f)
{
    struct text t;
    uint32_t connection = f->peers[0];
    text_open(&t);
    fputs("{\"runs\":[", t.f);
    sqlite3_stmt *q = store_query(
        &c->store,
        "SELECT lower(hex(run)), task, state, best_round, begun, (SELECT count(*) FROM rounds WHERE "
        "rounds.run = runs.id) FROM runs ORDER BY id",
        "");
    for (bool first = true; q; q = store_next(&c->store, q), first = false)
        fprintf(t.f,
                "%s{\"run\":\"%s\",\"task\":\"%s\",\"state\":\"%s\",\"rounds\":%d,\"best_round\":%d,"
                "\"started\":\"%s\"}",
                first ? "" : ",", sqlite3_column_text(q, 0), sqlite3_column_text(q, 1),
                sqlite3_column_text(q, 2), sqlite3_column_int(q, 5), sqlite3_column_int(q, 3),
                sqlite3_column_text(q, 4));
    fputs("]}", t.f);
    send_reply(c, connection, &t);
}

static void serve(void *context, const struct frame *f)
{
    static const struct {
        const char *word;
        void (*handle)(struct core *, const struct frame *);
    } table[] = {{"train", on_train}, {"predict", on_predict}, {"runs", on_runs}, {"replay", on_replay}};
    struct core *c = context;
    const char *word =
        f->kind == CONTROL_REQUEST && f->n_peers == 1 && child_word(f, 3) ? child_word(f, 0) : NULL;
    for (size_t i = 0; word && i < sizeof table / sizeof *table; i++)
        if (!strcmp(word, table[i].word)) {
            table[i].handle(c, f);
            return;
        }
    log_die(1, "the supervisor sent what is no request");
}

/* ---- start ---- */

static void read_task(struct core *c, const char *name)
{
    const struct conf *conf = &c->child.conf;
    struct task *t = &c->task[c->n_tasks++];
    t->name = name;
    enum task_kind kind = task_kind(c, t);
    const struct conf_item *loss = conf_find(conf, "task", name, "loss");
    t->L = loss ? loss_find(loss->value) : loss_default(kind);
    if (!t->L || t->L->task != kind)
        log_die(2, "%s:%u: loss = %s is not one for kind = %s", conf->file, loss ? loss->line : 0,
                loss ? loss->value : "?", conf_text(conf, "task", name, "kind", ""));
    const char *rate = conf_text(conf, "task", name, "rate", "search");
    const char *share = conf_text(conf, "task", name, "validation", "auto");
    t->fixed_rate = !strcmp(rate, "search") ? 0 : strtod(rate + strlen("fixed:"), NULL);
    t->validation = !strcmp(share, "auto") ? -1 : strtod(share, NULL);
    t->rounds = (uint32_t)conf_int(conf, "task", name, "rounds", 10);
    t->patience = (uint32_t)conf_int(conf, "task", name, "patience", 3);
    t->seed = (uint64_t)conf_int(conf, "task", name, "seed", 0);
    t->uniform = !strcmp(conf_text(conf, "task", name, "weights", "exact"), "uniform");
    t->declare_loss = !strcmp(conf_text(conf, "task", name, "declare_loss", "no"), "yes");
    t->capture = !strcmp(conf_text(conf, "task", name, "capture", "no"), "yes");
    t->per_round = !strcmp(conf_text(conf, "task", name, "predict", "sum"), "per-round");
    t->manual = !strcmp(conf_text(conf, "task", name, "start", "auto"), "manual");
}

static void start(struct core *c)
{
    static char path[4300], state[4200];
    char error[1024];
    const char *name;
    child_start(&c->child, "gal-core");
    snprintf(state, sizeof state, "%s/core", conf_text(&c->child.conf, "organization", "", "state", ""));
    const char *labels =
        conf_text(&c->child.conf, "labels", "", "path", ""); /* and, for its ids, the own data's file */
    sandbox_enter(&c->child,
                  &(struct sandbox){.read = {labels, conf_text(&c->child.conf, "data", "", "path", NULL)},
                                    .write = {state}});
    openblas_set_num_threads(child_threads());
    if (sodium_init() < 0)
        log_die(1, "libsodium cannot be initialised");
    self = c;
    for (size_t i = 0; (name = conf_name(&c->child.conf, "task", i)); i++) {
        if (i == TASKS)
            log_die(2, "%s: more than %d tasks", c->child.conf.file, TASKS);
        read_task(c, name);
    }
    snprintf(path, sizeof path, "%s/core.db", state);
    store_open(&c->store, path, run_schema, RUN_FORMAT);
    peers_open(&c->peers, &c->child, pipe_new(CHILD_PIPE, true));
    c->peers.serve = serve;
    c->peers.context = c;
    if (take_labels(c, &c->task[0], error, sizeof error) < 0)
        log_die(2, "%s", error);
    tell_state(c, "idle", NULL);
}

/* An interrupted run goes on; a task that starts by itself does so once. */
static const struct task *next_task(struct core *c)
{
    for (size_t i = 0; i < c->n_tasks; i++) {
        sqlite3_stmt *q = store_query(&c->store, "SELECT 1 FROM runs WHERE task = ? AND state = 'running'",
                                      "t", c->task[i].name);
        store_done(q);
        if (q || (!c->task[i].manual && !run_exists(&c->store, c->task[i].name)))
            return &c->task[i];
    }
    return NULL;
}

int main(void)
{
    static struct core c;
    start(&c);
    c.wanted = next_task(&c);
    for (;;) {
        if (!c.wanted) {
            peers_serve(&c.peers, -1);
            continue;
        }
        const struct task *task = c.wanted;
        c.wanted = NULL;
        train(&c, task);
        c.wanted = next_task(&c);
    }
}
