// The graph: which node is shown, what is put into it, what depends on it, which gradients are proven. It fits its box
// as long as its names stay readable; else the box scrolls, and the node looked at stays in view.

"use strict";

const graph = (() => {
  const MARKS = { none: "", checking: "…", right: "✓", wrong: "✗", undefined: "?", unproven: "?" };
  const SPOKEN = { none: "", checking: "being checked", right: "proven", wrong: "wrong", undefined: "no number", unproven: "not to be proven" };
  const SMALLEST = 0.75; // symbols of 15 px and names of 11 px can still be read
  const LARGEST = 1.5;
  const PROJECTED = 2; // in the size for a class

  function create(store, box) {
    const svg = box.querySelector("svg");
    const [width, height] = svg.getAttribute("viewBox").split(" ").slice(2).map(Number);
    const links = Object.fromEntries([...svg.querySelectorAll(".node")].map((link) => [link.dataset.name, link]));
    const labels = Object.fromEntries(Object.entries(links).map(([name, link]) => [name, link.getAttribute("aria-label")]));
    const edges = [...svg.querySelectorAll(".edge")];
    const inputsOf = (name) => store.byName[name].inputs ?? [];
    const usersOf = (name) => Object.values(store.byName).filter((node) => inputsOf(node.name).includes(name)).map((node) => node.name);
    // What it is readable in: where three columns of numbers leave little room, it takes no more.
    box.closest(".columns").style.setProperty("--graph", `${Math.ceil(width * SMALLEST) + 6}px`);
    const travel = flow.create(store, svg, edges);

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
      count();
    }

    // Under way, a gradient's parts are counted: "2/3" have arrived.
    function count() {
      for (const [name, link] of Object.entries(links)) {
        const { users, all } = store.arrived(name);
        const partly = store.phase !== "forward" && users.length < all.length && users.length > 0;
        link.querySelector(".count").textContent = partly ? `${users.length}/${all.length}` : "";
      }
    }

    function show() {
      for (const [name, link] of Object.entries(links)) {
        if (name === store.current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      count();
      fit();
      const focused = document.activeElement?.closest?.(".node");
      if (focused && focused !== links[store.current]) links[store.current].focus({ preventScroll: true });
    }

    // Only the box scrolls, never the page. A node's neighbours shall be seen with it, where there is room.
    function reveal() {
      const shown = links[store.current].querySelector("rect").getBoundingClientRect();
      const window = box.getBoundingClientRect();
      const room = Math.min(90, Math.max(0, (window.height - shown.height) / 2 - 4));
      if (shown.top < window.top + room) box.scrollTop += shown.top - window.top - room;
      else if (shown.bottom > window.bottom - room) box.scrollTop += shown.bottom - window.bottom + room;
      if (shown.left < window.left + 4 || shown.right > window.right - 4)
        box.scrollLeft += (shown.left + shown.right - window.left - window.right) / 2;
    }

    function fit() {
      const across = (box.clientWidth - 2) / width;
      const whole = Math.min(across, (box.clientHeight - 2) / height, LARGEST);
      const big = document.documentElement.classList.contains("big"); // as wide as its box
      const scale = Math.max(big ? Math.min(across, PROJECTED) : whole, Math.min(across, SMALLEST), 0.68);
      svg.setAttribute("width", Math.floor(width * scale));
      svg.setAttribute("height", Math.floor(height * scale));
      reveal();
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
    store.subscribe((what) => {
      if (what === "current") show();
      else mark();
      if (what !== "proofs") travel.draw(what === "current");
    });
    new ResizeObserver(fit).observe(box);
    mark();
    show();
    fit();
    travel.draw(false);
  }

  return { create };
})();
