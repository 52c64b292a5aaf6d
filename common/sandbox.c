#include "common/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"

/* Landlock as of ABI 6; Debian 12's headers know ABI 2. */
struct ruleset {
    uint64_t fs, net, scoped;
};
enum {
    FS_TRUNCATE = 1 << 14,
    FS_IOCTL_DEV = 1 << 15,
    NET_BIND_CONNECT = 3,
    SCOPE_ABSTRACT_UNIX_AND_SIGNAL = 3
};

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                             \
    (FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                                 \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)

static bool allow(int ruleset, const char *path, uint64_t access)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT; /* what is not there needs no right */
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    bool good = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    if (!good && errno == EINVAL) { /* a file: rights on directories do not apply */
        rule.allowed_access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
        good = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    }
    close(fd);
    return good;
}

/* NULL, or what the kernel lacks. `network`: TCP is this process's work. */
static const char *landlock(const struct sandbox *rights, bool network)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return "Landlock (Linux 5.13 or later, with landlock among the active security modules)";
    uint64_t known = abi >= 5   ? (1 << 16) - 1
                     : abi >= 3 ? (1 << 15) - 1
                     : abi == 2 ? (1 << 14) - 1
                                : (1 << 13) - 1;
    struct ruleset all = {known, abi >= 4 && !network ? NET_BIND_CONNECT : 0,
                          abi >= 6 ? SCOPE_ABSTRACT_UNIX_AND_SIGNAL : 0};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &all, abi >= 6 ? 24 : abi >= 4 ? 16 : 8, 0);
    bool good = fd >= 0;
    for (size_t i = 0; good && rights->read[i]; i++)
        good = allow(fd, rights->read[i], FS_READ & known);
    for (size_t i = 0; good && rights->write[i]; i++)
        good = allow(fd, rights->write[i], FS_WRITE & known);
    good = good && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    if (fd >= 0)
        close(fd);
    return good ? NULL : "a Landlock domain (the kernel refuses to make it)";
}

static const char *filter(const struct child *c)
{
    struct sock_fprog program = {.len = (unsigned short)(c->filter_len / sizeof(struct sock_filter)),
                                 .filter = c->filter};
    if (!c->filter_len ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        return "seccomp filters (CONFIG_SECCOMP_FILTER)";
    return NULL;
}

/* Landlock binds one thread and those it makes later: there must be no other yet. */
static const char *alone(void)
{
    size_t threads = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *e; dir && (e = readdir(dir));)
        threads += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return threads > 1 ? "a single thread at start (unset OPENBLAS_NUM_THREADS)" : NULL;
}

void sandbox_enter(const struct child *c, const struct sandbox *rights)
{
    const char *mode = conf_text(&c->conf, "sandbox", "", "mode", "require");
    if (!strcmp(mode, "off")) {
        log_info("[sandbox] mode = off: this process could open any file and socket of its user");
        return;
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    const char *missing[3] = {alone(), landlock(rights, c->network), filter(c)};
    for (size_t i = 0; i < 3; i++) {
        if (missing[i] && !strcmp(mode, "require"))
            log_die(2,
                    "refusing to start unprotected: this system lacks %s; [sandbox] mode = prefer goes on "
                    "without it",
                    missing[i]);
        if (missing[i])
            log_error("[sandbox] mode = prefer: going on without %s", missing[i]);
    }
}
