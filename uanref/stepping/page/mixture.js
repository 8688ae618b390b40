// One channel of a mixture, to be dragged: its activations, the components' densities, the posterior, and x -> y; and
// what batch normalization would see and do, dashed. channel.js computes, plot.js draws.

"use strict";

const mixture = (() => {
  const { el, svg, number } = dom;
  const MOST = 5; // components
  const GRID = 200;
  const START = { mean: [-1.5, 1.5, 0, 3, -3], raw_variance: [0, 0, 0, 0, 0], prior_logits: [0, 0, 0, 0, 0] };
  const RANGES = { raw_variance: [-5, 5], prior_logits: [-5, 5] };

  function create(store, section) {
    const view = store.data.mixture;
    if (!view) {
      section.remove();
      return null;
    }
    const { exported } = store;
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

    function given() {
      const made = {
        mean: channel.perComponent(set.mean.slice(0, set.K)),
        raw_variance: channel.perComponent(set.raw_variance.slice(0, set.K)),
        prior_logits: channel.perComponent(set.prior_logits.slice(0, set.K)),
        eps: store.inputs.eps,
      };
      for (const name of ["gamma", "beta"]) if (has(name)) made[name] = channel.perChannel(perChannel(name));
      return made;
    }

    function computed() {
      const inputs = given();
      const ofBatch = channel.values(exported, batch, inputs, {}, set.K);
      const grid = plot.grid(domain, GRID);
      const alone = { gamma: channel.perChannel(perChannel("gamma")), beta: channel.perChannel(perChannel("beta")), eps: inputs.eps };
      const gaussian = channel.ofTheBatch(view.single, channel.values(view.single, batch, alone, {}));
      return {
        grid,
        ...channel.mixture(exported, view, grid, inputs, channel.ofTheBatch(exported, ofBatch)),
        single: channel.single(view.single, grid, alone, gaussian),
        batchY: view.transform && ofBatch[view.transform].data,
      };
    }

    // --- drawing ---

    const picture = svg("svg", { class: "plot", role: "img" });
    const width = () => Math.max(280, picture.parentElement?.clientWidth || 600);
    const axis = () => plot.axis({ domain, width: width() });
    // Heights of the three panels: less where the mixture stands alone in a frame.
    const heights = () => (document.documentElement.classList.contains("only-mixture") ? [132, 44, 92, 38] : [190, 90, 170, 50]);

    function draw() {
      drawn = computed();
      if (!drawable()) return undrawn();
      const { grid } = drawn;
      const [first, second, third, gap] = heights();
      const on = axis();
      const histogram = plot.histogram(batch, domain, batch.length > 20 ? 24 : 12);
      const top = Math.max(...drawn.total, ...drawn.peaks.map((peak) => Math.min(peak, 1.5)), ...histogram.map((bar) => Math.min(bar.high, 1)), 0.2) * 1.05;
      const densities = on.panel(24, first, [0, top], "Activations, components, mixture (bold)", [0, Number((top / 1.1).toPrecision(1))]);
      let below = 24 + first + gap;
      const posteriors = on.panel(below, second, [0, 1], "Posterior of each component", [0, 1]);
      below += second + gap;
      const all = [...densities.parts, ...posteriors.parts, ...on.bars(histogram, densities.up), ...on.rug(batch, densities.up)];
      for (let k = 0; k < set.K; ++k) {
        all.push(on.curve(`curve ${plot.color(k)}`, grid, drawn.density[k], densities.up));
        all.push(on.curve(`curve posterior ${plot.color(k)}`, grid, drawn.posterior[k], posteriors.up));
      }
      all.push(on.curve("single", grid, drawn.single.density, densities.up), on.curve("total", grid, drawn.total, densities.up));
      if (drawn.y) {
        const low = Math.max(-9, Math.floor(Math.min(...drawn.y, ...drawn.batchY)));
        const high = Math.min(9, Math.ceil(Math.max(...drawn.y, ...drawn.batchY)));
        const transform = on.panel(below, third, [low, high], "The transform x → y", [low, ...(low < 0 && high > 0 ? [0] : []), high]);
        all.push(...transform.parts, on.curve("single of-y", grid, drawn.single.y, transform.up),
          on.curve("total transform", grid, drawn.y, transform.up), ...on.dots(batch, drawn.batchY, transform.up));
        below += third + 26;
      } else below -= gap - 26;
      for (let k = 0; k < set.K; ++k) all.push(...handles(k, on, densities));
      plot.fill(picture, width(), below, described(), all);
      outputs();
    }

    const drawable = () => [...drawn.density, ...drawn.posterior, drawn.total, drawn.peaks, drawn.y || [], drawn.batchY || []]
      .every((numbers) => numbers.every(Number.isFinite));

    function undrawn() {
      plot.sentence(picture, width(), "No number: these inputs lie outside of what the equations allow.");
      outputs();
    }

    const described = () => `One channel with ${batch.length} activations and ${set.K} components: ` +
      drawn.peaks.map((_, k) => `${k + 1}: mean ${number(set.mean[k])}, variance ${number(drawn.variance[k])}, prior ${number(drawn.prior[k])}`).join("; ");

    // A component's two handles: the peak (across: mean, up: prior) and one standard deviation beside it (variance).
    function handles(k, { at }, { up }) {
      const side = set.mean[k] + Math.sqrt(drawn.variance[k]);
      const beside = Math.min(drawn.peaks[k] * 0.6065, drawn.peaks[k]);
      const kind = plot.color(k);
      return [
        svg("circle", { class: `handle peak ${kind}`, r: 9, cx: at(set.mean[k]), cy: up(drawn.peaks[k]), "data-k": k }),
        svg("rect", { class: `handle side ${kind}`, x: at(side) - 6, y: up(beside) - 6, width: 12, height: 12, "data-k": k }),
        svg("text", { class: `number ${kind}`, x: at(set.mean[k]), y: up(drawn.peaks[k]) - 13, "text-anchor": "middle" }, String(k + 1)),
      ];
    }

    // The handles are drawn anew with every move, so the plot itself follows the pointer.
    picture.addEventListener("pointerdown", (event) => {
      if (!event.target.classList.contains("handle")) return;
      event.preventDefault();
      const k = Number(event.target.dataset.k);
      const side = event.target.classList.contains("side");
      const start = { y: event.clientY, logit: set.prior_logits[k] };
      const box = picture.getBoundingClientRect();
      const follow = (moved) => {
        const x = axis().xAt(((moved.clientX - box.left) / box.width) * width());
        if (side) change("raw_variance", k, rawOf((x - set.mean[k]) ** 2));
        else {
          set.prior_logits[k] = clipped(start.logit + (start.y - moved.clientY) / 40, RANGES.prior_logits);
          change("mean", k, clipped(x, domain));
        }
      };
      const end = () => {
        picture.removeEventListener("pointermove", follow);
        picture.removeEventListener("pointerup", end);
        picture.removeEventListener("pointercancel", end);
      };
      picture.setPointerCapture(event.pointerId);
      picture.addEventListener("pointermove", follow);
      picture.addEventListener("pointerup", end);
      picture.addEventListener("pointercancel", end);
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
        "fieldset", { class: plot.color(k) }, el("legend", {}, `Component ${k + 1}`),
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
      plot.legend([["total", "mixture"], ["curve k1", "its components, by colour"], ["single", "batch normalization: the batch's one Gaussian, and its x → y"]]),
      el("div", { id: "plot" }, picture), sliders,
    );
    if (new URLSearchParams(location.hash.slice(1)).get("only") === "mixture") alone(section);
    take();
    new ResizeObserver(() => draw()).observe(picture.parentElement);
    store.subscribe((event) => event === "numbers" && (source.value === "" ? draw() : take()));
    return { set, get batch() { return batch; }, get drawn() { return drawn; } };
  }

  // For a frame on another page: the fragment #only=mixture hides all but the mixture.
  function alone(section) {
    document.documentElement.classList.add("only-mixture");
    document.body.append(section);
    section.hidden = false;
  }

  return { create };
})();
