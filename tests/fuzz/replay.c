/* replay: a fuzz target as an ordinary test: runs it on every file of the folders named, in order. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void replay(const char *path)
{
    FILE *in = fopen(path, "re");
    if (!in || fseek(in, 0, SEEK_END)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    size_t size = (size_t)ftell(in);
    uint8_t *bytes = malloc(size ? size : 1); /* exactly: a read behind it is seen */
    rewind(in);
    MUST(bytes && fread(bytes, 1, size, in) == size);
    fclose(in);
    fprintf(stderr, "%s\r", path); /* what stands there last is the one that failed */
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
}

static int visible(const struct dirent *e)
{
    return *e->d_name != '.';
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct dirent **entry;
        int n = scandir(argv[i], &entry, visible, alphasort);
        if (n < 1) {
            fprintf(stderr, "%s: no corpus here\n", argv[i]);
            return 2;
        }
        for (int j = 0; j < n; j++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry[j]->d_name);
            replay(path);
            free(entry[j]);
        }
        free(entry);
        fprintf(stderr, "%s: %d inputs\033[K\n", argv[i], n);
    }
    return 0;
}
