// The page: its parts, its buttons, its keys. `explorer` is there for a curious reader's console.

"use strict";

const explorer = (() => {
  const { byId, error } = dom;
  document.documentElement.classList.remove("no-script");
  const state = store.create(JSON.parse(byId("data").textContent));
  state.reset();
  const questions = quiz.create(state);
  graph.create(state, byId("map"));
  const panel = nodePanel.create(state, questions, byId("panel"));
  mistakes.create(state, byId("mistakes"));
  collapse.create(state, byId("collapse"));
  const channel = mixture.create(state, byId("mixture"));

  // --- the walk ---

  function position() {
    const at = state.nodes.findIndex((node) => node.name === state.current);
    byId("position").textContent = `${at + 1} of ${state.nodes.length}: ${state.current}`;
    // Not `disabled`: a button that has the focus must not lose it at the end of the walk.
    for (const [ids, ended] of [[["first", "back"], at === 0], [["forward", "last"], at === state.nodes.length - 1]])
      ids.forEach((id) => byId(id).setAttribute("aria-disabled", String(ended)));
  }

  const walk = {
    first: () => state.select(state.nodes[0].name),
    back: () => state.move(-1),
    forward: () => state.move(1),
    last: () => state.select(state.nodes[state.nodes.length - 1].name),
  };

  function toggleQuiz() {
    if (!state.proven.length) return;
    questions.toggle();
    byId("quiz").setAttribute("aria-pressed", String(questions.on));
    document.body.classList.toggle("quiz", questions.on);
    panel.draw();
  }

  function toggleHelp() {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  }

  const keys = {
    ArrowRight: walk.forward, f: walk.forward, ArrowLeft: walk.back, b: walk.back,
    Home: walk.first, End: walk.last, q: toggleQuiz, "?": toggleHelp,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.("input, select, textarea")) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  for (const [id, action] of Object.entries({ ...walk, quiz: toggleQuiz, help: toggleHelp, reset: state.reset }))
    byId(id).addEventListener("click", action);
  byId("quiz").hidden = !state.proven.length;

  // --- light and dark ---

  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => (byId("theme").textContent = isDark() ? "Light" : "Dark");
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  nameTheme();

  // --- the table of all nodes ---

  const rows = [...document.querySelectorAll("table.nodes > tbody > tr")].map((row) => {
    const { name } = row.dataset;
    const tables = { values: row.querySelector(".value"), gradients: row.querySelector(".gradient") };
    const made = {};
    return {
      name, row,
      update() {
        for (const [kind, place] of Object.entries(tables)) {
          if (!place) continue;
          const value = state.traced[kind][name];
          if (!made[kind]) {
            made[kind] = arrays.table(value, state.exported.axes, { title: kind === "values" ? "Value" : "Gradient" });
            place.replaceChildren(made[kind].element);
          } else made[kind].update(value);
        }
      },
    };
  });

  function proofs() {
    const states = rows.map(({ name, row }) => {
      const now = state.state(name);
      const text = { none: "no gradient", checking: "… checking", undefined: "no number" };
      row.querySelector(".error").textContent = text[now] ?? `${now === "right" ? "✓" : "✗"} ${error(state.error(name))}`;
      row.classList.toggle("wrong-row", now === "wrong" || now === "undefined");
      return now;
    });
    const verdict = byId("verdict");
    const many = (kind) => states.filter((now) => now === kind).length;
    if (!state.proven.length) return;
    const worst = state.proven.filter((name) => state.numerical(name)).reduce((most, name) => Math.max(most, state.error(name)), 0);
    verdict.textContent =
      (many("checking") ? `… checking: ${many("checking")} gradients are still to be proven. ` : "") +
      (many("wrong") + many("undefined") ? `✗ ${many("wrong") + many("undefined")} gradients are wrong. ` : "") +
      `Largest relative error of ${state.proven.length - many("checking")} gradients against the numerical ones: ` +
      `${error(worst)} (allowed: ${state.data.tolerance.toExponential(0)}).`;
    verdict.classList.toggle("wrong", many("wrong") + many("undefined") > 0);
  }

  state.subscribe((what) => {
    if (what === "current") position();
    else proofs();
    if (what === "numbers") rows.forEach((row) => row.update());
  });
  position();
  proofs();
  rows.forEach((row) => row.update());

  return { state, channel };
})();
