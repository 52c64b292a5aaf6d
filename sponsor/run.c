#include "sponsor/run.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

const char run_schema[] =
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, run BLOB NOT NULL UNIQUE, task TEXT NOT NULL, state TEXT NOT "
    "NULL,"
    "  kind TEXT NOT NULL, loss TEXT NOT NULL, organizations TEXT NOT NULL, M INTEGER NOT NULL, K INTEGER "
    "NOT NULL,"
    "  T INTEGER NOT NULL, common INTEGER NOT NULL, n_fit INTEGER NOT NULL, rows BLOB NOT NULL, labels BLOB "
    "NOT NULL,"
    "  classes BLOB, trace_key BLOB NOT NULL, F0 BLOB NOT NULL, best_round INTEGER NOT NULL DEFAULT 0,"
    "  requests INTEGER NOT NULL DEFAULT 0, stopped TEXT, error TEXT,"
    "  begun TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));"
    "CREATE TABLE rounds (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, round INTEGER NOT NULL,"
    "  objective REAL NOT NULL, validation REAL, rate REAL NOT NULL, weights BLOB NOT NULL, salt BLOB NOT "
    "NULL,"
    "  commitment BLOB NOT NULL,"
    "  seconds REAL NOT NULL, bytes_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, PRIMARY KEY (run, "
    "round));"
    "CREATE TABLE captures (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, round INTEGER NOT NULL,"
    "  organization INTEGER NOT NULL, answer BLOB, PRIMARY KEY (run, round, organization));"
    "CREATE TABLE scores (run INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, F BLOB NOT NULL);";

static void *need(void *p)
{
    if (!p)
        log_die(1, "out of memory");
    return p;
}

static const char *const kinds[] = {"regression", "count", "binary", "multiclass"};

void run_free(struct run *r)
{
    if (!r)
        return;
    for (uint32_t t = 0; t < r->t; t++)
        free(r->round[t].w);
    free(r->round);
    mat_free(&r->F);
    free(r->organizations);
    free(r->rows);
    free(r->y);
    free(r->F0);
    free(r->classes);
    free(r);
}

struct mat run_fit_rows(const struct run *r, const struct mat *m)
{
    return (struct mat){r->n_fit, m->k, m->a};
}

/* ---- F and what follows from it ---- */

static void set_constant(struct run *r)
{
    for (size_t i = 0; i < r->F.n; i++)
        memcpy(r->F.a + i * r->K, r->F0, r->K * sizeof(double));
}

static void measure(struct run *r)
{
    struct mat fit = run_fit_rows(r, &r->F), held = {r->n_answer, r->K, r->F.a + (size_t)r->n_fit * r->K};
    r->objective = loss_mean(r->L, r->y, &fit);
    r->validation = r->n_answer ? loss_mean(r->L, r->y + r->n_fit, &held) : NAN;
}

static void digest_labels(const struct run *r, uint8_t out[static DIGEST_BYTES])
{
    crypto_generichash(out, DIGEST_BYTES, (const uint8_t *)r->y,
                       ((size_t)r->n_fit + r->n_answer) * sizeof *r->y, r->trace_key, DIGEST_BYTES);
}

/* ---- beginning ---- */

static struct run *run_new(const struct task *task, const struct labels *l)
{
    struct run *r = need(calloc(1, sizeof *r));
    r->task = task;
    r->L = task->L;
    snprintf(r->task_name, sizeof r->task_name, "%s", task->name);
    snprintf(r->kind, sizeof r->kind, "%s", kinds[l->kind]);
    r->K = labels_outputs(l);
    r->T = task->rounds;
    r->common = l->common;
    r->round = need(calloc(r->T, sizeof *r->round));
    return r;
}

static char *join_classes(const struct labels *l, size_t *size)
{
    if (!l->class_name)
        return NULL;
    *size = 1;
    for (size_t i = 0; i < l->n_classes; i++)
        *size += strlen(l->class_name[i]) + 1;
    char *text = need(calloc(*size, 1)), *at = text;
    for (size_t i = 0; i < l->n_classes; i++)
        at = stpcpy(at, l->class_name[i]) + 1;
    return text;
}

/* The labels of r->rows, in their order. */
static void take_labels(struct run *r, const struct labels *l, const uint32_t *label)
{
    size_t n = (size_t)r->n_fit + r->n_answer;
    r->y = need(calloc(n + 1, sizeof *r->y));
    for (size_t i = 0; i < n; i++)
        r->y[i] = l->y[label[i]];
    if (mat_init(&r->F, n, r->K) < 0)
        log_die(1, "out of memory");
}

struct run *run_begin(struct store *s, const struct task *task, const struct labels *l,
                      const char *organizations, size_t M, char *error, size_t size)
{
    struct rows rows;
    struct run *r = run_new(task, l);
    rows_cut(l, task->validation, task->seed, &rows);
    r->M = M;
    r->organizations = need(strdup(organizations));
    r->n_fit = rows.n_fit;
    r->n_answer = rows.n_answer;
    size_t n = (size_t)rows.n_fit + rows.n_answer, classes_len = 0;
    r->rows = need(calloc(n + 1, sizeof *r->rows));
    for (size_t i = 0; i < n; i++)
        r->rows[i] = l->row[rows.label[i]];
    take_labels(r, l, rows.label);
    rows_free(&rows);
    if (!r->n_fit) {
        snprintf(error, size, "no rows are left to fit on");
        run_free(r);
        return NULL;
    }
    randombytes_buf(r->name, sizeof r->name);
    randombytes_buf(r->trace_key, sizeof r->trace_key);
    msg_run_hex(r->name, r->hex);
    r->F0 = need(calloc(r->K, sizeof *r->F0));
    r->L->constant(r->y, r->n_fit, r->K, r->F0);
    set_constant(r);
    measure(r);
    r->classes = join_classes(l, &classes_len);
    uint8_t labels[DIGEST_BYTES];
    digest_labels(r, labels);
    r->id =
        store_run(s,
                  "INSERT INTO runs (run, task, state, kind, loss, organizations, M, K, T, common, n_fit, "
                  "rows, labels, "
                  "classes, trace_key, F0) VALUES (?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "btttt"
                  "iiiii"
                  "bbbbb",
                  (const void *)r->name, (size_t)RUN_BYTES, task->name, r->kind, r->L->name, organizations,
                  (int64_t)M, (int64_t)r->K, (int64_t)r->T, (int64_t)r->common, (int64_t)r->n_fit,
                  (const void *)r->rows, n * sizeof *r->rows, (const void *)labels, (size_t)DIGEST_BYTES,
                  (const void *)r->classes, classes_len, (const void *)r->trace_key, (size_t)DIGEST_BYTES,
                  (const void *)r->F0, r->K * sizeof *r->F0);
    return r;
}

bool run_exists(struct store *s, const char *task)
{
    sqlite3_stmt *q = store_query(s, "SELECT 1 FROM runs WHERE task = ?", "t", task);
    store_done(q);
    return q;
}

/* ---- reading back ---- */

#define COLUMNS                                                                                              \
    "SELECT id, run, task, state, kind, loss, organizations, M, K, T, common, n_fit, rows, classes, "        \
    "trace_key, F0, "                                                                                        \
    "best_round, requests FROM runs "

static const char *text_of(sqlite3_stmt *q, int column)
{
    const char *text = (const char *)sqlite3_column_text(q, column);
    return text ? text : "";
}

static void read_rounds(struct store *s, struct run *r)
{
    sqlite3_stmt *q =
        store_query(s,
                    "SELECT objective, validation, rate, weights, seconds, bytes_out, bytes_in FROM rounds "
                    "WHERE run = ? ORDER BY round",
                    "i", r->id);
    for (; q && r->t < r->T; q = store_next(s, q)) {
        struct round *round = &r->round[r->t];
        size_t size;
        *round = (struct round){sqlite3_column_double(q, 0),
                                sqlite3_column_type(q, 1) == SQLITE_NULL ? NAN : sqlite3_column_double(q, 1),
                                sqlite3_column_double(q, 2),
                                sqlite3_column_double(q, 4),
                                (uint64_t)sqlite3_column_int64(q, 5),
                                (uint64_t)sqlite3_column_int64(q, 6),
                                store_blob(q, 3, &size)};
        if (!round->w || size != r->M * sizeof *round->w)
            log_die(1, "%s: round %u of run %s is damaged: move the file away", s->path, r->t + 1, r->hex);
        r->t++;
    }
    store_done(q);
}

/* The run on which a query by COLUMNS stands. */
static struct run *read_run(struct store *s, sqlite3_stmt *q)
{
    struct run *r = need(calloc(1, sizeof *r));
    size_t rows_len, F0_len, classes_len;
    r->id = sqlite3_column_int64(q, 0);
    r->M = (size_t)sqlite3_column_int64(q, 7);
    r->K = (uint32_t)sqlite3_column_int(q, 8);
    r->T = (uint32_t)sqlite3_column_int(q, 9);
    r->common = (uint32_t)sqlite3_column_int64(q, 10);
    r->n_fit = (uint32_t)sqlite3_column_int64(q, 11);
    r->rows = store_blob(q, 12, &rows_len);
    r->classes = store_blob(q, 13, &classes_len);
    r->F0 = store_blob(q, 15, &F0_len);
    r->best_round = (uint32_t)sqlite3_column_int(q, 16);
    r->requests = (uint32_t)sqlite3_column_int64(q, 17);
    r->L = loss_find(text_of(q, 5));
    snprintf(r->task_name, sizeof r->task_name, "%s", text_of(q, 2));
    snprintf(r->kind, sizeof r->kind, "%s", text_of(q, 4));
    r->organizations = need(strdup(text_of(q, 6)));
    r->state = !strcmp(text_of(q, 3), "done")     ? RUN_DONE
               : !strcmp(text_of(q, 3), "failed") ? RUN_FAILED
                                                  : RUN_RUNNING;
    if (!r->rows || !r->F0 || !r->L || rows_len / sizeof *r->rows < r->n_fit ||
        F0_len != r->K * sizeof *r->F0 || sqlite3_column_bytes(q, 1) != RUN_BYTES ||
        sqlite3_column_bytes(q, 14) != DIGEST_BYTES)
        log_die(1, "%s: a stored run is damaged: move the file away", s->path);
    memcpy(r->name, sqlite3_column_blob(q, 1), RUN_BYTES);
    memcpy(r->trace_key, sqlite3_column_blob(q, 14), DIGEST_BYTES);
    msg_run_hex(r->name, r->hex);
    r->n_answer = (uint32_t)(rows_len / sizeof *r->rows) - r->n_fit;
    r->round = need(calloc(r->T, sizeof *r->round));
    read_rounds(s, r);
    return r;
}

struct run *run_open(struct store *s, const char *hex)
{
    uint8_t name[RUN_BYTES];
    size_t n = 0;
    sqlite3_stmt *q = NULL;
    if (!*hex)
        q = store_query(s, COLUMNS "WHERE state = 'done' ORDER BY id DESC LIMIT 1", "");
    else if (sodium_hex2bin(name, sizeof name, hex, strlen(hex), NULL, &n, NULL) == 0 && n == RUN_BYTES)
        q = store_query(s, COLUMNS "WHERE run = ? AND state = 'done'", "b", (const void *)name,
                        (size_t)RUN_BYTES);
    struct run *r = q ? read_run(s, q) : NULL;
    store_done(q);
    return r;
}

/* Labels and F of an interrupted run; NULL or why it cannot go on. */
static const char *restore(struct store *s, struct run *r, const struct labels *l, const char *organizations)
{
    size_t n = (size_t)r->n_fit + r->n_answer, size;
    if (strcmp(r->organizations, organizations) || r->common != l->common || r->K != labels_outputs(l))
        return "the organizations, rows or classes are not those it was begun with";
    uint32_t *label_of = need(calloc(l->common + 1u, sizeof *label_of)),
             *label = need(calloc(n + 1, sizeof *label));
    bool all = true;
    memset(label_of, 0xff, (l->common + 1u) * sizeof *label_of);
    for (size_t i = 0; i < l->n; i++)
        label_of[l->row[i]] = (uint32_t)i;
    for (size_t i = 0; i < n && all; i++)
        all = r->rows[i] < l->common && (label[i] = label_of[r->rows[i]]) != UINT32_MAX;
    if (all)
        take_labels(r, l, label);
    free(label_of);
    free(label);
    uint8_t now[DIGEST_BYTES];
    if (all)
        digest_labels(r, now);
    sqlite3_stmt *q = store_query(
        s, "SELECT labels, F FROM runs LEFT JOIN scores ON scores.run = runs.id WHERE id = ?", "i", r->id);
    if (!all || sqlite3_column_bytes(q, 0) != DIGEST_BYTES ||
        memcmp(now, sqlite3_column_blob(q, 0), DIGEST_BYTES)) {
        store_done(q);
        return "the labels are not those it was begun with";
    }
    double *F = store_blob(q, 1, &size);
    store_done(q);
    if (F && size == n * r->K * sizeof *F)
        memcpy(r->F.a, F, size);
    else
        set_constant(r);
    free(F);
    return r->t && !size ? "its scores are not on record" : NULL;
}

struct run *run_rewind(struct store *s, const struct run *name, const struct task *task,
                       const struct labels *l, const char *organizations, char *error, size_t size)
{
    sqlite3_stmt *q = store_query(s, COLUMNS "WHERE id = ?", "i", name->id);
    struct run *r = q ? read_run(s, q) : NULL;
    store_done(q);
    const char *bad = r ? restore(s, r, l, organizations) : "it is not on record";
    if (!bad) {
        r->task = task;
        set_constant(r);
        return r;
    }
    snprintf(error, size, "run %s cannot be replayed: %s", name->hex, bad);
    run_free(r);
    return NULL;
}

struct run *run_resume(struct store *s, const struct task *task, const struct labels *l,
                       const char *organizations, char *error, size_t size)
{
    *error = 0;
    sqlite3_stmt *q = store_query(s, COLUMNS "WHERE task = ? AND state = 'running' ORDER BY id DESC LIMIT 1",
                                  "t", task->name);
    struct run *r = q ? read_run(s, q) : NULL;
    store_done(q);
    if (!r)
        return NULL;
    r->task = task;
    const char *bad = restore(s, r, l, organizations);
    if (!bad) {
        measure(r);
        return r;
    }
    snprintf(error, size, "run %s of task %s cannot go on: %s; it is closed as failed", r->hex, task->name,
             bad);
    run_fail(s, r, bad);
    run_free(r);
    return NULL;
}

/* ---- rounds ---- */

/* With validation rows: where their loss was least, F^0 included. Without: the last. */
static uint32_t choose_best(const struct run *r)
{
    uint32_t best = r->best_round;
    if (isnan(r->validation))
        return r->t;
    double least = best ? r->round[best - 1].validation : INFINITY;
    if (!best) { /* F^0 */
        struct mat held = {r->n_answer, r->K, NULL};
        if (mat_init(&held, r->n_answer, r->K) < 0)
            log_die(1, "out of memory");
        for (size_t i = 0; i < held.n; i++)
            memcpy(held.a + i * r->K, r->F0, r->K * sizeof(double));
        least = loss_mean(r->L, r->y + r->n_fit, &held);
        mat_free(&held);
    }
    return r->validation < least ? r->t : best;
}

static void commit_to(const uint8_t salt[static DIGEST_BYTES], double eta, const double *w, size_t M,
                      uint8_t out[static DIGEST_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    crypto_generichash_update(&state, salt, DIGEST_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)&eta, sizeof eta);
    crypto_generichash_update(&state, (const uint8_t *)w, M * sizeof *w);
    crypto_generichash_final(&state, out, DIGEST_BYTES);
}

void run_commit(struct store *s, struct run *r, const double *w, double eta, double seconds,
                uint64_t bytes_out, uint64_t bytes_in, uint8_t commitment[static DIGEST_BYTES])
{
    uint8_t salt[DIGEST_BYTES];
    randombytes_buf(salt, sizeof salt);
    commit_to(salt, eta, w, r->M, commitment);
    measure(r);
    r->round[r->t] = (struct round){
        r->objective, r->validation, eta, seconds, bytes_out, bytes_in, need(malloc(r->M * sizeof *w))};
    memcpy(r->round[r->t++].w, w, r->M * sizeof *w);
    r->best_round = choose_best(r);
    if (!r->task->capture)
        store_run(s, "BEGIN", "");
    store_run(s,
              "INSERT INTO rounds (run, round, objective, validation, rate, weights, salt, commitment, "
              "seconds, bytes_out, "
              "bytes_in) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
              "iirrrbbbrii", r->id, (int64_t)r->t, r->objective, r->validation, eta, (const void *)w,
              r->M * sizeof *w, (const void *)salt, (size_t)DIGEST_BYTES, (const void *)commitment,
              (size_t)DIGEST_BYTES, seconds, (int64_t)bytes_out, (int64_t)bytes_in);
    store_run(s, "UPDATE runs SET best_round = ? WHERE id = ?", "ii", (int64_t)r->best_round, r->id);
    store_run(s, "INSERT OR REPLACE INTO scores (run, F) VALUES (?, ?)", "ib", r->id, (const void *)r->F.a,
              r->F.n * r->F.k * sizeof(double));
    store_run(s, "COMMIT", "");
}

void run_capture(struct store *s, const struct run *r, const struct mat *f, const bool *absent)
{
    if (!r->task->capture)
        return;
    store_run(s, "BEGIN", ""); /* run_commit ends it */
    for (size_t m = 0; m < r->M; m++)
        store_run(s, "INSERT INTO captures (run, round, organization, answer) VALUES (?, ?, ?, ?)", "iiib",
                  r->id, (int64_t)r->t + 1, (int64_t)m, (const void *)(absent[m] ? NULL : f[m].a),
                  f[m].n * f[m].k * sizeof(double));
}

bool run_same_scores(struct store *s, const struct run *r)
{
    sqlite3_stmt *q = store_query(s, "SELECT F FROM scores WHERE run = ?", "i", r->id);
    size_t size = r->F.n * r->F.k * sizeof(double);
    bool same =
        q && (size_t)sqlite3_column_bytes(q, 0) == size && !memcmp(sqlite3_column_blob(q, 0), r->F.a, size);
    store_done(q);
    return same;
}

bool run_opens(struct store *s, const struct run *r, uint32_t t, const double *w, double eta)
{
    uint8_t commitment[DIGEST_BYTES];
    sqlite3_stmt *q = store_query(s, "SELECT salt, commitment FROM rounds WHERE run = ? AND round = ?", "ii",
                                  r->id, (int64_t)t);
    bool good = q && sqlite3_column_bytes(q, 0) == DIGEST_BYTES && sqlite3_column_bytes(q, 1) == DIGEST_BYTES;
    if (good) {
        commit_to(sqlite3_column_blob(q, 0), eta, w, r->M, commitment);
        good = !memcmp(commitment, sqlite3_column_blob(q, 1), DIGEST_BYTES);
    }
    store_done(q);
    return good;
}

const char *run_over(const struct run *r, bool deterministic)
{
    uint32_t patience = r->task->patience, still = 0;
    if (r->t == 0)
        return NULL;
    if (r->round[r->t - 1].rate == 0 && deterministic)
        return "converged";
    if (r->t >= r->T)
        return "rounds";
    if (!isnan(r->validation))
        return r->t - r->best_round >= patience ? "patience" : NULL;
    for (uint32_t t = r->t; t >= 2; t--) { /* rounds in a row that improved by less than 1e−4 */
        double before = r->round[t - 2].objective, after = r->round[t - 1].objective;
        if (before - after >= 1e-4 * fabs(before))
            break;
        still++;
    }
    return still >= patience ? "patience" : NULL;
}

void run_finish(struct store *s, struct run *r, const char *stopped)
{
    r->state = RUN_DONE;
    snprintf(r->stopped, sizeof r->stopped, "%s", stopped);
    store_run(s, "UPDATE runs SET state = 'done', stopped = ? WHERE id = ?", "ti", stopped, r->id);
}

void run_fail(struct store *s, struct run *r, const char *error)
{
    r->state = RUN_FAILED;
    snprintf(r->error, sizeof r->error, "%s", error);
    store_run(s, "UPDATE runs SET state = 'failed', error = ? WHERE id = ?", "ti", error, r->id);
}

uint32_t run_next_request(struct store *s, struct run *r)
{
    r->requests++;
    store_run(s, "UPDATE runs SET requests = ? WHERE id = ?", "ii", (int64_t)r->requests, r->id);
    return r->requests;
}
