/* own: in the place of common/wire.c and common/child.c where a process is fuzzed alone: what it sends to its
 * own other processes must be messages, and is then forgotten. */
#include <stdarg.h>
#include <stdio.h>

#include "common/child.h"
#include "common/sandbox.h"
#include "common/wire.h"
#include "tests/fuzz/fuzz.h"

int wire_send(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m, const void *payload,
              size_t len)
{
    (void)p;
    for (size_t i = 0; i < n; i++)
        MUST(peers[i] < PIPE_MAX_PEERS);
    MUST(n > 0 && n <= PIPE_MAX_PEERS && len <= PIPE_MAX_PAYLOAD);
    fuzz_check_sent(m, payload, len);
    return 0;
}

int wire_send_array(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m,
                    const uint8_t *bytes)
{
    MUST(msg_is_transfer(m->kind) && m->array.chunk);
    return wire_send(p, peers, n, m, bytes, shape_bytes(&m->array));
}

void child_start(struct child *c, const char *program)
{
    (void)c;
    (void)program;
    fuzz_found("nothing is started here", __FILE__, __LINE__);
}

int child_threads(void)
{
    return 1;
}

void sandbox_enter(const struct child *c, const struct sandbox *rights)
{
    (void)c;
    (void)rights;
    fuzz_found("nothing is started here", __FILE__, __LINE__);
}

__attribute__((format(printf, 2, 0))) static void tell(struct child *c, const char *format, va_list ap)
{
    char text[4096];
    (void)c;
    MUST(vsnprintf(text, sizeof text, format, ap) > 0);
}

void child_status(struct child *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    tell(c, format, ap);
    va_end(ap);
}

void child_event(struct child *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    tell(c, format, ap);
    va_end(ap);
}

void child_orphaned(struct child *c)
{
    (void)c;
    fuzz_found("the other process is there", __FILE__, __LINE__);
}
