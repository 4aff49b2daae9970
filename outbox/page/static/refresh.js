// Every 5 s this loads the page again and replaces what is marked with data-live. It leaves
// alone what the user types into or has selected, and keeps the focus.
"use strict";

const period = 5000;
const note = document.getElementById("refreshed");

function controls(live) {
	return [...live.querySelectorAll("a, button")];
}

async function refresh() {
	const live = document.querySelector("[data-live]");
	if (!live || document.hidden || !document.getSelection().isCollapsed) {
		return;
	}
	try {
		const response = await fetch(location.href, {redirect: "error"});
		if (!response.ok) {
			throw new Error(response.status);
		}
		const page = new DOMParser().parseFromString(await response.text(), "text/html");
		const fresh = page.querySelector("[data-live]");
		if (!fresh) {
			throw new Error("another page");
		}
		const focused = controls(live).indexOf(document.activeElement);
		live.replaceWith(document.adoptNode(fresh));
		controls(fresh)[focused]?.focus({preventScroll: true});
		note.textContent = "";
	} catch {
		note.textContent = "What you see is old: the page cannot be loaded again.";
	}
}

async function again() {
	await refresh();
	setTimeout(again, period);
}

setTimeout(again, period);
