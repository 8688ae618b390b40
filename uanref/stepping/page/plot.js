// Panels of one channel that share their x axis: what the explorer's mixture and the replay of a training draw with.
// Colours are classes (k1 to k5), for the page's policy allows no style in markup.

"use strict";

const plot = (() => {
  const { svg, tick } = dom;
  const LEFT = 34;
  const RIGHT = 8;
  const COLORS = 5;

  const color = (k) => `k${(k % COLORS) + 1}`;

  // An x axis: `domain` in numbers, `width` in pixels. `format` writes the numbers beside a panel; at most `many` marks.
  function axis({ domain, width, left = LEFT, right = RIGHT, format = tick, many = 10 }) {
    const [low, high] = domain;
    const inner = width - left - right;
    const at = (x) => left + ((x - low) / (high - low)) * inner;
    const xAt = (pixel) => low + ((pixel - left) / inner) * (high - low);
    // A curve ends where it leaves its panel, and begins again where it comes back.
    const path = (xs, ys, up) => {
      let drawing = false;
      return Array.from(xs, (x, i) => {
        const pen = drawing ? "L" : "M";
        drawing = up.holds(ys[i]);
        return drawing ? `${pen}${at(x).toFixed(1)} ${up(ys[i]).toFixed(1)}` : "";
      }).join("");
    };

    // A panel: its frame, its marks, and how its numbers become heights.
    function panel(top, height, [least, most], title, ticks, { xLabels = true } = {}) {
      const up = (y) => top + height - ((Math.min(Math.max(y, least), most) - least) / (most - least || 1)) * height;
      up.holds = (y) => y >= least && y <= most;
      const parts = [
        svg("text", { class: "title", x: left, y: top - 7 }, title),
        svg("path", { class: "axis", d: `M${left} ${top}V${top + height}H${width - right}` }),
        ...ticks.map((y) => svg("text", { x: left - 4, y: up(y) + 4, "text-anchor": "end" }, format(y))),
        ...marks(domain, many).flatMap((x) => [
          svg("path", { class: "axis", d: `M${at(x)} ${top + height}v4` }),
          xLabels && svg("text", { x: at(x), y: top + height + 15, "text-anchor": "middle" }, tick(x)),
        ]).filter(Boolean),
      ];
      return { up, parts, top, height };
    }

    // Bars {x, wide, high} of a histogram as density.
    const bars = (found, up) => found.map((bar) => svg("rect", {
      class: "bar", x: at(bar.x), width: at(bar.x + bar.wide) - at(bar.x), y: up(bar.high), height: up(0) - up(bar.high),
    }));
    const rug = (xs, up) => xs.map((x) => svg("path", { class: "rug", d: `M${at(x)} ${up(0)}v-7` }));
    const dots = (xs, ys, up) => xs.map((x, i) => svg("circle", { class: "dot", r: 3, cx: at(x), cy: up(ys[i]) }));
    const curve = (kind, xs, ys, up) => svg("path", { class: kind, d: path(xs, ys, up) });

    return { at, xAt, path, panel, bars, rug, dots, curve, width, left, right };
  }

  // Round numbers in the domain, `many` at most, however far an edited entry lies.
  function marks([low, high], many = 10) {
    const wide = high - low;
    const ten = 10 ** Math.floor(Math.log10(wide));
    const rough = wide > 60 || wide < 3 || many < 10;
    const every = rough ? [1, 2, 5, 10].map((n) => (n * ten) / 5).find((n) => wide / n <= many) : wide > 14 ? 5 : wide > 8 ? 2 : 1;
    const found = [];
    for (let n = Math.ceil(low / every); n <= high / every; ++n) found.push(n * every);
    return found;
  }

  // `many` bars of equal width over the domain, as density; what lies outside counts in the outermost.
  function histogram(xs, [low, high], many) {
    const wide = (high - low) / many;
    const counts = new Array(many).fill(0);
    for (const x of xs) counts[Math.min(many - 1, Math.max(0, Math.floor((x - low) / wide)))] += 1;
    return counts.map((count, i) => ({ x: low + i * wide, wide, high: count / xs.length / wide }));
  }

  const grid = ([low, high], many) => Array.from({ length: many + 1 }, (_, i) => low + (i / many) * (high - low));

  // What stands in the place of a drawing: one sentence.
  const sentence = (picture, width, told) => fill(picture, width, 40, told, [svg("text", { class: "title", x: 0, y: 24 }, told)]);

  function fill(picture, width, height, label, parts) {
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", height);
    picture.setAttribute("aria-label", label);
    picture.replaceChildren(...parts);
  }

  // The key to a drawing: pairs of a class and what it stands for.
  const legend = (pairs) => dom.el("ul", { class: "key" }, pairs.map(([kind, told]) => dom.el(
    "li", {}, svg("svg", { class: "plot sample", viewBox: "0 0 26 10", "aria-hidden": "true" },
      svg("path", { class: kind, d: "M1 5H25" })), ` ${told}`)));

  return { axis, color, marks, histogram, grid, fill, sentence, legend };
})();
