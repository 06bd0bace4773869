/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A cache is destroyed while an item is still in use. */
#include "planted.h"

int main(int argc, char **argv)
{
	static struct item *item;

	planted_begin(argc, argv);
	item = new_item(1);
	if (fixed)
		sheaf_cache_free(cache, item);
	return planted_end();
}
