/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Pages. A file there may be anything: left over, truncated, changed while it is read, made by
 * somebody who means harm. It is only read by pread(2), never through a mapping, and what it says of
 * sizes is held against the size that the file has.
 */
#define _GNU_SOURCE
#include "stat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(2000000000)
/* And not before so many looks: while the whole machine stands still nobody answers. */
#define LOOKS_LEAST 20
/* A program has its lock by then. */
#define YOUNG_S 10
#define RECORDS_MOST (UINT32_C(1) << 14)
#define RECORD_MOST (UINT32_C(1) << 16)
/* What the first release has. */
#define RECORD_LEAST offsetof(struct sheaf_cache_stats, held_slots)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void page_name(char *name, size_t bytes, pid_t pid)
{
	(void)snprintf(name, bytes, PAGE_FOLDER "/" PAGE_PREFIX "%d", (int)pid);
}

static bool read_at(int fd, void *to, size_t bytes, size_t at)
{
	return pread(fd, to, bytes, (off_t)at) == (ssize_t)bytes;
}

/* Is there a process that has the lock, and is it the one of the name? */
static bool is_held(int fd, pid_t pid)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid == pid;
}

/* The head, if what it says can be true. */
static bool read_head(int fd, struct page_head *head)
{
	struct stat st;
	uint64_t end;

	if (fstat(fd, &st) || !read_at(fd, head, sizeof(*head), 0) ||
	    memcmp(head->magic, PAGE_MAGIC, sizeof(head->magic)))
		return false;
	head->program[sizeof(head->program) - 1] = '\0';
	if (head->head_bytes < sizeof(*head) || head->head_bytes > RECORD_MOST ||
	    head->record_bytes < RECORD_LEAST || head->record_bytes > RECORD_MOST ||
	    head->count > RECORDS_MOST)
		return false;
	end = head->head_bytes + (uint64_t)head->count * head->record_bytes;
	return end <= (uint64_t)st.st_size;
}

/* Takes the name of a file away that nobody has the lock of. */
static void remove_left(int fd, pid_t pid)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char name[64];
	struct stat st, named;

	page_name(name, sizeof(name), pid);
	if (fstat(fd, &st) || st.st_uid != geteuid())
		return;
	/* One that was just made may not have its lock yet, and must find it free. */
	if (kill(pid, 0) == 0 && time(NULL) - st.st_mtime < YOUNG_S)
		return;
	if (fcntl(fd, F_SETLK, &lock))
		return;
	if (lstat(name, &named) == 0 && named.st_ino == st.st_ino && named.st_dev == st.st_dev)
		(void)unlink(name);
}

static enum found open_failed(pid_t pid)
{
	if (errno == EACCES || errno == EPERM)
		return FOUND_NOT_OURS;
	if (errno != ENOENT)
		return FOUND_BROKEN;
	return kill(pid, 0) && errno == ESRCH ? FOUND_NO_PROCESS : FOUND_NO_PAGE;
}

/* The file, if it is one that we may trust with a question. */
static enum found open_page(int *fd, pid_t pid)
{
	char name[64];
	struct stat st;

	page_name(name, sizeof(name), pid);
	*fd = open(name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return open_failed(pid);
	if (fstat(*fd, &st) || !S_ISREG(st.st_mode))
		return FOUND_BROKEN;
	if (st.st_uid != geteuid() && geteuid() != 0)
		return FOUND_NOT_OURS;
	return is_held(*fd, pid) ? FOUND : FOUND_LEFT;
}

enum found look_open(struct look *look, pid_t pid)
{
	struct page_head head;
	enum found found;

	*look = (struct look){.pid = pid, .fd = -1};
	found = open_page(&look->fd, pid);
	if (found == FOUND_LEFT)
		remove_left(look->fd, pid);
	if (found == FOUND && !read_head(look->fd, &head))
		found = FOUND_BROKEN;
	if (found == FOUND) {
		void *words =
			mmap(NULL, sizeof(head), PROT_READ | PROT_WRITE, MAP_SHARED, look->fd, 0);

		if (words == MAP_FAILED)
			found = FOUND_NO_MEMORY;
		else
			look->words = words;
	}
	if (found != FOUND)
		look_close(look);
	return found;
}

void look_close(struct look *look)
{
	if (look->words)
		munmap(look->words, sizeof(struct page_head));
	if (look->fd >= 0)
		close(look->fd);
	free(look->now.records);
	free(look->before.records);
	*look = (struct look){.fd = -1};
}

/* Asks, as another one may at the same time: who comes later is answered with him. */
static bool ask(struct look *look, uint32_t *request)
{
	if (!read_at(look->fd, request, sizeof(*request), offsetof(struct page_head, request)))
		return false;
	++*request;
	if (pwrite(look->fd, request, sizeof(*request), offsetof(struct page_head, request)) !=
	    sizeof(*request))
		return false;
	syscall(__NR_futex, &look->words->request, FUTEX_WAKE, 1, NULL, NULL, 0);
	return true;
}

/* Sleeps until serial changes, a tenth of a second at most. */
static void wait_serial(struct look *look, uint32_t serial)
{
	const struct timespec most = {.tv_nsec = 100000000};

	if (syscall(__NR_futex, &look->words->serial, FUTEX_WAIT, serial, &most, NULL, 0) == 0)
		return;
	/* The page has been cut off: do not run in circles. */
	if (errno == EFAULT)
		nanosleep(&most, NULL);
}

static bool read_records(int fd, struct reading *r)
{
	size_t ours = sizeof(struct sheaf_cache_stats), theirs = r->head.record_bytes;
	uint32_t i;

	r->records = calloc(r->head.count + 1, ours);
	r->count = r->head.count;
	for (i = 0; r->records && i < r->count; i++) {
		struct sheaf_cache_stats *s = &r->records[i];

		if (!read_at(fd, s, theirs < ours ? theirs : ours,
			     r->head.head_bytes + (size_t)i * theirs))
			return false;
		s->name[sizeof(s->name) - 1] = '\0';
	}
	return r->records;
}

static bool read_serial(int fd, uint32_t *serial)
{
	return read_at(fd, serial, sizeof(*serial), offsetof(struct page_head, serial));
}

/* One whole update; not FOUND: to be tried again, or not. */
static enum found read_update(struct look *look, uint32_t request, struct reading *r)
{
	uint32_t before, after;

	*r = (struct reading){.count = 0};
	if (!read_serial(look->fd, &before))
		return FOUND_BROKEN;
	/* Partner: the program's release of an even serial. What is read below is of that update, or a later one. */
	atomic_thread_fence(memory_order_acquire);
	if (!read_head(look->fd, &r->head))
		return FOUND_BROKEN;
	r->head.serial = before;
	/* Wrapping. */
	if ((r->head.serial & 1) || (int32_t)(r->head.served - request) < 0)
		return FOUND_SILENT;
	if (!read_records(look->fd, r)) {
		enum found failed = r->records ? FOUND_BROKEN : FOUND_NO_MEMORY;

		free(r->records);
		return failed;
	}
	/* Partner: the releases with which an update stores its words. If one of them was read above, its odd
	 * serial, or a later one, is read below. */
	atomic_thread_fence(memory_order_acquire);
	if (read_serial(look->fd, &after) && after == before)
		return FOUND;
	free(r->records);
	return FOUND_SILENT;
}

enum found look_update(struct look *look)
{
	uint64_t end = now_ns() + PATIENCE_NS;
	struct reading r;
	uint32_t request;
	unsigned looks = 0;
	enum found found;

	if (!ask(look, &request))
		return FOUND_BROKEN;
	while ((found = read_update(look, request, &r)) == FOUND_SILENT) {
		if (!is_held(look->fd, look->pid))
			return FOUND_LEFT;
		if (++looks > LOOKS_LEAST && now_ns() >= end)
			return FOUND_SILENT;
		/* Another one who asked at the same time may have put his number, which was lower, over ours. */
		if ((int32_t)(r.head.request - request) < 0 && !ask(look, &request))
			return FOUND_BROKEN;
		wait_serial(look, r.head.serial);
	}
	if (found != FOUND)
		return is_held(look->fd, look->pid) ? found : FOUND_LEFT;
	free(look->before.records);
	look->before = look->now;
	look->now = r;
	return FOUND;
}

void look_complain(enum found found, pid_t pid)
{
	static const char *const texts[] = {
		[FOUND_NO_PROCESS] = "there is no process %d\n",
		[FOUND_NO_PAGE] = "process %d shows no statistics: start it with SHEAF_STATS=1\n",
		[FOUND_NOT_OURS] = "the page of process %d is another user's\n",
		[FOUND_LEFT] = "process %d has ended, or shows no statistics any more\n",
		[FOUND_BROKEN] = "the page of process %d is broken\n",
		[FOUND_SILENT] = "process %d does not answer: is it stopped?\n",
		[FOUND_NO_MEMORY] = "no memory for the page of process %d\n",
	};

	(void)fputs("sheaf-stat: ", stderr);
	(void)fprintf(stderr, texts[found], (int)pid);
}

static bool list_one(FILE *out, pid_t pid, bool first)
{
	char program[sizeof(((struct page_head *)0)->program)];
	struct look look;
	enum found found = look_open(&look, pid);
	size_t i;

	if (found == FOUND)
		found = look_update(&look);
	if (found != FOUND && found != FOUND_SILENT) {
		look_close(&look);
		return false;
	}
	if (first)
		(void)fprintf(out, "%8s %8s %s\n", "PID", "CACHES", "PROGRAM");
	memcpy(program, look.now.head.program, sizeof(program));
	for (i = 0; program[i]; i++)
		if (program[i] < ' ' || program[i] > '~')
			program[i] = '?';
	if (found == FOUND)
		(void)fprintf(out, "%8d %8" PRIu32 " %s\n", (int)pid, look.now.count, program);
	else
		(void)fprintf(out, "%8d %8s does not answer\n", (int)pid, "-");
	look_close(&look);
	return true;
}

static int by_number(const struct dirent **a, const struct dirent **b)
{
	return atoi((*a)->d_name + strlen(PAGE_PREFIX)) - atoi((*b)->d_name + strlen(PAGE_PREFIX));
}

static int is_page(const struct dirent *entry)
{
	const char *digits = entry->d_name + strlen(PAGE_PREFIX);

	return !strncmp(entry->d_name, PAGE_PREFIX, strlen(PAGE_PREFIX)) && *digits >= '1' &&
	       *digits <= '9' && strlen(digits) < 10 &&
	       strspn(digits, "0123456789") == strlen(digits);
}

unsigned list_pages(FILE *out)
{
	struct dirent **entries;
	int n = scandir(PAGE_FOLDER, &entries, is_page, by_number), i;
	unsigned listed = 0;

	for (i = 0; i < n; i++) {
		listed += list_one(out, atoi(entries[i]->d_name + strlen(PAGE_PREFIX)), !listed);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return listed;
}
