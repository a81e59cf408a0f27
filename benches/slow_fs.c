/* slow_fs: a directory as a file system on which every call takes some time, as on a network file system.
 *
 *     cc -O2 -o slow_fs slow_fs.c $(pkg-config --cflags --libs fuse3)
 *     SLOW_FS_ROOT=/some/dir SLOW_FS_MICROSECONDS=1000 slow_fs MOUNT -f
 *
 * Nothing is cached, neither attributes nor names, so each statx, open and unlink leads to a call here. Several
 * threads serve the calls, as in a server.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int root;
static long latency_us;

/* The path below the root, after the latency. */
static const char *below(const char *path)
{
    struct timespec nap = {latency_us / 1000000, latency_us % 1000000 * 1000};
    nanosleep(&nap, NULL);
    return path[1] ? path + 1 : ".";
}

static int answer(int result) { return result < 0 ? -errno : 0; }

static int do_getattr(const char *path, struct stat *facts, struct fuse_file_info *file)
{
    (void)file;
    return answer(fstatat(root, below(path), facts, AT_SYMLINK_NOFOLLOW));
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags)
{
    (void)offset, (void)file, (void)flags;
    int handle = openat(root, below(path), O_RDONLY | O_DIRECTORY);
    if (handle < 0)
        return -errno;
    DIR *listing = fdopendir(handle);
    for (struct dirent *entry; (entry = readdir(listing));) {
        struct stat kind = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
        if (fill(buffer, entry->d_name, &kind, 0, 0))
            break;
    }
    closedir(listing);
    return 0;
}

static int do_open(const char *path, struct fuse_file_info *file)
{
    int handle = openat(root, below(path), file->flags & ~O_CREAT);
    if (handle < 0)
        return -errno;
    file->fh = handle;
    return 0;
}

static int do_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    return answer(close(file->fh));
}

static int do_unlink(const char *path) { return answer(unlinkat(root, below(path), 0)); }
static int do_rmdir(const char *path) { return answer(unlinkat(root, below(path), AT_REMOVEDIR)); }

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    /* A listing is one call, without a call for each name. */
    connection->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
    config->use_ino = 1;
    /* A file that is open when it is unlinked is removed, too. */
    config->hard_remove = 1;
    config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
    return NULL;
}

int main(int count, char **words)
{
    const char *path = getenv("SLOW_FS_ROOT"), *latency = getenv("SLOW_FS_MICROSECONDS");
    root = path ? open(path, O_RDONLY | O_DIRECTORY) : -1;
    if (root < 0)
        return 2;
    latency_us = latency ? atol(latency) : 0;
    static const struct fuse_operations calls = {
        .getattr = do_getattr, .readdir = do_readdir, .open = do_open, .release = do_release,
        .unlink = do_unlink, .rmdir = do_rmdir, .init = do_init,
    };
    return fuse_main(count, words, &calls, NULL);
}
