/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * liburcu's lock-free hash table with nodes from a cache: threads look connections up, open and
 * close them, all at once, while the table grows. What has been in the table is retired;
 * what never came into it is freed at once.
 */
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

#include <sheaf/rcu.h> /* for race checkers */

#define WORKERS 3
#define PORTS 512

struct connection {
	struct cds_lfht_node node;
	unsigned long port;
	unsigned long check; /* ~port, as long as the memory is ours */
};

struct worker {
	pthread_t thread;
	unsigned random;
	unsigned long opened;
	unsigned long closed;
	unsigned long lost_races;
	unsigned long errors;
};

static struct cds_lfht *table;
static struct sheaf_cache *cache;
static int rounds = 200000;

static unsigned long hash_port(unsigned long port)
{
	return port * 2654435761u;
}

static int match(struct cds_lfht_node *node, const void *port)
{
	const struct connection *connection = caa_container_of(node, struct connection, node);
	const unsigned long *wanted = port;

	sheaf_edge_acquire(connection); /* which they do not see in the table */
	return connection->port == *wanted;
}

/* In a read section, and good until its end. */
static struct connection *find(unsigned long port)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(table, hash_port(port), match, &port, &iter);
	node = cds_lfht_iter_get_node(&iter);
	return node ? caa_container_of(node, struct connection, node) : NULL;
}

static void open_port(struct worker *me, unsigned long port)
{
	struct connection *connection = sheaf_cache_alloc(cache, 0);
	struct cds_lfht_node *node;

	if (!connection) {
		me->errors++;
		return;
	}
	connection->port = port;
	connection->check = ~port;
	sheaf_edge_release(connection);
	rcu_read_lock();
	node = cds_lfht_add_unique(table, hash_port(port), match, &port, &connection->node);
	rcu_read_unlock();
	if (node == &connection->node) {
		me->opened++;
	} else {
		/* Another thread was first. Nobody has seen ours. */
		sheaf_cache_free(cache, connection);
		me->lost_races++;
	}
}

/* True if it was there, and this thread is the one that took it out. */
static int close_port(unsigned long port)
{
	struct connection *connection;
	int closed;

	rcu_read_lock();
	connection = find(port);
	closed = connection && !cds_lfht_del(table, &connection->node);
	if (closed)
		sheaf_cache_free_rcu(cache, connection); /* fine inside a read section, too */
	rcu_read_unlock();
	return closed;
}

static void *work(void *arg)
{
	struct worker *me = arg;
	const struct connection *connection;
	int i;

	rcu_register_thread();
	for (i = 0; i < rounds; i++) {
		unsigned long port;
		int found;

		me->random = me->random * 1103515245u + 12345u;
		port = (me->random >> 16) % PORTS;
		rcu_read_lock();
		connection = find(port);
		found = connection != NULL;
		if (connection)
			me->errors += connection->port != port || connection->check != ~port;
		rcu_read_unlock();
		if (!found)
			open_port(me, port);
		else if (me->random >> 31)
			me->closed += close_port(port);
	}
	rcu_unregister_thread();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct connection), .gp = &source.gp};
	struct worker workers[WORKERS] = {0};
	unsigned long opened = 0, closed = 0, lost_races = 0, errors = 0, port;
	int i;

	if (argc > 1)
		rounds = atoi(argv[1]);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr))
		return 1;
	table = cds_lfht_new(16, 16, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	if (!table)
		return 1;
	for (i = 0; i < WORKERS; i++) {
		workers[i].random = (unsigned)i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return 1;
	}
	for (i = 0; i < WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		opened += workers[i].opened;
		closed += workers[i].closed;
		lost_races += workers[i].lost_races;
		errors += workers[i].errors;
	}
	rcu_register_thread();
	for (port = 0; port < PORTS; port++)
		closed += close_port(port);
	rcu_unregister_thread();
	printf("%lu opened, %lu closed, %lu races lost, %lu errors\n", opened, closed, lost_races,
	       errors);
	/* The table first: it must be empty, and its nodes are the cache's. */
	if (cds_lfht_destroy(table, NULL) || sheaf_cache_destroy(cache, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return errors || opened != closed ? 1 : 0;
}
