/* A trace. First byte 0: a file that a link reads back when it starts. 1: a file that `gal trace --verify`
 * judges. 2: lines that a link wrote, with restarts; the judge accepts them, and none with one bit changed.
 * 3: the two ends of an exchange; they agree unless an operation changed a line at one of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/trace.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/gal_trace.h"

static void check_restore(const uint8_t *data, size_t size)
{
    struct stat st;
    int fd = fuzz_file(data, size);
    struct trace *t = trace_open(dup(fd));
    MUST(!fstat(fd, &st) && (size_t)st.st_size <= size);
    if (!t) {
        MUST((size_t)st.st_size == size); /* what is not understood stays */
        return;
    }
    /* what is removed is what follows the last newline */
    const uint8_t *last = size ? memrchr(data, '\n', size) : NULL;
    MUST((size_t)st.st_size == (last ? (size_t)(last - data) + 1 : 0));
    trace_free(t);
}

static void add_line(struct trace *t, struct operation *o)
{
    static const char *const directions[] = {"out", "in", "local-out", "local-in"};
    static const char *const peers[] = {"clinic", "lab"};
    struct msg m;
    uint8_t peer, digest[DIGEST_BYTES];
    take_msg(o, &m, &peer);
    memset(digest, take_u8(o), sizeof digest);
    struct trace_entry e = {.direction = directions[peer & 3],
                            .peer = peers[peer >> 2 & 1],
                            .m = &m,
                            .bytes = take_u32(o),
                            .wire = take_u32(o),
                            .digest = peer & 8 ? NULL : digest};
    trace_add(t, &e);
}

/* The second file. */
static const char *other_path(int *fd)
{
    static char path[32];
    static int other = -1;
    if (other < 0)
        other = memfd_create("fuzz2", MFD_CLOEXEC);
    MUST(other >= 0 && !ftruncate(other, 0) && lseek(other, 0, SEEK_SET) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", other);
    *fd = other;
    return path;
}

/* One line at both ends, or, changed, at one. Operations that are no message change the next line of the
 * second file. */
static void check_two(const uint8_t *data, size_t size)
{
    struct script script = {data, data + size};
    struct operation o;
    struct msg m;
    uint8_t peer, digest[DIGEST_BYTES], change = 0, changed = 0;
    int fd;
    size_t shared, heads = 0;
    const char *path = other_path(&fd);
    struct trace *a = trace_open(dup(fuzz_file("", 0))), *b = trace_open(dup(fd));
    MUST(a && b);
    for (int n = 0; n < 50 && script_next(&script, &o); n++) {
        if (!operation_is_message(&o)) {
            changed |= change = o.code % 4;
            continue;
        }
        take_msg(&o, &m, &peer);
        memset(digest, take_u8(&o), sizeof digest);
        struct trace_entry e = {
            .direction = peer & 1 ? "in" : "out", .peer = "lab", .m = &m, .digest = digest};
        heads += m.has_run && m.kind >= MSG_TASK && m.kind <= MSG_PREDICTED && m.kind != MSG_SETTLE;
        trace_add(a, &e);
        e.direction = (peer & 1) == (change == 1) ? "in" : "out";
        digest[0] ^= change == 2;
        if (change != 3)
            trace_add(b, &e);
        change = 0;
    }
    trace_free(a);
    trace_free(b);
    bool good = gal_trace_compare(fuzz_path(), path, &shared);
    MUST(changed || good == (heads > 0));
    MUST(!good || shared > 0);
}

static void flip(int fd, uint32_t at)
{
    struct stat st;
    uint8_t byte;
    MUST(!fstat(fd, &st) && st.st_size > 0);
    off_t offset = at / 8 % (uint32_t)st.st_size;
    MUST(pread(fd, &byte, 1, offset) == 1);
    byte ^= (uint8_t)(1 << at % 8);
    MUST(pwrite(fd, &byte, 1, offset) == 1);
}

static void check_written(const uint8_t *data, size_t size)
{
    struct script script = {data, data + size};
    struct operation o;
    int fd = fuzz_file("", 0);
    size_t lines, n = 0;
    uint32_t at = 0;
    struct trace *t = trace_open(dup(fd));
    while (t && n < 50 && script_next(&script, &o)) {
        if (operation_is_message(&o)) {
            add_line(t, &o);
            n++;
            continue;
        }
        at = take_u32(&o);
        trace_free(t);
        MUST(o.code % 2 == 0 || write(fd, "{\"time\"", 5) == 5);
        t = trace_open(dup(fd));
        lseek(fd, 0, SEEK_END); /* the link's is opened to append */
    }
    MUST(t);
    trace_free(t);
    MUST(gal_trace_verify(fuzz_path(), &lines) && lines == n);
    if (n == 0)
        return;
    flip(fd, at);
    MUST(!gal_trace_verify(fuzz_path(), &lines));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t lines;
    if (size < 1)
        return 0;
    switch (data[0] % 4) {
    case 0:
        check_restore(data + 1, size - 1);
        break;
    case 1:
        fuzz_file(data + 1, size - 1);
        gal_trace_verify(fuzz_path(), &lines);
        break;
    case 3:
        check_two(data + 1, size - 1);
        break;
    default:
        check_written(data + 1, size - 1);
    }
    return 0;
}
