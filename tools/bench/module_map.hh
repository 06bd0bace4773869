/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * An ordered map of C++ behind a rwlock. Points: key to value. Ranges: last key to first
 * key and value; there is no gap index, so a place is looked for from the top downwards.
 */
#ifndef BENCH_MODULE_MAP_HH
#define BENCH_MODULE_MAP_HH

#include "ops.h"
#include "tree_locked.h"

#include <cstdint>
#include <new>

template <class Map> struct locked_map {
	tree_lock lock = {PTHREAD_RWLOCK_INITIALIZER};
	Map map;

	static locked_map &of(void *ctx)
	{
		return *static_cast<locked_map *>(ctx);
	}

	static void *setup(const bench_env *)
	{
		return new (std::nothrow) locked_map;
	}

	static void teardown(void *ctx)
	{
		delete &of(ctx);
	}

	static void clear(void *ctx)
	{
		of(ctx).map.clear();
	}
};

template <class Map> struct map_points : locked_map<Map> {
	using base = locked_map<Map>;

	static void *load(void *ctx, uint64_t key)
	{
		base &m = base::of(ctx);
		void *value = nullptr;

		tree_read_lock(&m.lock);
		auto at = m.map.find(key);
		if (at != m.map.end())
			value = at->second;
		tree_unlock(&m.lock);
		return value;
	}

	static bool store(void *ctx, uint64_t first, uint64_t, void *value)
	{
		base &m = base::of(ctx);

		tree_write_lock(&m.lock);
		m.map.insert_or_assign(first, value);
		tree_unlock(&m.lock);
		return true;
	}

	static bool append(void *ctx, uint64_t key, void *value)
	{
		base &m = base::of(ctx);

		tree_write_lock(&m.lock);
		m.map.emplace_hint(m.map.end(), key, value);
		tree_unlock(&m.lock);
		return true;
	}

	static bool erase(void *ctx, uint64_t key)
	{
		base &m = base::of(ctx);

		tree_write_lock(&m.lock);
		bool found = m.map.erase(key) == 1;
		tree_unlock(&m.lock);
		return found;
	}

	static uint64_t scan(void *ctx, uint64_t from, uint64_t n, uint64_t *sum)
	{
		base &m = base::of(ctx);
		uint64_t seen = 0;

		tree_read_lock(&m.lock);
		for (auto at = m.map.lower_bound(from); at != m.map.end() && seen < n; ++at) {
			*sum += reinterpret_cast<uintptr_t>(at->second);
			seen++;
		}
		tree_unlock(&m.lock);
		return seen;
	}

	static constexpr tree_ops ops = {base::setup, base::teardown, nullptr,     nullptr,
					 load,        store,          erase,       scan,
					 nullptr,     base::clear,    nullptr,     append,
					 nullptr};
};

struct map_range {
	uint64_t first;
	void *value;
};

template <class Map> struct map_ranges : locked_map<Map> {
	using base = locked_map<Map>;

	static void *load(void *ctx, uint64_t key)
	{
		base &m = base::of(ctx);
		void *value = nullptr;

		tree_read_lock(&m.lock);
		auto at = m.map.lower_bound(key);
		if (at != m.map.end() && at->second.first <= key)
			value = at->second.value;
		tree_unlock(&m.lock);
		return value;
	}

	static bool store(void *ctx, uint64_t first, uint64_t last, void *value)
	{
		base &m = base::of(ctx);

		tree_write_lock(&m.lock);
		m.map.insert_or_assign(last, map_range{first, value});
		tree_unlock(&m.lock);
		return true;
	}

	static bool erase(void *ctx, uint64_t key)
	{
		base &m = base::of(ctx);

		tree_write_lock(&m.lock);
		auto at = m.map.lower_bound(key);
		bool found = at != m.map.end() && at->second.first <= key;
		if (found)
			m.map.erase(at);
		tree_unlock(&m.lock);
		return found;
	}

	static uint64_t map(void *ctx, uint64_t top, uint64_t size, void *value)
	{
		base &m = base::of(ctx);
		uint64_t end = top;

		tree_write_lock(&m.lock);
		for (auto at = m.map.end(); at != m.map.begin();) {
			--at;
			if (end - at->first - 1 >= size)
				break;
			end = at->second.first;
		}
		if (end > size)
			m.map.insert_or_assign(end - 1, map_range{end - size, value});
		else
			end = size;
		tree_unlock(&m.lock);
		return end - size;
	}

	static constexpr tree_ops ops = {base::setup, base::teardown, nullptr,     nullptr,
					 load,        store,          erase,       nullptr,
					 map,         base::clear,    nullptr,     nullptr,
					 nullptr};
};

#endif
