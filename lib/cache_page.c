/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The page for sheaf-stat, for caches that want to be seen; its layout is in cache_page.h.
 *
 * A thread sleeps on a word of the page, in the kernel, until somebody who looks adds one to it and wakes it.
 * Then it counts all caches that want to be seen, once, and sleeps again. So nothing is spent
 * while nobody looks, and while somebody does, as often as he asks, ten milliseconds apart at least.
 *
 *  P1  The thread is the only one that writes records, and that moves the mapping. life is held by
 *      who starts or ends it, lock by the thread during an update, and by who tells it to end.
 *      Order: life, lock, then those of the registry and of caches; an update waits for nothing else.
 *  P2  A reader sees whole updates: serial is odd while one is written, and he reads it before and
 *      after. All that an update writes is stored with release, word by word: who has read such a word finds
 *      the odd serial that was stored before it, or a later one. Its partners are the fences of
 *      read_update() in sheaf-stat.
 *  P3  Nobody is shown what is not his: the file is made anew, for its owner alone, and never through a
 *      link. A name that is taken is given free only if it is ours and nobody has the lock.
 *  P4  fork(2): no update is under way, nor does the thread start or end: prepare holds life and lock. The
 *      child has neither thread, nor mapping (MADV_DONTFORK), nor lock; it closes its copy of the file.
 *      It has a page of its own if SHEAF_STATS says so, or when it makes a cache that wants to be seen.
 *  P5  exit(3) takes the name away. The thread may be in an update, so all else stays. exec(2), _exit(2)
 *      and signals leave the name, without a lock: sheaf-stat takes it away.
 *  P6  All memory of the file is there before it is mapped, so that a full file system is an error and
 *      not a signal. Who truncates the file of his own process has himself to thank.
 *  P7  A program may close all descriptors that it has, and be given our number for a file of its own. So
 *      none is used before it is seen to be our file still. The lock is gone then: sheaf-stat says so, and
 *      takes the name away.
 */
#define _GNU_SOURCE
#include "cache_page.h"

#include "base/atomic.h"
#include "base/fork.h"
#include "base/futex.h"
#include "base/report.h"
#include "base/thread.h"
#include "cache_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RECORD sizeof(struct sheaf_cache_stats)
#define ROOM 32
#define APART_NS UINT64_C(10000000)
#define NAME_BYTES (sizeof(PAGE_FOLDER "/" PAGE_PREFIX) + 16)

static struct {
	pthread_mutex_t life;
	pthread_mutex_t lock;
	/* Under life. */
	uint32_t published;
	bool on;
	/* The thread has ended, or is about to. */
	uint32_t ended;
	pid_t pid;
	pthread_t thread;
	struct thread_stack stack;
	char name[NAME_BYTES];
	/* Under lock; of the thread. */
	bool end;
	int fd;
	/* What fd was when it was opened, P7. */
	dev_t device;
	ino_t inode;
	struct page_head *head;
	size_t bytes;
	uint32_t room;
	uint32_t serial;
	uint64_t updates;
	uint32_t told;
} page = {.life = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

enum wish { WISH_NONE, WISH_SELF, WISH_CHILDREN };

/* What SHEAF_STATS says. */
static enum wish wish(void)
{
	const char *text = secure_getenv("SHEAF_STATS");

	if (!text || !*text || !strcmp(text, "0"))
		return WISH_NONE;
	return strcmp(text, "children") ? WISH_SELF : WISH_CHILDREN;
}

/* Not the private ones of base/futex.h: the other side is another process. */
static void page_wait(uint32_t *word, uint32_t value)
{
	syscall(__NR_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void page_wake(uint32_t *word)
{
	syscall(__NR_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static size_t bytes_for(uint32_t room)
{
	return sizeof(struct page_head) + room * RECORD;
}

/* P7 */
static bool file_is_ours(void)
{
	struct stat st;

	return page.fd >= 0 && fstat(page.fd, &st) == 0 && st.st_dev == page.device &&
	       st.st_ino == page.inode;
}

static void file_close(void)
{
	if (file_is_ours())
		close(page.fd);
	page.fd = -1;
}

/* Makes room for so many records; what was there stays. 0 or -errno. */
static int make_room(uint32_t room)
{
	size_t bytes = bytes_for(room);
	struct rlimit limit;
	void *head;
	int err;

	if (!file_is_ours())
		return -EBADF;
	/* Beyond it there is not only an error, but a signal. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
		return -EFBIG;
	do {
		err = posix_fallocate(page.fd, 0, (off_t)bytes);
	} while (err == EINTR);
	if (err)
		return -err;
	if (page.head)
		head = mremap(page.head, page.bytes, bytes, MREMAP_MAYMOVE);
	else
		head = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, page.fd, 0);
	if (head == MAP_FAILED)
		return -errno;
	page.head = head;
	page.bytes = bytes;
	page.room = room;
	/* P4. If that is refused the child has it, and does not use it. */
	(void)madvise(head, bytes, MADV_DONTFORK);
	return 0;
}

/* P2: a record. */
static void store_record(uint64_t *to, const struct sheaf_cache_stats *stats)
{
	uint64_t words[RECORD / sizeof(uint64_t)];
	size_t i;

	_Static_assert(RECORD % sizeof(uint64_t) == 0, "a record is stored in words");
	_Static_assert(sizeof(struct page_head) % sizeof(uint64_t) == 0, "and is aligned for them");
	memcpy(words, stats, RECORD);
	for (i = 0; i < RECORD / sizeof(uint64_t); i++)
		store_release(&to[i], words[i]);
}

/* What an update has found so far. Others may write to the page, so nothing is read back from it. */
struct found {
	uint32_t count;
	uint32_t missing;
};

static int add_record(void *arg, struct sheaf_cache *cache)
{
	struct found *found = arg;
	uint64_t *records = (uint64_t *)(page.head + 1);
	struct sheaf_cache_stats stats;

	if (!cache->published)
		return 0;
	if (found->count == page.room) {
		found->missing++;
		return 0;
	}
	(void)sheaf_cache_stats(cache, &stats, sizeof(stats));
	store_record(records + found->count * (RECORD / sizeof(uint64_t)), &stats);
	found->count++;
	return 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Under lock. */
static void update(uint32_t request)
{
	uint64_t begin = cpu_ns();
	struct page_head *head = page.head;
	struct found found = {0};

	/* Odd. What is stored with release below comes after it, P2. */
	store_relaxed(&head->serial, ++page.serial);
	(void)sheaf_cache_walk(add_record, &found);
	store_release(&head->updates, ++page.updates);
	store_release(&head->count, found.count);
	store_release(&head->missing, found.missing);
	store_release(&head->budget_used, sheaf_budget_used());
	store_release(&head->time_ns, clock_ns());
	store_release(&head->took_ns, cpu_ns() - begin);
	store_release(&head->served, request);
	store_release(&head->serial, ++page.serial);
	page_wake(&head->serial);
	/* For the next time. */
	if (found.missing)
		(void)make_room(2 * (found.count + found.missing));
}

static void rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)APART_NS}, NULL);
}

static void *run(void *arg)
{
	uint32_t served = 0, request;
	bool end = false;

	(void)cancel_off();
	pthread_setname_np(pthread_self(), "sheaf-stat");
	while (!end) {
		/* The mapping is moved by this thread alone. */
		page_wait(&page.head->request, served);
		pthread_mutex_lock(&page.lock);
		end = page.end;
		request = load_acquire(&page.head->request);
		if (!end && request != served)
			update(request);
		pthread_mutex_unlock(&page.lock);
		if (!end && request != served)
			rest();
		served = request;
	}
	/* What the thread did comes with the join. */
	store_relaxed(&page.ended, 1);
	futex_wake(&page.ended);
	return arg;
}

/* Others write to the word as well, and may put an older number over ours: so until the thread has heard. */
static void thread_end(void)
{
	do {
		pthread_mutex_lock(&page.lock);
		page.end = true;
		(void)fetch_add_acq_rel(&page.head->request, 1);
		page_wake(&page.head->request);
		pthread_mutex_unlock(&page.lock);
		futex_wait(&page.ended, 0, clock_ns() + APART_NS);
	} while (!load_relaxed(&page.ended));
	pthread_join(page.thread, NULL);
	thread_stack_end(&page.stack);
}

static bool lock_file(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_SETLK, &lock) == 0;
}

/* P3: a file that a program of our number has left, before exec(2) or long ago. */
static void remove_left(const char *name)
{
	int fd = open(name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && S_ISREG(st.st_mode) && lock_file(fd))
		(void)unlink(name);
	close(fd);
}

static int open_file(void)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct stat st;

	(void)snprintf(page.name, sizeof(page.name), PAGE_FOLDER "/" PAGE_PREFIX "%d", getpid());
	page.fd = open(page.name, flags, 0600);
	if (page.fd < 0 && errno == EEXIST) {
		remove_left(page.name);
		page.fd = open(page.name, flags, 0600);
	}
	if (page.fd < 0)
		return -errno;
	/* The mode is 0600 whatever the mask of the process says. */
	if (fstat(page.fd, &st) || fchmod(page.fd, 0600) || !lock_file(page.fd)) {
		int err = errno;

		(void)unlink(page.name);
		close(page.fd);
		page.fd = -1;
		return -err;
	}
	page.device = st.st_dev;
	page.inode = st.st_ino;
	return 0;
}

/* Name, mapping and file go. */
static void page_close(void)
{
	(void)unlink(page.name);
	if (page.head)
		munmap(page.head, page.bytes);
	file_close();
	page.head = NULL;
}

/* Under life. */
static int page_open(void)
{
	int err = open_file();

	if (err)
		return err;
	err = make_room(ROOM);
	if (!err) {
		*page.head = (struct page_head){
			.head_bytes = sizeof(struct page_head),
			.record_bytes = RECORD,
			.pid = (uint32_t)getpid(),
		};
		memcpy(page.head->magic, PAGE_MAGIC, sizeof(page.head->magic));
		(void)snprintf(page.head->program, sizeof(page.head->program), "%s",
			       program_invocation_short_name);
		page.end = false;
		page.ended = 0;
		page.serial = 0;
		page.updates = 0;
		err = thread_start(&page.thread, run, NULL, &page.stack);
	}
	if (err)
		page_close();
	page.on = !err;
	page.pid = getpid();
	return err;
}

/* Without a page the program goes on as ever. */
static void try_open(void)
{
	int err = page_open();
	char text[128];
	int n;

	if (!err || page.told)
		return;
	page.told = 1;
	errno = -err;
	n = snprintf(text, sizeof(text), "libsheaf: no page for sheaf-stat: %s: %m\n", page.name);
	(void)tell(text, (size_t)n);
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&page.life);
	pthread_mutex_lock(&page.lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&page.lock);
	pthread_mutex_unlock(&page.life);
}

static void fork_child(void)
{
	bool was = page.on;

	page.on = false;
	page.head = NULL;
	page.told = 0;
	file_close();
	/* P4. It begins to run before it has the lock. */
	if (was && wish() == WISH_CHILDREN)
		try_open();
	fork_parent();
}

static int handle_forks(void)
{
	static const struct fork_handlers handlers = {fork_prepare, fork_parent, fork_child};

	return fork_handle(FORK_STATS, &handlers);
}

FORK_EARLY(handle_forks())

void page_enter(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	int state;

	/* Without handlers a child would take the page for its own. */
	if ((!a->stats && wish() == WISH_NONE) || handle_forks())
		return;
	cache->published = true;
	state = cancel_off();
	pthread_mutex_lock(&page.life);
	page.published++;
	if (!page.on)
		try_open();
	pthread_mutex_unlock(&page.life);
	cancel_on(state);
}

void page_leave(bool published)
{
	int state;

	if (!published)
		return;
	state = cancel_off();
	pthread_mutex_lock(&page.life);
	if (!--page.published && page.on) {
		thread_end();
		page_close();
		page.on = false;
	}
	pthread_mutex_unlock(&page.life);
	cancel_on(state);
}

/* P5 */
__attribute__((destructor)) static void page_exit(void)
{
	/* Who was forked behind our back has no page. */
	if (page.on && page.pid == getpid())
		(void)unlink(page.name);
}
