/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Searches names, headings and text of the site. Needs no server: the index is a script. */
"use strict";
(function () {
	const up = document.currentScript.dataset.up;
	const field = document.getElementById("search");
	const list = document.getElementById("found");
	let chosen = -1;

	function escape(text) {
		return text.replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})[c]);
	}

	/* A name counts more than a heading with the word in it, that more than text. */
	function score(entry, words) {
		const title = entry[0].toLowerCase(), text = entry[3].toLowerCase();
		let sum = 0;
		for (const word of words) {
			const bare = title.replace("()", "");
			if (bare === word || bare === "sheaf_" + word)
				sum += 100;
			else if (title.startsWith(word) || title.startsWith("sheaf_" + word))
				sum += 40;
			else if (text.startsWith(word)) /* what it does begins with the word */
				sum += title.endsWith("()") ? 45 : 30;
			else if (title.includes(word))
				sum += 25;
			else if (text.includes(word))
				sum += 5;
			else
				return 0;
		}
		return sum - title.length / 100;
	}

	function around(text, words) {
		let at = -1;
		for (const word of words)
			if (at < 0)
				at = text.toLowerCase().indexOf(word);
		const start = Math.max(0, at - 50);
		let part = escape((start ? "…" : "") + text.slice(start, start + 160));
		for (const word of words) {
			const safe = escape(word).replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
			if (!/^(a|am|amp|m|mp|p|l|lt|t|g|gt|q|qu|quo|quot|u|uo|o|ot|mark|ma|ar|rk|r|k|mar|ark)$/.test(word))
				part = part.replace(new RegExp(safe, "gi"), "<mark>$&</mark>");
		}
		return part;
	}

	function show() {
		const words = field.value.toLowerCase().split(/\s+/).filter(w => w);
		chosen = -1;
		list.hidden = !words.length;
		if (!words.length)
			return;
		const best = window.sheafIndex.map(e => [score(e, words), e]).filter(p => p[0] > 0)
			.sort((a, b) => b[0] - a[0]).slice(0, 30);
		list.innerHTML = best.map(p => '<a href="' + up + escape(p[1][2]) + '"><b>' + escape(p[1][0]) + "</b> <span>" +
			escape(p[1][1]) + "</span><small>" + around(p[1][3], words) + "</small></a>").join("") ||
			"<p>Nothing found.</p>";
	}

	function choose(step) {
		const links = list.querySelectorAll("a");
		if (!links.length)
			return;
		if (chosen >= 0)
			links[chosen].removeAttribute("aria-selected");
		chosen = (chosen + step + links.length) % links.length;
		links[chosen].setAttribute("aria-selected", "true");
		links[chosen].scrollIntoView({block: "nearest"});
	}

	function close() {
		list.hidden = true;
		field.blur();
	}

	field.addEventListener("input", show);
	field.addEventListener("focus", show);
	field.addEventListener("keydown", event => {
		if (event.key === "ArrowDown" || event.key === "ArrowUp") {
			event.preventDefault();
			if (event.key === "ArrowDown")
				choose(1);
			else
				choose(chosen < 0 ? 0 : -1);
		} else if (event.key === "Enter") {
			const links = list.querySelectorAll("a");
			if (links.length) {
				location.href = links[Math.max(chosen, 0)].href;
				close();
			}
		} else if (event.key === "Escape") {
			close();
		}
	});
	document.addEventListener("keydown", event => {
		if (event.key === "/" && document.activeElement !== field && !event.ctrlKey && !event.metaKey) {
			event.preventDefault();
			field.focus();
			field.select();
		}
	});
	document.addEventListener("click", event => {
		if (!list.contains(event.target) && event.target !== field)
			list.hidden = true;
		else if (event.target.closest("#found a"))
			list.hidden = true;
	});
	/* For links to a search, and for the tests: page.html?q=words. */
	const query = new URLSearchParams(location.search).get("q");
	if (query) {
		field.value = query;
		show();
	}
})();
