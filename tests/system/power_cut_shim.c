/* What a disk still holds after the power went, kept beside a running process: loaded by tests/system/power_cut.py with LD_PRELOAD.
 *
 * POWER_CUT_ROOT is the directory under watch, POWER_CUT_SHADOW an empty one on the same file system. At load everything under the
 * root is durable. The shadow then holds
 *   inodes/INO-N  the durable bytes of the file that has inode INO (N tells apart files that had one inode after another)
 *   tree/         the durable directory entries: folders, and hard links into inodes/
 *   ready         once all this stands: before, the process has written nothing
 *   report        at exit, a line for each file that changed behind the shim: a write it does not see would make the test blind
 * A write reaches the inode's bytes at the sync of its file, or, one time in POWER_CUT_EARLY, at once (the kernel writes back when it
 * likes). An entry reaches the tree at the sync of its folder; with POWER_CUT_ENTRIES=ext4 also at the sync of the file it names, as
 * on ext4; with POWER_CUT_ENTRIES=strict only so, as POSIX has it; in both, one operation in POWER_CUT_EARLY at once, after those
 * before it in its folder. POWER_CUT_LIES=1: no sync does anything, which a test that means something has to notice.
 * POWER_CUT_SEED decides. SIGKILL at any moment leaves a state that a power cut could have left. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kBuckets = 4096, kSyncMicroseconds = 700 };

struct range {
  off_t begin, end;
};

struct inode {
  ino_t ino;
  unsigned generation;
  struct range* dirty;
  size_t dirty_count, dirty_room;
  int opaque; /* written through stdio: all of it may have changed */
  struct inode* next;
};

struct entry_change { /* of one folder's entry, not durable yet */
  char path[PATH_MAX];
  int add, folder;
  int settled; /* durable in its folder, which is not there itself */
  char inode_path[PATH_MAX];
  ino_t ino;
  struct entry_change* next;
};

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char root[PATH_MAX], shadow[PATH_MAX];
static dev_t device;
static int active, lies, strict_entries;
static unsigned early = 8, generations;
static uint64_t random_state;
static struct inode* table[kBuckets];
static struct entry_change *changes, **changes_end = &changes;

static int (*real_openat)(int, const char*, int, ...);
static FILE* (*real_fopen)(const char*, const char*);
static ssize_t (*real_write)(int, const void*, size_t);
static ssize_t (*real_pwrite)(int, const void*, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec*, int);
static ssize_t (*real_pwritev)(int, const struct iovec*, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_truncate)(const char*, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_renameat)(int, const char*, int, const char*);
static int (*real_linkat)(int, const char*, int, const char*, int);
static int (*real_unlinkat)(int, const char*, int);
static int (*real_mkdirat)(int, const char*, mode_t);

static void fail(const char* what, const char* path) {
  fprintf(stderr, "power_cut_shim: %s %s: %s\n", what, path, strerror(errno));
  abort();
}

static unsigned draw(unsigned below) {
  random_state += 0x9E3779B97F4A7C15ULL; /* splitmix64 */
  uint64_t z = random_state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return (unsigned)((z ^ (z >> 31)) % below);
}

static void join(char* out, const char* middle, const char* path) {
  if (snprintf(out, PATH_MAX, "%s%s%s", shadow, middle, path) >= PATH_MAX) {
    errno = ENAMETOOLONG;
    fail("joining", path);
  }
}

/* The absolute name of a path, its folder resolved and its last part as it is. */
static int resolve(int at, const char* path, char* out) {
  char whole[PATH_MAX], folder[PATH_MAX];
  if (path[0] == '/') {
    snprintf(whole, sizeof whole, "%s", path);
  } else if (at == AT_FDCWD) {
    if (getcwd(folder, sizeof folder) == NULL) return 0;
    if (snprintf(whole, sizeof whole, "%s/%s", folder, path) >= PATH_MAX) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    const ssize_t n = readlink(link, folder, sizeof folder - 1);
    if (n <= 0) return 0;
    folder[n] = 0;
    if (snprintf(whole, sizeof whole, "%s/%s", folder, path) >= PATH_MAX) return 0;
  }
  size_t length = strlen(whole);
  while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
  char* slash = strrchr(whole, '/');
  const char* name = slash + 1;
  char head[PATH_MAX];
  snprintf(head, sizeof head, "%.*s", slash == whole ? 1 : (int)(slash - whole), whole);
  if (realpath(head, folder) == NULL) return 0;
  return snprintf(out, PATH_MAX, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name) < PATH_MAX;
}

/* The part of a path behind the root, or NULL: not ours. */
static const char* inside(const char* path) {
  const size_t n = strlen(root);
  return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == 0) ? path + n : NULL;
}

static struct inode* find(ino_t ino) {
  struct inode* at = table[ino % kBuckets];
  while (at != NULL && at->ino != ino) at = at->next;
  return at;
}

static struct inode* of_fd(int fd) {
  struct stat info;
  if (!active || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_dev != device) return NULL;
  return find(info.st_ino);
}

static void inode_path(const struct inode* inode, char* out) {
  char name[64];
  snprintf(name, sizeof name, "%llu-%u", (unsigned long long)inode->ino, inode->generation);
  join(out, "/inodes/", name);
}

static struct inode* add_inode(ino_t ino) {
  struct inode* inode = find(ino);
  if (inode == NULL) {
    inode = calloc(1, sizeof *inode);
    inode->ino = ino;
    inode->next = table[ino % kBuckets];
    table[ino % kBuckets] = inode;
  }
  inode->generation = ++generations;
  inode->dirty_count = 0;
  inode->opaque = 0;
  char path[PATH_MAX];
  inode_path(inode, path);
  const int fd = real_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) fail("creating", path);
  close(fd);
  return inode;
}

static void mark_dirty(struct inode* inode, off_t begin, off_t end) {
  if (inode->dirty_count > 0 && inode->dirty[inode->dirty_count - 1].end == begin) {
    inode->dirty[inode->dirty_count - 1].end = end;
    return;
  }
  if (inode->dirty_count == inode->dirty_room) {
    inode->dirty_room = inode->dirty_room == 0 ? 16 : inode->dirty_room * 2;
    inode->dirty = realloc(inode->dirty, inode->dirty_room * sizeof *inode->dirty);
  }
  inode->dirty[inode->dirty_count].begin = begin;
  inode->dirty[inode->dirty_count++].end = end;
}

/* Copies bytes of the live file, as far as it reaches, into the shadow. */
static void copy_range(int from, int to, off_t begin, off_t end, off_t size) {
  static char block[1 << 16];
  if (end > size) end = size;
  while (begin < end) {
    const size_t want = (size_t)(end - begin) < sizeof block ? (size_t)(end - begin) : sizeof block;
    const ssize_t n = pread(from, block, want, begin);
    if (n <= 0) return;
    if (real_pwrite(to, block, (size_t)n, begin) != n) fail("writing", shadow);
    begin += n;
  }
}

static int open_shadow(const struct inode* inode) {
  char path[PATH_MAX];
  inode_path(inode, path);
  const int fd = real_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) fail("opening", path);
  return fd;
}

/* A descriptor of the live file that can be read, whatever the caller's own was opened for. */
static int readable(int fd) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  return real_openat(AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
}

static void make_durable(struct inode* inode, int fd) {
  if (inode->dirty_count == 0 && !inode->opaque) return;
  struct stat info;
  const int from = readable(fd);
  if (from < 0 || fstat(from, &info) != 0) fail("reading", "a file that is synced");
  const int to = open_shadow(inode);
  if (inode->opaque) copy_range(from, to, 0, info.st_size, info.st_size);
  for (size_t i = 0; i < inode->dirty_count; ++i) {
    copy_range(from, to, inode->dirty[i].begin, inode->dirty[i].end, info.st_size);
  }
  if (real_ftruncate(to, info.st_size) != 0) fail("resizing", shadow);
  inode->dirty_count = 0;
  close(to);
  close(from);
}

static void written(struct inode* inode, int fd, off_t begin, off_t end) {
  mark_dirty(inode, begin, end);
  if (lies || draw(early) != 0) return;
  /* Written back before any sync, and not from its beginning: pages go out in any order. */
  const off_t pages = (end - begin + 4095) / 4096;
  if (pages > 1) begin = (begin / 4096 + (off_t)draw((unsigned)pages)) * 4096;
  struct stat info;
  const int from = readable(fd);
  if (from < 0) return;
  const int to = open_shadow(inode);
  if (fstat(from, &info) == 0) copy_range(from, to, begin, end, info.st_size);
  close(to);
  close(from);
}

/* 0: the folder that it is in is not durable itself. */
static int apply(const struct entry_change* change) {
  char at[PATH_MAX];
  join(at, "/tree", change->path);
  if (!change->add) {
    if (real_unlinkat(AT_FDCWD, at, change->folder ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT && errno != ENOTEMPTY) {
      fail("removing", at);
    }
    return 1;
  }
  if (change->folder) {
    if (real_mkdirat(AT_FDCWD, at, 0700) == 0 || errno == EEXIST) return 1;
    if (errno != ENOENT) fail("making", at);
    return 0;
  }
  char draft[PATH_MAX];
  join(draft, "/draft", "");
  (void)real_unlinkat(AT_FDCWD, draft, 0);
  if (real_linkat(AT_FDCWD, change->inode_path, AT_FDCWD, draft, 0) != 0) fail("linking", change->inode_path);
  if (real_renameat(AT_FDCWD, draft, AT_FDCWD, at) == 0) return 1;
  if (errno != ENOENT) fail("renaming to", at);
  return 0;
}

static int in_folder(const char* path, const char* folder) {
  const size_t n = strlen(folder);
  return strncmp(path, folder, n) == 0 && path[n] == '/' && strchr(path + n + 1, '/') == NULL;
}

/* Makes those pending changes durable, in order, that are of `folder` (NULL: any) and concern `ino` (0: any). */
static void settle(const char* folder, ino_t ino) {
  int again = 0;
  for (struct entry_change** at = &changes; *at != NULL;) {
    struct entry_change* change = *at;
    if (!change->settled && ((folder != NULL && !in_folder(change->path, folder)) || (ino != 0 && change->ino != ino))) {
      at = &change->next;
      continue;
    }
    if (ino != 0 && change->ino == ino) { /* an entry is of use only in folders that are there */
      for (char* slash = strchr(change->path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char made[PATH_MAX];
        *slash = 0;
        join(made, "/tree", change->path);
        *slash = '/';
        (void)real_mkdirat(AT_FDCWD, made, 0700);
      }
    }
    if (!apply(change)) {
      change->settled = 1;
      at = &change->next;
      continue;
    }
    if (change->folder && change->add) again = 1; /* what was durable in it appears */
    *at = change->next;
    free(change);
    if (again) {
      again = 0;
      at = &changes;
    }
  }
  changes_end = &changes;
  while (*changes_end != NULL) changes_end = &(*changes_end)->next;
}

static void folder_of(const char* path, char* out) {
  snprintf(out, PATH_MAX, "%.*s", (int)(strrchr(path, '/') - path), path);
}

static void change_entry(const char* path, int add, int folder, const struct inode* inode) {
  struct entry_change* change = calloc(1, sizeof *change);
  snprintf(change->path, sizeof change->path, "%s", path);
  change->add = add;
  change->folder = folder;
  if (inode != NULL) {
    change->ino = inode->ino;
    inode_path(inode, change->inode_path);
  }
  *changes_end = change;
  changes_end = &change->next;
}

static void maybe_settle(const char* path) {
  char folder[PATH_MAX];
  folder_of(path, folder);
  if (!lies && draw(early) == 0) settle(folder, 0);
}

static void scan(const char* path) {
  DIR* listing = opendir(path);
  if (listing == NULL) return;
  for (const struct dirent* entry; (entry = readdir(listing)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    char child[PATH_MAX];
    struct stat info;
    if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= PATH_MAX || lstat(child, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      change_entry(inside(child), 1, 1, NULL);
      settle(NULL, 0);
      scan(child);
    } else if (S_ISREG(info.st_mode)) {
      struct inode* inode = add_inode(info.st_ino);
      const int fd = real_openat(AT_FDCWD, child, O_RDONLY | O_CLOEXEC, 0);
      if (fd < 0) fail("opening", child);
      mark_dirty(inode, 0, info.st_size);
      make_durable(inode, fd);
      close(fd);
      change_entry(inside(child), 1, 0, inode);
      settle(NULL, 0);
    }
  }
  closedir(listing);
}

#define REAL(name, symbol)                               \
  do {                                                   \
    *(void**)&real_##name = dlsym(RTLD_NEXT, symbol);    \
    if (real_##name == NULL) fail("looking up", symbol); \
  } while (0)

/* Other libraries' constructors may write before this one's runs. */
static void look_up(void) {
  if (real_mkdirat != NULL) return;
  REAL(openat, "openat");
  REAL(fopen, "fopen");
  REAL(write, "write");
  REAL(pwrite, "pwrite");
  REAL(writev, "writev");
  REAL(pwritev, "pwritev");
  REAL(ftruncate, "ftruncate");
  REAL(truncate, "truncate");
  REAL(fallocate, "fallocate");
  REAL(posix_fallocate, "posix_fallocate");
  REAL(fsync, "fsync");
  REAL(renameat, "renameat");
  REAL(linkat, "linkat");
  REAL(unlinkat, "unlinkat");
  REAL(mkdirat, "mkdirat");
}

__attribute__((constructor)) static void begin(void) {
  look_up();
  const char* given = getenv("POWER_CUT_ROOT");
  const char* beside = getenv("POWER_CUT_SHADOW");
  if (given == NULL || beside == NULL) return;
  if (realpath(given, root) == NULL) fail("finding", given);
  if (realpath(beside, shadow) == NULL) fail("finding", beside);
  struct stat info;
  if (stat(root, &info) != 0) fail("finding", root);
  device = info.st_dev;
  const char* text = getenv("POWER_CUT_SEED");
  random_state = text == NULL ? 1 : strtoull(text, NULL, 10);
  text = getenv("POWER_CUT_EARLY");
  if (text != NULL && atoi(text) > 0) early = (unsigned)atoi(text);
  text = getenv("POWER_CUT_ENTRIES");
  strict_entries = text != NULL && strcmp(text, "strict") == 0;
  lies = getenv("POWER_CUT_LIES") != NULL;
  char path[PATH_MAX];
  join(path, "/inodes", "");
  if (real_mkdirat(AT_FDCWD, path, 0700) != 0) fail("making", path);
  join(path, "/tree", "");
  if (real_mkdirat(AT_FDCWD, path, 0700) != 0) fail("making", path);
  scan(root);
  join(path, "/ready", "");
  close(real_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  active = 1;
}

/* A clean file that differs from its shadow was changed through a call that is not intercepted here. */
static void compare(const char* path, FILE* report) {
  DIR* listing = opendir(path);
  if (listing == NULL) return;
  for (const struct dirent* entry; (entry = readdir(listing)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    char child[PATH_MAX];
    struct stat info;
    if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= PATH_MAX || lstat(child, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) compare(child, report);
    if (!S_ISREG(info.st_mode)) continue;
    const size_t length = strlen(child);
    if (length > 4 && strcmp(child + length - 4, "-shm") == 0) continue; /* memory that SQLite maps: it needs no durability */
    const struct inode* inode = find(info.st_ino);
    if (inode == NULL) {
      fprintf(report, "%s: created behind the shim\n", child);
      continue;
    }
    if (inode->opaque || inode->dirty_count > 0) continue;
    const int live = real_openat(AT_FDCWD, child, O_RDONLY | O_CLOEXEC, 0);
    const int kept = open_shadow(inode);
    char a[4096], b[4096];
    for (off_t at = 0;; at += sizeof a) {
      const ssize_t n = pread(live, a, sizeof a, at);
      if (n != pread(kept, b, sizeof b, at) || (n > 0 && memcmp(a, b, (size_t)n) != 0)) {
        fprintf(report, "%s: changed behind the shim at %lld\n", child, (long long)at);
        break;
      }
      if (n <= 0) break;
    }
    close(live);
    close(kept);
  }
  closedir(listing);
}

__attribute__((destructor)) static void end(void) {
  if (!active || lies) return;
  pthread_mutex_lock(&mutex);
  char path[PATH_MAX];
  join(path, "/report", "");
  FILE* report = real_fopen(path, "w");
  if (report == NULL) fail("writing", path);
  compare(root, report);
  fclose(report);
  pthread_mutex_unlock(&mutex);
}

/* ---- names ---- */

static int open_at(int at, const char* path, int flags, mode_t mode) {
  look_up();
  char whole[PATH_MAX];
  if (!active || (flags & (O_CREAT | O_TRUNC)) == 0 || !resolve(at, path, whole) || inside(whole) == NULL) {
    return real_openat(at, path, flags, mode);
  }
  pthread_mutex_lock(&mutex);
  struct stat before;
  const int there = lstat(whole, &before) == 0;
  const int fd = real_openat(at, path, flags, mode);
  const int code = errno;
  struct stat info;
  if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    if (!there) {
      change_entry(inside(whole), 1, 0, add_inode(info.st_ino));
      maybe_settle(inside(whole));
    } else if ((flags & O_TRUNC) != 0 && find(info.st_ino) != NULL) {
      mark_dirty(find(info.st_ino), 0, 1);
    }
  }
  pthread_mutex_unlock(&mutex);
  errno = code;
  return fd;
}

static mode_t mode_of(int flags, va_list rest) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN(name)                        \
  int name(const char* path, int flags, ...) { \
    va_list rest;                         \
    va_start(rest, flags);                \
    const mode_t mode = mode_of(flags, rest); \
    va_end(rest);                         \
    return open_at(AT_FDCWD, path, flags, mode); \
  }
#define OPENAT(name)                      \
  int name(int at, const char* path, int flags, ...) { \
    va_list rest;                         \
    va_start(rest, flags);                \
    const mode_t mode = mode_of(flags, rest); \
    va_end(rest);                         \
    return open_at(at, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char* path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char* path, int flags) { return open_at(at, path, flags, 0); }
int creat(const char* path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char* path, mode_t mode) { return creat(path, mode); }

FILE* fopen(const char* path, const char* how) {
  look_up();
  char whole[PATH_MAX];
  if (!active || strpbrk(how, "wa+") == NULL || !resolve(AT_FDCWD, path, whole) || inside(whole) == NULL) {
    return real_fopen(path, how);
  }
  pthread_mutex_lock(&mutex);
  struct stat before;
  const int there = lstat(whole, &before) == 0;
  FILE* file = real_fopen(path, how);
  const int code = errno;
  struct stat info;
  if (file != NULL && fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode)) {
    struct inode* inode = there ? find(info.st_ino) : add_inode(info.st_ino);
    if (!there) change_entry(inside(whole), 1, 0, inode);
    if (inode != NULL) inode->opaque = 1;
  }
  pthread_mutex_unlock(&mutex);
  errno = code;
  return file;
}
FILE* fopen64(const char* path, const char* how) { return fopen(path, how); }

static int rename_at(int from_at, const char* from, int to_at, const char* to) {
  look_up();
  char old[PATH_MAX], new[PATH_MAX];
  if (!active || !resolve(from_at, from, old) || !resolve(to_at, to, new) || (inside(old) == NULL && inside(new) == NULL)) {
    return real_renameat(from_at, from, to_at, to);
  }
  pthread_mutex_lock(&mutex);
  struct stat info;
  const int known = lstat(old, &info) == 0;
  const int result = real_renameat(from_at, from, to_at, to);
  const int code = errno;
  if (result == 0 && known) {
    if (S_ISDIR(info.st_mode)) {
      errno = ENOTSUP; /* nothing renames a folder; if something does, the shim has to learn it */
      fail("renaming a folder", old);
    }
    const struct inode* inode = find(info.st_ino);
    if (inode != NULL && inside(new) != NULL) change_entry(inside(new), 1, 0, inode);
    if (inside(old) != NULL) change_entry(inside(old), 0, 0, inode);
    if (inside(new) != NULL) maybe_settle(inside(new));
  }
  pthread_mutex_unlock(&mutex);
  errno = code;
  return result;
}
int rename(const char* from, const char* to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_at, const char* from, int to_at, const char* to) { return rename_at(from_at, from, to_at, to); }
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  if (flags != 0) {
    errno = EINVAL;
    return -1;
  }
  return rename_at(from_at, from, to_at, to);
}

int linkat(int from_at, const char* from, int to_at, const char* to, int flags) {
  look_up();
  char new[PATH_MAX];
  if (!active || !resolve(to_at, to, new) || inside(new) == NULL) return real_linkat(from_at, from, to_at, to, flags);
  pthread_mutex_lock(&mutex);
  const int result = real_linkat(from_at, from, to_at, to, flags);
  const int code = errno;
  struct stat info;
  if (result == 0 && lstat(new, &info) == 0 && find(info.st_ino) != NULL) {
    change_entry(inside(new), 1, 0, find(info.st_ino));
    maybe_settle(inside(new));
  }
  pthread_mutex_unlock(&mutex);
  errno = code;
  return result;
}
int link(const char* from, const char* to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char* path, int flags) {
  look_up();
  char whole[PATH_MAX];
  if (!active || !resolve(at, path, whole) || inside(whole) == NULL) return real_unlinkat(at, path, flags);
  pthread_mutex_lock(&mutex);
  struct stat info;
  const struct inode* inode = lstat(whole, &info) == 0 ? find(info.st_ino) : NULL;
  const int result = real_unlinkat(at, path, flags);
  const int code = errno;
  if (result == 0) {
    change_entry(inside(whole), 0, (flags & AT_REMOVEDIR) != 0, inode);
    maybe_settle(inside(whole));
  }
  pthread_mutex_unlock(&mutex);
  errno = code;
  return result;
}
int unlink(const char* path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char* path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) {
  struct stat info;
  return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) ? rmdir(path) : unlink(path);
}

int mkdirat(int at, const char* path, mode_t mode) {
  look_up();
  const int result = real_mkdirat(at, path, mode);
  const int code = errno;
  char whole[PATH_MAX];
  if (result == 0 && active && resolve(at, path, whole) && inside(whole) != NULL) {
    pthread_mutex_lock(&mutex);
    change_entry(inside(whole), 1, 1, NULL);
    maybe_settle(inside(whole));
    pthread_mutex_unlock(&mutex);
  }
  errno = code;
  return result;
}
int mkdir(const char* path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* ---- bytes ---- */

/* Around a write whose place in the file is the descriptor's: appended, or at its position. */
#define WRITE_AT_POSITION(call)                                                    \
  look_up();                                                                       \
  pthread_mutex_lock(&mutex);                                                      \
  struct inode* inode = of_fd(fd);                                                 \
  if (inode == NULL) {                                                             \
    pthread_mutex_unlock(&mutex);                                                  \
    return call;                                                                   \
  }                                                                                \
  const ssize_t n = call;                                                          \
  const int code = errno;                                                          \
  if (n > 0) { /* also after an append the position is the end of what was written */ \
    const off_t end = lseek(fd, 0, SEEK_CUR);                                      \
    written(inode, fd, end - n, end);                                              \
  }                                                                                \
  pthread_mutex_unlock(&mutex);                                                    \
  errno = code;                                                                    \
  return n

#define WRITE_AT(call)                                \
  look_up();                                          \
  pthread_mutex_lock(&mutex);                         \
  struct inode* inode = of_fd(fd);                    \
  if (inode == NULL) {                                \
    pthread_mutex_unlock(&mutex);                     \
    return call;                                      \
  }                                                   \
  const ssize_t n = call;                             \
  const int code = errno;                             \
  if (n > 0) written(inode, fd, at, at + (off_t)n);   \
  pthread_mutex_unlock(&mutex);                       \
  errno = code;                                       \
  return n

ssize_t write(int fd, const void* bytes, size_t size) { WRITE_AT_POSITION(real_write(fd, bytes, size)); }
ssize_t writev(int fd, const struct iovec* parts, int count) { WRITE_AT_POSITION(real_writev(fd, parts, count)); }
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) { WRITE_AT(real_pwrite(fd, bytes, size, at)); }
ssize_t pwrite64(int fd, const void* bytes, size_t size, off_t at) { return pwrite(fd, bytes, size, at); }
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) { WRITE_AT(real_pwritev(fd, parts, count, at)); }
ssize_t pwritev64(int fd, const struct iovec* parts, int count, off_t at) { return pwritev(fd, parts, count, at); }

/* A new size is durable at the sync of the file, or at once. */
static void resized(struct inode* inode, off_t begin, off_t end, off_t size) {
  mark_dirty(inode, begin, end);
  if (lies || draw(early) != 0) return;
  const int to = open_shadow(inode);
  if (real_ftruncate(to, size) != 0) fail("resizing", shadow);
  close(to);
}

int ftruncate(int fd, off_t size) {
  look_up();
  pthread_mutex_lock(&mutex);
  struct inode* inode = of_fd(fd);
  const int result = real_ftruncate(fd, size);
  const int code = errno;
  if (inode != NULL && result == 0) resized(inode, size, (off_t)1 << 62, size);
  pthread_mutex_unlock(&mutex);
  errno = code;
  return result;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int truncate(const char* path, off_t size) {
  look_up();
  const int fd = open_at(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int result = ftruncate(fd, size);
  const int code = errno;
  close(fd);
  errno = code;
  return result;
}
int truncate64(const char* path, off_t size) { return truncate(path, size); }

int fallocate(int fd, int mode, off_t at, off_t size) {
  look_up();
  pthread_mutex_lock(&mutex);
  struct inode* inode = of_fd(fd);
  const int result = real_fallocate(fd, mode, at, size);
  const int code = errno;
  if (inode != NULL && result == 0) mark_dirty(inode, at, at + size);
  pthread_mutex_unlock(&mutex);
  errno = code;
  return result;
}
int fallocate64(int fd, int mode, off_t at, off_t size) { return fallocate(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) {
  look_up();
  pthread_mutex_lock(&mutex);
  struct inode* inode = of_fd(fd);
  const int result = real_posix_fallocate(fd, at, size);
  if (inode != NULL && result == 0) mark_dirty(inode, at, at + size);
  pthread_mutex_unlock(&mutex);
  return result;
}
int posix_fallocate64(int fd, off_t at, off_t size) { return posix_fallocate(fd, at, size); }

/* ---- syncs ---- */

int fsync(int fd) {
  look_up();
  struct stat info;
  if (!active || fstat(fd, &info) != 0 || info.st_dev != device) return real_fsync(fd);
  if (lies) return 0;
  usleep(kSyncMicroseconds); /* cuts have to fall into syncs, too */
  pthread_mutex_lock(&mutex);
  if (S_ISDIR(info.st_mode)) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0) {
      path[n] = 0;
      if (inside(path) != NULL) settle(inside(path), 0);
    }
  } else {
    struct inode* inode = find(info.st_ino);
    if (inode != NULL) {
      make_durable(inode, fd);
      if (!strict_entries) settle(NULL, inode->ino);
    }
  }
  pthread_mutex_unlock(&mutex);
  return 0;
}
int fdatasync(int fd) { return fsync(fd); }

/* These give no promise about metadata or the disk's own cache: nothing becomes durable. */
int sync_file_range(int fd, off_t at, off_t size, unsigned flags) {
  (void)fd, (void)at, (void)size, (void)flags;
  return 0;
}

static void sync_all(const char* path) {
  DIR* listing = opendir(path);
  if (listing == NULL) return;
  for (const struct dirent* entry; (entry = readdir(listing)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    char child[PATH_MAX];
    struct stat info;
    if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= PATH_MAX || lstat(child, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) sync_all(child);
    struct inode* inode = S_ISREG(info.st_mode) ? find(info.st_ino) : NULL;
    if (inode == NULL) continue;
    const int fd = real_openat(AT_FDCWD, child, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) continue;
    make_durable(inode, fd);
    close(fd);
  }
  closedir(listing);
}

void sync(void) {
  look_up();
  if (!active || lies) return;
  pthread_mutex_lock(&mutex);
  sync_all(root);
  settle(NULL, 0);
  pthread_mutex_unlock(&mutex);
}
int syncfs(int fd) {
  (void)fd;
  sync();
  return 0;
}
