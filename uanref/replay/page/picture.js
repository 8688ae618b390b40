// The drawing of one run's channel at a moment: activations and densities, posterior, x -> y.

"use strict";

const picture = (() => {
  const { el, svg, number } = dom;
  const COLORS = 5; // of components
  const HEIGHTS = { full: [196, 60, 130], short: [162, 52, 108] };
  const MODES = {
    sample: "Each image is normalized by itself here, so y is no function of this channel's x alone.",
    joint: "One posterior serves all channels here, so y is no function of this channel's x alone.",
    gate: "A gate weighs the whole image here, so y is no function of this channel's x alone.",
    public: "The authors' released layer mixes the channels, so y is no function of this channel's x alone.",
    own: "This norm is code of its own: its activations are shown, not what it computes.",
    learned: "One prior for all channels with learned statistics has no derivation here.",
    batch: "There is no derivation of this layer.",
  };

  // What stands in the place of a posterior: a norm may have one that is no function of this channel's x.
  const NO_POSTERIOR = {
    joint: "one for all channels",
    gate: "a gate for each image",
    public: "of all channels together",
    own: "not known",
    learned: "not drawn",
  };

  function create(place, short) {
    const drawing = svg("svg", { class: "plot", role: "img" });
    place.append(drawing);
    const [first, second, third] = HEIGHTS[short ? "short" : "full"];

    // film: moment.film; frame: one of its frames; batch: the channel's mean and variance; mode: of its layer.
    function draw(film, frame, batch, mode, told) {
      const width = Math.max(260, place.clientWidth || 400);
      const round = Number((film.density[1] / 1.1).toPrecision(1));
      const left = Math.max(30, 10 + 7 * dom.tick(round).length);
      const on = plot.axis({ domain: film.domain, width, left, many: width < 420 ? 7 : 10 });
      const densities = on.panel(20, first, film.density, "Activations and densities", [0, round]);
      const all = [...densities.parts, ...on.bars(seen(frame.bars, film.domain), densities.up), ...on.rug(frame.samples.filter(within(film.domain)), densities.up)];
      let below = 20 + first + 36;
      const posteriors = on.panel(below, second, [0, 1], "Posterior of each component", [0, 1], { xLabels: false });
      all.push(...posteriors.parts);
      if (frame.components)
        frame.components.forEach((_, k) => {
          all.push(on.curve(`curve ${ink(k)}`, frame.grid, frame.density[k], densities.up));
          all.push(on.curve(`curve posterior ${ink(k)}`, frame.grid, frame.posterior[k], posteriors.up));
        });
      else all.push(note(on, below + second / 2, NO_POSTERIOR[mode] ?? "no mixture, no posterior"));
      all.push(on.curve("single", frame.grid, frame.single.density, densities.up));
      if (frame.beyond) all.push(note(on, 20 + first / 4, `beyond the axis: ${frame.beyond.map(number).join(" to ")}`));
      if (frame.total) all.push(on.curve("total", frame.grid, frame.total, densities.up));
      below += second + 24;
      if (film.output) {
        const [low, high] = film.output;
        const transform = on.panel(below, third, film.output, "The transform x → y", [low, ...(low < 0 && high > 0 ? [0] : []), high]);
        all.push(...transform.parts);
        if (frame.sampleY) {
          all.push(on.curve("single of-y", frame.grid, frame.single.y, transform.up));
          if (frame.y) all.push(on.curve("total transform", frame.grid, frame.y, transform.up));
          // A dot at the edge would tell of a y that is not this activation's.
          all.push(...on.dots(frame.samples, frame.sampleY.map((y, i) => (transform.up.holds(y) && within(film.domain)(frame.samples[i]) ? y : NaN)), transform.up));
          const ys = [...frame.sampleY].filter(Number.isFinite);
          if (!ys.length) all.push(note(on, below + third / 2, "outside of what the equations allow"));
          else if (!ys.some(transform.up.holds)) all.push(note(on, below + third / 4, `y beyond the axis: ${number(Math.min(...ys))} to ${number(Math.max(...ys))}`));
        } else all.push(note(on, below + third / 2, "not a function of x alone"));
        below += third + 20;
      } else below -= 20;
      plot.fill(drawing, width, below, `${told}. ${described(frame, batch)}`, all);
    }

    return { draw };
  }

  const within = ([low, high]) => (x) => x >= low && x <= high;

  // Classes of component k's curves: from the sixth on the colours come again, dotted.
  const ink = (k) => plot.color(k) + (k < COLORS ? "" : " again");

  const seen = (bars, [low, high]) => bars.filter((bar) => bar.x + bar.wide > low && bar.x < high).map((bar) => {
    const x = Math.max(bar.x, low);
    return { x, wide: Math.min(bar.x + bar.wide, high) - x, high: bar.high };
  });

  const note = (on, y, text) => svg("text", { x: (on.left + on.width) / 2, y, "text-anchor": "middle" }, text);

  function described(frame, batch) {
    const parts = (frame.components ?? []).map((one, k) =>
      `component ${k + 1}: mean ${number(one.mean)}, variance ${number(one.variance)}, prior ${number(one.prior)}`);
    return [`Histogram of the batch's activations`, ...parts,
      `batch normalization's Gaussian: mean ${number(batch.mean)}, variance ${number(batch.variance)}`].join("; ");
  }

  // What the mixtures of some layers do not do, a sentence each.
  const HONEST = {
    trained: "The mixture is not fitted to the histogram: like every weight, it is trained for the loss, and may lie beside its activations.",
    fitted: "The mixture of MixtureNorm is fitted to the batch by EM and gets no gradient of the loss.",
    moved: "EM moves this mixture a little towards each batch; it gets no gradient of the loss.",
  };
  const learnt = (kind) => (kind === "MixtureNorm" ? "fitted" : kind === "UAN (EM)" ? "moved" : "trained");
  const ALIKE = "Both runs have the same axes, through all moments.";
  const honest = (layers) => [...new Set(layers.filter((layer) => layer?.priorLogits)
    .map((layer) => HONEST[learnt(layer.kind)])), ...(layers.filter(Boolean).length > 1 ? [ALIKE] : [])];

  const why = (layer) => (!layer.derivation ? MODES[layer.mode]
    : layer.page ? "" : `${layer.priorLogits[0].length} components are too many to step through their derivation.`);

  // The key to what some frames and their film show, with as many components as the largest mixture has.
  function legend(film, frames) {
    const most = Math.max(0, ...frames.map((frame) => frame?.components?.length ?? 0));
    const pairs = [["area", "activations of the batch"], ["rug", "eight of them"]];
    if (most) pairs.push(["total", film.output ? "mixture, its x → y" : "mixture"]);
    if (most > 2 * COLORS) pairs.push(["curve k1", "its components"]);
    else for (let k = 0; k < most; ++k) pairs.push([`curve ${ink(k)}`, k ? String(k + 1) : "component 1"]);
    pairs.push(["single", `batch normalization: its one Gaussian${film.output ? ", its x → y" : ""}`]);
    return el("div", { class: "legend" }, plot.legend(pairs));
  }

  return { create, legend, why, honest, learnt };
})();
