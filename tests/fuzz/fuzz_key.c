/* A key file. The first byte is its mode below 0600; the rest is the file. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/key.h"
#include "tests/fuzz/fuzz.h"

static void remove_pair(const char *dir)
{
    char path[128];
    static const char *const ends[] = {"key", "pub"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/a.%s", dir, ends[i]);
        unlink(path);
    }
}

/* What key_generate writes key_load reads: once per process. */
static void generate(void)
{
    char dir[] = "/tmp/fuzz_key.XXXXXX", public[KEY_TEXT], path[128], error[512], text[KEY_TEXT], far[5000];
    MUST(mkdtemp(dir));
    MUST(key_generate(dir, "a", public, error, sizeof error) == 0);
    MUST(key_generate(dir, "a", public, error, sizeof error) < 0);
    MUST(key_generate(dir, "../a", public, error, sizeof error) < 0);
    MUST(key_generate("/nowhere", "a", public, error, sizeof error) < 0);
    memset(far, 'd', sizeof far);
    far[4999] = 0;
    MUST(key_generate(far, "a", public, error, sizeof error) < 0);
    far[4090] = 0; /* room for a.key, */
    MUST(key_generate(far, "a", public, error, sizeof error) < 0);
    far[4085] = 0; /* and for what it is called before */
    MUST(key_generate(far, "a", public, error, sizeof error) < 0);
    snprintf(path, sizeof path, "%s/a.key", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct key *key = key_load(fd, path, error, sizeof error);
    MUST(key && !strcmp(key_name(key), "a"));
    key_free(key);
    close(fd);
    remove_pair(dir);
    snprintf(path, sizeof path, "%s/a.pub", dir); /* one that is there stays, and no half of a pair */
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    MUST(key_generate(dir, "a", public, error, sizeof error) < 0);
    snprintf(path, sizeof path, "%s/a.key", dir);
    MUST(access(path, F_OK));
    key_z85_encode((const uint8_t *)"0123456789abcdef0123456789abcdef", KEY_BYTES, text);
    MUST(!key_load(-1, "none", error, sizeof error));
    if (geteuid() == 0) {
        MUST(!fchmod(fuzz_file("", 0), 0600) && !fchown(fuzz_file("", 0), 1, 1));
        MUST(!key_load(fuzz_file("", 0), "of-another", error, sizeof error) &&
             !fchown(fuzz_file("", 0), 0, 0));
    }
    remove_pair(dir);
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    char error[512], text[KEY_TEXT];
    if (!begun)
        generate();
    begun = true;
    if (size < 1)
        return 0;
    int fd = fuzz_file(data + 1, size - 1), other[2] = {-1, -1};
    MUST(!fchmod(fd, 0600 | (data[0] & 0177)));
    if (data[0] & 0200)
        MUST(!pipe(other));
    struct key *key = key_load(data[0] & 0200 ? other[0] : fd, "a.key", error, sizeof error);
    close(other[0]);
    close(other[1]);
    if (!key) {
        MUST(!strchr(error, '\n'));
        return 0;
    }
    MUST(!(data[0] & 077) && key_name_valid(key_name(key)));
    key_z85_encode(key_secret(key), KEY_BYTES, text);
    MUST(size - 1 == 11 + strlen(key_name(key)) + 1 + 41 && !memcmp(data + size - 41, text, 40));
    key_z85_encode(key_public(key), KEY_BYTES, text);
    key_free(key);
    return 0;
}
