
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "nixery_tar_top.h"


/*
 * The root of the image as a tree in memory.  A directory of the contents may
 * be one link to a store path: it becomes a directory of links where something
 * has to stand in it.
 */

typedef struct nixery_top_s  nixery_top_t;

struct nixery_top_s {
    char             *name;
    mode_t            mode;       /* with its type */
    char             *target;     /* of a link */
    const char       *bytes;      /* of a file that is ours */
    char             *source;     /* of a file of the contents: its path */
    nixery_top_t    **children;   /* sorted by name */
    size_t            nchildren;
    size_t            size;       /* room for children */
};


static nixery_top_t *nixery_top_new(const char *name, mode_t mode,
    nixery_error_t *err);
static void nixery_top_free(nixery_top_t *node);
static size_t nixery_top_search(const nixery_top_t *dir, const char *name);
static nixery_top_t *nixery_top_find(const nixery_top_t *dir,
    const char *name);
static nixery_top_t *nixery_top_add(nixery_top_t *dir, nixery_top_t *node,
    nixery_error_t *err);
static int nixery_top_read(const nixery_tar_t *tar, nixery_top_t *dir, int fd,
    const char *path, nixery_error_t *err);
static nixery_top_t *nixery_top_directory(const nixery_tar_t *tar,
    nixery_top_t *dir, const char *name, mode_t mode, nixery_error_t *err);
static int nixery_top_expand(nixery_top_t *link, int fd, nixery_error_t *err);
static int nixery_top_file(nixery_top_t *dir, const char *name,
    const char *bytes, nixery_error_t *err);
static int nixery_top_link(nixery_top_t *dir, const char *name,
    const char *target, nixery_error_t *err);
static int nixery_top_system(const nixery_tar_t *tar, nixery_top_t *root,
    nixery_error_t *err);
static int nixery_top_write(const nixery_top_t *dir, const char *prefix,
    nixery_tar_writer_t *w, nixery_error_t *err);
static int nixery_top_open(const nixery_tar_t *tar, const char *path,
    int flags);
static int nixery_top_has(const nixery_tar_t *tar, const char *below);


static const char  nixery_top_passwd[] =
    "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";

static const char  nixery_top_group[] =
    "root:x:0:\n"
    "nogroup:x:65534:\n";


int
nixery_tar_top(const nixery_tar_t *tar, nixery_tar_writer_t *w,
    nixery_error_t *err)
{
    int            fd, rc;
    nixery_top_t  *root;

    fd = nixery_top_open(tar, tar->contents, O_RDONLY | O_DIRECTORY);

    if (fd == -1) {
        return nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                  "can't open \"%s\"", tar->contents);
    }

    root = nixery_top_new("", S_IFDIR | 0755, err);
    rc = root == NULL ? NIXERY_ERROR : NIXERY_OK;

    if (rc == NIXERY_OK) {
        rc = nixery_top_read(tar, root, fd, tar->contents, err);
    }

    (void) close(fd);

    if (rc == NIXERY_OK) {
        rc = nixery_top_system(tar, root, err);
    }

    if (rc == NIXERY_OK) {
        rc = nixery_top_write(root, "", w, err);
    }

    nixery_top_free(root);

    return rc;
}


static nixery_top_t *
nixery_top_new(const char *name, mode_t mode, nixery_error_t *err)
{
    nixery_top_t  *node;

    node = calloc(1, sizeof(nixery_top_t));

    if (node == NULL || (node->name = strdup(name)) == NULL) {
        free(node);
        (void) nixery_error_nomem(err);
        return NULL;
    }

    node->mode = mode;

    return node;
}


static void
nixery_top_free(nixery_top_t *node)
{
    size_t  i;

    if (node == NULL) {
        return;
    }

    for (i = 0; i < node->nchildren; i++) {
        nixery_top_free(node->children[i]);
    }

    free(node->children);
    free(node->source);
    free(node->target);
    free(node->name);
    free(node);
}


/* The index of the first child that is not before the name. */

static size_t
nixery_top_search(const nixery_top_t *dir, const char *name)
{
    size_t  low, high, middle;

    low = 0;
    high = dir->nchildren;

    while (low < high) {
        middle = low + (high - low) / 2;

        if (strcmp(dir->children[middle]->name, name) < 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return low;
}


static nixery_top_t *
nixery_top_find(const nixery_top_t *dir, const char *name)
{
    size_t  i;

    if (dir->children == NULL) {
        return NULL;
    }

    i = nixery_top_search(dir, name);

    if (i == dir->nchildren || strcmp(dir->children[i]->name, name) != 0) {
        return NULL;
    }

    return dir->children[i];
}


/* Takes the node, and gives it back unless it fails. */

static nixery_top_t *
nixery_top_add(nixery_top_t *dir, nixery_top_t *node, nixery_error_t *err)
{
    size_t          i, size;
    nixery_top_t  **children;

    if (node == NULL) {
        return NULL;
    }

    if (dir->children == NULL || dir->nchildren == dir->size) {
        size = dir->size ? dir->size * 2 : 8;

        children = realloc(dir->children, size * sizeof(nixery_top_t *));
        if (children == NULL) {
            nixery_top_free(node);
            (void) nixery_error_nomem(err);
            return NULL;
        }

        dir->children = children;
        dir->size = size;
    }

    i = nixery_top_search(dir, node->name);

    memmove(&dir->children[i + 1], &dir->children[i],
            (dir->nchildren - i) * sizeof(nixery_top_t *));

    dir->children[i] = node;
    dir->nchildren++;

    return node;
}


/* Adds all that stands in a directory of the contents. */

static int
nixery_top_read(const nixery_tar_t *tar, nixery_top_t *dir, int fd,
    const char *path, nixery_error_t *err)
{
    int             rc, below;
    char          **names, *full;
    size_t          n, i;
    struct stat     sb;
    nixery_top_t   *node;

    if (nixery_canceled(tar->cancel)) {
        return nixery_error_set(err, NIXERY_ERROR_CANCELED,
                                "the build was canceled");
    }

    rc = nixery_tar_names(fd, path + 1, &names, &n, err);
    if (rc != NIXERY_OK) {
        return rc;
    }

    for (i = 0; i < n && rc == NIXERY_OK; i++) {

        /* Nix's own marks of a profile */

        if (dir->name[0] == '\0'
            && (strcmp(names[i], "manifest.nix") == 0
                || strcmp(names[i], "nix-support") == 0))
        {
            continue;
        }

        if (asprintf(&full, "%s/%s", path, names[i]) == -1) {
            rc = nixery_error_nomem(err);
            break;
        }

        if (fstatat(fd, names[i], &sb, AT_SYMLINK_NOFOLLOW) == -1) {
            rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                    "can't pack \"%s\"", full);
            free(full);
            break;
        }

        node = nixery_top_new(names[i], sb.st_mode, err);
        node = nixery_top_add(dir, node, err);

        if (node == NULL) {
            rc = NIXERY_ERROR;

        } else if (S_ISLNK(sb.st_mode)) {
            node->target = nixery_tar_readlink(fd, names[i], sb.st_size,
                                               full + 1, err);
            rc = node->target == NULL ? NIXERY_ERROR : NIXERY_OK;

        } else if (S_ISDIR(sb.st_mode)) {
            below = openat(fd, names[i],
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (below == -1) {
                rc = nixery_error_errno(err, NIXERY_ERROR_SYSTEM, errno,
                                        "can't open \"%s\"", full);

            } else {
                rc = nixery_top_read(tar, node, below, full, err);
                (void) close(below);
            }

        } else if (asprintf(&node->source, "%s%s", tar->root, full) == -1) {
            node->source = NULL;
            rc = nixery_error_nomem(err);
        }

        free(full);
    }

    nixery_tar_names_free(names, n);

    return rc;
}


/* The child directory of that name, made or expanded; NULL with err. */

static nixery_top_t *
nixery_top_directory(const nixery_tar_t *tar, nixery_top_t *dir,
    const char *name, mode_t mode, nixery_error_t *err)
{
    int            fd, rc;
    nixery_top_t  *node;

    node = nixery_top_find(dir, name);

    if (node == NULL) {
        node = nixery_top_new(name, S_IFDIR | mode, err);
        return nixery_top_add(dir, node, err);
    }

    if (S_ISDIR(node->mode)) {
        return node;
    }

    /* nothing but the store is in the image, whatever else is on this disk */

    fd = S_ISLNK(node->mode) && nixery_in_store(node->target)
             ? nixery_top_open(tar, node->target, O_RDONLY | O_DIRECTORY)
             : -1;

    if (fd == -1) {
        (void) nixery_error_set(err, NIXERY_ERROR_SYSTEM,
                                "\"%s\" of \"%s\" is no directory of the"
                                " store",
                                name, tar->contents);
        return NULL;
    }

    rc = nixery_top_expand(node, fd, err);

    (void) close(fd);

    if (rc != NIXERY_OK) {
        return NULL;
    }

    node->mode = S_IFDIR | mode;

    return node;
}


static int
nixery_top_expand(nixery_top_t *link, int fd, nixery_error_t *err)
{
    int      rc;
    char   **names, *target;
    size_t   n, i;

    rc = nixery_tar_names(fd, link->target + 1, &names, &n, err);

    if (rc != NIXERY_OK) {
        return rc;
    }

    for (i = 0; i < n && rc == NIXERY_OK; i++) {
        if (asprintf(&target, "%s/%s", link->target, names[i]) == -1) {
            rc = nixery_error_nomem(err);
            break;
        }

        rc = nixery_top_link(link, names[i], target, err);
        free(target);
    }

    nixery_tar_names_free(names, n);

    free(link->target);
    link->target = NULL;

    return rc;
}


static int
nixery_top_file(nixery_top_t *dir, const char *name, const char *bytes,
    nixery_error_t *err)
{
    nixery_top_t  *node;

    if (nixery_top_find(dir, name) != NULL) {
        return NIXERY_OK;
    }

    node = nixery_top_new(name, S_IFREG | 0644, err);
    if (node != NULL) {
        node->bytes = bytes;
    }

    return nixery_top_add(dir, node, err) ? NIXERY_OK : NIXERY_ERROR;
}


static int
nixery_top_link(nixery_top_t *dir, const char *name, const char *target,
    nixery_error_t *err)
{
    nixery_top_t  *node;

    if (nixery_top_find(dir, name) != NULL) {
        return NIXERY_OK;
    }

    node = nixery_top_new(name, S_IFLNK | 0777, err);

    if (node != NULL && (node->target = strdup(target)) == NULL) {
        nixery_top_free(node);
        return nixery_error_nomem(err);
    }

    return nixery_top_add(dir, node, err) ? NIXERY_OK : NIXERY_ERROR;
}


static int
nixery_top_system(const nixery_tar_t *tar, nixery_top_t *root,
    nixery_error_t *err)
{
    nixery_top_t  *dir;

    dir = nixery_top_directory(tar, root, "tmp", 01777, err);
    if (dir == NULL) {
        return NIXERY_ERROR;
    }

    dir->mode = S_IFDIR | 01777;

    dir = nixery_top_directory(tar, root, "etc", 0755, err);

    if (dir == NULL
        || nixery_top_file(dir, "passwd", nixery_top_passwd, err) != NIXERY_OK
        || nixery_top_file(dir, "group", nixery_top_group, err) != NIXERY_OK)
    {
        return NIXERY_ERROR;
    }

    if (!nixery_top_has(tar, "bin/env") || nixery_top_has(tar, "usr/bin/env")) {
        return NIXERY_OK;
    }

    dir = nixery_top_directory(tar, root, "usr", 0755, err);
    if (dir == NULL) {
        return NIXERY_ERROR;
    }

    dir = nixery_top_directory(tar, dir, "bin", 0755, err);
    if (dir == NULL) {
        return NIXERY_ERROR;
    }

    return nixery_top_link(dir, "env", "/bin/env", err);
}


static int
nixery_top_write(const nixery_top_t *dir, const char *prefix,
    nixery_tar_writer_t *w, nixery_error_t *err)
{
    int                  rc;
    char                *name;
    size_t               i;
    const nixery_top_t  *node;

    rc = NIXERY_OK;

    for (i = 0; i < dir->nchildren && rc == NIXERY_OK; i++) {
        node = dir->children[i];

        if (asprintf(&name, "%s%s%s", prefix, *prefix ? "/" : "", node->name)
            == -1)
        {
            return nixery_error_nomem(err);
        }

        if (S_ISDIR(node->mode)) {
            rc = nixery_tar_add_directory(w, name, node->mode, err);

            if (rc == NIXERY_OK) {
                rc = nixery_top_write(node, name, w, err);
            }

        } else if (node->target != NULL) {
            rc = nixery_tar_add_symlink(w, name, node->target, err);

        } else if (node->bytes != NULL) {
            rc = nixery_tar_add_bytes(w, name, node->mode, node->bytes,
                                      strlen(node->bytes), err);

        } else {
            rc = nixery_tar_add_path(w, AT_FDCWD, node->source, name, err);
        }

        free(name);
    }

    return rc;
}


/* Links on the way are followed as they would be in the image. */

static int
nixery_top_open(const nixery_tar_t *tar, const char *path, int flags)
{
    int              root, fd;
    struct open_how  how;

    if (tar->root[0] == '\0') {
        return open(path, flags | O_CLOEXEC);
    }

    root = open(tar->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root == -1) {
        return -1;
    }

    memset(&how, 0, sizeof(struct open_how));
    how.flags = (uint64_t) (flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT;

    fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(struct open_how));

    (void) close(root);

    return fd;
}


static int
nixery_top_has(const nixery_tar_t *tar, const char *below)
{
    int    fd;
    char  *path;

    if (asprintf(&path, "%s/%s", tar->contents, below) == -1) {
        return 0;
    }

    fd = nixery_top_open(tar, path, O_PATH);
    free(path);

    if (fd == -1) {
        return 0;
    }

    (void) close(fd);

    return 1;
}
