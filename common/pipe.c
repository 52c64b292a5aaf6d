#include "common/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PREFIX = 16, PARTS = 5, READ_AHEAD = 256 << 10 };

/* Frames begin at multiples of 8 bytes, so that the peers can be read in place. */
static const uint8_t zeros[8];

static size_t padding(size_t n)
{
    return (8 - n % 8) % 8;
}

struct buffer {
    uint8_t *bytes;
    size_t begin, end, size; /* bytes[begin…end) are in use */
};

struct pipe {
    int fd;
    bool blocking;
    int passed, pass; /* a descriptor that came, and one to go with the next bytes; −1: none */
    struct buffer in, out;
};

static int buffer_reserve(struct buffer *b, size_t more)
{
    if (b->begin == b->end)
        b->begin = b->end = 0;
    if (b->size - b->end >= more)
        return 0;
    size_t used = b->end - b->begin;
    if (used + more > b->size) {
        size_t size = b->size ? b->size : 4096;
        while (size < used + more)
            size *= 2;
        uint8_t *bytes = malloc(size);
        if (!bytes)
            return -1;
        if (used)
            memcpy(bytes, b->bytes + b->begin, used);
        free(b->bytes);
        b->bytes = bytes;
        b->size = size;
    } else {
        memmove(b->bytes, b->bytes + b->begin, used);
    }
    b->begin = 0;
    b->end = used;
    return 0;
}

static int buffer_add(struct buffer *b, const void *bytes, size_t n)
{
    if (n == 0)
        return 0;
    if (buffer_reserve(b, n) < 0)
        return -1;
    memcpy(b->bytes + b->end, bytes, n);
    b->end += n;
    return 0;
}

struct pipe *pipe_new(int fd, bool blocking)
{
    struct pipe *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->fd = fd;
    p->passed = p->pass = -1;
    p->blocking = blocking;
    int flags = fcntl(fd, F_GETFL), size = 4 << 20;
    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return p;
}

void pipe_free(struct pipe *p)
{
    if (!p)
        return;
    close(p->fd);
    if (p->passed >= 0)
        close(p->passed);
    free(p->in.bytes);
    free(p->out.bytes);
    free(p);
}

int pipe_fd(const struct pipe *p)
{
    return p->fd;
}

size_t pipe_queued(const struct pipe *p)
{
    return p->out.end - p->out.begin;
}

/* Sends the vectors as far as the descriptor takes them: the bytes sent, or −1. */
static ssize_t send_some(struct pipe *p, struct iovec *iov, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t sent;
    if (p->pass >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), &p->pass, sizeof p->pass);
    }
    do
        sent = sendmsg(p->fd, &msg, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent > 0)
        p->pass = -1;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    return sent;
}

int pipe_send_fd(struct pipe *p, const struct frame *f, int fd)
{
    p->pass = fd;
    int bad = pipe_send(p, f);
    if (p->pass >= 0) /* the other end took no byte */
        bad = -1;
    p->pass = -1;
    return bad;
}

int pipe_take_fd(struct pipe *p)
{
    int fd = p->passed;
    p->passed = -1;
    return fd;
}

/* read(), and a descriptor that comes with the bytes is kept; an earlier one that nobody took is closed. */
static ssize_t receive_some(struct pipe *p, void *bytes, size_t size)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {bytes, size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
        if (p->passed >= 0)
            close(p->passed);
        memcpy(&p->passed, CMSG_DATA(c), sizeof p->passed);
    }
    return n;
}

int pipe_flush(struct pipe *p)
{
    while (pipe_queued(p) > 0) {
        struct iovec iov = {p->out.bytes + p->out.begin, pipe_queued(p)};
        ssize_t sent = send_some(p, &iov, 1);
        if (sent < 0)
            return -1;
        if (sent == 0)
            return 0;
        p->out.begin += (size_t)sent;
    }
    return 0;
}

int pipe_send(struct pipe *p, const struct frame *f)
{
    uint32_t prefix[4] = {f->kind, f->n_peers, f->header_len, f->payload_len};
    union {
        const void *from;
        void *base;
    } part[PARTS] = {{prefix}, {f->peers}, {f->header}, {f->payload}, {zeros}};
    size_t len[PARTS] = {PREFIX, f->n_peers * sizeof(uint32_t), f->header_len, f->payload_len, 0};
    len[4] = padding(len[1] + len[2] + len[3]);
    if (pipe_flush(p) < 0)
        return -1;
    size_t first = 0;
    while (first < PARTS) {
        struct iovec iov[PARTS];
        size_t n = 0;
        for (size_t i = first; i < PARTS; i++)
            iov[n++] = (struct iovec){part[i].base, len[i]};
        ssize_t sent = pipe_queued(p) ? 0 : send_some(p, iov, n);
        if (sent < 0)
            return -1;
        size_t left = (size_t)sent;
        while (first < PARTS && left >= len[first])
            left -= len[first++];
        if (first == PARTS)
            break;
        part[first].from = (const uint8_t *)part[first].from + left;
        len[first] -= left;
        if (!p->blocking && sent == 0) {
            for (size_t i = first; i < PARTS; i++)
                if (buffer_add(&p->out, part[i].from, len[i]) < 0)
                    return -1;
            return 0;
        }
    }
    return 0;
}

/* 1 if bytes[begin…end) starts with a whole frame, 0 if not yet, −1 with EPROTO if it cannot be one. */
static int frame_parse(const struct buffer *b, struct frame *f, size_t *total)
{
    uint32_t prefix[4];
    size_t used = b->end - b->begin;
    if (used < PREFIX)
        return 0;
    memcpy(prefix, b->bytes + b->begin, PREFIX);
    if (prefix[1] > PIPE_MAX_PEERS || prefix[2] > PIPE_MAX_HEADER || prefix[3] > PIPE_MAX_PAYLOAD) {
        errno = EPROTO;
        return -1;
    }
    size_t peers = prefix[1] * sizeof(uint32_t);
    *total = PREFIX + peers + prefix[2] + prefix[3];
    *total += padding(*total);
    if (used < *total)
        return 0;
    const uint8_t *at = b->bytes + b->begin + PREFIX;
    *f = (struct frame){.kind = prefix[0],
                        .n_peers = prefix[1],
                        .peers = (const uint32_t *)(const void *)at,
                        .header = at + peers,
                        .header_len = prefix[2],
                        .payload = at + peers + prefix[2],
                        .payload_len = prefix[3]};
    return 1;
}

bool pipe_ready(const struct pipe *p)
{
    struct frame f;
    size_t total;
    return frame_parse(&p->in, &f, &total) != 0;
}

int pipe_recv(struct pipe *p, struct frame *f)
{
    for (;;) {
        size_t total = PREFIX;
        int got = frame_parse(&p->in, f, &total);
        if (got < 0)
            return -1;
        if (got > 0) {
            p->in.begin += total;
            return 1;
        }
        size_t missing = total - (p->in.end - p->in.begin);
        if (buffer_reserve(&p->in, missing > READ_AHEAD ? missing : READ_AHEAD) < 0)
            return -1;
        ssize_t n = receive_some(p, p->in.bytes + p->in.end, p->in.size - p->in.end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n == 0)
            errno = 0;
        if (n <= 0)
            return -1;
        p->in.end += (size_t)n;
    }
}
