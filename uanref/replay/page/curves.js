// Loss, accuracy and gradient norms of all runs over the steps, with the moment marked; a click goes to a moment.

"use strict";

const curves = (() => {
  const { el, svg, number, tick } = dom;
  const LOG_FROM = 100; // the ratio of largest to smallest loss from which the axis is logarithmic
  const RAISED = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((sign, digit) => [digit, sign])) };
  const HEIGHTS = { large: 84, small: 40 };

  function create(runs, time, place) {
    const last = Math.max(1, ...time.steps, ...runs.flatMap((run) => run.epochs.map((epoch) => epoch.step)));
    const shown = [];
    let marks = [];

    const of = (name) => runs.map((run) => ({ steps: run.steps, ys: run[name] }));
    const layers = alike(runs);

    add("Loss of the batch", "loss", of("loss"), { least: 0 });
    add("Accuracy (○ held-out images)", "accuracy", of("accuracy"), {
      range: [0, 1], dots: runs.map((run) => run.epochs.map((epoch) => [epoch.step, epoch.accuracy])),
    });
    const several = layers.length > 4;
    const minis = el("div", { class: several ? "minis two" : "minis" });
    if (layers.length) place.append(el("h3", {}, "Norm of each layer's gradient"), minis);
    const norms = runs.flatMap((run) => run.gradients.flatMap((one) => one.norm));
    for (const { kind, ofRuns } of layers) {
      const names = [...new Set(ofRuns.filter(Boolean).map((one) => one.name))];
      const told = `${kind} ${names.join(" | ")}`;
      const title = names.length > 1 ? names.join(" | ") : named(names[0], kind); // two names leave no room for more
      const lines = runs.map((run, i) => ({ steps: run.steps, ys: ofRuns[i]?.norm ?? [] }));
      add(title, `gradient ${told}`, lines, { log: true, all: norms, into: minis, height: HEIGHTS.small, told });
    }

    function add(title, what, lines, options) {
      const drawing = svg("svg", { class: "plot curves", role: "img", "data-curve": what });
      const readout = el("span", { class: "readout" });
      (options.into ?? place).append(el("figure", {}, el("figcaption", {}, el("span", { title: options.told ?? title }, title), readout), drawing));
      shown.push({ drawing, readout, lines, title, options });
      drawing.addEventListener("click", (event) => {
        const box = drawing.getBoundingClientRect();
        time.go(time.nearest(axis(drawing).xAt(((event.clientX - box.left) / box.width) * widthOf(drawing))));
      });
    }

    const widthOf = (drawing) => Math.max(110, drawing.parentElement.clientWidth || 300);
    const power = (y) => `10${[...String(y)].map((sign) => RAISED[sign]).join("")}`;
    const axis = (drawing, format = tick) =>
      plot.axis({ domain: [0, last], width: widthOf(drawing), left: 38, right: 14, format, many: widthOf(drawing) < 200 ? 3 : 6 });

    function draw() {
      marks = [];
      shown.forEach(({ drawing, lines, options, title }, i) => {
        const { log, range } = scaleOf(lines, options);
        const on = axis(drawing, log ? power : tick);
        const height = options.height ?? HEIGHTS.large;
        const labelled = options.height === undefined || i >= shown.length - (several ? 2 : 1);
        const { up, parts } = on.panel(6, height, range, "", range, { xLabels: labelled });
        const turned = (ys) => ys.map((y) => (log ? Math.log10(Math.max(y, 1e-300)) : y));
        lines.forEach(({ steps, ys }, run) => {
          if (ys.length) parts.push(on.curve(`line run${run + 1}`, steps, turned(ys), up));
          for (const [step, y] of options.dots?.[run] ?? [])
            parts.push(svg("circle", { class: `held run${run + 1}`, r: 2.6, cx: on.at(step), cy: up(y) }));
        });
        const mark = svg("path", { class: "mark" });
        marks.push(() => mark.setAttribute("d", `M${on.at(time.step).toFixed(1)} 2V${6 + height}`));
        plot.fill(drawing, on.width, 6 + height + (labelled ? 18 : 6), options.told ?? title, [...parts, mark]);
      });
      update();
    }

    function update() {
      marks.forEach((move) => move());
      for (const { drawing, readout, lines, title, options } of shown) {
        const now = lines.map(({ ys }, i) => ys[time.momentOf(runs[i])]);
        readout.replaceChildren(...now.flatMap((y, i) => [el("b", { class: `run${i + 1}` }, y === undefined ? "none" : (options.into ? brief(y) : number(y))), " "]));
        drawing.setAttribute("aria-label", `${options.told ?? title}, step ${time.step}: ` +
          now.map((y, i) => `${runs[i].title}: ${y === undefined ? "none" : number(y)}`).join("; "));
      }
    }

    return { draw, update };
  }

  function scaleOf(lines, options) {
    if (options.range) return { log: false, range: options.range };
    const all = (options.all ?? lines.flatMap(({ ys }) => ys)).filter((y) => y > 0);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    if (!all.length) return { log: false, range: [0, 1] };
    if (options.log || most / least > LOG_FROM * 10)
      return { log: true, range: [Math.floor(Math.log10(least)), Math.max(Math.ceil(Math.log10(most)), Math.floor(Math.log10(least)) + 1)] };
    return { log: false, range: [options.least ?? 0, upwards(most)] };
  }

  // A number of two digits that is no smaller: the highest point of a curve lies in its panel.
  function upwards(y) {
    const near = Number(y.toPrecision(2));
    return near >= y ? near : Number((near + 10 ** (Math.floor(Math.log10(y)) - 1)).toPrecision(2));
  }

  // The layers whose gradients share a panel, {kind, ofRuns}: per run {name, norm}, undefined where it has none. A name
  // is a place in a network, and without norms all places are others: where the runs train the same network, the first
  // layer stands beside the first, and the first norm beside the first. Else it is the name that counts.
  function alike(runs) {
    const isNorm = (run, name) => run.layers.some((layer) => layer.name === name);
    const of = (run, kind) => run.gradients.filter((one) => isNorm(run, one.name) === (kind === "norm"));
    const found = new Map();
    const same = (kind) => new Set(runs.map((run) => `${of(run, kind).length} ${run.model}`)).size === 1;
    const byPlace = { layer: same("layer"), norm: same("norm") };
    runs.forEach((run, i) => {
      for (const one of run.gradients) {
        const kind = isNorm(run, one.name) ? "norm" : "layer";
        const key = `${kind} ${byPlace[kind] ? of(run, kind).indexOf(one) : one.name}`;
        if (!found.has(key)) found.set(key, { kind, ofRuns: runs.map(() => undefined) });
        found.get(key).ofRuns[i] = one;
      }
    });
    return [...found.values()];
  }

  // At most five signs: two such numbers stand beside a layer's name in half a column.
  const brief = (y) => (y >= 1e4 || (y > 0 && y < 1e-3) ? y.toExponential(0).replace("+", "").replace("-", "−") : tick(Number(y.toPrecision(y < 0.01 ? 1 : 2))));

  // A layer that has its place among the others as its name.
  const named = (name, kind = "layer") => (/^\d+$/.test(name) ? `${kind} ${name}` : name);

  return { create, named };
})();
