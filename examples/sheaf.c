/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A sheaf alone: a free list of request buffers in static memory, without malloc. It is the
 * fastest thing a single thread can have, and a bound at the same time: when it is
 * empty, there are no more buffers.
 */
#include <sheaf/sheaf.h>

#include <stdio.h>

#define BUFFERS 8

struct buffer {
	char text[120];
};

static struct buffer buffers[BUFFERS];

/* sheaf_bytes() is not a constant expression in C, so reserve the head and the array. */
static union {
	struct sheaf sheaf;
	char bytes[sizeof(struct sheaf) + BUFFERS * sizeof(void *)];
} memory;

int main(void)
{
	struct sheaf *free_buffers = sheaf_init(&memory, BUFFERS);
	void *in_use[BUFFERS];
	unsigned i, refused = 0;

	for (i = 0; i < BUFFERS; i++)
		if (!sheaf_push(free_buffers, &buffers[i]))
			return 1;

	/* A burst of requests: three buffers at once, then one by one until none is left. */
	i = sheaf_pop_many(free_buffers, 3, in_use);
	while (i < BUFFERS + 2) {
		struct buffer *buffer = sheaf_pop(free_buffers);

		if (!buffer) {
			refused++;
			break;
		}
		snprintf(buffer->text, sizeof(buffer->text), "request %u", i);
		in_use[i++] = buffer;
	}

	/* The newest buffer comes out first: it is the one still in the processor's cache. */
	if (sheaf_push_many(free_buffers, i, in_use) != i || sheaf_peek(free_buffers) != in_use[i - 1])
		return 1;
	printf("%u buffers served, %u refused, %u free again\n", i, refused,
	       sheaf_size(free_buffers));
	return i == BUFFERS && refused == 1 && sheaf_full(free_buffers) ? 0 : 1;
}
