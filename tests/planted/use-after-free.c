/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* An item is read after it was freed. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *item;
	long key;

	planted_begin(argc, argv);
	item = new_item(1);
	key = item->key;
	sheaf_cache_free(cache, item);
	if (!fixed)
		key += item->value;
	printf("%ld\n", key);
	return planted_end();
}
