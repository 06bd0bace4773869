/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The writer marks an item as dead after it has retired it, when it may be free. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *item;

	planted_begin(argc, argv);
	item = new_item(1);
	if (fixed)
		item->value = 0;
	sheaf_cache_free_rcu(cache, item);
	let_ripen();
	if (!fixed)
		item->value = 0;
	sheaf_cache_free(cache, new_item(2));
	return planted_end();
}
