/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A text that is too long runs from one item into the next. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *items[16];
	size_t length = sizeof(items[0]->text) + (argc > 1 ? 0 : 8), i;

	planted_begin(argc, argv);
	for (i = 0; i < 16; i++)
		items[i] = new_item((long)i);
	for (i = 0; i < 16; i++)
		memset((char *)items[i] + offsetof(struct item, text), 'x', length);
	for (i = 0; i < 16; i++)
		sheaf_cache_free(cache, items[i]);
	sheaf_cache_shrink(cache);
	return planted_end();
}
