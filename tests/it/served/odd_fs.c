/* odd_fs: a directory as a file system of FUSE that behaves as some servers do.
 *
 *     cc -O2 -o odd_fs odd_fs.c $(pkg-config --cflags --libs fuse3)
 *     ODD_FS_ROOT=/some/dir ODD_FS_CLOCK=7200 odd_fs MOUNT -f
 *
 * The kernel caches names and attributes for ten minutes. ODD_FS_CLOCK is how many seconds the clock is ahead. A
 * position in a listing is a number of names, so it shifts when names are removed. A rename that must not replace
 * anything is not supported, as on NFS.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int root;
static long ahead;

static const char *below(const char *path) { return path[1] ? path + 1 : "."; }
static int answer(int result) { return result < 0 ? -errno : 0; }

static int do_getattr(const char *path, struct stat *facts, struct fuse_file_info *file)
{
    (void)file;
    int result = answer(fstatat(root, below(path), facts, AT_SYMLINK_NOFOLLOW));
    facts->st_atime += ahead, facts->st_mtime += ahead, facts->st_ctime += ahead;
    return result;
}

static int by_name(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags)
{
    (void)file, (void)flags;
    struct dirent **names;
    int count = scandirat(root, below(path), &names, NULL, by_name);
    if (count < 0)
        return -errno;
    int is_full = 0;
    for (int at = 0; at < count; at++) {
        struct stat kind = {.st_ino = names[at]->d_ino, .st_mode = DTTOIF(names[at]->d_type)};
        if (at >= offset && !is_full)
            is_full = fill(buffer, names[at]->d_name, &kind, at + 1, 0);
        free(names[at]);
    }
    free(names);
    return 0;
}

static int keep(int handle, struct fuse_file_info *file)
{
    file->fh = handle;
    return handle < 0 ? -errno : 0;
}

static int do_open(const char *path, struct fuse_file_info *file)
{
    return keep(openat(root, below(path), file->flags & ~(O_CREAT | O_NOATIME)), file);
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    return keep(openat(root, below(path), file->flags | O_CREAT, mode), file);
}

static int do_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    return answer(close(file->fh));
}

static int do_rename(const char *path, const char *new, unsigned flags)
{
    return flags ? -EINVAL : answer(renameat(root, below(path), root, below(new)));
}

static int do_link(const char *path, const char *new) { return answer(linkat(root, below(path), root, below(new), 0)); }
static int do_mkdir(const char *path, mode_t mode) { return answer(mkdirat(root, below(path), mode)); }
static int do_unlink(const char *path) { return answer(unlinkat(root, below(path), 0)); }
static int do_rmdir(const char *path) { return answer(unlinkat(root, below(path), AT_REMOVEDIR)); }

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    connection->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
    config->use_ino = 1;
    config->hard_remove = 1;
    config->attr_timeout = config->entry_timeout = 600;
    return NULL;
}

int main(int count, char **words)
{
    const char *path = getenv("ODD_FS_ROOT"), *clock = getenv("ODD_FS_CLOCK");
    root = path ? open(path, O_RDONLY | O_DIRECTORY) : -1;
    if (root < 0)
        return 2;
    ahead = clock ? atol(clock) : 0;
    umask(0);
    static const struct fuse_operations calls = {
        .getattr = do_getattr, .readdir = do_readdir, .open = do_open, .create = do_create, .release = do_release,
        .rename = do_rename, .link = do_link, .mkdir = do_mkdir, .unlink = do_unlink, .rmdir = do_rmdir,
        .init = do_init,
    };
    return fuse_main(count, words, &calls, NULL);
}
