/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "history.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(HISTORY_MOST <= 32, "a bit for each call");

unsigned history_begin(struct history *history)
{
	return ++history->clock;
}

void history_end(struct history *history, unsigned began, unsigned kind, int arg, int result)
{
	if (history->n == HISTORY_MOST) {
		fprintf(stderr, "more than %u calls\n", HISTORY_MOST);
		abort();
	}
	history->calls[history->n++] = (struct history_call){.kind = kind,
							     .arg = arg,
							     .result = result,
							     .began = began,
							     .ended = ++history->clock};
}

/* The calls of the mask are still to be made, on this state. */
static bool any_order(const struct history *history, const struct history_model *model,
		      const void *state, uint32_t left)
{
	unsigned first_end = history->clock + 1, i;
	_Alignas(uint64_t) char next[HISTORY_STATE];

	if (!left)
		return true;
	for (i = 0; i < history->n; i++)
		if (left >> i & 1 && history->calls[i].ended < first_end)
			first_end = history->calls[i].ended;
	for (i = 0; i < history->n; i++) {
		/* One that has ended comes before it. */
		if (!(left >> i & 1) || history->calls[i].began > first_end)
			continue;
		memcpy(next, state, model->size);
		if (model->make(next, &history->calls[i]) &&
		    any_order(history, model, next, left & ~(UINT32_C(1) << i)))
			return true;
	}
	return false;
}

bool history_linearizable(struct history *history, const struct history_model *model)
{
	_Alignas(uint64_t) char state[HISTORY_STATE];
	struct history_call *calls = history->calls;
	uint32_t all = 0;
	unsigned i, j;

	for (i = 0; i < history->n; i++) {
		all |= UINT32_C(1) << i;
		calls[i].beside = 0;
		for (j = 0; j < history->n; j++)
			if (j != i && calls[j].began < calls[i].ended &&
			    calls[i].began < calls[j].ended)
				calls[i].beside |= UINT32_C(1) << calls[j].kind;
	}
	if (model->size > HISTORY_STATE)
		return false;
	model->first(state);
	return any_order(history, model, state, all);
}
