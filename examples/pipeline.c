/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A pipeline: one thread reads a file into buffers, two work on them, the last one collects what they
 * found and frees the buffers. Buffers go from thread to thread by rings of Concurrency Kit; free
 * ones go back to the first thread by whole sheaves.
 *
 * The budget of the cache is what slows the reader down: when all buffers are out it waits until one
 * comes back. So memory is bounded however slow the other threads are, and no ring can be
 * full, because each has room for all buffers there are.
 *
 *	pipeline [FILE]
 */
#include <sheaf/cache.h>
#include <sheaf/edges.h>

#include <ck_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFERS 32u
#define PLACES (2 * BUFFERS) /* a power of two; a ring holds one less */
#define BLOCK 4096

struct buffer {
	size_t bytes;
	uint64_t sum;
	unsigned long lines;
	unsigned char data[BLOCK];
};

struct ring {
	ck_ring_t ring;
	ck_ring_buffer_t place[PLACES];
};

/* What a thread between two rings does with each buffer. */
struct stage {
	pthread_t thread;
	struct ring *in, *out;
	void (*work)(struct buffer *buffer);
};

static struct sheaf_cache *cache;
static struct buffer end; /* comes after the last buffer; not the cache's */
static unsigned out, out_most;
static int failed;

static void ring_init(struct ring *ring)
{
	ck_ring_init(&ring->ring, PLACES);
	/* Helgrind and DRD see plain accesses in it. What orders them is assembly. */
	sheaf_edge_ignore(ring, sizeof(*ring));
}

static void send(struct ring *ring, struct buffer *buffer)
{
	sheaf_edge_release(buffer); /* race checkers do not see it in the ring */
	if (!ck_ring_enqueue_spsc(&ring->ring, ring->place, buffer))
		abort(); /* there are not so many buffers */
}

static struct buffer *receive(struct ring *ring)
{
	void *buffer;

	while (!ck_ring_dequeue_spsc(&ring->ring, ring->place, &buffer))
		sched_yield();
	sheaf_edge_acquire(buffer);
	return buffer;
}

/* Waits while all buffers are out. NULL only if the system has no memory. */
static struct buffer *take_buffer(void)
{
	struct buffer *buffer = sheaf_cache_alloc(cache, SHEAF_WAIT);
	unsigned now;

	if (buffer) {
		now = __atomic_add_fetch(&out, 1, __ATOMIC_RELAXED);
		if (now > out_most)
			out_most = now; /* of this thread alone */
	}
	return buffer;
}

static void give_buffer(struct buffer *buffer)
{
	__atomic_sub_fetch(&out, 1, __ATOMIC_RELAXED); /* before it can be taken again */
	sheaf_cache_free(cache, buffer);
}

static void read_blocks(FILE *file, struct ring *to)
{
	struct buffer *buffer;

	while ((buffer = take_buffer())) {
		buffer->bytes = fread(buffer->data, 1, BLOCK, file);
		if (!buffer->bytes) {
			give_buffer(buffer);
			break;
		}
		send(to, buffer);
	}
	if (!buffer || ferror(file))
		__atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
	send(to, &end);
}

static void *run_stage(void *arg)
{
	const struct stage *stage = arg;
	struct buffer *buffer;

	do {
		buffer = receive(stage->in);
		if (buffer != &end)
			stage->work(buffer);
		send(stage->out, buffer);
	} while (buffer != &end);
	return NULL;
}

static void sum_up(struct buffer *buffer)
{
	buffer->sum = 0;
	for (size_t i = 0; i < buffer->bytes; i++)
		buffer->sum = buffer->sum * 31 + buffer->data[i];
}

static void count_lines(struct buffer *buffer)
{
	buffer->lines = 0;
	for (size_t i = 0; i < buffer->bytes; i++)
		buffer->lines += buffer->data[i] == '\n';
}

/* What the pipeline finds in a file, and what one thread finds in it. */
struct found {
	uint64_t sum;
	unsigned long lines, blocks;
};

static void add(struct found *found, const struct buffer *buffer)
{
	found->sum = found->sum * 7 + buffer->sum; /* depends on the order of blocks */
	found->lines += buffer->lines;
	found->blocks++;
}

static void *collect(void *arg)
{
	struct ring *in = arg;
	struct found *found = calloc(1, sizeof(*found));
	struct buffer *buffer;

	while ((buffer = receive(in)) != &end) {
		if (found)
			add(found, buffer);
		give_buffer(buffer);
	}
	return found;
}

static struct found find_alone(FILE *file)
{
	static struct buffer buffer;
	struct found found = {0};

	rewind(file);
	while ((buffer.bytes = fread(buffer.data, 1, BLOCK, file)) > 0) {
		sum_up(&buffer);
		count_lines(&buffer);
		add(&found, &buffer);
	}
	return found;
}

/* Sends a file through the pipeline. NULL if a thread or memory was missing. */
static struct found *find_together(FILE *file)
{
	static struct ring ring[3];
	static struct stage stage[] = {{.in = &ring[0], .out = &ring[1], .work = sum_up},
				       {.in = &ring[1], .out = &ring[2], .work = count_lines}};
	pthread_t collector;
	void *found;
	int i;

	for (i = 0; i < 3; i++)
		ring_init(&ring[i]);
	for (i = 0; i < 2; i++)
		if (pthread_create(&stage[i].thread, NULL, run_stage, &stage[i]))
			return NULL;
	if (pthread_create(&collector, NULL, collect, &ring[2]))
		return NULL;
	read_blocks(file, &ring[0]);
	for (i = 0; i < 2; i++)
		pthread_join(stage[i].thread, NULL);
	pthread_join(collector, &found);
	return found;
}

int main(int argc, char **argv)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = sizeof(struct buffer),
					.capacity = 4, /* so that all buffers are several sheaves */
					.budget = BUFFERS * sizeof(struct buffer)};
	const char *path = argc > 1 ? argv[1] : "/proc/self/exe";
	FILE *file = fopen(path, "r");
	struct sheaf_cache_stats stats;
	struct found *found, alone;

	if (!file || sheaf_cache_create(&cache, &attr)) {
		perror(path);
		return 1;
	}
	found = find_together(file);
	if (!found)
		return 1;
	alone = find_alone(file);
	fclose(file);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	printf("%lu blocks, %lu lines, sum %llx; at most %u buffers out, all were %llu times\n",
	       found->blocks, found->lines, (unsigned long long)found->sum, out_most,
	       (unsigned long long)stats.budget_refused);
	if (found->blocks != alone.blocks || found->lines != alone.lines ||
	    found->sum != alone.sum || out_most > BUFFERS || failed)
		return 1;
	free(found);
	return sheaf_cache_destroy(cache, NULL) ? 1 : 0;
}
