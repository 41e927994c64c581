/* What a process asks of the disk, written down, so that a test can lose what wasn't synced.
 *
 * Preloaded (LD_PRELOAD) into a process. For files of the folder $POWER_FOLDER whose names begin with
 * $POWER_PREFIX, every change is appended to $POWER_LOG before it is carried out, and every sync after
 * it was: one line "what name offset length", then `length` bytes. At the change or sync number
 * $POWER_KILL_AT the process is killed: a change stands in the log and wasn't carried out, as one that
 * was under way; a sync doesn't stand there. Without $POWER_FOLDER it does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES_MAX 1024
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char names[FILES_MAX][256]; /* by file descriptor; "." is the folder, "" isn't ours */
static int log_file = -1;
static long done, kill_at;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static const char *ours(const char *path)
{
    const char *folder = getenv("POWER_FOLDER"), *prefix = getenv("POWER_PREFIX");
    static __thread char whole[PATH_MAX];
    size_t length;

    if (!folder || !prefix)
        return NULL;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole))
            return NULL;
        strncat(whole, "/", sizeof whole - strlen(whole) - 1);
        strncat(whole, path, sizeof whole - strlen(whole) - 1);
        path = whole;
    }
    length = strlen(folder);
    if (strncmp(path, folder, length))
        return NULL;
    if (!path[length] || !strcmp(path + length, "/"))
        return ".";
    path += length + 1;
    return strchr(path, '/') || strncmp(path, prefix, strlen(prefix)) ? NULL : path;
}

static const char *name_of(int file)
{
    return file >= 0 && file < FILES_MAX && names[file][0] ? names[file] : NULL;
}

static void note(const char *what, const char *name, long long offset, const void *data, size_t length)
{
    char line[512];
    int size = snprintf(line, sizeof line, "%s %s %lld %zu\n", what, name, offset, length);

    if (log_file < 0) {
        log_file = REAL(open)(getenv("POWER_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_file < 0)
            abort();
        if (log_file < FILES_MAX)
            names[log_file][0] = 0;
    }
    if (REAL(write)(log_file, line, (size_t)size) != size ||
        (length && REAL(write)(log_file, data, length) != (ssize_t)length))
        abort();
}

/* Count one change or sync; whether the process is to end at it. */
static int last_one(void)
{
    const char *at = getenv("POWER_KILL_AT");

    if (!kill_at)
        kill_at = at ? atol(at) : -1;
    return ++done == kill_at;
}

static void change(const char *what, const char *name, long long offset, const void *data, size_t length)
{
    pthread_mutex_lock(&one_at_a_time);
    note(what, name, offset, data, length);
    if (last_one())
        kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&one_at_a_time);
}

static int sync_of(int file, int (*real)(int))
{
    const char *name = name_of(file);
    int result;

    if (!name)
        return real(file);
    pthread_mutex_lock(&one_at_a_time);
    if (last_one())
        kill(getpid(), SIGKILL);
    result = real(file);
    if (!result)
        note("sync", name, 0, NULL, 0);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

static int opened(const char *path, int flags, mode_t mode, int (*real)(const char *, int, ...))
{
    const char *name = ours(path);
    struct stat found;
    int file;

    if (name && (flags & O_CREAT) && stat(path, &found))
        change("make", name, 0, NULL, 0);
    if (name && (flags & O_TRUNC))
        change("truncate", name, 0, NULL, 0);
    file = real(path, flags, mode);
    if (file >= 0 && file < FILES_MAX)
        snprintf(names[file], sizeof names[file], "%s", name ? name : "");
    return file;
}

#define OPEN(function)                                                                             \
    int function(const char *path, int flags, ...)                                                 \
    {                                                                                              \
        mode_t mode = 0;                                                                           \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        if (flags & (O_CREAT | __O_TMPFILE))                                                       \
            mode = va_arg(more, mode_t);                                                           \
        va_end(more);                                                                              \
        return opened(path, flags, mode, REAL(function));                                          \
    }
OPEN(open)
OPEN(open64)

int close(int file)
{
    if (file >= 0 && file < FILES_MAX)
        names[file][0] = 0;
    return REAL(close)(file);
}

ssize_t write(int file, const void *data, size_t length)
{
    if (name_of(file))
        change("write", name_of(file), lseek(file, 0, SEEK_CUR), data, length);
    return REAL(write)(file, data, length);
}

#define PWRITE(function, offset_type)                                                              \
    ssize_t function(int file, const void *data, size_t length, offset_type offset)                \
    {                                                                                              \
        if (name_of(file))                                                                         \
            change("write", name_of(file), offset, data, length);                                  \
        return REAL(function)(file, data, length, offset);                                         \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define FTRUNCATE(function, offset_type)                                                           \
    int function(int file, offset_type length)                                                     \
    {                                                                                              \
        if (name_of(file))                                                                         \
            change("truncate", name_of(file), length, NULL, 0);                                    \
        return REAL(function)(file, length);                                                       \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

int fsync(int file) { return sync_of(file, REAL(fsync)); }

int fdatasync(int file) { return sync_of(file, REAL(fdatasync)); }

int unlink(const char *path)
{
    const char *name = ours(path);

    if (name && !access(path, F_OK))
        change("unlink", name, 0, NULL, 0);
    return REAL(unlink)(path);
}

/* SQLite renames nothing here; if that changes, the tests must learn it. */
int rename(const char *from, const char *to)
{
    if (ours(from) || ours(to))
        abort();
    return REAL(rename)(from, to);
}
