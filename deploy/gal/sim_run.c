/* sim_run: one federation from its files to its scores: the organizations' directories, the daemons,
 * training, prediction. */
#include "deploy/gal/sim.h"

#include "common/key.h"
#include "common/log.h"
#include "deploy/gal/client.h"
#include "deploy/gal/progress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_MS     10000  /* a daemon that does not listen by then never will */
#define LOAD_MS      600000 /* reading the data may take its time */
#define RESTARTS_MAX 5

struct run {
    const struct sim_options *o;
    const struct sim_data *d;
    const char *name; /* gal, alone, joint */
    const char *dir;
    const struct columns *features;
    size_t orgs;
    char (*public)[KEY_TEXT];
    char *state; /* the sponsor's */
    char address[40];
    struct daemons *daemons;
    json_t *result;
};

const char *sim_org_name(size_t m, char name[static 24])
{
    if (m == 0)
        strcpy(name, "sponsor");
    else
        snprintf(name, 24, "org%zu", m + 1);
    return name;
}

/* ---- the organizations' directories ---- */

static int make_directory(const char *path)
{
    if (!mkdir(path, 0700))
        return 0;
    log_error("%s: %s", path, strerror(errno));
    return -1;
}

/* Another program could take the port before the link does; then the link says so. */
static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;
    if (fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a) &&
        !getsockname(fd, (struct sockaddr *)&a, &size))
        port = ntohs(a.sin_port);
    else
        log_error("no free port on 127.0.0.1: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return port;
}

/* Entry ⌊m·k/M⌋ of the k names, m from 0. */
static char *model_of(const char *list, size_t m, size_t orgs)
{
    size_t k = 1;
    for (const char *at = list; (at = strchr(at, ',')); at++)
        k++;
    for (size_t skip = m * k / orgs; skip > 0; skip--)
        list = strchr(list, ',') + 1;
    return must_format("%.*s", (int)strcspn(list, ","), list);
}

/* Paths relative to the file that names them: the directory can be moved, and the lines stay short. */
static void draft_common(const struct run *r, struct conf_draft *c, size_t m, const char *name)
{
    char *key = must_format("%s.key", name), *model = model_of(r->o->model, m, r->orgs);
    conf_draft_set(c, "organization", "name", name);
    conf_draft_set(c, "organization", "key", key);
    conf_draft_set(c, "organization", "state", "state");
    conf_draft_set(c, "link", "dtype", r->o->dtype);
    conf_draft_set(c, "data", "path", "data.csv");
    conf_draft_set(c, "data", "id", "id");
    conf_draft_set(c, "model", "name", model);
    conf_draft_set(c, "model", "lambda", r->o->lambda);
    free(key);
    free(model);
}

static void draft_sponsor(const struct run *r, struct conf_draft *c)
{
    const struct sim_options *o = r->o;
    const char *const task[][2] = {
        {"kind", r->d->task},
        {"loss", o->loss},
        {"rounds", o->rounds},
        {"solver", o->solver},
        {"weights", o->weights},
        {"rate", o->rate},
        {"fit_on", !strcmp(o->fit_on, "auto") ? "train" : o->fit_on},
        {"validation", o->validation},
        {"predict", o->predict},
        {"seed", o->seed_text},
        {"start", "manual"},
    };
    conf_draft_set(c, "labels", "path", "labels.csv");
    conf_draft_set(c, "labels", "id", "id");
    conf_draft_set(c, "labels", "target", "target");
    if (r->orgs > 1)
        conf_draft_set(c, "listen", "address", r->address);
    for (size_t m = 1; m < r->orgs; m++) {
        char name[24], section[40];
        snprintf(section, sizeof section, "peer %s", sim_org_name(m, name));
        conf_draft_set(c, section, "key", r->public[m]);
    }
    for (size_t i = 0; i < sizeof task / sizeof *task; i++)
        if (task[i][1])
            conf_draft_set(c, "task main", task[i][0], task[i][1]);
}

static void draft_assistor(const struct run *r, struct conf_draft *c)
{
    conf_draft_set(c, "sponsor sponsor", "address", r->address);
    conf_draft_set(c, "sponsor sponsor", "key", r->public[0]);
    conf_draft_set(c, "policy", "allow_reconstruction", "yes");
}

static int write_conf(const struct run *r, size_t m)
{
    char name[24];
    sim_org_name(m, name);
    struct conf_draft *c = conf_draft_new();
    draft_common(r, c, m, name);
    if (m == 0)
        draft_sponsor(r, c);
    else
        draft_assistor(r, c);
    conf_draft_override(c, name, &r->o->set);
    char *path = must_format("%s/%s/%s.conf", r->dir, name, name);
    int result = conf_draft_write(c, path);
    free(path);
    conf_draft_free(c);
    return result;
}

static int make_organization(struct run *r, size_t m)
{
    char name[24], error[512];
    char *dir = must_format("%s/%s", r->dir, sim_org_name(m, name)), *state = must_format("%s/state", dir);
    int result = make_directory(dir) || make_directory(state) ? -1 : 0;
    if (!result && key_generate(dir, name, r->public[m], error, sizeof error)) {
        log_error("%s", error);
        result = -1;
    }
    free(dir);
    free(state);
    return result;
}

static int write_features(const struct run *r)
{
    char *path[SIM_BATCH], name[24];
    int result = 0;
    for (size_t m = 0; m < r->orgs && !result; m += SIM_BATCH) {
        size_t n = r->orgs - m < SIM_BATCH ? r->orgs - m : SIM_BATCH;
        for (size_t i = 0; i < n; i++)
            path[i] = must_format("%s/%s/data.csv", r->dir, sim_org_name(m + i, name));
        result = sim_write_features(r->d, path, &r->features[m], n);
        for (size_t i = 0; i < n; i++)
            free(path[i]);
    }
    return result;
}

static int write_labels(const struct run *r)
{
    char *labels = must_format("%s/sponsor/labels.csv", r->dir),
         *test = must_format("%s/sponsor/test.csv", r->dir);
    int result =
        sim_write_labels(r->d, labels, PART_TRAIN) || sim_write_labels(r->d, test, PART_TEST) ? -1 : 0;
    free(labels);
    free(test);
    return result;
}

static int write_files(struct run *r)
{
    int port = r->orgs > 1 ? free_port() : 0, result = port < 0 ? -1 : 0;
    snprintf(r->address, sizeof r->address, "tcp://127.0.0.1:%d", port);
    for (size_t m = 0; m < r->orgs && !result; m++)
        result = make_organization(r, m);
    if (!result)
        result = write_features(r) || write_labels(r) ? -1 : 0;
    for (size_t m = 0; m < r->orgs && !result; m++)
        result = write_conf(r, m);
    return result;
}

/* ---- the daemons ---- */

static bool ready(const struct run *r, const json_t *status, bool loaded)
{
    if (loaded)
        return json_is_object(json_object_get(status, "core"));
    return r->orgs == 1 || json_is_string(json_object_get(json_object_get(status, "link"), "listening"));
}

/* Waits until the sponsor listens, or until its core has read the labels. An exit status. */
static int await(struct run *r, bool loaded, int milliseconds)
{
    char error[512] = "";
    for (int passed = 0, pause = 2; passed < milliseconds; passed += pause) {
        int bad = daemons_check(r->daemons);
        if (bad)
            return bad;
        json_t *status = client_ask(r->state, json_pack("{s:s}", "cmd", "status"), 1000, error, sizeof error);
        bool done = status && ready(r, status, loaded);
        json_decref(status);
        if (done)
            return GAL_DONE;
        pause = passed < 1000 ? 2 : 20;
        poll(NULL, 0, pause);
    }
    log_error("the sponsor's daemon is not ready after %d s%s%s", milliseconds / 1000, *error ? ": " : "",
              error);
    return GAL_FAILED;
}

static int start(struct run *r)
{
    char name[24];
    r->daemons = daemons_new(r->o->threads);
    if (daemons_start(r->daemons, "gal-sponsor", r->dir, "sponsor"))
        return GAL_FAILED;
    int bad = await(r, false, START_MS);
    for (size_t m = 1; m < r->orgs && !bad; m++)
        if (daemons_start(r->daemons, "gal-assistor", r->dir, sim_org_name(m, name)))
            bad = GAL_FAILED;
    return bad ? bad : await(r, true, LOAD_MS);
}

/* A daemon starts its processes again when they crash. One that does so for ever would keep a simulation
 * waiting. */
static int check_restarts(const struct run *r)
{
    char name[24], error[512];
    int bad = 0;
    for (size_t m = 0; m < r->orgs && !bad; m++) {
        char *state = must_format("%s/%s/state", r->dir, sim_org_name(m, name));
        json_t *status = client_ask(state, json_pack("{s:s}", "cmd", "status"), 1000, error, sizeof error);
        bad = member_int(status, "restarts", 0) >= RESTARTS_MAX ? GAL_FAILED : 0;
        json_decref(status);
        free(state);
    }
    if (bad)
        log_error("%s: the processes of %s keep crashing", r->name, name);
    return bad;
}

/* The next line of an answer, while the daemons are watched. An exit status. */
static int next_line(struct run *r, struct client *c, json_t **line)
{
    char error[512];
    for (int idle = 1;; idle++) {
        int got = client_read(c, 100, line, error, sizeof error);
        if (got > 0)
            return GAL_DONE;
        int bad = daemons_check(r->daemons);
        if (!bad && idle % 20 == 0)
            bad = check_restarts(r);
        if (bad || got < 0)
            progress_end();
        if (bad)
            return bad;
        if (got < 0) {
            log_error("%s: %s", r->name, error);
            return GAL_FAILED;
        }
    }
}

static struct client *ask(struct run *r, json_t *request)
{
    char error[512];
    struct client *c = client_open(r->state, error, sizeof error);
    if (!c)
        json_decref(request);
    else if (client_send(c, request)) {
        snprintf(error, sizeof error, "%s", strerror(errno));
        client_close(c);
        c = NULL;
    }
    if (!c)
        log_error("%s: %s", r->name, error);
    return c;
}

/* ---- training and prediction ---- */

static void keep(json_t *to, const char *name, const json_t *from)
{
    json_t *value = json_object_get(from, name);
    json_object_set(to, name, value ? value : json_null());
}

static void take_start(struct run *r, const json_t *event)
{
    static const char *const members[] = {"solver", "loss", "outputs", "orgs", "rows", "objective"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        keep(r->result, members[i], event);
}

static void take_round(struct run *r, const json_t *event)
{
    static const char *const members[] = {"round",   "objective", "validation", "rate",
                                          "weights", "seconds",   "bytes_out",  "bytes_in"};
    json_t *round = json_object();
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        keep(round, members[i], event);
    json_array_append_new(json_object_get(r->result, "rounds"), round);
}

static void take_done(struct run *r, const json_t *event)
{
    keep(r->result, "best_round", event);
    keep(r->result, "seconds", event);
    keep(r->result, "stopped", event);
}

/* 0: go on; 1: the run is done; −1: it failed, which was said. */
static int take_event(struct run *r, const json_t *event)
{
    const char *kind = member_text(event, "event", "");
    progress_event(r->name, event);
    if (!strcmp(kind, "start"))
        take_start(r, event);
    else if (!strcmp(kind, "round"))
        take_round(r, event);
    else if (!strcmp(kind, "done")) {
        take_done(r, event);
        return 1;
    } else if (json_object_get(event, "error")) {
        progress_end();
        log_error("%s: %s", r->name, member_text(event, "error", "the run failed"));
        return -1;
    }
    return 0;
}

static int train(struct run *r)
{
    struct client *c = ask(r, json_pack("{s:s, s:s}", "cmd", "train", "task", "main"));
    int bad = c ? 0 : GAL_FAILED, done = 0;
    while (!bad && !done) {
        json_t *event = NULL;
        bad = next_line(r, c, &event);
        if (!bad)
            done = take_event(r, event);
        json_decref(event);
    }
    client_close(c);
    return bad ? bad : done > 0 ? GAL_DONE : GAL_FAILED;
}

static json_t *test_request(const struct run *r)
{
    json_t *ids = json_array(), *truth = json_array();
    char number[24];
    for (size_t i = 0; i < r->d->rows; i++)
        if (r->d->part[i] == PART_TEST) {
            json_array_append_new(ids, json_string(sim_id(r->d, i, number)));
            json_array_append_new(truth, json_string(table_text(r->d->table, i, r->d->target)));
        }
    return json_pack("{s:s, s:o, s:o}", "cmd", "predict", "ids", ids, "truth", truth);
}

static int score(struct run *r)
{
    json_object_set_new(r->result, "test", json_null());
    if (!r->d->test)
        return GAL_DONE;
    struct client *c = ask(r, test_request(r));
    json_t *answer = NULL;
    int bad = c ? next_line(r, c, &answer) : GAL_FAILED;
    if (!bad && json_object_get(answer, "error")) {
        log_error("%s: prediction: %s", r->name, member_text(answer, "error", "it failed"));
        bad = GAL_FAILED;
    }
    if (!bad)
        json_object_set(r->result, "test", json_object_get(answer, "metrics"));
    json_decref(answer);
    client_close(c);
    return bad;
}

static int measure_memory(struct run *r)
{
    char error[512];
    size_t i;
    json_t *child,
        *status = client_ask(r->state, json_pack("{s:s}", "cmd", "status"), 10000, error, sizeof error);
    json_int_t kb = 0;
    json_array_foreach(json_object_get(status, "children"), i, child)
    {
        const char *program = member_text(child, "program", "");
        if (!strcmp(program, "gal-core") || !strcmp(program, "gal-link"))
            kb += member_int(child, "rss_peak_kb", 0);
    }
    json_object_set_new(r->result, "peak_rss_kb", json_integer(kb));
    if (!status)
        log_error("%s: %s", r->name, error);
    json_decref(status);
    return status ? GAL_DONE : GAL_FAILED;
}

int sim_run(const struct sim_options *o, const struct sim_data *d, const char *name, const char *dir,
            const struct columns *features, size_t orgs, json_t **result)
{
    struct run r = {.o = o, .d = d, .name = name, .dir = dir, .features = features, .orgs = orgs};
    r.public = must_alloc(orgs, sizeof *r.public);
    r.state = must_format("%s/sponsor/state", dir);
    r.result = json_pack("{s:s, s:s, s:[]}", "name", name, "model", o->model, "rounds");
    int status = write_files(&r) ? GAL_FAILED : start(&r);
    if (sim_interrupted && !r.daemons)
        log_error("interrupted");
    if (!status)
        status = train(&r);
    if (!status)
        status = score(&r);
    if (!status)
        status = measure_memory(&r);
    if (status == GAL_FAILED && r.daemons && !sim_interrupted)
        daemons_show_logs(r.daemons);
    daemons_stop(r.daemons);
    free(r.public);
    free(r.state);
    *result = r.result;
    return status;
}
