/* Frames from arbitrary bytes, and frames sent through a pipe that queues. The first byte chooses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/pipe.h"
#include "tests/fuzz/fuzz.h"

static void check_frame(const struct frame *f)
{
    MUST(f->n_peers <= PIPE_MAX_PEERS && f->header_len <= PIPE_MAX_HEADER &&
         f->payload_len <= PIPE_MAX_PAYLOAD);
    MUST((uintptr_t)f->peers % _Alignof(uint32_t) == 0);
    fuzz_touch(f->peers, f->n_peers * sizeof *f->peers);
    fuzz_touch(f->header, f->header_len);
    fuzz_touch(f->payload, f->payload_len);
}

/* All bytes at once, then the end of the stream; or in two parts. */
static void receive(const uint8_t *data, size_t size, bool blocking, size_t first)
{
    int fd[2];
    struct frame f;
    int got = 0;
    MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
    struct pipe *p = pipe_new(fd[0], blocking);
    MUST(p && pipe_fd(p) == fd[0]);
    if (first > size)
        first = size;
    MUST(write(fd[1], data, first) == (ssize_t)first);
    while (!blocking && (got = pipe_recv(p, &f)) == 1)
        check_frame(&f);
    MUST(got == 0 || (got == -1 && errno == EPROTO));
    MUST(write(fd[1], data + first, size - first) == (ssize_t)(size - first));
    close(fd[1]);
    while (got >= 0 && (got = pipe_recv(p, &f)) == 1) {
        check_frame(&f);
        (void)pipe_ready(p);
    }
    MUST(got == -1 && (errno == 0 || errno == EPROTO));
    MUST((errno == EPROTO) == pipe_ready(p)); /* nobody waits for more of what is no frame */
    pipe_free(p);
}

struct ends {
    struct pipe *a, *b;
    size_t sent, received;
    uint8_t last[32]; /* a frame's peers, in the order of sending */
};

static uint32_t payload_of(uint32_t n)
{
    return 32 * n;
}

static void receive_sent(struct ends *e)
{
    struct frame f;
    int got;
    while ((got = pipe_recv(e->b, &f)) == 1) {
        check_frame(&f);
        MUST(e->received < e->sent && f.kind == e->received);
        MUST(f.n_peers % 256 == e->last[e->received] && f.header_len == f.n_peers &&
             f.payload_len == payload_of(f.n_peers));
        e->received++;
    }
    MUST(got == 0);
}

/* Frames of several sizes from one non-blocking end to the other, which reads now and then. */
static void exchange(const uint8_t *data, size_t size)
{
    static uint8_t bytes[64 << 10];
    int fd[2];
    struct ends e = {0};
    MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
    e.a = pipe_new(fd[0], false);
    e.b = pipe_new(fd[1], false);
    MUST(e.a && e.b &&
         !setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int))); /* a few frames fill it */
    for (size_t i = 0; i < size && e.sent < sizeof e.last; i++) {
        if (data[i] & 1)
            receive_sent(&e);
        uint32_t n = data[i];
        struct frame next = {(uint32_t)e.sent, n, (const uint32_t *)(const void *)bytes, bytes, n, bytes,
                             payload_of(n)};
        e.last[e.sent++] = (uint8_t)n;
        MUST(pipe_send(e.a, &next) == 0);
    }
    pipe_free(NULL);
    struct frame f = {.payload = bytes, .payload_len = 1};
    if (size % 2 && pipe_queued(e.a)) { /* the other end goes before it has all */
        pipe_free(e.b);
        MUST(pipe_flush(e.a) < 0 && pipe_send(e.a, &f) < 0);
        pipe_free(e.a);
        return;
    }
    while (e.received < e.sent) {
        MUST(pipe_flush(e.a) == 0);
        receive_sent(&e);
    }
    MUST(pipe_queued(e.a) == 0);
    pipe_free(e.b);
    MUST(pipe_send(e.a, &f) < 0);
    pipe_free(e.a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t payload = 0;
    if (size < 2 || size > 4096)
        return 0;
    if (data[0] & 1) {
        exchange(data + 1, size - 1);
        return 0;
    }
    if (size >= 18)
        memcpy(&payload, data + 14, sizeof payload);
    if (payload <= 1 << 16) /* more is taken, and only costs the fuzzer its time */
        receive(data + 2, size - 2, data[0] & 2, data[1]);
    return 0;
}
