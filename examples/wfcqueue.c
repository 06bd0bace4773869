/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * liburcu's wait-free queue with nodes from a cache: producers allocate orders, one consumer
 * frees them, in a thread that never allocates. Whole sheaves of free nodes go back to the
 * producers by way of the barn.
 *
 * No grace period is needed. To enqueue is to exchange the tail, and then to link the new node
 * into the one that was the tail before; no other node is looked at. So the only one who
 * may still be at a node that is dequeued is whoever enqueued the next one, and the
 * dequeue waits for that link. If there is no next one, it first sets the tail from this
 * node back to the head, and then nobody can find the node. There is one consumer (several
 * would hold the queue's lock), so a node does not come again while another one dequeues.
 *
 * It is otherwise where threads look into nodes that another one may take out meanwhile: what
 * comes out of cds_lfq, or of cds_lfs without its lock, is freed with sheaf_cache_free_rcu().
 */
#include <sheaf/cache.h>
#include <sheaf/edges.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu/wfcqueue.h>

#define PRODUCERS 2

struct order {
	struct cds_wfcq_node node;
	unsigned producer;
	unsigned number;
};

struct producer {
	pthread_t thread;
	unsigned index;
};

static struct __cds_wfcq_head head;
static struct cds_wfcq_tail tail;
static struct sheaf_cache *cache;
static unsigned orders = 50000; /* of each producer */
static int failed;

static void *produce(void *arg)
{
	const struct producer *me = arg;
	unsigned i;

	for (i = 0; i < orders; i++) {
		struct order *order = sheaf_cache_alloc(cache, 0);

		if (!order) {
			__atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
			break;
		}
		order->producer = me->index;
		order->number = i;
		cds_wfcq_node_init(&order->node);
		sheaf_edge_release(order); /* race checkers do not see it in the queue */
		cds_wfcq_enqueue(&head, &tail, &order->node);
	}
	return NULL;
}

/* Each producer's orders come in the order they were given. */
static unsigned consume(void)
{
	unsigned next[PRODUCERS] = {0}, seen = 0, errors = 0;

	while (seen < PRODUCERS * orders && !__atomic_load_n(&failed, __ATOMIC_RELAXED)) {
		struct cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(&head, &tail);
		struct order *order;

		if (!node) {
			sched_yield();
			continue;
		}
		order = caa_container_of(node, struct order, node);
		sheaf_edge_acquire(order);
		errors += order->number != next[order->producer];
		next[order->producer] = order->number + 1;
		seen++;
		sheaf_cache_free(cache, order);
	}
	return errors + (seen < PRODUCERS * orders);
}

int main(int argc, char **argv)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = sizeof(struct order)};
	struct producer producers[PRODUCERS];
	unsigned i, errors;

	if (argc > 1)
		orders = (unsigned)atoi(argv[1]);
	if (sheaf_cache_create(&cache, &attr))
		return 1;
	__cds_wfcq_init(&head, &tail);
	for (i = 0; i < PRODUCERS; i++) {
		producers[i].index = i;
		if (pthread_create(&producers[i].thread, NULL, produce, &producers[i]))
			return 1;
	}
	errors = consume();
	for (i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i].thread, NULL);
	printf("%u orders of %d producers, %u errors\n", PRODUCERS * orders, PRODUCERS, errors);
	if (sheaf_cache_destroy(cache, NULL)) /* says so if a node was lost */
		return 1;
	return errors ? 1 : 0;
}
