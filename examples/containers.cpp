/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * C++17: containers whose nodes come from caches. An order book: an index by price and a list of
 * orders for each price, by an allocator; and a report by std::pmr, whose nodes come from a
 * cache as well and whose strings, where they do not fit, go on to the heap.
 */
#include <sheaf/cxx.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>
#include <list>
#include <map>
#include <string>

struct order {
	long number;
	int amount;
};

using orders = std::list<order, libsheaf::allocator<order>>;
using book = std::map<int, orders, std::less<>, libsheaf::allocator<std::pair<const int, orders>>>;

/* Enough for the nodes of both: what they hold and what the containers add. */
static constexpr std::size_t NODE_BYTES = 80;

static void add(book &sellers, int price, order one)
{
	/* The list of a new price has its nodes from where the map has them. */
	sellers.try_emplace(price, sellers.get_allocator()).first->second.push_back(one);
}

/* Buys the cheapest; returns what could not be had. */
static int buy(book &sellers, int amount)
{
	while (amount > 0 && !sellers.empty()) {
		orders &cheapest = sellers.begin()->second;
		const int part = std::min(amount, cheapest.front().amount);

		amount -= part;
		cheapest.front().amount -= part;
		if (!cheapest.front().amount)
			cheapest.pop_front();
		if (cheapest.empty())
			sellers.erase(sellers.begin());
	}
	return amount;
}

static std::size_t report(const book &sellers, std::pmr::memory_resource *memory)
{
	std::pmr::map<int, std::pmr::string> lines(memory);

	for (const auto &[price, list] : sellers) {
		std::pmr::string &line = lines[price];

		for (const order &one : list)
			line += std::to_string(one.amount) + " ";
	}
	for (const auto &[price, line] : lines)
		std::printf("%d: %.40s%s\n", price, line.c_str(), line.size() > 40 ? "..." : "");
	return lines.size();
}

static int trade()
{
	libsheaf::cache nodes(NODE_BYTES);
	libsheaf::resource memory(nodes);
	int missing;

	{
		book sellers(nodes);

		for (int i = 0; i < 10000; i++) {
			add(sellers, 100 + i % 5, {i, 1 + i % 7});
			if (i > 10 && buy(sellers, 3))
				return 1;
		}
		/* Nodes may go to another list without a copy: both have them from one cache. */
		orders &low = sellers.begin()->second, &high = std::prev(sellers.end())->second;
		if (&low != &high)
			high.splice(high.end(), low, low.begin());
		if (report(sellers, &memory) != sellers.size())
			return 1;
		missing = buy(sellers, 1000000);
		std::printf("%d could not be had\n", missing);
	}
	/* Tells of nodes that are still somewhere; the destructor would not let that pass. */
	return missing <= 0 || nodes.destroy();
}

int main()
{
	try {
		return trade();
	} catch (const std::exception &error) {
		std::fprintf(stderr, "%s\n", error.what());
		return 1;
	}
}
