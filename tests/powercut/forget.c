/* forget: remembers what a disk would still hold after a power cut.
 *
 * An LD_PRELOAD library. For every regular file and directory below $FORGET_ROOT it keeps in $FORGET_SHADOW what was durable after the last fsync or
 * fdatasync: `inode.<key>` is a file's content, `dir.<key>` a directory's entries (NUL-terminated records "<f|d> <key> <name>"), `root` the key of
 * $FORGET_ROOT. A key is the inode number and the time of its birth, for inode numbers are used again. restore.py builds a directory from it.
 *
 * Mechanics: the copy is taken before the real call and published after it has succeeded. So it never holds more than POSIX promises: not what another
 * thread wrote in between, not the name of a file whose directory was not flushed, not the bytes of a file that was not. One lock per shadow keeps an
 * older copy from replacing a newer one. What lies below the root when the first program starts with a fresh shadow counts as durable.
 *
 * Not watched, and not used by what is tested: sync, syncfs, sync_file_range, msync, O_SYNC, io_uring.
 *
 * Build: cc -O2 -Wall -Wextra -shared -fPIC -o libforget.so forget.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];
static char shadow[PATH_MAX];
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int lock_file = -1;

/* A test that silently remembers nothing would pass for the wrong reason. */
static void die(const char *what)
{
    fprintf(stderr, "forget: %s: %s\n", what, strerror(errno));
    abort();
}

static void key_at(int dir, const char *name, int flags, char *key, size_t size, mode_t *mode)
{
    struct statx stat;
    if (statx(dir, name, flags, STATX_TYPE | STATX_INO | STATX_BTIME, &stat) != 0) {
        if (errno != ENOENT)
            die("statx");
        *mode = 0;
        return;
    }
    *mode = stat.stx_mode;
    snprintf(key, size, "%llu-%lld.%09u", (unsigned long long)stat.stx_ino, (long long)stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
}

static void shadow_path(char *path, const char *format, ...)
{
    va_list arguments;
    int length = snprintf(path, PATH_MAX, "%s/", shadow);
    va_start(arguments, format);
    vsnprintf(path + length, PATH_MAX - (size_t)length, format, arguments);
    va_end(arguments);
}

static void write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(file, bytes, length);
        if (written < 0)
            die("write");
        bytes += written;
        length -= (size_t)written;
    }
}

/* Copies a file's content to `temporary`. The descriptor may be open for writing only, so it is opened anew. */
static void copy_file(int fd, const char *temporary)
{
    char self[64];
    static char buffer[1 << 20];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC);
    int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (from < 0 || to < 0)
        die("copying a file");
    for (;;) {
        ssize_t length = read(from, buffer, sizeof buffer);
        if (length < 0)
            die("reading a file");
        if (length == 0)
            break;
        write_all(to, buffer, (size_t)length);
    }
    close(from);
    close(to);
}

/* Writes a directory's entries to `temporary`. */
static void copy_directory(int fd, const char *temporary)
{
    char self[64], key[64], record[PATH_MAX];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    DIR *directory = opendir(self);
    int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (!directory || to < 0)
        die("copying a directory");
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        mode_t mode;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        key_at(dirfd(directory), entry->d_name, AT_SYMLINK_NOFOLLOW, key, sizeof key, &mode);
        if (!S_ISREG(mode) && !S_ISDIR(mode))
            continue;
        int length = snprintf(record, sizeof record, "%c %s %s", S_ISDIR(mode) ? 'd' : 'f', key, entry->d_name);
        write_all(to, record, (size_t)length + 1);
    }
    closedir(directory);
    close(to);
}

static void name_root(const char *key)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    shadow_path(path, "root");
    shadow_path(temporary, "root.new");
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0)
        die("naming the root");
    write_all(file, key, strlen(key));
    close(file);
    if (rename(temporary, path) != 0)
        die("naming the root");
}

/* Everything below a directory counts as durable. */
static void seed(const char *path)
{
    char key[64], temporary[PATH_MAX], final[PATH_MAX], below[PATH_MAX];
    mode_t mode;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    key_at(fd, "", AT_EMPTY_PATH, key, sizeof key, &mode);
    shadow_path(temporary, "seed.new");
    shadow_path(final, "%s.%s", S_ISDIR(mode) ? "dir" : "inode", key);
    if (S_ISDIR(mode))
        copy_directory(fd, temporary);
    else
        copy_file(fd, temporary);
    if (rename(temporary, final) != 0)
        die("seeding");
    if (S_ISDIR(mode)) {
        DIR *directory = fdopendir(fd);
        struct dirent *entry;
        while ((entry = readdir(directory))) {
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                continue;
            if ((size_t)snprintf(below, sizeof below, "%s/%s", path, entry->d_name) < sizeof below
                && (entry->d_type == DT_REG || entry->d_type == DT_DIR))
                seed(below);
        }
        closedir(directory);
        if (!strcmp(path, root))
            name_root(key);
    } else {
        close(fd);
    }
}

__attribute__((constructor)) static void start(void)
{
    char path[PATH_MAX];
    const char *from = getenv("FORGET_ROOT"), *to = getenv("FORGET_SHADOW");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (!from || !to || !realpath(from, root) || !realpath(to, shadow)) {
        fprintf(stderr, "forget: FORGET_ROOT and FORGET_SHADOW must name directories that are there\n");
        abort();
    }
    shadow_path(path, "lock");
    lock_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_file < 0 || flock(lock_file, LOCK_EX) != 0)
        die("lock");
    shadow_path(path, "root");
    if (access(path, F_OK) != 0)
        seed(root);
    flock(lock_file, LOCK_UN);
}

/* Whether a descriptor is of a file below the root that still has a name. */
static int watched(int fd)
{
    char self[64], path[PATH_MAX];
    size_t length = strlen(root);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t end = readlink(self, path, sizeof path - 1);
    if (end < 0)
        return 0;
    path[end] = 0;
    if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != 0))
        return 0;
    struct stat stat;
    return fstat(fd, &stat) == 0 && stat.st_nlink > 0 && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode));
}

static int remember(int fd, int (*real)(int))
{
    char key[64], temporary[PATH_MAX], final[PATH_MAX];
    mode_t mode;
    if (!watched(fd))
        return real(fd);
    /* flock belongs to the open file, which the threads of a process share: they take the mutex first. */
    pthread_mutex_lock(&order);
    if (flock(lock_file, LOCK_EX) != 0)
        die("lock");
    key_at(fd, "", AT_EMPTY_PATH, key, sizeof key, &mode);
    shadow_path(temporary, "copy.new");
    shadow_path(final, "%s.%s", S_ISDIR(mode) ? "dir" : "inode", key);
    if (S_ISDIR(mode))
        copy_directory(fd, temporary);
    else
        copy_file(fd, temporary);
    int result = real(fd);
    int error = errno;
    if (result == 0 && rename(temporary, final) != 0)
        die("remembering");
    flock(lock_file, LOCK_UN);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}

int fsync(int fd)
{
    return remember(fd, real_fsync);
}

int fdatasync(int fd)
{
    return remember(fd, real_fdatasync);
}
