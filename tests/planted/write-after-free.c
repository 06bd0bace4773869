/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* An item is marked as dead after it was freed, and before it comes again. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *item;

	planted_begin(argc, argv);
	item = new_item(1);
	if (fixed)
		item->value = 0;
	sheaf_cache_free(cache, item);
	if (!fixed)
		item->value = 0;
	sheaf_cache_free(cache, new_item(2));
	return planted_end();
}
