
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"


#define NAMESPACE  "NIXERY_TEST_NAMESPACE"


int
unit_namespace(char *const *argv)
{
    if (getenv(NAMESPACE) == NULL) {
        (void) setenv(NAMESPACE, "1", 1);

        if (geteuid() == 0) {
            (void) execlp("unshare", "unshare", "--mount", argv[0], NULL);

        } else {
            (void) execlp("unshare", "unshare", "--mount", "--map-root-user",
                          argv[0], NULL);
        }

        perror("unshare");
        return -1;
    }

    return 0;
}


int
unit_store(char *const *argv)
{
    if (unit_namespace(argv) == -1) {
        return -1;
    }

    /* the store itself is not there where Nix never ran */

    if (mount("tmpfs", "/nix", "tmpfs", 0, "mode=755") == -1
        || mkdir("/nix/store", 0755) == -1)
    {
        perror("mount a store for the tests on /nix");
        return -1;
    }

    return 0;
}


int
unit_descriptors(void)
{
    int   n;
    DIR  *dir;

    n = 0;
    dir = opendir("/proc/self/fd");
    assert_non_null(dir);

    while (readdir(dir) != NULL) {
        n++;
    }

    (void) closedir(dir);

    return n;
}


char *
format(const char *fmt, ...)
{
    char     *text;
    va_list   args;

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&text, fmt, args), -1);
    va_end(args);

    return text;
}


void
unit_shell(const char *fmt, ...)
{
    char     *command;
    va_list   args;

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&command, fmt, args), -1);
    va_end(args);

    assert_int_equal(system(command), 0);

    free(command);
}


void
unit_write(const char *path, const char *text, mode_t mode)
{
    FILE  *fp;

    (void) unlink(path);

    fp = fopen(path, "we");
    assert_non_null(fp);
    assert_true(fputs(text, fp) >= 0);
    assert_int_equal(fclose(fp), 0);
    assert_int_equal(chmod(path, mode), 0);
}
