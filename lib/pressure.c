/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The kernel tells of memory pressure in two ways. A pressure file takes a trigger and then has
 * an exceptional condition (POLLPRI) once in its window. The events of a control group are
 * counts in a file that is "modified" for inotify each time; "high" among them is read again. The
 * thread sleeps in poll(2) on both and on an eventfd that ends it.
 *
 * A child of fork(2) has no watch. It closes its copies of the files at once, while the numbers are those of
 * before: later the program may have closed them, and have other files there. A number is taken out of the table
 * before it is closed. The kernel copies files before memory, so one that came in between may have been another's
 * file in the copy: the child closes what was there before the fork began. At worst a copy stays open.
 */
#define _GNU_SOURCE
#include <sheaf/pressure.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/fork.h"
#include "base/thread.h"
#include "gp_fork.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sheaf/cache.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#define PSI_FILE "/proc/pressure/memory"
#define PSI_TRIGGER "some 150000 2000000"

enum { FD_END, FD_PSI, FD_NOTIFY, FD_EVENTS, FDS };

/* Nobody's in a child: who stops the watch holds it as long as a trim takes. */
static uint32_t lock;
/* Set once under the lock; the thread reads it until it is joined. */
static struct {
	bool on;
	pthread_t thread;
	struct thread_stack stack;
	int fds[FDS];
	size_t bytes;
	uint64_t high;
	uint64_t trims;
} watch = {.fds = {-1, -1, -1, -1}};

static void close_all(void)
{
	int i, fd;

	for (i = 0; i < FDS; i++) {
		fd = watch.fds[i];
		/* A fork from here on finds what is ours. */
		store_relaxed(&watch.fds[i], -1);
		compiler_barrier();
		if (fd >= 0)
			close(fd);
	}
}

static __thread int before_fork[FDS];

static void fork_prepare(void)
{
	int i;

	for (i = 0; i < FDS; i++)
		before_fork[i] = load_relaxed(&watch.fds[i]);
}

static void fork_child(void)
{
	int i;

	for (i = 0; i < FDS; i++)
		if (watch.fds[i] != before_fork[i])
			watch.fds[i] = -1;
	close_all();
	watch.on = false;
}

static int handle_forks(void)
{
	static const struct fork_handlers handlers = {.prepare = fork_prepare, .child = fork_child};
	/* Else the lock would not know of forks. */
	int err = gp_fork_register(NULL);

	return err ? err : fork_handle(FORK_PRESSURE, &handlers);
}

FORK_EARLY(handle_forks())

/* The count "high" of the events file; what it was if the file cannot be read. */
static uint64_t read_high(void)
{
	char text[512], *line;
	ssize_t n = pread(watch.fds[FD_EVENTS], text, sizeof(text) - 1, 0);

	if (n <= 0)
		return watch.high;
	text[n] = '\0';
	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "high ", 5) == 0)
			return strtoull(line + 5, NULL, 10);
	}
	return watch.high;
}

/* Has the group been above its limit since the last look? */
static bool group_is_high(void)
{
	/* What changed does not matter: one file is watched. */
	char events[4096];
	uint64_t high;
	bool more;

	while (read(watch.fds[FD_NOTIFY], events, sizeof(events)) > 0)
		;
	high = read_high();
	more = high > watch.high;
	watch.high = high;
	return more;
}

static void *run(void *arg)
{
	struct pollfd polls[FD_EVENTS] = {
		[FD_END] = {.fd = watch.fds[FD_END], .events = POLLIN},
		[FD_PSI] = {.fd = watch.fds[FD_PSI], .events = POLLPRI},
		[FD_NOTIFY] = {.fd = watch.fds[FD_NOTIFY], .events = POLLIN},
	};

	(void)cancel_off();
	pthread_setname_np(pthread_self(), "sheaf-pressure");
	while (!polls[FD_END].revents) {
		bool tell;

		if (poll(polls, FD_EVENTS, -1) < 0)
			continue;
		tell = polls[FD_PSI].revents & POLLPRI;
		/* The group is gone: nobody will tell any more. */
		if (polls[FD_PSI].revents & (POLLERR | POLLNVAL))
			polls[FD_PSI].fd = -1;
		if (polls[FD_NOTIFY].revents)
			tell |= group_is_high();
		if (!tell)
			continue;
		sheaf_trim(watch.bytes);
		fetch_add_relaxed(&watch.trims, 1);
	}
	return arg;
}

static int open_psi(const char *path, const char *trigger)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	watch.fds[FD_PSI] = fd;
	/* The kernel wants the terminating zero as well. */
	return write(fd, trigger, strlen(trigger) + 1) < 0 ? -errno : 0;
}

static int open_events(const char *path)
{
	watch.fds[FD_EVENTS] = open(path, O_RDONLY | O_CLOEXEC);
	if (watch.fds[FD_EVENTS] < 0)
		return -errno;
	watch.fds[FD_NOTIFY] = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch.fds[FD_NOTIFY] < 0 ||
	    inotify_add_watch(watch.fds[FD_NOTIFY], path, IN_MODIFY) < 0)
		return -errno;
	watch.high = 0;
	watch.high = read_high();
	return 0;
}

static int begin(const struct sheaf_pressure_attr *a)
{
	int err = 0;

	watch.bytes = a->bytes ? a->bytes : SIZE_MAX;
	watch.trims = 0;
	watch.fds[FD_END] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch.fds[FD_END] < 0)
		err = -errno;
	if (!err && a->events)
		err = open_events(a->events);
	if (!err && (a->psi || !a->events))
		err = open_psi(a->psi ? a->psi : PSI_FILE, a->trigger ? a->trigger : PSI_TRIGGER);
	if (!err)
		err = thread_start(&watch.thread, run, NULL, &watch.stack);
	if (err)
		close_all();
	return err;
}

int sheaf_pressure_start(const struct sheaf_pressure_attr *attr)
{
	struct sheaf_pressure_attr a = {.size = sizeof(a)};
	int err, state;

	if (attr && attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a)))
		return -EINVAL;
	err = handle_forks();
	if (err)
		return err;
	state = cancel_off();
	gp_lock(&lock);
	err = watch.on ? -EBUSY : begin(&a);
	if (!err)
		watch.on = true;
	gp_unlock(&lock);
	cancel_on(state);
	return err;
}

uint64_t sheaf_pressure_stop(void)
{
	uint64_t trims = 0;
	int state = cancel_off();

	gp_lock(&lock);
	if (watch.on) {
		eventfd_write(watch.fds[FD_END], 1);
		pthread_join(watch.thread, NULL);
		thread_stack_end(&watch.stack);
		close_all();
		trims = watch.trims;
		watch.on = false;
	}
	gp_unlock(&lock);
	cancel_on(state);
	return trims;
}
