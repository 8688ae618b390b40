// The table of all nodes, and the verdict on all gradients.

"use strict";

const nodesTable = (() => {
  const { error } = dom;

  function create(store, table, verdict) {
    const rows = [...table.querySelectorAll("table.nodes > tbody > tr")].map((row) => {
      const { name } = row.dataset;
      const places = { values: row.querySelector(".value"), gradients: row.querySelector(".gradient") };
      const made = {};
      return {
        name, row,
        update() {
          for (const [kind, place] of Object.entries(places)) {
            if (!place) continue;
            const value = store.traced[kind][name];
            if (!made[kind]) {
              made[kind] = arrays.table(value, store.exported.axes, { title: kind === "values" ? "Value" : "Gradient" });
              place.replaceChildren(made[kind].element);
            } else made[kind].update(value);
          }
        },
      };
    });

    function proofs() {
      const states = rows.map(({ name, row }) => {
        const now = store.state(name);
        const text = { none: "no gradient", checking: "… checking", undefined: "no number", unproven: "no number" };
        const given = name === store.loss?.name ? "where it starts" : null;
        row.querySelector(".error").textContent = given ?? text[now] ?? `${now === "right" ? "✓" : "✗"} ${error(store.error(name))}`;
        row.classList.toggle("wrong-row", now === "wrong" || now === "undefined");
        return now;
      });
      if (!store.proven.length) return;
      const many = (kind) => states.filter((now) => now === kind).length;
      const are = (n) => (n === 1 ? "1 gradient is" : `${n} gradients are`);
      const wrong = many("wrong") + many("undefined");
      const judged = store.proven.filter((name) => !["checking", "unproven"].includes(store.state(name)));
      const worst = judged.reduce((most, name) => Math.max(most, store.error(name)), 0);
      verdict.setAttribute("aria-busy", String(many("checking") > 0)); // read aloud once, at the end
      verdict.textContent =
        (many("checking") ? `… checking: ${are(many("checking"))} still to be proven. ` : "") +
        (wrong ? `✗ ${are(wrong)} wrong. ` : "") +
        (many("unproven") ? `Gradients without a numerical one, as a later step overflows: ${many("unproven")}. ` : "") +
        (judged.length
          ? `Largest relative error of ${judged.length} gradients against the numerical ones: ` +
            `${error(worst)} (allowed: ${error(store.data.tolerance, 0)}).` : "");
      verdict.classList.toggle("wrong", wrong > 0);
    }

    const update = () => rows.forEach((row) => row.update());
    store.subscribe((what) => {
      if (what !== "current") proofs();
      if (what === "numbers") update();
    });
    proofs();
    update();
  }

  return { create };
})();
