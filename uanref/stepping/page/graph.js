// The graph: which node is shown, what it depends on and what depends on it, which gradients are proven.

"use strict";

const graph = (() => {
  const MARKS = { none: "", checking: "…", right: "✓", wrong: "✗", undefined: "?" };
  const SPOKEN = { none: "", checking: "being checked", right: "proven", wrong: "wrong", undefined: "no number" };

  function create(store, box) {
    const svg = box.querySelector("svg");
    const links = Object.fromEntries([...svg.querySelectorAll(".node")].map((link) => [link.dataset.name, link]));
    const labels = Object.fromEntries(Object.entries(links).map(([name, link]) => [name, link.getAttribute("aria-label")]));
    const edges = [...svg.querySelectorAll(".edge")];
    const inputsOf = (name) => store.byName[name].inputs ?? [];
    const usersOf = (name) => store.nodes.filter((node) => inputsOf(node.name).includes(name)).map((node) => node.name);

    // All that is reached from a node, itself included.
    function reached(name, next, found = new Set()) {
      if (!found.has(name)) {
        found.add(name);
        next(name).forEach((other) => reached(other, next, found));
      }
      return found;
    }

    function highlight(name) {
      const before = name ? reached(name, inputsOf) : new Set();
      const after = name ? reached(name, usersOf) : new Set();
      svg.classList.toggle("pointing", Boolean(name));
      for (const [other, link] of Object.entries(links)) {
        link.classList.toggle("pointed", other === name);
        link.classList.toggle("before", other !== name && before.has(other));
        link.classList.toggle("after", other !== name && after.has(other));
      }
      for (const edge of edges) {
        const { source, target } = edge.dataset;
        edge.classList.toggle("before", before.has(source) && before.has(target));
        edge.classList.toggle("after", after.has(source) && after.has(target));
      }
    }

    function mark() {
      for (const [name, link] of Object.entries(links)) {
        const state = store.state(name);
        link.classList.toggle("right", state === "right");
        link.classList.toggle("wrong", state === "wrong" || state === "undefined");
        link.querySelector(".mark").textContent = MARKS[state];
        link.setAttribute("aria-label", labels[name] + (SPOKEN[state] && ` Gradient ${SPOKEN[state]}.`));
      }
    }

    function show() {
      for (const [name, link] of Object.entries(links)) {
        if (name === store.current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      // Only the box scrolls, never the page.
      const shown = links[store.current].getBoundingClientRect();
      const window = box.getBoundingClientRect();
      if (shown.top < window.top + 20) box.scrollTop += shown.top - window.top - 60;
      else if (shown.bottom > window.bottom - 20) box.scrollTop += shown.bottom - window.bottom + 60;
      const focused = document.activeElement?.closest?.(".node");
      if (focused && focused !== links[store.current]) links[store.current].focus({ preventScroll: true });
    }

    for (const [name, link] of Object.entries(links)) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        store.select(name);
      });
      link.addEventListener("mouseenter", () => highlight(name));
      link.addEventListener("mouseleave", () => highlight(null));
      link.addEventListener("focus", () => link.matches(":focus-visible") && highlight(name));
      link.addEventListener("blur", () => highlight(null));
    }
    store.subscribe((what) => (what === "current" ? show() : mark()));
    mark();
    show();
  }

  return { create };
})();
