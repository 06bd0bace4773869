/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A ring of buffers between two threads, with a pool made of a sheaf on each side and a barn in
 * between: no malloc and no lock after the start, and a visit to the barn for 32 buffers.
 */
#include <sheaf/barn.h>
#include <sheaf/edges.h> /* for race checkers: the ring is atomics of our own */

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define CAPACITY 32
#define SHEAVES 4 /* that hold all buffers: at most so many are on their way */
#define SLOTS 64
#define MESSAGES 200000u

struct buffer {
	unsigned number;
	char text[60];
};

static struct buffer buffers[SHEAVES * CAPACITY];
static struct sheaf_barn barn;

/* One producer, one consumer. */
static struct {
	struct buffer *slots[SLOTS];
	unsigned head __attribute__((aligned(64))); /* the producer's */
	unsigned tail __attribute__((aligned(64))); /* the consumer's */
} ring;

static void put(struct buffer *buffer)
{
	while (ring.head - __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE) == SLOTS)
		sched_yield();
	ring.slots[ring.head % SLOTS] = buffer;
	__atomic_store_n(&ring.head, ring.head + 1, __ATOMIC_RELEASE);
}

static struct buffer *get(void)
{
	struct buffer *buffer;

	while (__atomic_load_n(&ring.head, __ATOMIC_ACQUIRE) == ring.tail)
		sched_yield();
	buffer = ring.slots[ring.tail % SLOTS];
	__atomic_store_n(&ring.tail, ring.tail + 1, __ATOMIC_RELEASE);
	return buffer;
}

/* The producer's sheaf is empty: trade it for one that the consumer has filled. */
static struct buffer *new_buffer(struct sheaf **mine)
{
	while (sheaf_empty(*mine)) {
		struct sheaf *full = sheaf_barn_trade_empty(&barn, *mine);

		if (full)
			*mine = full;
		else
			sched_yield();
	}
	return sheaf_pop(*mine);
}

/* The consumer's sheaf is full: trade it for one that the producer has emptied. */
static void free_buffer(struct sheaf **mine, struct buffer *buffer)
{
	while (!sheaf_push(*mine, buffer)) {
		struct sheaf *empty = sheaf_barn_trade_full(&barn, *mine);

		if (empty)
			*mine = empty;
		else
			sched_yield();
	}
}

static void *consume(void *mine)
{
	unsigned long long sum = 0;
	unsigned i;

	for (i = 0; i < MESSAGES; i++) {
		struct buffer *buffer = get();

		sum += buffer->number;
		free_buffer(mine, buffer);
	}
	return (void *)(size_t)(sum != (unsigned long long)MESSAGES * (MESSAGES - 1) / 2);
}

static struct sheaf *new_sheaf(void)
{
	void *memory = malloc(sheaf_bytes(CAPACITY));

	if (!memory)
		exit(1);
	return sheaf_init(memory, CAPACITY);
}

static void free_sheaf(void *held, struct sheaf *sheaf)
{
	*(unsigned *)held += sheaf_size(sheaf);
	free(sheaf);
}

int main(void)
{
	struct sheaf *producer = new_sheaf(), *consumer = new_sheaf();
	struct sheaf_barn_stats stats;
	unsigned i, held = 0;
	pthread_t thread;
	void *wrong;

	sheaf_barn_init(&barn, 0, SHEAVES, SHEAVES);
	for (i = 0; i < SHEAVES; i++) {
		struct sheaf *sheaf = new_sheaf();

		while (!sheaf_full(sheaf))
			sheaf_push(sheaf, &buffers[i * CAPACITY + sheaf_size(sheaf)]);
		sheaf_barn_keep(&barn, sheaf);
	}
	/* One empty sheaf besides: who comes first finds one to trade for. */
	sheaf_barn_keep(&barn, new_sheaf());
	if (pthread_create(&thread, NULL, consume, &consumer))
		return 1;
	for (i = 0; i < MESSAGES; i++) {
		struct buffer *buffer = new_buffer(&producer);

		buffer->number = i;
		put(buffer);
	}
	pthread_join(thread, &wrong);
	sheaf_barn_stats(&barn, &stats);
	printf("%u messages, %llu visits of the producer that brought buffers\n", i,
	       (unsigned long long)stats.full.takes);
	free_sheaf(&held, producer);
	free_sheaf(&held, consumer);
	sheaf_barn_drain(&barn, free_sheaf, &held);
	return wrong || held != SHEAVES * CAPACITY || sheaf_barn_fini(&barn) ? 1 : 0;
}
