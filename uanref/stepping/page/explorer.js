// The page: its parts, its buttons, its keys. `explorer` is there for a curious reader's console.

"use strict";

const explorer = (() => {
  const { byId } = dom;
  document.documentElement.classList.remove("no-script");
  const state = store.create(JSON.parse(byId("data").textContent));
  state.reset();
  const questions = quiz.create(state);
  graph.create(state, byId("map"));
  const panel = nodePanel.create(state, questions, byId("panel"));
  mistakes.create(state, byId("mistakes"), byId("map"));
  const finder = game.create(state, byId("game"));
  collapse.create(state, byId("collapse"));
  const channel = mixture.create(state, byId("mixture"));
  nodesTable.create(state, byId("table"), byId("verdict"));
  const views = tabs.create(document.querySelector("[role=tablist]"));
  const player = play.create(state, byId("play"));

  // --- the walk ---

  const PHASES = { forward: ", forward", loss: ", the loss", backward: ", backward" };

  function position() {
    const { at, road, current, phase } = state;
    const name = current === "loss" ? "L" : current;
    byId("position").textContent = at === null ? `beside the road: ${name}` : `${at + 1} of ${road.length}: ${name}${PHASES[phase]}`;
    document.body.dataset.phase = phase;
    // Not `disabled`: a button that has the focus must not lose it at the end of the road.
    for (const [ids, ended] of [[["first", "back"], at === 0], [["forward", "last"], at === road.length - 1]])
      ids.forEach((id) => byId(id).setAttribute("aria-disabled", String(ended)));
  }

  const walk = {
    first: () => state.go(0),
    back: () => state.move(-1),
    forward: () => state.move(1),
    last: () => state.go(state.road.length - 1),
  };

  function toggleHelp() {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  }

  const keys = {
    ArrowRight: walk.forward, f: walk.forward, ArrowLeft: walk.back, b: walk.back,
    Home: walk.first, End: walk.last, p: player.toggle, q: () => lesson.quiz.toggle(), "?": toggleHelp,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.("input, select, textarea")) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  const buttons = { ...walk, play: player.toggle, help: toggleHelp, reset: state.reset };
  for (const [id, action] of Object.entries(buttons)) byId(id).addEventListener("click", action);
  state.subscribe((what) => what === "current" && position());
  position();

  // --- light and dark ---

  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => (byId("theme").textContent = isDark() ? "Light" : "Dark");
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // Last, for it may go to the stop, the tab and the numbers that a link names.
  const lesson = classroom.create(state, { questions, finder, panel, views });
  return { state, channel, panel, views, player, lesson };
})();
