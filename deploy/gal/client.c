/* client: see client.h. */
#include "deploy/gal/client.h"

#include "common/log.h"
#include "deploy/gal/gal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct client {
    int fd;
    char *text; /* received and not yet handed out */
    size_t used, size, searched;
};

/* ---- which daemon ---- */

static char *strip(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    for (size_t n = strlen(s); n > 0 && isspace((unsigned char)s[n - 1]); n--)
        s[n - 1] = '\0';
    return s;
}

/* Only this one key: the daemon itself checks its configuration. */
static char *scan_state(FILE *in)
{
    char *line = NULL, *found = NULL;
    size_t size = 0;
    bool inside = false;
    while (!found && getline(&line, &size, in) > 0) {
        char *s = strip(line), *equals = strchr(s, '=');
        if (*s == '[')
            inside = !strncmp(s, "[organization]", 14);
        else if (inside && equals && *s != ';' && *s != '#') {
            *equals = '\0';
            if (!strcmp(strip(s), "state"))
                found = strdup(strip(equals + 1));
        }
    }
    free(line);
    return found;
}

static char *state_of_config(const char *config)
{
    FILE *in = fopen(config, "re");
    if (!in) {
        log_error("%s: %s", config, strerror(errno));
        return NULL;
    }
    char *value = scan_state(in), *state = value;
    fclose(in);
    if (!value) {
        log_error("%s: no state= in [organization]: is it a daemon's configuration?", config);
        return NULL;
    }
    const char *slash = strrchr(config, '/');
    if (*value != '/' && slash) { /* relative to the file that names it, as the daemons read it */
        state = must_format("%.*s/%s", (int)(slash - config), config, value);
        free(value);
    }
    return state;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

char *where_state(const struct where *w)
{
    if (!!w->config + !!w->state + !!w->word != 1) {
        log_error("name one daemon: by -c CONFIG or by --state DIR");
        return NULL;
    }
    const char *directory = w->state ? w->state : w->word && is_directory(w->word) ? w->word : NULL;
    if (!directory)
        return state_of_config(w->config ? w->config : w->word);
    if (is_directory(directory))
        return must_format("%s", directory);
    log_error("%s: is not a directory: need the daemon's state directory", directory);
    return NULL;
}

/* ---- the connection ---- */

/* By way of the directory's descriptor: sun_path holds 107 characters, a state directory's path may be
 * longer. */
static int connect_in(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int directory = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/control.sock", directory);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
        int cause = errno;
        close(fd);
        errno = cause;
        fd = -1;
    }
    int cause = errno;
    close(directory);
    errno = cause;
    return fd;
}

struct client *client_open(const char *state, char *error, size_t size)
{
    int fd = connect_in(state);
    if (fd < 0) {
        bool absent = errno == ENOENT || errno == ECONNREFUSED;
        snprintf(error, size, "%s: %s", state,
                 absent
                     ? "no daemon is running there: start gal-sponsor or gal-assistor with its configuration"
                     : strerror(errno));
        return NULL;
    }
    struct client *c = must_alloc(1, sizeof *c);
    c->fd = fd;
    return c;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    close(c->fd);
    free(c->text);
    free(c);
}

int client_send(struct client *c, json_t *request)
{
    char *line = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!line) {
        errno = EINVAL;
        return -1;
    }
    size_t left = strlen(line) + 1;
    line[left - 1] = '\n';
    const char *at = line;
    while (left > 0) {
        ssize_t n = send(c->fd, at, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        at += n;
        left -= (size_t)n;
    }
    free(line);
    return left ? -1 : 0;
}

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 1: a whole line was handed out or refused (then *answer is NULL). */
static int take_line(struct client *c, json_t **answer, char *error, size_t size)
{
    json_error_t why;
    char *end = c->used ? memchr(c->text + c->searched, '\n', c->used - c->searched) : NULL;
    if (!end) {
        c->searched = c->used;
        return 0;
    }
    size_t n = (size_t)(end - c->text);
    *answer = json_loadb(c->text, n, 0, &why);
    if (*answer && !json_is_object(*answer)) {
        json_decref(*answer);
        *answer = NULL;
        snprintf(why.text, sizeof why.text, "not an object");
    }
    if (!*answer)
        snprintf(error, size, "the daemon's answer is not JSON: %s", why.text);
    c->used -= n + 1;
    memmove(c->text, end + 1, c->used);
    c->searched = 0;
    return 1;
}

static ssize_t receive(struct client *c)
{
    if (c->size - c->used < 65536) {
        c->size = 2 * c->size + 131072;
        char *text = realloc(c->text, c->size);
        if (!text)
            log_die(GAL_FAILED, "out of memory");
        c->text = text;
    }
    ssize_t n = recv(c->fd, c->text + c->used, c->size - c->used, 0);
    if (n > 0)
        c->used += (size_t)n;
    return n;
}

int client_read(struct client *c, int milliseconds, json_t **answer, char *error, size_t size)
{
    long end = now_ms() + milliseconds;
    for (;;) {
        if (take_line(c, answer, error, size))
            return *answer ? 1 : -1;
        long left = milliseconds < 0 ? -1 : end - now_ms();
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int ready = poll(&p, 1, milliseconds < 0 ? -1 : left > 0 ? (int)left : 0);
        if (ready <= 0)
            return 0;
        ssize_t n = receive(c);
        if (n < 0 && errno == EINTR)
            return 0;
        if (n <= 0) {
            snprintf(error, size, "the daemon closed the connection%s%s", n ? ": " : "",
                     n ? strerror(errno) : "");
            return -1;
        }
    }
}

json_t *client_ask(const char *state, json_t *request, int milliseconds, char *error, size_t size)
{
    json_t *answer = NULL;
    struct client *c = client_open(state, error, size);
    if (!c) {
        json_decref(request);
        return NULL;
    }
    int got = -1;
    if (client_send(c, request))
        snprintf(error, size, "%s: %s", state, strerror(errno));
    else
        got = client_read(c, milliseconds, &answer, error, size);
    if (got == 0)
        snprintf(error, size, "%s: the daemon does not answer", state);
    if (got == 1 && json_object_get(answer, "error")) {
        snprintf(error, size, "%s", member_text(answer, "error", "the daemon refused"));
        json_decref(answer);
        answer = NULL;
    }
    client_close(c);
    return answer;
}

const char *member_text(const json_t *object, const char *name, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : otherwise;
}

double member_real(const json_t *object, const char *name, double otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

json_int_t member_int(const json_t *object, const char *name, json_int_t otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}
