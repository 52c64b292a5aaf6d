/* sim_daemons: starts, watches and stops the daemons of a simulation. They run as they would anywhere: a
 * program, its configuration, its log. */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct daemon {
    char *name, *log;
    pid_t pid; /* 0: reaped */
};

struct daemons {
    struct daemon *of;
    size_t n;
    const char *threads;
};

volatile sig_atomic_t sim_interrupted;

struct daemons *daemons_new(const char *threads)
{
    struct daemons *d = must_alloc(1, sizeof *d);
    d->threads = threads;
    return d;
}

/* Beside this program, or where an installation puts what no person starts. */
static char *find_program(const char *program)
{
    char here[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", here, sizeof here - 1);
    here[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(here, '/');
    if (slash)
        *slash = '\0';
    char *path = must_format("%s/%s", here, program);
    if (!access(path, X_OK))
        return path;
    free(path);
    path = must_format("%s/../libexec/gal/%s", here, program);
    if (!access(path, X_OK))
        return path;
    free(path);
    log_error("%s: is neither in %s nor in %s/../libexec/gal", program, here, here);
    return NULL;
}

/* In the child: its own process group, so that ^C reaches gal alone, which then stops everybody in order. */
_Noreturn static void become(const char *path, const char *program, const char *conf, int log,
                             const char *threads)
{
    static const char *const variables[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"};
    int null = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    for (size_t i = 0; i < 2; i++)
        setenv(variables[i], threads, 1);
    if (null >= 0 && dup2(null, 0) == 0 && dup2(log, 1) == 1 && dup2(log, 2) == 2)
        execl(path, program, conf, (char *)NULL);
    dprintf(2, "%s: %s\n", path, strerror(errno));
    _exit(GAL_FAILED);
}

int daemons_start(struct daemons *d, const char *program, const char *dir, const char *name)
{
    int result = -1;
    char *path = find_program(program), *conf = must_format("%s/%s/%s.conf", dir, name, name);
    char *log_path = must_format("%s/%s/log", dir, name);
    int log = path ? open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (log < 0) {
        if (path)
            log_error("%s: %s", log_path, strerror(errno));
        goto out;
    }
    pid_t pid = fork();
    if (pid == 0)
        become(path, program, conf, log, d->threads);
    close(log);
    if (pid < 0) {
        log_error("%s: %s", program, strerror(errno));
        goto out;
    }
    struct daemon *longer = reallocarray(d->of, d->n + 1, sizeof *longer);
    if (!longer)
        log_die(GAL_FAILED, "out of memory");
    d->of = longer;
    d->of[d->n++] = (struct daemon){must_format("%s", name), log_path, pid};
    log_path = NULL;
    result = 0;
out:
    free(path);
    free(conf);
    free(log_path);
    return result;
}

/* The last `n` lines of a log, NUL-terminated; "" where there is none. */
static const char *tail(const char *path, int n, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t length = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = length > (off_t)size - 1 ? length - (off_t)size + 1 : 0;
    ssize_t got = fd < 0 ? 0 : pread(fd, text, size - 1, from);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    size_t end = strlen(text);
    while (end > 0 && text[end - 1] == '\n')
        text[--end] = '\0';
    const char *at = text + end;
    while (at > text && (at[-1] != '\n' || --n > 0))
        at--;
    return at;
}

void daemons_show_logs(const struct daemons *d)
{
    char text[4096];
    for (size_t i = 0; i < d->n && i < 9; i++) {
        const char *last = tail(d->of[i].log, 5, text, sizeof text);
        if (*last)
            fprintf(stderr, "--- the last of %s's log:\n%s\n", d->of[i].name, last);
    }
}

int daemons_check(struct daemons *d)
{
    if (sim_interrupted) {
        log_error("interrupted");
        return GAL_FAILED;
    }
    for (size_t i = 0; i < d->n; i++) {
        int status;
        char text[1024];
        if (d->of[i].pid == 0 || waitpid(d->of[i].pid, &status, WNOHANG) != d->of[i].pid)
            continue;
        d->of[i].pid = 0;
        const char *last = tail(d->of[i].log, 1, text, sizeof text);
        log_error("%s ended: %s", d->of[i].name, *last ? last : "it left no message");
        return WIFEXITED(status) && WEXITSTATUS(status) == GAL_USAGE ? GAL_USAGE : GAL_FAILED;
    }
    return 0;
}

static size_t reap(struct daemons *d)
{
    size_t running = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (d->of[i].pid && waitpid(d->of[i].pid, NULL, WNOHANG) == d->of[i].pid)
            d->of[i].pid = 0;
        running += d->of[i].pid != 0;
    }
    return running;
}

static void signal_all(const struct daemons *d, int number)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->of[i].pid)
            kill(d->of[i].pid, number);
}

void daemons_stop(struct daemons *d)
{
    if (!d)
        return;
    signal_all(d, SIGTERM);
    for (int i = 0; i < 400 && reap(d); i++)
        poll(NULL, 0, 5);
    signal_all(d, SIGKILL);
    for (size_t i = 0; i < d->n; i++) {
        if (d->of[i].pid)
            waitpid(d->of[i].pid, NULL, 0);
        free(d->of[i].name);
        free(d->of[i].log);
    }
    free(d->of);
    free(d);
}
