/* key: see key.h. May touch key files and nothing else; no function here logs. */
#include "common/key.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC    "gal-key-v1"
#define FILE_MAX 256 /* the longest valid file has 11 + 65 + 41 bytes */

struct key {
    uint8_t secret[KEY_BYTES];
    uint8_t public[KEY_BYTES];
    char name[KEY_NAME_MAX + 1];
};

static const char Z85[] =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

__attribute__((format(printf, 3, 4))) static void explain(char *error, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, size, format, args);
    va_end(args);
}

void key_z85_encode(const uint8_t *bytes, size_t n, char *text)
{
    assert(n % 4 == 0);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = (uint32_t)bytes[i] << 24 | (uint32_t)bytes[i + 1] << 16 |
                        (uint32_t)bytes[i + 2] << 8 | bytes[i + 3];
        for (int j = 4; j >= 0; j--, word /= 85)
            text[j] = Z85[word % 85];
        text += 5;
    }
    *text = '\0';
}

int key_z85_decode(const char *text, uint8_t *bytes, size_t n)
{
    assert(n % 4 == 0);
    if (strlen(text) != n / 4 * 5)
        return -1;
    for (size_t i = 0; i < n; i += 4) {
        uint64_t word = 0;
        for (int j = 0; j < 5; j++) {
            const char *digit = strchr(Z85, *text++);
            if (!digit)
                return -1;
            word = word * 85 + (uint64_t)(digit - Z85);
        }
        if (word > UINT32_MAX)
            return -1;
        for (int j = 3; j >= 0; j--, word >>= 8)
            bytes[i + (size_t)j] = (uint8_t)(word & 0xff);
    }
    return 0;
}

bool key_name_valid(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = strlen(name);
    if (length < 1 || length > KEY_NAME_MAX || strspn(name, allowed) != length)
        return false;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, text, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        text += k;
        n -= (size_t)k;
    }
    return 0;
}

/* link() and not rename(): it never replaces a file that is there. */
static int write_file(const char *path, mode_t mode, const char *text, size_t n, char *error, size_t size)
{
    char temporary[PATH_MAX];
    int result = -1;
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) {
        explain(error, size, "%s: path too long", path);
        return -1;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        explain(error, size, "%s: %s", path, strerror(errno));
        return -1;
    }
    if (fchmod(fd, mode) || write_all(fd, text, n) || fsync(fd))
        explain(error, size, "%s: %s", path, strerror(errno));
    else if (link(temporary, path) && errno == EEXIST)
        explain(error, size,
                "%s: is there already and is not overwritten: remove it first, or choose another name", path);
    else if (access(path, F_OK))
        explain(error, size, "%s: %s", path, strerror(errno));
    else
        result = 0;
    close(fd);
    unlink(temporary);
    return result;
}

static void sync_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static struct key *allocate(char *error, size_t size)
{
    struct key *key = sodium_init() < 0 ? NULL : sodium_malloc(sizeof *key);
    if (!key)
        explain(error, size, "no guarded memory for a key: %s", strerror(errno));
    return key;
}

int key_generate(const char *dir, const char *name, char public[static KEY_TEXT], char *error, size_t size)
{
    char key_path[PATH_MAX], public_path[PATH_MAX];
    int result = -1;
    if (!key_name_valid(name)) {
        explain(error, size, "\"%s\" is no name: letters, digits, '_', '.' and '-', at most %d", name,
                KEY_NAME_MAX);
        return -1;
    }
    if (snprintf(key_path, sizeof key_path, "%s/%s.key", dir, name) >= (int)sizeof key_path ||
        snprintf(public_path, sizeof public_path, "%s/%s.pub", dir, name) >= (int)sizeof public_path) {
        explain(error, size, "%s: path too long", dir);
        return -1;
    }
    struct key *key = allocate(error, size);
    char *text = key ? sodium_malloc(FILE_MAX) : NULL;
    if (!text)
        goto out;
    crypto_box_keypair(key->public, key->secret);
    int n = snprintf(text, FILE_MAX, MAGIC "\n%s\n", name);
    key_z85_encode(key->secret, KEY_BYTES, text + n);
    strcat(text, "\n");
    if (write_file(key_path, 0600, text, strlen(text), error, size))
        goto out;
    key_z85_encode(key->public, KEY_BYTES, public);
    char line[KEY_TEXT + 1];
    snprintf(line, sizeof line, "%s\n", public);
    if (write_file(public_path, 0644, line, strlen(line), error, size)) {
        unlink(key_path);
        goto out;
    }
    sync_directory(dir);
    result = 0;
out:
    sodium_free(text);
    key_free(key);
    return result;
}

static int check_file(int fd, const char *path, char *error, size_t size)
{
    struct stat st;
    if (fstat(fd, &st)) {
        explain(error, size, "%s: %s", path, strerror(errno));
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        explain(error, size, "%s: is not a regular file", path);
        return -1;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        explain(error, size, "%s: belongs to user %u, need %u: chown it", path, st.st_uid, geteuid());
        return -1;
    }
    if (st.st_mode & 077) {
        explain(error, size, "%s: mode %04o, need 0600: chmod 600 %s", path, st.st_mode & 07777u, path);
        return -1;
    }
    if (st.st_size > FILE_MAX - 1) {
        explain(error, size, "%s: %lld bytes: not a key file", path, (long long)st.st_size);
        return -1;
    }
    return 0;
}

static ssize_t read_file(int fd, char *text, size_t size)
{
    size_t n = 0;
    while (n < size - 1) {
        ssize_t k = pread(fd, text + n, size - 1 - n, (off_t)n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        if (k == 0)
            break;
        n += (size_t)k;
    }
    text[n] = '\0';
    return (ssize_t)n;
}

/* A message never quotes the third line. */
static int parse(struct key *key, char *text, size_t n, const char *path, char *error, size_t size)
{
    char *line[3], *rest = text;
    if (strlen(text) != n) {
        explain(error, size, "%s: byte %zu is 0: not a key file", path, strlen(text) + 1);
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        line[i] = strsep(&rest, "\n");
        if (!line[i] || !rest) {
            explain(error, size, "%s:%d: the file ends here, need 3 lines that each end with a newline", path,
                    i + 1);
            return -1;
        }
    }
    if (strcmp(line[0], MAGIC) != 0)
        explain(error, size, "%s:1: need \"" MAGIC "\": not a key file of this version", path);
    else if (!key_name_valid(line[1]))
        explain(error, size, "%s:2: no name: letters, digits, '_', '.' and '-', at most %d", path,
                KEY_NAME_MAX);
    else if (strlen(line[2]) != KEY_TEXT - 1)
        explain(error, size, "%s:3: %zu characters, need %d", path, strlen(line[2]), KEY_TEXT - 1);
    else if (key_z85_decode(line[2], key->secret, KEY_BYTES))
        explain(error, size, "%s:3: not a key in Z85", path);
    else if (*rest)
        explain(error, size, "%s:4: unexpected line, need 3", path);
    else if (crypto_scalarmult_base(key->public, key->secret))
        explain(error, size, "%s:3: not a Curve25519 key", path);
    else {
        strcpy(key->name, line[1]);
        return 0;
    }
    return -1;
}

struct key *key_load(int fd, const char *path, char *error, size_t size)
{
    if (check_file(fd, path, error, size))
        return NULL;
    int failed = -1;
    struct key *key = allocate(error, size);
    char *text = key ? sodium_malloc(FILE_MAX) : NULL;
    if (!text)
        goto out;
    ssize_t n = read_file(fd, text, FILE_MAX);
    if (n < 0)
        explain(error, size, "%s: %s", path, strerror(errno));
    else
        failed = parse(key, text, (size_t)n, path, error, size);
out:
    sodium_free(text);
    if (failed) {
        key_free(key);
        return NULL;
    }
    return key;
}

void key_free(struct key *key)
{
    sodium_free(key); /* wipes before it gives the pages back */
}

const uint8_t *key_secret(const struct key *key)
{
    return key->secret;
}

const uint8_t *key_public(const struct key *key)
{
    return key->public;
}

const char *key_name(const struct key *key)
{
    return key->name;
}
