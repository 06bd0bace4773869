/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Sessions that readers look up without a lock, while a writer replaces and ends them. */
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#define USERS 16

struct session {
	int user;
	char name[40];
};

static struct session *sessions[USERS];
static struct sheaf_gp_urcu source;
static struct sheaf_cache *cache;
static int stop;

/* The cache: objects of one size, and a source of grace periods for what is retired. */
static int start(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = sizeof(struct session),
					.name = "session",
					.gp = &source.gp};

	return sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr);
}

/* A reader: what it finds stays as it is until its section ends. */
static int look_up(int user, char *name, size_t size)
{
	struct session *session;

	sheaf_gp_read_lock(&source.gp);
	session = __atomic_load_n(&sessions[user], __ATOMIC_ACQUIRE);
	if (session)
		snprintf(name, size, "%s", session->name);
	sheaf_gp_read_unlock(&source.gp);
	return session != NULL;
}

/* A writer: publish the new one, retire the old one. An old one of NULL is ignored. */
static int log_in(int user, const char *name)
{
	struct session *session = sheaf_cache_alloc(cache, 0);

	if (!session)
		return -1;
	session->user = user;
	snprintf(session->name, sizeof(session->name), "%s", name);
	sheaf_cache_free_rcu(cache,
			     __atomic_exchange_n(&sessions[user], session, __ATOMIC_ACQ_REL));
	return 0;
}

static void log_out(int user)
{
	sheaf_cache_free_rcu(cache, __atomic_exchange_n(&sessions[user], NULL, __ATOMIC_ACQ_REL));
}

static void *read_sessions(void *found)
{
	char name[40];
	int user;

	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		for (user = 0; user < USERS; user++)
			*(unsigned long *)found +=
				look_up(user, name, sizeof(name)) && !strncmp(name, "user", 4);
	rcu_unregister_thread();
	return NULL;
}

/* The argument is how many sessions there are. */
int main(int argc, char **argv)
{
	const int n = argc > 1 ? atoi(argv[1]) : 100000;
	unsigned long found = 0;
	pthread_t reader;
	int i, failed = 0;

	if (start() || pthread_create(&reader, NULL, read_sessions, &found))
		return 1;
	for (i = 0; i < n && !failed; i++) {
		char name[40];

		snprintf(name, sizeof(name), "user %d", i);
		failed = log_in(i % USERS, name);
		if (i % 3 == 0)
			log_out(i % USERS);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	for (i = 0; i < USERS; i++)
		log_out(i);
	printf("%d sessions, seen %lu times\n", n, found);
	if (sheaf_cache_destroy(cache, NULL)) /* waits for what was retired, tells what is lost */
		return 1;
	sheaf_gp_urcu_fini(&source);
	return failed;
}
