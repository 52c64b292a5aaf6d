#include "common/control.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/child.h"
#include "common/log.h"

enum { CLIENTS = 32, LINE_MAX_BYTES = 60 << 20 };

struct client {
    int fd; /* −1: free */
    uint32_t id;
    bool follows; /* asked for train: gets events */
    char *line;   /* bytes of an unfinished request */
    size_t used, size;
    char *out; /* bytes of an unsent answer */
    size_t out_used, out_sent;
};

struct control {
    struct supervisor *s;
    int lock, listener;
    uint32_t next_id;
    struct client client[CLIENTS];
};

/* ---- opening ---- */

static int take_lock(struct supervisor *s)
{
    char path[PATH_MAX], pid[32] = "";
    snprintf(path, sizeof path, "%s/lock", s->state);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("%s: %s", path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (read(fd, pid, sizeof pid - 1) < 0)
            *pid = 0;
        pid[strcspn(pid, "\n")] = 0;
        log_error("%s is in use by another daemon (pid %s): stop it first", s->state, pid);
        close(fd);
        return -1;
    }
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, pid, (size_t)n) != n)
        log_error("%s: %s", path, strerror(errno));
    return fd;
}

static int listen_at(const struct supervisor *s)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s/control.sock", s->state);
    if (n >= (int)sizeof a.sun_path) {
        log_error("state = %s: the path may have at most %zu characters, so that control.sock fits in a "
                  "socket address",
                  s->state, sizeof a.sun_path - sizeof "/control.sock");
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(a.sun_path); /* of a daemon that is gone: the lock is ours */
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 8) < 0) {
        log_error("%s: %s", a.sun_path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

struct control *control_open(struct supervisor *s)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->s = s;
    for (size_t i = 0; i < CLIENTS; i++)
        c->client[i].fd = -1;
    c->lock = take_lock(s);
    c->listener = c->lock < 0 ? -1 : listen_at(s);
    if (c->listener >= 0)
        return c;
    if (c->lock >= 0)
        close(c->lock);
    free(c);
    return NULL;
}

static void drop(struct client *k)
{
    if (k->fd >= 0)
        close(k->fd);
    free(k->line);
    free(k->out);
    *k = (struct client){.fd = -1};
}

void control_close(struct control *c)
{
    if (!c)
        return;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/control.sock", c->s->state);
    unlink(path);
    for (size_t i = 0; i < CLIENTS; i++)
        drop(&c->client[i]);
    close(c->listener);
    close(c->lock);
    free(c);
}

/* ---- answering ---- */

static void flush(struct client *k)
{
    while (k->out_sent < k->out_used) {
        ssize_t n = send(k->fd, k->out + k->out_sent, k->out_used - k->out_sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            drop(k);
            return;
        }
        k->out_sent += (size_t)n;
    }
    k->out_used = k->out_sent = 0;
}

static void answer(struct client *k, const char *json, size_t len)
{
    char *out = realloc(k->out, k->out_used + len + 1);
    if (!out) {
        drop(k);
        return;
    }
    k->out = out;
    memcpy(out + k->out_used, json, len);
    out[k->out_used + len] = '\n';
    k->out_used += len + 1;
    flush(k);
}

static void refuse(struct client *k, const char *text)
{
    json_t *o = json_pack("{s:s}", "error", text);
    char *line = json_dumps(o, JSON_COMPACT);
    answer(k, line, strlen(line));
    free(line);
    json_decref(o);
}

/* A number of kB from /proc/PID/status ("VmRSS", "VmHWM"). */
static long memory_of(pid_t pid, const char *what)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, what, strlen(what)) && line[strlen(what)] == ':')
            kb = strtol(line + strlen(what) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

static json_t *describe(const char *program, pid_t pid)
{
    return json_pack("{s:s, s:i, s:I, s:I}", "program", program, "pid", (int)pid, "rss_kb",
                     (json_int_t)memory_of(pid, "VmRSS"), "rss_peak_kb", (json_int_t)memory_of(pid, "VmHWM"));
}

static void answer_status(struct control *c, struct client *k)
{
    const struct supervisor *s = c->s;
    bool sponsor = s->role == CONF_SPONSOR;
    json_t *children = json_array();
    json_array_append_new(children, describe(sponsor ? "gal-sponsor" : "gal-assistor", getpid()));
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:i, s:i}", "name", s->name, "role", sponsor ? "sponsor" : "assistor",
                  "version", "0.1.0", "pid", (int)getpid(), "restarts", (int)s->restarts);
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++) {
        const struct supervised *child = &s->child[i];
        if (!child->program)
            continue;
        if (child->pid)
            json_array_append_new(children, describe(child->program, child->pid));
        json_t *said = child->status ? json_loads(child->status, 0, NULL) : NULL;
        json_object_set_new(o, child->program + strlen("gal-"), said ? said : json_null());
    }
    json_object_set_new(o, "children", children);
    char *line = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
    answer(k, line, strlen(line));
    free(line);
    json_decref(o);
}

/* ---- requests ---- */

/* NUL-ended strings, one behind the other. */
struct words {
    char *bytes;
    size_t used, size;
};

static void words_add(struct words *w, const char *word)
{
    size_t n = strlen(word) + 1;
    if (w->used + n > w->size) {
        w->size = 2 * (w->used + n) + 256;
        char *bytes = realloc(w->bytes, w->size);
        if (!bytes)
            abort();
        w->bytes = bytes;
    }
    memcpy(w->bytes + w->used, word, n);
    w->used += n;
}

/* The array's strings and whole numbers, as words. NULL or what is wrong. */
static const char *words_add_array(struct words *w, const json_t *array)
{
    size_t i;
    json_t *v;
    char number[32];
    json_array_foreach(array, i, v)
    {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        if (!json_is_string(v) && !json_is_integer(v))
            return "ids, rows and truth are lists of strings or whole numbers";
        words_add(w, json_is_string(v) ? json_string_value(v) : number);
    }
    return NULL;
}

/* Passes a request on to the core as words: command, run or task, "ids" or "rows" or "", "truth" or "". */
static void forward(struct control *c, struct client *k, const json_t *o, const char *command)
{
    struct supervised *core = &c->s->child[SUPERVISE_CORE];
    const char *run = json_string_value(json_object_get(o, "run")),
               *task = json_string_value(json_object_get(o, "task"));
    const json_t *ids = json_object_get(o, "ids"), *rows = json_object_get(o, "rows"),
                 *truth = json_object_get(o, "truth");
    struct words header = {0}, items = {0};
    words_add(&header, command);
    words_add(&header, run ? run : task ? task : "");
    words_add(&header, ids ? "ids" : rows ? "rows" : "");
    words_add(&header, truth ? "truth" : "");
    const char *bad = words_add_array(&items, ids ? ids : rows);
    if (!bad && truth)
        bad = words_add_array(&items, truth);
    if (!bad && (header.used > PIPE_MAX_HEADER || items.used > PIPE_MAX_PAYLOAD))
        bad = "the request is too long: ask for fewer rows at a time";
    struct frame f = {.kind = CONTROL_REQUEST,
                      .n_peers = 1,
                      .peers = &k->id,
                      .header = (uint8_t *)header.bytes,
                      .header_len = (uint32_t)header.used,
                      .payload = (uint8_t *)items.bytes,
                      .payload_len = (uint32_t)items.used};
    if (bad)
        refuse(k, bad);
    else if (!core->control || pipe_send(core->control, &f) < 0)
        refuse(k, "the core is being started: ask again in a moment");
    free(header.bytes);
    free(items.bytes);
}

static void request(struct control *c, struct client *k, const char *line, size_t len)
{
    json_error_t where;
    json_t *o = json_loadb(line, len, 0, &where);
    const char *command = json_string_value(json_object_get(o, "cmd"));
    bool sponsor = c->s->role == CONF_SPONSOR;
    if (!command)
        refuse(k, "expected one JSON object per line with \"cmd\"");
    else if (!strcmp(command, "status"))
        answer_status(c, k);
    else if (strcmp(command, "train") && strcmp(command, "predict") && strcmp(command, "runs") &&
             strcmp(command, "replay"))
        refuse(k, "unknown command: status, train, predict, runs or replay");
    else if (!sponsor)
        refuse(k, "this is an assistor: ask the sponsor's daemon");
    else {
        if (!strcmp(command, "train"))
            k->follows = true;
        forward(c, k, o, command);
    }
    json_decref(o);
}

/* Reads what came, and serves each whole line. */
static void receive(struct control *c, struct client *k)
{
    if (k->size - k->used < 4096) {
        size_t size = k->size ? 2 * k->size : 8192;
        char *line = size > LINE_MAX_BYTES ? NULL : realloc(k->line, size);
        if (!line) {
            drop(k);
            return;
        }
        k->line = line;
        k->size = size;
    }
    ssize_t n = recv(k->fd, k->line + k->used, k->size - k->used, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(k);
        return;
    }
    size_t begin = 0, scan = k->used;
    k->used += (size_t)n;
    char *end;
    while (k->fd >= 0 && (end = memchr(k->line + scan, '\n', k->used - scan))) {
        size_t len = (size_t)(end - k->line) - begin;
        request(c, k, k->line + begin, len);
        begin = scan = begin + len + 1;
    }
    if (k->fd >= 0 && begin) {
        memmove(k->line, k->line + begin, k->used - begin);
        k->used -= begin;
    }
}

static void accept_client(struct control *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred who;
    socklen_t size = sizeof who;
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == geteuid())
        for (size_t i = 0; i < CLIENTS; i++)
            if (c->client[i].fd < 0) {
                c->client[i] = (struct client){.fd = fd, .id = ++c->next_id};
                return;
            }
    close(fd);
}

size_t control_poll(struct control *c, struct pollfd *fds, size_t room)
{
    size_t n = 0;
    fds[n++] = (struct pollfd){.fd = c->listener, .events = POLLIN};
    for (size_t i = 0; i < CLIENTS && n < room; i++)
        if (c->client[i].fd >= 0)
            fds[n++] = (struct pollfd){.fd = c->client[i].fd,
                                       .events = (short)(POLLIN | (c->client[i].out_used ? POLLOUT : 0))};
    return n;
}

void control_handle(struct control *c, const struct pollfd *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!fds[i].revents)
            continue;
        if (fds[i].fd == c->listener)
            accept_client(c);
        for (size_t j = 0; j < CLIENTS; j++) {
            struct client *k = &c->client[j];
            if (k->fd != fds[i].fd)
                continue;
            if (fds[i].revents & POLLOUT)
                flush(k);
            if (k->fd >= 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)))
                receive(c, k);
            break;
        }
    }
}

void control_from_child(struct control *c, const struct frame *f)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        struct client *k = &c->client[i];
        if (k->fd >= 0 && ((f->kind == CONTROL_EVENT && k->follows) ||
                           (f->kind == CONTROL_REPLY && f->n_peers == 1 && k->id == f->peers[0])))
            answer(k, (const char *)f->payload, f->payload_len);
    }
}

void control_lost(struct control *c)
{
    for (size_t i = 0; i < CLIENTS; i++)
        if (c->client[i].fd >= 0 && !c->client[i].follows)
            refuse(&c->client[i], "the daemon's processes are being started again: ask again in a moment");
}
