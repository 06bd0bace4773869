/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A connection table as a firewall or a load balancer has it: liburcu's hash table, keyed by protocol
 * and both ends. Threads with packets find their connection without a lock or open it; one
 * thread takes out what has been idle for too long.
 *
 * A packet may find a connection just before it expires, and count itself there afterwards. So a
 * connection is added up when its grace period has passed and nobody can be at it any more:
 * by the cache's callback over ripe objects. No packet is lost from the sum.
 */
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

#include <sheaf/rcu.h> /* for race checkers */

#define WORKERS 2
#define IDLE_MS 20
#define FLOWS 64 /* at a time */

/* Compared and hashed byte by byte: it has no padding. */
struct ends {
	uint32_t from, to;
	uint16_t from_port, to_port;
	uint32_t protocol;
};

struct connection {
	struct cds_lfht_node node;
	struct ends ends;
	uint64_t seen_ms; /* of the last packet */
	unsigned long packets;
};

struct worker {
	pthread_t thread;
	unsigned index;
	unsigned long errors;
};

static struct cds_lfht *table;
static struct sheaf_cache *cache;
static unsigned long rounds = 100000;
static unsigned long counted, closed; /* of connections that are no more */
static unsigned long opened;
static int stop;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static unsigned long hash(const struct ends *ends)
{
	const unsigned char *byte = (const unsigned char *)ends;
	uint64_t hash = 14695981039346656037u;

	/* FNV-1a. A program on a network would add a secret, lest others choose what collides. */
	for (size_t i = 0; i < sizeof(*ends); i++)
		hash = (hash ^ byte[i]) * 1099511628211u;
	return (unsigned long)(hash ^ hash >> 32);
}

static int match(struct cds_lfht_node *node, const void *ends)
{
	const struct connection *connection = caa_container_of(node, struct connection, node);

	sheaf_edge_acquire(connection); /* which race checkers do not see in the table */
	return !memcmp(&connection->ends, ends, sizeof(connection->ends));
}

/* The connection of these ends, opened if there was none; in a read section. NULL without memory. */
static struct connection *find_or_open(const struct ends *ends)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	struct connection *connection;

	cds_lfht_lookup(table, hash(ends), match, ends, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node)
		return caa_container_of(node, struct connection, node);
	connection = sheaf_cache_alloc(cache, 0);
	if (!connection)
		return NULL;
	connection->ends = *ends;
	connection->seen_ms = now_ms();
	connection->packets = 0;
	sheaf_edge_release(connection);
	node = cds_lfht_add_unique(table, hash(ends), match, ends, &connection->node);
	if (node == &connection->node)
		__atomic_fetch_add(&opened, 1, __ATOMIC_RELAXED);
	else
		sheaf_cache_free(cache,
				 connection); /* another thread was first; ours was not seen */
	return caa_container_of(node, struct connection, node);
}

static int packet(const struct ends *ends)
{
	struct connection *connection;

	rcu_read_lock();
	connection = find_or_open(ends);
	if (connection) {
		__atomic_store_n(&connection->seen_ms, now_ms(), __ATOMIC_RELAXED);
		__atomic_fetch_add(&connection->packets, 1, __ATOMIC_RELAXED);
	}
	rcu_read_unlock();
	return connection ? 0 : -1;
}

/* Takes out what has been idle since before a moment; returns how many connections are left. */
static unsigned long expire(uint64_t before_ms)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	unsigned long left = 0;

	rcu_read_lock();
	for (cds_lfht_first(table, &iter); (node = cds_lfht_iter_get_node(&iter)) != NULL;
	     cds_lfht_next(table, &iter)) {
		struct connection *connection = caa_container_of(node, struct connection, node);

		sheaf_edge_acquire(connection);
		if (__atomic_load_n(&connection->seen_ms, __ATOMIC_RELAXED) >= before_ms)
			left++;
		else if (!cds_lfht_del(table, &connection->node))
			sheaf_cache_free_rcu(cache, connection); /* fine in a section */
	}
	rcu_read_unlock();
	return left;
}

static void *expire_all(void *arg)
{
	bool stopped;

	(void)arg;
	rcu_register_thread();
	do {
		/* acquire, before the last look: what was added before stop is seen */
		stopped = __atomic_load_n(&stop, __ATOMIC_ACQUIRE);
		usleep(IDLE_MS * 1000 / 4);
	} while (expire(now_ms() - IDLE_MS) || !stopped);
	rcu_unregister_thread();
	return NULL;
}

/* Of connections that nobody can be at. The cache calls it on whichever thread takes them. */
static void close_ripe(void *arg, struct sheaf *ripe)
{
	(void)arg;
	for (uint32_t i = 0; i < sheaf_size(ripe); i++) {
		const struct connection *connection = ripe->objects[i];

		__atomic_fetch_add(&counted, connection->packets, __ATOMIC_RELAXED);
		__atomic_fetch_add(&closed, 1, __ATOMIC_RELAXED);
	}
}

/* Packets of some connections at a time; with each hundred one ends and another one begins. */
static void *work(void *arg)
{
	struct worker *me = arg;
	unsigned random = (unsigned)me->index;

	rcu_register_thread();
	for (unsigned long i = 0; i < rounds; i++) {
		const uint32_t flow = (uint32_t)(i / 100) + (uint32_t)rand_r(&random) % FLOWS;
		const struct ends ends = {.from = 0x0a000000 + flow,
					  .to = 0xc0a80001,
					  .from_port = (uint16_t)(1024 + flow % 60000),
					  .to_port = 443,
					  .protocol = 6};

		me->errors += packet(&ends) != 0;
	}
	rcu_unregister_thread();
	return NULL;
}

/* Number of errors. */
static unsigned long run(void)
{
	struct worker worker[WORKERS] = {0};
	unsigned long errors = 0;
	pthread_t expirer;
	unsigned i;

	if (pthread_create(&expirer, NULL, expire_all, NULL))
		abort();
	for (i = 0; i < WORKERS; i++) {
		worker[i].index = i;
		if (pthread_create(&worker[i].thread, NULL, work, &worker[i]))
			abort();
	}
	for (i = 0; i < WORKERS; i++) {
		pthread_join(worker[i].thread, NULL);
		errors += worker[i].errors;
	}
	/* release: partner the expirer's last look */
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	pthread_join(expirer, NULL); /* when all have expired */
	return errors;
}

int main(int argc, char **argv)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = sizeof(struct connection),
					.gp = &source.gp,
					.ripe = close_ripe};
	unsigned long errors;

	if (argc > 1)
		rounds = strtoul(argv[1], NULL, 10);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr))
		return 1;
	table = cds_lfht_new(64, 64, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	if (!table)
		return 1;
	errors = run();
	/* The table first: its nodes are the cache's, which waits for what is retired. */
	if (cds_lfht_destroy(table, NULL) || sheaf_cache_destroy(cache, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	printf("%lu connections opened, %lu expired, %lu packets, %lu errors\n", opened, closed,
	       counted, errors);
	return errors || opened != closed || counted != WORKERS * rounds ? 1 : 0;
}
