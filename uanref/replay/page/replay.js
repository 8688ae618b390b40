// The page: its parts, its buttons, its keys. `replay` is there for a curious reader's console.

"use strict";

const replay = (() => {
  const { el, byId, tick } = dom;
  const { named } = curves;
  const root = document.documentElement;
  root.classList.remove("no-script");
  const short = new URLSearchParams(location.hash.slice(1)).has("short");
  root.classList.toggle("short", short);
  const data = JSON.parse(byId("data").textContent);
  const { runs } = data;
  const quiet = matchMedia("(prefers-reduced-motion: reduce)");
  const time = times.create(runs, () => quiet.matches);
  const jumps = jump.create(byId("pages").textContent, byId("derivation"));
  let film = null;

  // --- which layer and channel ---

  const layers = [...new Set(runs.flatMap((run) => run.layers.map((layer) => layer.name)))];
  const layerOf = (run) => run.layers.find((layer) => layer.name === layers[byId("layer").selectedIndex]) ?? null;
  const kinds = (name) => [...new Set(runs.flatMap((run) => run.layers.filter((layer) => layer.name === name).map((layer) => layer.kind)))].join(" | ");
  byId("layer").append(...layers.map((name, i) => el("option", { value: String(i) }, `${name}: ${kinds(name)}`)));

  function offerChannels() {
    const found = [...new Set(runs.flatMap((run) => layerOf(run)?.channels ?? []))].sort((a, b) => a - b);
    const chosen = byId("channel").value;
    byId("channel").replaceChildren(...found.map((channel) => el("option", { value: String(channel) }, String(channel))));
    if (chosen !== "" && found.includes(Number(chosen))) byId("channel").value = chosen;
  }

  // A run's view: {layer, c}, null where it has no such layer or channel.
  function viewOf(run) {
    const layer = layerOf(run);
    const c = layer ? layer.channels.indexOf(Number(byId("channel").value)) : -1;
    return c < 0 ? null : { layer, c };
  }

  // --- one column a run ---

  const columns = runs.map((run, i) => {
    const stepping = el("button", { type: "button", class: "step-through", title: "Step through this moment", onclick: () => through(i) },
      "Step through", el("span", { class: "word" }, " this moment"));
    const place = el("div", { class: "drawing" });
    const stopped = el("p", { class: "stopped", hidden: true });
    const why = el("p", { class: "small why", hidden: true });
    const section = el("section", { class: `run run${i + 1}`, "aria-label": run.title },
      el("div", { class: "heading" }, el("h2", {}, el("i", { class: `swatch run${i + 1}` }), ` ${run.title}`), stepping), stopped, place, why);
    byId("runs").append(section);
    return { run, section, place, stopped, why, stepping, drawing: picture.create(place, short) };
  });
  byId("runs").classList.toggle("two", runs.length > 1);
  const graphs = short ? null : curves.create(runs, time, byId("curves"));

  function through(i) {
    if (time.playing) time.play();
    const view = viewOf(runs[i]);
    const t = time.momentOf(runs[i]);
    jumps.open(view.layer, t, view.c, `${runs[i].title}, step ${runs[i].steps[t]}, ${named(view.layer.name)}, channel ${byId("channel").value}`);
  }

  // --- drawing ---

  function shoot() {
    const views = runs.map(viewOf);
    const made = moment.film(data, views.filter(Boolean));
    let next = 0;
    film = { ...made, views, frames: views.map((view) => (view ? made.frames[next++] : null)) };
    byId("key").replaceChildren(picture.legend(film, film.frames.map((frames) => frames?.[0])));
    draw();
  }

  function draw() {
    const shown = columns.map(({ run, place, stopped, why, stepping, drawing }, i) => {
      const view = film.views[i];
      const t = time.momentOf(run);
      stepping.hidden = !view?.layer.page;
      place.hidden = !view;
      why.hidden = Boolean(view) && !picture.why(view.layer);
      why.textContent = view ? picture.why(view.layer)
        : run.layers.length ? "This run has no such layer or channel." : "This network has no norm layer: see its curves.";
      const over = time.over(run);
      stopped.hidden = !over && (!run.stopped || t < run.steps.length - 1);
      stopped.classList.toggle("ended", !run.stopped); // no fault: it was shorter
      stopped.textContent = `This run ${run.stopped ? `stopped: ${run.stopped}` : "ended"}. Its last recorded moment, step ${run.steps[run.steps.length - 1]}, stays.`;
      if (!view) return null;
      const frame = film.frames[i][t];
      const { layer, c } = view;
      drawing.draw(film, frame, { mean: layer.mean[t][c], variance: layer.variance[t][c] }, layer.mode, `${run.title}, step ${run.steps[t]}`);
      const title = run.title + (run.steps[t] === time.step ? "" : `, step ${run.steps[t]}`); // runs of other lengths are recorded at other steps
      return { title, run, layer, c, t, frame };
    });
    byId("honest").replaceChildren(...picture.honest(film.views.map((view) => view?.layer)).map((told) => el("p", {}, told)));
    // Runs whose batches are not alike are not in the same epoch.
    const epochs = [...new Set(runs.map((run) => tick(Number((time.step / run.stepsPerEpoch).toFixed(1)))))].join(" | ");
    const told = `step ${time.step} of ${time.steps[time.steps.length - 1]}`;
    byId("position").textContent = short ? told : `${told}, epoch ${epochs}`;
    byId("time").value = String(time.at);
    byId("time").setAttribute("aria-valuetext", byId("position").textContent);
    graphs?.update();
    if (!short) numbers.draw(byId("table"), shown, `${named(layers[byId("layer").selectedIndex])} (${kinds(layers[byId("layer").selectedIndex])}), channel ${byId("channel").value}, step ${time.step}`);
  }

  function playing() {
    const name = quiet.matches ? "Next moment" : time.playing ? "Pause" : "Play";
    byId("play").textContent = `${time.playing ? "❚❚" : "▶"} ${name}`;
    byId("play").setAttribute("aria-pressed", String(time.playing));
    byId("position").setAttribute("aria-live", time.playing ? "off" : "polite"); // not told four times a second
  }

  // --- what the reader does ---

  byId("time").max = String(time.steps.length - 1);
  byId("time").addEventListener("input", () => time.go(Number(byId("time").value)));
  byId("play").addEventListener("click", time.play);
  byId("layer").addEventListener("change", () => {
    offerChannels();
    shoot();
  });
  byId("channel").addEventListener("change", shoot);
  quiet.addEventListener("change", playing);
  const keys = {
    " ": time.play, ArrowRight: () => time.go(time.at + 1), ArrowLeft: () => time.go(time.at - 1),
    Home: () => time.go(0), End: () => time.go(time.steps.length - 1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("derivation").open) return;
    const used = event.key === " " ? "select, button, summary" : "select, input"; // a slider has no use for space
    if (event.target.closest?.(used)) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => (byId("theme").textContent = isDark() ? "Light" : "Dark");
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  nameTheme();

  const recorded = [data.every > 1 && `one of every ${data.every} recorded moments`, data.channels < 4 && `at most ${data.channels} of each layer's recorded channels`];
  if (recorded.some(Boolean)) byId("every").textContent = `To keep the page small it holds ${recorded.filter(Boolean).join(" and ")}.`;
  time.subscribe((what) => (what === "moment" ? draw() : playing()));
  playing();
  offerChannels();
  shoot();
  graphs?.draw();
  new ResizeObserver(() => {
    draw();
    graphs?.draw();
  }).observe(byId("runs"));

  return { data, time, get film() { return film; } };
})();
