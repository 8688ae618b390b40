// One channel of a mixture: its activations, the components' densities, the posterior, and x -> y. What is drawn are
// the derivation's own expressions, evaluated on a grid in the place of the samples; what belongs to the batch as a
// whole (every step without the sample axis) is computed from the batch first and stays fixed on the grid.

"use strict";

const mixture = (() => {
  const { el, svg, number, tick } = dom;
  const MOST = 5; // components
  const GRID = 200;
  const START = { mean: [-1.5, 1.5, 0, 3, -3], raw_variance: [0, 0, 0, 0, 0], prior_logits: [0, 0, 0, 0, 0] };
  const RANGES = { raw_variance: [-5, 5], prior_logits: [-5, 5] };
  const LEFT = 34;
  const RIGHT = 8;

  function create(store, section) {
    const view = store.data.mixture;
    if (!view) {
      section.remove();
      return null;
    }
    const { exported } = store;
    const samples = "m";
    const has = (name) => name in store.byName;
    // What the reader has set: the derivation's inputs, one number per component. Column names are the inputs'.
    const set = { K: 2, mean: [], raw_variance: [], prior_logits: [] };
    let batch, domain, drawn;

    // --- where the activations come from ---

    const channels = exported.sizes.c;
    const source = el("select", { onchange: take },
      el("option", { value: "" }, `${view.batch.length} samples in two groups`),
      Array.from({ length: channels }, (_, c) => el("option", { value: String(c) }, `channel ${c + 1} of the example`)));
    const components = el("input", { type: "range", min: 1, max: MOST, step: 1, id: "components", oninput: () => {
      set.K = Number(components.value);
      controls();
      draw();
    } });
    const howMany = el("span");

    const column = (name, c) => {
      const { shape, data } = store.inputs[name];
      return Array.from({ length: shape[0] }, (_, i) => data[i * shape[1] + c]);
    };

    // Batch and parameters as the chosen source has them.
    function take() {
      const c = source.value === "" ? null : Number(source.value);
      batch = c === null ? view.batch : column("x", c);
      for (const name of ["mean", "raw_variance", "prior_logits"])
        set[name] = START[name].map((start, k) => (c === null ? start : column(name, c)[k] ?? start));
      set.K = c === null ? 2 : Math.min(exported.sizes.k, MOST);
      components.value = set.K;
      const reach = [...batch, ...set.mean.slice(0, set.K)];
      domain = [Math.min(-3.5, Math.min(...reach) - 1), Math.max(3.5, Math.max(...reach) + 1)];
      controls();
      draw();
    }

    const perChannel = (name) => (source.value === "" || !has(name) ? { gamma: 1, beta: 0 }[name] : store.inputs[name].data[Number(source.value)]);

    // --- the derivation on the batch, and then on the grid ---

    function given(xs) {
      const perComponent = (name) => primitives.value(["k", "c"], [set.K, 1], Float64Array.from(set[name].slice(0, set.K)));
      const made = {
        x: primitives.value([samples, "c"], [xs.length, 1], Float64Array.from(xs)),
        mean: perComponent("mean"), raw_variance: perComponent("raw_variance"), prior_logits: perComponent("prior_logits"),
        eps: store.inputs.eps,
      };
      for (const name of ["gamma", "beta"]) if (has(name)) made[name] = primitives.value(["c"], [1], Float64Array.of(perChannel(name)));
      return made;
    }

    const sizesOf = (xs) => ({ ...exported.sizes, [samples]: xs.length, c: 1, k: set.K });

    function computed() {
      const ofBatch = derivation.forward(exported, given(batch), sizesOf(batch));
      const fixed = Object.fromEntries(
        store.nodes.filter((node) => node.kind === "step" && !node.axes.includes(samples)).map((node) => [node.name, ofBatch[node.name]]),
      );
      const grid = Array.from({ length: GRID + 1 }, (_, i) => domain[0] + (i / GRID) * (domain[1] - domain[0]));
      const onGrid = (xs) => {
        const values = derivation.forward(exported, given(xs), sizesOf(xs), null, fixed);
        const curve = (name, axes) => primitives.along(primitives.evaluate(view[name], values, sizesOf(xs)), axes, sizesOf(xs)).data;
        return { values, curve };
      };
      const { values, curve } = onGrid(grid);
      const rows = (data) => Array.from({ length: set.K }, (_, k) => data.slice(k * grid.length, (k + 1) * grid.length));
      const peaks = onGrid(set.mean.slice(0, set.K)).curve("density", ["k", samples, "c"]);
      return {
        grid,
        density: rows(curve("density", ["k", samples, "c"])),
        total: curve("total", [samples, "c"]),
        posterior: rows(curve("posterior", ["k", samples, "c"])),
        prior: curve("prior", ["k", "c"]),
        variance: curve("variance", ["k", "c"]),
        peaks: Array.from({ length: set.K }, (_, k) => peaks[k * set.K + k]),
        y: view.transform && values[view.transform].data,
        batchY: view.transform && ofBatch[view.transform].data,
      };
    }

    // --- drawing ---

    const plot = svg("svg", { class: "plot", role: "img" });
    const width = () => Math.max(280, plot.parentElement?.clientWidth || 600);
    const at = (x) => LEFT + ((x - domain[0]) / (domain[1] - domain[0])) * (width() - LEFT - RIGHT);
    const path = (xs, ys, up) => "M" + Array.from(xs, (x, i) => `${at(x).toFixed(1)} ${up(ys[i]).toFixed(1)}`).join("L");
    const color = (k) => `var(--k${k + 1})`;

    // A panel: its frame, its marks, and how its numbers become heights.
    function panel(top, height, low, high, title, ticks) {
      const up = (y) => top + height - ((Math.min(Math.max(y, low), high) - low) / (high - low || 1)) * height;
      const parts = [
        svg("text", { class: "title", x: LEFT, y: top - 7 }, title),
        svg("path", { class: "axis", d: `M${LEFT} ${top}V${top + height}H${width() - RIGHT}` }),
        ...ticks.map((y) => svg("text", { x: LEFT - 4, y: up(y) + 4, "text-anchor": "end" }, tick(y))),
        ...marks().flatMap((x) => [
          svg("path", { class: "axis", d: `M${at(x)} ${top + height}v4` }),
          svg("text", { x: at(x), y: top + height + 15, "text-anchor": "middle" }, tick(x)),
        ]),
      ];
      return { up, parts };
    }

    const marks = () => {
      const wide = domain[1] - domain[0];
      const ten = 10 ** Math.floor(Math.log10(wide)); // at most ten marks, however far an edited entry lies
      const every = wide > 60 ? [1, 2, 5].map((n) => (n * ten) / 5).find((n) => wide / n <= 10) : wide > 14 ? 5 : wide > 8 ? 2 : 1;
      const found = [];
      for (let n = Math.ceil(domain[0] / every); n <= domain[1] / every; ++n) found.push(n * every);
      return found;
    };

    function bars() {
      const many = batch.length > 20 ? 24 : 12;
      const wide = (domain[1] - domain[0]) / many;
      const counts = new Array(many).fill(0);
      for (const x of batch) counts[Math.min(many - 1, Math.max(0, Math.floor((x - domain[0]) / wide)))] += 1;
      return counts.map((count, i) => ({ x: domain[0] + i * wide, wide, high: count / batch.length / wide }));
    }

    function draw() {
      drawn = computed();
      if (!drawable()) return undrawn();
      const { grid } = drawn;
      const histogram = bars();
      const top = Math.max(...drawn.total, ...drawn.peaks.map((peak) => Math.min(peak, 1.5)), ...histogram.map((bar) => Math.min(bar.high, 1)), 0.2) * 1.05;
      const densities = panel(24, 190, 0, top, "Activations, components, mixture (bold)", [0, Number((top / 1.1).toPrecision(1))]);
      const posteriors = panel(264, 90, 0, 1, "Posterior of each component", [0, 1]);
      const all = [...densities.parts, ...posteriors.parts];
      histogram.forEach((bar) => all.push(svg("rect", {
        class: "bar", x: at(bar.x), width: at(bar.x + bar.wide) - at(bar.x), y: densities.up(bar.high), height: densities.up(0) - densities.up(bar.high),
      })));
      batch.forEach((x) => all.push(svg("path", { class: "rug", d: `M${at(x)} ${densities.up(0)}v-7` })));
      for (let k = 0; k < set.K; ++k) {
        all.push(svg("path", { class: "curve", style: `stroke: ${color(k)}`, d: path(grid, drawn.density[k], densities.up) }));
        all.push(svg("path", { class: "curve posterior", style: `stroke: ${color(k)}`, d: path(grid, drawn.posterior[k], posteriors.up) }));
      }
      all.push(svg("path", { class: "total", d: path(grid, drawn.total, densities.up) }));
      let height = 380;
      if (drawn.y) {
        const low = Math.max(-9, Math.floor(Math.min(...drawn.y, ...drawn.batchY)));
        const high = Math.min(9, Math.ceil(Math.max(...drawn.y, ...drawn.batchY)));
        const transform = panel(404, 170, low, high, "The transform x → y", [low, ...(low < 0 && high > 0 ? [0] : []), high]);
        all.push(...transform.parts, svg("path", { class: "total transform", d: path(grid, drawn.y, transform.up) }));
        batch.forEach((x, i) => all.push(svg("circle", { class: "dot", r: 3, cx: at(x), cy: transform.up(drawn.batchY[i]) })));
        height = 600;
      }
      for (let k = 0; k < set.K; ++k) all.push(...handles(k, densities));
      plot.setAttribute("viewBox", `0 0 ${width()} ${height}`);
      plot.setAttribute("height", height);
      plot.setAttribute("aria-label", described());
      plot.replaceChildren(...all);
      outputs();
    }

    const drawable = () => [...drawn.density, ...drawn.posterior, drawn.total, drawn.peaks, drawn.y || [], drawn.batchY || []]
      .every((numbers) => numbers.every(Number.isFinite));

    // What stands in the place of the drawing where there are no numbers to draw.
    function undrawn() {
      const told = "No number: these inputs lie outside of what the equations allow.";
      plot.setAttribute("viewBox", `0 0 ${width()} 40`);
      plot.setAttribute("height", 40);
      plot.setAttribute("aria-label", told);
      plot.replaceChildren(svg("text", { class: "title", x: 0, y: 24 }, told));
      outputs();
    }

    const described = () => `One channel with ${batch.length} activations and ${set.K} components: ` +
      drawn.peaks.map((_, k) => `${k + 1}: mean ${number(set.mean[k])}, variance ${number(drawn.variance[k])}, prior ${number(drawn.prior[k])}`).join("; ");

    // A component's two handles: the peak (across: mean, up: prior) and one standard deviation beside it (variance).
    function handles(k, { up }) {
      const deviation = Math.sqrt(drawn.variance[k]);
      const side = set.mean[k] + deviation;
      const beside = Math.min(drawn.peaks[k] * 0.6065, drawn.peaks[k]);
      const peak = svg("circle", { class: "handle peak", r: 9, cx: at(set.mean[k]), cy: up(drawn.peaks[k]), style: `fill: ${color(k)}`, "data-k": k });
      const wide = svg("rect", { class: "handle side", x: at(side) - 6, y: up(beside) - 6, width: 12, height: 12, style: `fill: ${color(k)}`, "data-k": k });
      const name = svg("text", { class: "number", x: at(set.mean[k]), y: up(drawn.peaks[k]) - 13, "text-anchor": "middle", style: `fill: ${color(k)}` }, String(k + 1));
      return [peak, wide, name];
    }

    // The handles are drawn anew with every move, so the plot itself follows the pointer.
    plot.addEventListener("pointerdown", (event) => {
      if (!event.target.classList.contains("handle")) return;
      event.preventDefault();
      const k = Number(event.target.dataset.k);
      const side = event.target.classList.contains("side");
      const start = { y: event.clientY, logit: set.prior_logits[k] };
      const box = plot.getBoundingClientRect();
      const follow = (moved) => {
        const x = domain[0] + ((((moved.clientX - box.left) / box.width) * width() - LEFT) / (width() - LEFT - RIGHT)) * (domain[1] - domain[0]);
        if (side) change("raw_variance", k, rawOf((x - set.mean[k]) ** 2));
        else {
          set.prior_logits[k] = clipped(start.logit + (start.y - moved.clientY) / 40, RANGES.prior_logits);
          change("mean", k, clipped(x, domain));
        }
      };
      const end = () => {
        plot.removeEventListener("pointermove", follow);
        plot.removeEventListener("pointerup", end);
        plot.removeEventListener("pointercancel", end);
      };
      plot.setPointerCapture(event.pointerId);
      plot.addEventListener("pointermove", follow);
      plot.addEventListener("pointerup", end);
      plot.addEventListener("pointercancel", end);
    });

    const clipped = (x, [low, high]) => Math.min(Math.max(x, low), high);

    // The raw variance whose variance, by the derivation's own step, is the wanted one: found by halving.
    function rawOf(wanted) {
      let [low, high] = RANGES.raw_variance;
      const variance = (raw) => primitives.evaluate(store.byName.variance.forward, { raw_variance: primitives.scalar(raw) }, exported.sizes).data[0];
      for (let i = 0; i < 40; ++i) {
        const middle = (low + high) / 2;
        if (variance(middle) < wanted) low = middle;
        else high = middle;
      }
      return (low + high) / 2;
    }

    function change(name, k, x) {
      set[name][k] = x;
      draw();
    }

    // --- sliders: the same by keyboard ---

    const sliders = el("div", { class: "components" });
    let shown = [];

    function controls() {
      howMany.textContent = String(set.K);
      shown = [];
      sliders.replaceChildren(...Array.from({ length: set.K }, (_, k) => el(
        "fieldset", { style: `border-left-color: ${color(k)}` }, el("legend", {}, `Component ${k + 1}`),
        slider(k, "mean", "mean", domain, () => set.mean[k]),
        slider(k, "raw_variance", "variance", RANGES.raw_variance, () => drawn.variance[k]),
        slider(k, "prior_logits", "prior", RANGES.prior_logits, () => drawn.prior[k]),
      )));
    }

    // A slider moves the derivation's input; what is read beside it is the value that follows from it.
    function slider(k, name, title, [low, high], read) {
      const output = el("span", { class: "output" });
      const input = el("input", {
        type: "range", min: low, max: high, step: (high - low) / 200, "aria-label": `Component ${k + 1}: ${title}`,
        "data-input": name, oninput: () => change(name, k, Number(input.value)),
      });
      shown.push(() => {
        output.textContent = number(read());
        input.setAttribute("aria-valuetext", number(read()));
        if (input !== document.activeElement || Math.abs(Number(input.value) - set[name][k]) > (high - low) / 200) input.value = set[name][k];
      });
      return el("label", {}, `${title} `, output, input);
    }

    const outputs = () => shown.forEach((show) => show());

    const what = view.transform ? "densities, the posterior and the transform" : "densities and the posterior";
    section.append(
      el("h2", { id: "mixture-title" }, "One channel, drawn"),
      el("p", {}, `Drag a peak (across: mean, up: prior) or the square beside it (variance), or use the sliders: ${what} follow.`),
      el("div", { class: "controls" }, el("label", {}, "Activations", source),
        el("label", {}, el("span", {}, "Components K: ", howMany), components),
        el("button", { type: "button", onclick: take }, "Start again")),
      el("div", { id: "plot" }, plot), sliders,
    );
    take();
    new ResizeObserver(() => draw()).observe(plot.parentElement);
    store.subscribe((event) => event === "numbers" && (source.value === "" ? draw() : take()));
    return { set, get batch() { return batch; }, get drawn() { return drawn; } };
  }

  return { create };
})();
