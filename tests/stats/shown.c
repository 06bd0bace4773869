/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A program to be looked at, for tests of sheaf-stat: threads use caches until standard input ends, or a
 * line says what to do.
 *
 *	fork      a child goes on for a while; its number is printed
 *	cache     one more cache
 *	exec      becomes cat(1)
 *	exit      by exit(3) with caches alive; "die" by _exit(2)
 *	close     closes all that it has not opened itself, as daemons do, and has files of its own under these
 *	          numbers; "kept" says after "end" whether they are as they were
 *	cancel    a thread that is to be cancelled makes a cache, and all end; "1" if it came through
 *	end       all caches end; the program goes on (if NAME is "idle", when no objects stay in use)
 *
 * usage: shown CACHES THREADS NAME [attribute]
 */
#define _GNU_SOURCE
#include <sheaf/cache.h>
#include <urcu/urcu-memb.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 400
#define OWN 16
#define OBJECTS 100

static struct sheaf_cache *caches[MOST];
static unsigned n_caches;
static struct sheaf_gp_urcu urcu;
static int stop;

static int make(const char *name, int attribute)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 64,
					.capacity = 12,
					.name = name,
					.gp = &urcu.gp,
					.stats = attribute};

	return n_caches < MOST && sheaf_cache_create(&caches[n_caches++], &attr) == 0;
}

static void *use(void *arg)
{
	void *objects[OBJECTS];
	unsigned i;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		for (i = 0; i < OBJECTS; i++)
			objects[i] = sheaf_cache_alloc(caches[0], 0);
		for (i = 0; i < OBJECTS; i++)
			if (i % 2)
				sheaf_cache_free(caches[0], objects[i]);
			else
				sheaf_cache_free_rcu(caches[0], objects[i]);
		usleep(1000);
	}
	return arg;
}

static int own[OWN];

static int close_all(void)
{
	unsigned i;

	for (i = 3; i < 3 + OWN; i++)
		close((int)i);
	for (i = 0; i < OWN; i++) {
		own[i] = memfd_create("own", 0);
		if (own[i] < 0)
			return 0;
	}
	return 1;
}

static int own_kept(void)
{
	struct stat st;
	unsigned i;

	for (i = 0; i < OWN; i++)
		if (fstat(own[i], &st) || st.st_size)
			return 0;
	return 1;
}

static void end_all(void)
{
	while (n_caches)
		if (sheaf_cache_destroy(caches[--n_caches], NULL))
			exit(3);
}

/* Nothing in it is a point to be cancelled at. */
static void *cancelled(void *arg)
{
	pthread_cancel(pthread_self());
	*(int *)arg = make("cancelled", 0);
	end_all();
	*(int *)arg += 1;
	pthread_testcancel();
	return NULL;
}

static int cancel(void)
{
	pthread_t thread;
	void *end = NULL;
	int done = 0;

	if (pthread_create(&thread, NULL, cancelled, &done) || pthread_join(thread, &end))
		return 0;
	return done == 2 && end == PTHREAD_CANCELED;
}

/* 0: go on. */
static int do_line(const char *line)
{
	pid_t child;

	if (!strcmp(line, "fork\n")) {
		child = fork();
		if (!child) {
			/* Long enough to be looked at. */
			sleep(20);
			_exit(0);
		}
		printf("%d\n", (int)child);
	} else if (!strcmp(line, "cache\n")) {
		printf("%d\n", make("another", 0));
	} else if (!strcmp(line, "close\n")) {
		printf("%d\n", close_all());
	} else if (!strcmp(line, "kept\n")) {
		printf("%d\n", own_kept());
	} else if (!strcmp(line, "cancel\n")) {
		printf("%d\n", cancel());
	} else if (!strcmp(line, "exec\n")) {
		execlp("cat", "cat", (char *)NULL);
		return 4;
	} else if (!strcmp(line, "exit\n")) {
		exit(0);
	} else if (!strcmp(line, "die\n")) {
		_exit(0);
	} else if (!strcmp(line, "end\n")) {
		end_all();
		printf("ended\n");
	} else {
		return 5;
	}
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned count, threads, i;
	pthread_t thread[16];
	char line[64];
	int err = 0;

	if (argc < 4)
		return 2;
	count = (unsigned)atoi(argv[1]);
	threads = (unsigned)atoi(argv[2]);
	if (sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL) || threads > 16)
		return 2;
	for (i = 0; i < count; i++)
		if (!make(argv[3], argc > 4))
			return 2;
	/* In use for good: the last cache is not touched by the threads if there are two. */
	for (i = 0; count && strcmp(argv[3], "idle") && i < 7; i++)
		if (!sheaf_cache_alloc(caches[count - 1], 0))
			return 2;
	for (i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, use, NULL))
			return 2;
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	while (!err && fgets(line, sizeof(line), stdin))
		err = do_line(line);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	return err;
}
