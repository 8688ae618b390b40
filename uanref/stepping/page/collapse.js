// The collapse: from the staged gradient to the compact formula, line by line, each evaluated and held to the one before.

"use strict";

const collapse = (() => {
  const { el, math, equation, number, error } = dom;

  function create(store, section) {
    const { collapse: found } = store.exported;
    if (!found.length) {
      section.remove();
      return;
    }
    let shown = found[0];
    const reading = el("span");
    const slider = el("input", { type: "range", id: "line", min: 1, value: 1, step: 1, oninput: () => show() });
    const which = el("select", { onchange: () => { shown = found[which.selectedIndex]; slider.value = 1; show(); } },
      found.map(({ name }) => el("option", {}, name)));
    const lines = el("ol", { class: "lines" });
    const value = el("div");
    section.append(
      el("h2", { id: "collapse-title" }, "The collapse"),
      el("p", {}, "From the staged gradient to the formula that the layer uses. Every line is evaluated."),
      el("div", { class: "controls" }, found.length > 1 ? el("label", {}, "Gradient of", which) : null,
        el("label", { class: "wide" }, el("span", {}, "Line ", reading), slider)),
      lines, value,
    );

    function show() {
      // The first line that is not equal to the one before would tell where a mistake stands.
      slider.disabled = which.disabled = store.secret;
      if (store.secret) {
        reading.textContent = "";
        lines.replaceChildren();
        return value.replaceChildren(el("p", {}, "A mistake is planted unseen: find it, or stop the game, under “Find it”."));
      }
      const at = Number(slider.value) - 1;
      slider.max = shown.lines.length;
      reading.textContent = `${at + 1} of ${shown.lines.length}`;
      slider.setAttribute("aria-valuetext", `${at + 1} of ${shown.lines.length}: ${shown.lines[at].why}`);
      const node = store.byName[shown.name];
      const values = shown.lines.slice(0, at + 1).map((line) =>
        derivation.evaluateIn(store.exported, store.traced, line.expression, shown.name));
      lines.replaceChildren(...values.map((value, i) => el("li", i === at ? { "aria-current": "true" } : {},
        equation(shown.lines[i].equation), el("p", {}, shown.lines[i].why), i ? check(values[i - 1], value) : null)));
      const open = value.querySelector("details")?.open;
      const planted = store.mistake ? el("p", {}, "A mistake is planted: the gradients that the lines are evaluated with follow it.") : null;
      value.replaceChildren(...(planted ? [planted] : []), el("details", { open: open ?? true },
        el("summary", {}, "The value of this line, and what is put in"),
        el("div", { class: "put-in" },
          el("div", { class: "line-value" }, el("h4", {}, el("i", {}, "d"), math(node.math), " ="), table(values[at])),
          putIn(shown.lines[at].expression).map((part) => el("div", { "data-of": part.of }, el("h4", {}, part.title), table(part.value))))));
    }

    const table = (value) => arrays.table(value, store.exported.axes).element;

    // What an expression is made of, each thing once: values, gradients, and the softmax of a value, which has a letter of
    // its own in the line but is no node.
    function putIn(expression) {
      const found = new Map();
      const visit = ([op, options, ...args]) => {
        const [name] = op === "ref" ? options : op === "softmax" && args[0][0] === "ref" ? args[0][1] : [];
        if (name === undefined) return args.forEach(visit);
        const gradient = name.startsWith("d_") && !store.byName[name];
        const bare = gradient ? name.slice(2) : name;
        const letter = [gradient ? el("i", {}, "d") : "", math(store.byName[bare].math)];
        const value = (gradient ? store.traced.gradients : store.traced.values)[bare];
        if (op === "ref") found.set(name, { of: name, title: letter, value });
        else found.set(`softmax ${name}`, { of: `softmax ${name}`, title: ["softmax of ", letter], value: primitives.evaluate([op, options, ...args], store.traced.values, store.exported.sizes) });
      };
      visit(expression);
      return [...found.values()];
    }

    // "equal": as exactly as the proofs.
    function check(before, now) {
      const apart = now.data.reduce((most, x, i) => Math.max(most, Math.abs(x - before.data[i])), 0);
      const equal = derivation.relativeError(now, before) <= store.data.tolerance;
      return el("p", { class: "check" }, el("span", { class: equal ? "right" : "wrong" }, equal ? "✓ equal to the line before" : "✗ not equal to the line before"),
        `: largest difference ${apart ? error(apart) : number(0)}`);
    }

    store.subscribe((what) => what === "numbers" && show());
    show();
  }

  return { create };
})();
