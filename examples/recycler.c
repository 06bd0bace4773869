/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A recycler alone: an event loop that steps its own grace periods. Connections closed in
 * one turn may still be in use by handlers of that turn; they are collected in a sheaf,
 * and reused once the turn is over.
 */
#include <sheaf/recycler.h>

#include <stdio.h>
#include <stdlib.h>

#define CAPACITY 4
#define TURNS 1000

struct connection {
	int number;
};

static unsigned made;

/* From a ripe sheaf if there is one, else new. */
static struct connection *open_connection(struct sheaf **ripe, struct sheaf_recycler *recycler)
{
	if (!*ripe || sheaf_empty(*ripe)) {
		free(*ripe);
		*ripe = sheaf_recycler_take(recycler);
	}
	if (*ripe)
		return sheaf_pop(*ripe);
	made++;
	return malloc(sizeof(struct connection));
}

int main(void)
{
	struct sheaf_recycler recycler;
	struct sheaf_gp_manual turns;
	struct sheaf *ripe = NULL, *last;
	int turn, i;

	sheaf_gp_manual_init(&turns, 0);
	if (sheaf_recycler_init(&recycler, &turns.gp, NULL))
		return 1;
	for (turn = 0; turn < TURNS; turn++) {
		void *memory = malloc(sheaf_bytes(CAPACITY));
		struct sheaf *closed = memory ? sheaf_init(memory, CAPACITY) : NULL;

		for (i = 0; closed && i < CAPACITY; i++) {
			struct connection *connection = open_connection(&ripe, &recycler);

			if (!connection)
				return 1;
			connection->number = turn * CAPACITY + i;
			sheaf_push(closed, connection);
		}
		if (!closed)
			return 1;
		sheaf_recycler_give(&recycler, closed);
		sheaf_gp_manual_step(&turns); /* every handler of this turn has returned */
	}
	printf("%d connections, %u allocated\n", TURNS * CAPACITY, made);

	free(ripe);
	while ((last = sheaf_recycler_take(&recycler)) != NULL) {
		while (!sheaf_empty(last))
			free(sheaf_pop(last));
		free(last);
	}
	return sheaf_recycler_fini(&recycler) || made > 2 * CAPACITY ? 1 : 0;
}
