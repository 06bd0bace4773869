/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "base/fork.h"

#include "base/atomic.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

static const struct fork_handlers *levels[FORK_LEVELS];
/* What prepare called, for the other two: a level may be set in between. The forking thread's. */
static __thread const struct fork_handlers *prepared[FORK_LEVELS];

static void fork_prepare(void)
{
	int i;

	for (i = 0; i < FORK_LEVELS; i++) {
		/* acquire: partner store in fork_handle() */
		prepared[i] = load_acquire(&levels[i]);
		if (prepared[i] && prepared[i]->prepare)
			prepared[i]->prepare();
	}
}

static void fork_parent(void)
{
	int i;

	for (i = FORK_LEVELS - 1; i >= 0; i--)
		if (prepared[i] && prepared[i]->parent)
			prepared[i]->parent();
}

bool fork_is_child;

static void fork_child(void)
{
	/* They open and close files. */
	int state = cancel_off(), i;

	fork_is_child = true;
	for (i = FORK_LEVELS - 1; i >= 0; i--)
		if (prepared[i] && prepared[i]->child)
			prepared[i]->child();
	cancel_on(state);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int failed;

static void install(void)
{
	failed = pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/*
 * Before main(), so that handlers of the program, which are registered later, are called before
 * ours: liburcu-bp's hook waits for read sections, whose threads may want what ours hold.
 */
__attribute__((constructor)) static void install_early(void)
{
	pthread_once(&once, install);
}

int fork_handle(enum fork_level level, const struct fork_handlers *handlers)
{
	pthread_once(&once, install);
	if (failed)
		return -ENOMEM;
	store_release(&levels[level], handlers);
	return 0;
}
