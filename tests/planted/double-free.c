/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* An item is freed on the way out of an error, and again. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *item;

	planted_begin(argc, argv);
	item = new_item(1);
	sheaf_cache_free(cache, item);
	if (!fixed)
		sheaf_cache_free(cache, item);
	sheaf_cache_shrink(cache);
	return planted_end();
}
