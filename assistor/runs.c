#include "assistor/runs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

const char runs_schema[] =
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, sponsor TEXT NOT NULL, run BLOB NOT NULL, task BLOB NOT NULL,"
    "  digest BLOB NOT NULL, rows BLOB NOT NULL, features BLOB NOT NULL, model TEXT NOT NULL,"
    "  begun TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')), UNIQUE (sponsor, run));"
    "CREATE TABLE models (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, round INTEGER NOT NULL,"
    "  request BLOB NOT NULL, model BLOB NOT NULL, PRIMARY KEY (run, round));"
    "CREATE TABLE commitments (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, round INTEGER NOT "
    "NULL,"
    "  commitment BLOB NOT NULL, PRIMARY KEY (run, round));"
    "CREATE TABLE answers (run INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, round INTEGER NOT NULL,"
    "  answer BLOB NOT NULL);"; /* the last round's alone */

void runs_free(struct owner *o, struct run *r)
{
    if (!r)
        return;
    for (uint32_t t = 0; r->model && t < r->fitted; t++)
        if (r->model[t])
            o->kind->free_model(r->model[t]);
    free(r->model);
    if (r->prepared)
        o->kind->free_prepared(r->prepared);
    mat_free(&r->X);
    features_free(r->features);
    free(r->rows);
    free(r);
}

static struct run *run_new(const struct policy *policy, const struct msg *task, const uint8_t *digest,
                           uint32_t *rows)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        log_die(1, "out of memory");
    r->policy = policy;
    r->task = *task;
    memcpy(r->digest, digest, DIGEST_BYTES);
    r->rows = rows;
    r->model = calloc(task->u.task.rounds, sizeof *r->model);
    if (!r->model)
        log_die(1, "out of memory");
    return r;
}

struct run *runs_create(struct owner *o, const struct policy *policy, const struct msg *task,
                        const uint8_t *digest, uint32_t *rows, char *error, size_t size)
{
    struct run *r = run_new(policy, task, digest, rows);
    uint8_t header[MSG_MAX_HEADER], *features = NULL;
    size_t n = task->array.rows, header_len = msg_pack(task, header), features_len;
    r->features = features_fit(o->table, o->columns, o->exclude, rows, task->u.task.fit_rows, error, size);
    if (!r->features)
        goto bad;
    const char *no =
        policy_task(policy, &o->store, task, features_width(r->features), o->kind->linear, false);
    if (no) {
        snprintf(error, size, "%s", no);
        goto bad;
    }
    if (features_apply(r->features, o->table, rows, n, &r->X, error, size) < 0)
        goto bad;
    features = features_save(r->features, &features_len);
    if (!features || !header_len) {
        snprintf(error, size, "out of memory");
        goto bad;
    }
    r->id = store_run(
        &o->store,
        "INSERT INTO runs (sponsor, run, task, digest, rows, features, model) VALUES (?, ?, ?, ?, ?, ?, ?)",
        "tbbbbbt", policy->key, (const void *)task->run, (size_t)RUN_BYTES, (const void *)header, header_len,
        (const void *)digest, (size_t)DIGEST_BYTES, (const void *)rows, n * sizeof *rows,
        (const void *)features, features_len, o->kind->name);
    free(features);
    return r;
bad:
    free(features);
    runs_free(o, r);
    return NULL;
}

/* What a query of runs_load holds: task, digest, rows, features, model. */
static struct run *run_restore(struct owner *o, const struct policy *policy, sqlite3_stmt *q, char *error,
                               size_t size)
{
    struct msg task;
    size_t n, rows_len, features_len;
    const char *kind = (const char *)sqlite3_column_text(q, 5);
    uint32_t *rows = store_blob(q, 3, &rows_len);
    uint8_t *features = store_blob(q, 4, &features_len);
    struct run *r = NULL;
    if (msg_unpack(sqlite3_column_blob(q, 1), (size_t)sqlite3_column_bytes(q, 1), &task) || !rows ||
        !features || task.kind != MSG_TASK || rows_len != task.array.rows * sizeof *rows ||
        sqlite3_column_bytes(q, 2) != DIGEST_BYTES) {
        snprintf(error, size, "%s: a stored run is damaged: move the file away", o->store.path);
        free(rows);
        goto out;
    }
    r = run_new(policy, &task, sqlite3_column_blob(q, 2), rows);
    r->id = sqlite3_column_int64(q, 0);
    r->features = features_load(features, features_len);
    n = table_rows(o->table);
    if (strcmp(kind, o->kind->name))
        snprintf(error, size, "the run was begun with model %s, now [model] name = %s: put it back", kind,
                 o->kind->name);
    else if (!r->features)
        snprintf(error, size, "%s: a stored preparation is damaged: move the file away", o->store.path);
    else if (n < task.u.task.common_rows)
        snprintf(error, size, "the run was begun on %u rows, [data] now has %zu", task.u.task.common_rows, n);
out:
    free(features);
    if (r && *error) {
        runs_free(o, r);
        r = NULL;
    }
    return r;
}

struct run *runs_load(struct owner *o, const struct policy *policy, const uint8_t run[static RUN_BYTES],
                      char *error, size_t size)
{
    *error = 0;
    sqlite3_stmt *q = store_query(
        &o->store, "SELECT id, task, digest, rows, features, model FROM runs WHERE sponsor = ? AND run = ?",
        "tb", policy->key, (const void *)run, (size_t)RUN_BYTES);
    if (!q)
        return NULL;
    struct run *r = run_restore(o, policy, q, error, size);
    store_done(q);
    if (!r)
        return NULL;
    q = store_query(&o->store, "SELECT count(*) FROM models WHERE run = ?", "i", r->id);
    r->fitted = (uint32_t)sqlite3_column_int(q, 0);
    store_done(q);
    if (r->fitted > r->task.u.task.rounds) {
        snprintf(error, size, "%s: a stored run has more models than rounds: move the file away",
                 o->store.path);
        r->fitted = 0;
        runs_free(o, r);
        return NULL;
    }
    if (features_apply(r->features, o->table, r->rows, r->task.array.rows, &r->X, error, size) == 0)
        return r;
    runs_free(o, r);
    return NULL;
}

/* The model is fitted on the first fit_rows rows of X and answers for all of them. */
static int fit_and_answer(struct owner *o, struct run *r, const struct mat *residual, void **model,
                          struct mat *f)
{
    struct mat fit = {r->task.u.task.fit_rows, r->X.k, r->X.a};
    if (!r->prepared)
        r->prepared = o->kind->prepare(&fit, r->task.u.task.outputs, o->param, o->n_params);
    if (!r->prepared || !(*model = o->kind->fit(r->prepared, residual)))
        return -1;
    if (mat_init(f, r->X.n, residual->k) < 0)
        return -1;
    return o->kind->predict(*model, &r->X, f);
}

uint8_t *runs_fit(struct owner *o, struct run *r, const struct mat *residual, const uint8_t *digest,
                  char *error, size_t size)
{
    struct mat f = {0};
    void *model = NULL;
    uint32_t t = r->fitted + 1, dtype = r->task.u.task.dtype;
    size_t saved_len = 0, answer_len = r->X.n * residual->k * dtype_size(dtype);
    uint8_t *saved = NULL, *answer = malloc(answer_len ? answer_len : 1);
    if (!answer || fit_and_answer(o, r, residual, &model, &f) < 0 ||
        !(saved = o->kind->save(model, &saved_len))) {
        snprintf(error, size, "the model could not be fitted (out of memory?)");
        goto bad;
    }
    if (mat_nonfinite(f.a, f.n * f.k) >= 0) {
        snprintf(error, size, "the model's values are not finite in round %u", t);
        goto bad;
    }
    policy_round_answers(r->policy, f.a, f.n * f.k);
    mat_encode(f.a, f.n * f.k, dtype, answer);
    store_run(&o->store, "BEGIN", "");
    const char *no = policy_round(r->policy, &o->store);
    if (no) {
        store_run(&o->store, "ROLLBACK", "");
        snprintf(error, size, "%s", no);
        goto bad;
    }
    store_run(&o->store, "INSERT INTO models (run, round, request, model) VALUES (?, ?, ?, ?)", "iibb", r->id,
              (int64_t)t, (const void *)digest, (size_t)DIGEST_BYTES, (const void *)saved, saved_len);
    store_run(&o->store, "INSERT OR REPLACE INTO answers (run, round, answer) VALUES (?, ?, ?)", "iib", r->id,
              (int64_t)t, (const void *)answer, answer_len);
    store_run(&o->store, "COMMIT", "");
    r->model[t - 1] = model;
    r->fitted = t;
    mat_free(&f);
    free(saved);
    return answer;
bad:
    if (model)
        o->kind->free_model(model);
    mat_free(&f);
    free(saved);
    free(answer);
    return NULL;
}

void runs_settle(struct owner *o, const struct run *r, uint32_t t, const uint8_t *commitment)
{
    store_run(&o->store, "INSERT OR IGNORE INTO commitments (run, round, commitment) VALUES (?, ?, ?)", "iib",
              r->id, (int64_t)t, (const void *)commitment, (size_t)DIGEST_BYTES);
}

uint8_t *runs_answer(struct owner *o, const struct run *r, uint32_t t, const uint8_t *digest, bool *other)
{
    size_t size;
    uint8_t *answer = NULL;
    *other = false;
    sqlite3_stmt *q = store_query(
        &o->store,
        "SELECT m.request, a.answer FROM models m LEFT JOIN answers a ON a.run = m.run AND a.round = "
        "m.round WHERE m.run = ? AND m.round = ?",
        "ii", r->id, (int64_t)t);
    if (!q)
        return NULL;
    *other =
        sqlite3_column_bytes(q, 0) != DIGEST_BYTES || memcmp(sqlite3_column_blob(q, 0), digest, DIGEST_BYTES);
    if (!*other)
        answer = store_blob(q, 1, &size);
    store_done(q);
    return answer;
}

static int load_models(struct owner *o, struct run *r, uint32_t rounds, char *error, size_t size)
{
    for (uint32_t t = 1; t <= rounds; t++) {
        if (r->model[t - 1])
            continue;
        sqlite3_stmt *q = store_query(&o->store, "SELECT model FROM models WHERE run = ? AND round = ?", "ii",
                                      r->id, (int64_t)t);
        if (q)
            r->model[t - 1] = o->kind->load(sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0));
        store_done(q);
        if (!r->model[t - 1]) {
            snprintf(error, size, "%s: the model of round %u is missing or damaged", o->store.path, t);
            return -1;
        }
    }
    return 0;
}

int runs_predict(struct owner *o, struct run *r, const uint32_t *rows, size_t n, const double *c,
                 uint32_t rounds, struct mat *f, char *error, size_t size)
{
    struct mat X = {0}, one = {0};
    size_t K = r->task.u.task.outputs;
    int bad = -1;
    const char *no = policy_predict(r->policy, &o->store, n);
    if (no) {
        snprintf(error, size, "%s", no);
        goto out;
    }
    if (load_models(o, r, rounds, error, size) < 0 ||
        features_apply(r->features, o->table, rows, n, &X, error, size) < 0)
        goto out;
    snprintf(error, size, "out of memory");
    if (mat_init(&one, n, K) < 0 || mat_init(f, n, c ? K : K * rounds) < 0)
        goto out;
    for (uint32_t t = 0; t < rounds; t++) {
        if (c && c[t] == 0)
            continue; /* a round that this organization had no share in */
        if (o->kind->predict(r->model[t], &X, &one) < 0)
            goto out;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < K; k++)
                if (c)
                    f->a[i * K + k] += c[t] * one.a[i * K + k];
                else
                    f->a[(i * rounds + t) * K + k] = one.a[i * K + k];
    }
    policy_round_answers(r->policy, f->a, f->n * f->k);
    bad = 0;
out:
    mat_free(&X);
    mat_free(&one);
    return bad;
}
