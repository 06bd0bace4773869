/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A grace-period source alone: a configuration that readers use without a lock, and that
 * is replaced while they do. The old one is freed when its ticket has elapsed; until
 * then the writer goes on with other work, and asks now and then.
 */
#include <sheaf/gp.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

struct config {
	int version;
	int twice; /* 2 * version, as long as the memory is ours */
};

static struct sheaf_gp_urcu source;
static struct config *current;
static int stop;

static void *read_config(void *bad)
{
	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct config *config;

		sheaf_gp_read_lock(&source.gp);
		config = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
		if (config->twice != 2 * config->version)
			++*(int *)bad;
		sheaf_gp_read_unlock(&source.gp);
	}
	rcu_unregister_thread();
	return NULL;
}

int main(void)
{
	struct config *old = NULL;
	int bad = 0, version, waited = 0;
	uint64_t ticket = 0;
	pthread_t reader;

	current = calloc(1, sizeof(*current));
	if (!current || sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) ||
	    pthread_create(&reader, NULL, read_config, &bad))
		return 1;
	for (version = 1; version <= 200; version++) {
		struct config *next = malloc(sizeof(*next));

		if (!next)
			return 1;
		*next = (struct config){version, 2 * version};
		if (old && !sheaf_gp_elapsed(&source.gp, ticket)) {
			waited++;
			sheaf_gp_wait(&source.gp, ticket);
		}
		free(old);
		old = __atomic_exchange_n(&current, next, __ATOMIC_ACQ_REL);
		ticket = sheaf_gp_ticket(&source.gp); /* after nobody new can reach it */
	}
	sheaf_gp_wait(&source.gp, ticket);
	free(old);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	free(current);
	sheaf_gp_urcu_fini(&source);
	printf("version %d, waited %s, %d bad reads\n", version - 1, waited ? "at times" : "never", bad);
	return bad ? 1 : 0;
}
