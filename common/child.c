#include "common/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/log.h"

void child_start(struct child *c, const char *program)
{
    struct frame f;
    log_open(program, "");
    signal(SIGPIPE, SIG_IGN);
    c->control = pipe_new(CHILD_CONTROL, true);
    if (!c->control || pipe_recv(c->control, &f) != 1 || f.kind != CONTROL_CONF ||
        conf_unpack(f.payload, f.payload_len, &c->conf) < 0)
        log_die(2, "is started by gal-sponsor or gal-assistor, not by hand");
    c->filter = malloc(f.header_len + 1u);
    if (!c->filter)
        log_die(1, "out of memory");
    memcpy(c->filter, f.header, f.header_len);
    c->filter_len = f.header_len;
    c->name = conf_text(&c->conf, "organization", "", "name", "");
    log_open(program, c->name);
}

__attribute__((format(printf, 3, 0))) static void send_text(struct child *c, uint32_t kind,
                                                            const char *format, va_list ap)
{
    char *text;
    int n = vasprintf(&text, format, ap);
    if (n < 0)
        log_die(1, "out of memory");
    struct frame f = {.kind = kind, .payload = (uint8_t *)text, .payload_len = (uint32_t)n};
    if (pipe_send(c->control, &f) < 0)
        exit(0);
    free(text);
}

void child_status(struct child *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    send_text(c, CONTROL_STATUS, format, ap);
    va_end(ap);
}

void child_event(struct child *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    send_text(c, CONTROL_EVENT, format, ap);
    va_end(ap);
}

void child_reply(struct child *c, uint32_t connection, const char *json, size_t len)
{
    struct frame f = {.kind = CONTROL_REPLY,
                      .n_peers = 1,
                      .peers = &connection,
                      .payload = (const uint8_t *)json,
                      .payload_len = (uint32_t)len};
    if (len > PIPE_MAX_PAYLOAD) {
        static const char much[] = "{\"error\":\"the answer is too long for one reply: ask for fewer rows\"}";
        f.payload = (const uint8_t *)much;
        f.payload_len = sizeof much - 1;
    }
    if (pipe_send(c->control, &f) < 0)
        exit(0);
}

int child_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    long n = text ? strtol(text, NULL, 10) : 1;
    return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
}

_Noreturn void child_orphaned(struct child *c)
{
    struct frame f;
    while (pipe_recv(c->control, &f) >= 0)
        poll(&(struct pollfd){.fd = pipe_fd(c->control), .events = POLLIN}, 1, -1);
    exit(0);
}

const char *child_word(const struct frame *f, size_t i)
{
    const char *at = (const char *)f->header, *end = at + f->header_len;
    while (at < end && memchr(at, 0, (size_t)(end - at))) {
        if (i-- == 0)
            return at;
        at += strlen(at) + 1;
    }
    return NULL;
}
