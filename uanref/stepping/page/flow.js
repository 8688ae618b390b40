// What travels along the edges: forward values into the step looked at, backward gradients to its inputs, with their
// numbers. How wide an edge is tells how large the gradient is that went back along it.

"use strict";

const flow = (() => {
  const { svg: make, number } = dom;
  const LASTS = 700; // milliseconds under way
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // Each step of width is ten times as much, from 1e-4 to 10.
  const widthOf = (size) => (size > 0 ? 1.2 + 0.85 * Math.min(Math.max(Math.log10(size) + 4, 0), 5) : 1.2);

  function create(store, svg, edges) {
    const labels = make("g", { class: "labels", "aria-hidden": "true" });
    const tokens = make("g", { class: "tokens", "aria-hidden": "true" });
    svg.append(labels, tokens);
    const width = Number(svg.getAttribute("viewBox").split(" ")[2]);
    let running = null;
    let before = store.last;

    const partOf = ({ source, target }) => store.traced.contributions[source]?.[target];

    function draw(moved) {
      const { road, last, current } = store;
      const back = store.phase !== "forward";
      const passed = new Set(back ? road.slice(0, last + 1).filter((stop) => stop.phase !== "forward").map((stop) => stop.node) : []);
      labels.replaceChildren();
      const now = edges.filter((edge) => edge.dataset.target === current && (!back || partOf(edge.dataset)));
      for (const edge of edges) {
        const part = partOf(edge.dataset);
        const sent = Boolean(part) && passed.has(edge.dataset.target);
        edge.classList.toggle("now", now.includes(edge));
        edge.classList.toggle("sent", sent);
        edge.style.strokeWidth = sent && !store.hides(edge.dataset.source) ? `${widthOf(arrays.largestOf(part)).toFixed(2)}px` : "";
        if (sent && now.includes(edge)) label(edge, part);
      }
      tokens.replaceChildren();
      cancelAnimationFrame(running);
      if (moved && !still.matches && last === before + 1) run(now, back);
      before = last;
    }

    // A single number as it is; of an array its largest entry's size.
    function label(edge, part) {
      const hidden = store.hides(edge.dataset.source);
      const single = part.data.length === 1;
      const size = single ? part.data[0] : arrays.largestOf(part);
      const length = edge.getTotalLength();
      const { x, y } = edge.getPointAtLength(length < 150 ? Math.min(15, length / 2) : length - 135);
      const text = hidden ? "?" : `${single ? "" : "≤ "}${number(size)}`;
      const half = 3.4 * text.length + 4;
      const middle = Math.min(Math.max(x, half + 1), width - half - 1);
      labels.append(
        make("rect", { x: (middle - half).toFixed(1), y: (y - 8).toFixed(1), width: (2 * half).toFixed(1), height: 16, rx: 4 }),
        make("text", {
          class: "flow", x: middle.toFixed(1), y: (y + 4).toFixed(1), "data-source": edge.dataset.source,
          "data-target": edge.dataset.target, "data-size": hidden ? "" : String(size),
        }, text),
      );
    }

    function run(now, back) {
      const start = performance.now();
      const moving = now.map((edge) => ({ edge, length: edge.getTotalLength(), token: make("circle", { class: back ? "token back" : "token", r: 5 }) }));
      tokens.append(...moving.map(({ token }) => token));
      const frame = (time) => {
        const share = Math.min(Math.max((time - start) / LASTS, 0), 1);
        for (const { edge, length, token } of moving) {
          const { x, y } = edge.getPointAtLength(length * (back ? 1 - share : share));
          token.setAttribute("cx", x.toFixed(1));
          token.setAttribute("cy", y.toFixed(1));
        }
        if (share < 1) running = requestAnimationFrame(frame);
        else tokens.replaceChildren();
      };
      running = requestAnimationFrame(frame);
    }

    return { draw };
  }

  return { create, widthOf };
})();
