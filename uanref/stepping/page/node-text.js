// How the panel speaks of nodes: their names, their facts, how much of a gradient has arrived.

"use strict";

const nodeText = (() => {
  const { el, math } = dom;

  function create(store) {
    const { exported } = store;

    // A node is called the same everywhere: its symbol, and its name in the code.
    const named = (name) => {
      const symbol = math(store.byName[name].math);
      return symbol.textContent === name ? [symbol] : [symbol, " ", el("code", {}, name)];
    };
    const link = (name) => el("button", { type: "button", class: "plain", "aria-label": name, onclick: () => store.select(name) }, named(name));
    const links = (names) => names.flatMap((name, i) => (i ? [", ", link(name)] : [link(name)]));
    const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
    const slope = (name) => el("span", { class: "d" }, el("i", {}, "d"), math(store.byName[name].math));

    // "dx: 2 of 3 parts have arrived": what += adds up.
    const count = (name, arrived, all) => el("span", {}, slope(name),
      arrived === all ? (all === 1 ? ": its only part has arrived." : `: all ${all} parts have arrived.`)
        : `: ${arrived} of ${all} parts ${arrived === 1 ? "has" : "have"} arrived, ${arrived ? "the sum so far" : "nothing yet"}.`);

    function facts(node) {
      const { shape } = store.traced.values[node.name];
      const size = node.axes.length
        ? `${node.axes.join(" × ")} = ${shape.join(" × ")} (${node.axes.map((axis) => exported.axes[axis]).join(", ")})`
        : "a single number";
      const users = Object.keys(store.traced.contributions[node.name]);
      const used = users.length ? users : store.nodes.filter((other) => other.inputs?.includes(node.name)).map((other) => other.name);
      const rows = [["Shape", size]];
      if (used.length) rows.push(["Used by", links(used)]);
      if (node.source) rows.push(["Source", node.source]);
      if (node.file) rows.push(["Written in", place(node)]);
      return el("dl", { class: "facts" }, rows.map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
    }

    function place(node) {
      const code = el("code", { class: "place" }, `${node.file}:${node.line}`);
      const button = el("button", {
        type: "button",
        onclick: async () => {
          getSelection().selectAllChildren(code); // what the clipboard refuses the reader can copy from here
          try {
            await navigator.clipboard.writeText(code.textContent);
            button.textContent = "Copied";
          } catch {
            button.textContent = "Selected";
          }
        },
      }, "Copy");
      return [code, " ", button];
    }

    const slip = (user, name) => store.mistake?.step === user && store.mistake.input === name
      ? el("p", { class: "wrong" }, `✗ planted here: ${store.mistake.description}`) : null;

    return { named, link, sentence, slope, count, facts, slip };
  }

  return { create };
})();
