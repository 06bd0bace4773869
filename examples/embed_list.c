/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A list of your own with sheaves and a recycler, and without a cache: readers walk it, nodes that
 * were taken out ripen in a sheaf, and are used again.
 */
#include <sheaf/recycler.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#define CAPACITY 30

struct node {
	struct node *next;
	long key;
	long twice; /* 2 * key, as long as the memory is ours */
};

struct list {
	struct node *head;
	pthread_mutex_t lock;  /* of writers: all below, and the links */
	struct sheaf *removed; /* taken out, readers may be in them */
	struct sheaf *ready;   /* ripe: may be used again */
	struct sheaf_recycler recycler;
};

static struct list list = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct sheaf_gp_urcu source;
static unsigned long made;
static int stop;

static struct sheaf *new_sheaf(void)
{
	void *memory = malloc(sheaf_bytes(CAPACITY));

	return memory ? sheaf_init(memory, CAPACITY) : NULL;
}

/* From a ripe sheaf while there is one, else new. */
static struct node *new_node(void)
{
	if (!list.ready || sheaf_empty(list.ready)) {
		free(list.ready);
		list.ready = sheaf_recycler_take(&list.recycler);
	}
	if (list.ready)
		return sheaf_pop(list.ready);
	made++;
	return malloc(sizeof(struct node));
}

static int list_add(long key)
{
	struct node *node;

	pthread_mutex_lock(&list.lock);
	node = new_node();
	if (node) {
		*node = (struct node){list.head, key, 2 * key};
		__atomic_store_n(&list.head, node, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&list.lock);
	return node ? 0 : -ENOMEM;
}

/* Room for the node is seen to before it is unlinked, so a failure changes nothing. */
static int list_remove(long key)
{
	struct node **link, *node;
	int err = -ENOENT;

	pthread_mutex_lock(&list.lock);
	if (!list.removed)
		list.removed = new_sheaf();
	for (link = &list.head; list.removed && *link && (*link)->key != key;)
		link = &(*link)->next;
	node = *link;
	if (!list.removed) {
		err = -ENOMEM;
	} else if (node) {
		__atomic_store_n(link, node->next, __ATOMIC_RELEASE);
		sheaf_push(list.removed, node);
		if (sheaf_full(list.removed)) {
			sheaf_recycler_give(&list.recycler, list.removed);
			list.removed = NULL;
		}
		err = 0;
	}
	pthread_mutex_unlock(&list.lock);
	return err;
}

/* Counts the nodes, and those that are not what they should be. */
static unsigned list_walk(unsigned *bad)
{
	struct node *node;
	unsigned n = 0;

	sheaf_gp_read_lock(&source.gp);
	for (node = __atomic_load_n(&list.head, __ATOMIC_ACQUIRE); node;
	     node = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE)) {
		*bad += node->twice != 2 * node->key;
		n++;
	}
	sheaf_gp_read_unlock(&source.gp);
	return n;
}

static void *reader(void *bad)
{
	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		list_walk(bad);
	rcu_unregister_thread();
	return NULL;
}

/* When nobody reads any more: no sheaf has to be ripe. */
static void free_sheaf(struct sheaf *sheaf)
{
	while (sheaf && !sheaf_empty(sheaf))
		free(sheaf_pop(sheaf));
	free(sheaf);
}

/* The argument is how many nodes come and go. */
int main(int argc, char **argv)
{
	const long n = argc > 1 ? atol(argv[1]) : 20000;
	unsigned bad = 0, wrong = 0, nodes_left;
	struct sheaf *sheaf;
	pthread_t thread;
	long i;

	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) ||
	    sheaf_recycler_init(&list.recycler, &source.gp, NULL) ||
	    pthread_create(&thread, NULL, reader, &bad))
		return 1;
	for (i = 0; i < n; i++) {
		wrong += list_add(i) != 0;
		if (i >= 10)
			wrong += list_remove(i - 10) != 0;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	rcu_register_thread();
	nodes_left = list_walk(&bad);
	printf("%u nodes, %lu allocated for %ld, %u bad reads\n", nodes_left, made, i, bad);
	rcu_unregister_thread();

	while (list.head) {
		struct node *node = list.head;

		list.head = node->next;
		free(node);
	}
	free_sheaf(list.removed);
	free_sheaf(list.ready);
	while ((sheaf = sheaf_recycler_drain(&list.recycler)) != NULL)
		free_sheaf(sheaf);
	wrong += sheaf_recycler_fini(&list.recycler) != 0;
	sheaf_gp_urcu_fini(&source);
	return bad || wrong ? 1 : 0;
}
