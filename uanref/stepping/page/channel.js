// One channel's mixture on a grid of activations: the derivation's own expressions, evaluated there in the place of the
// samples; what belongs to the batch as a whole (every step without the sample axis) stays fixed. No equation stands here.

"use strict";

const channel = (() => {
  const SAMPLES = "m";

  const column = (numbers) => primitives.value([SAMPLES, "c"], [numbers.length, 1], Float64Array.from(numbers));
  const perComponent = (numbers) => primitives.value(["k", "c"], [numbers.length, 1], Float64Array.from(numbers));
  const perChannel = (x) => primitives.value(["c"], [1], Float64Array.of(x));
  const sizesOf = (many, K) => ({ [SAMPLES]: many, c: 1, k: K });

  // The values of a derivation at the activations xs. `given`: its other inputs; `fixed`: steps that keep their values.
  const values = (exported, xs, given, fixed, K = 1) =>
    derivation.forward(exported, { ...given, x: column(xs) }, sizesOf(xs.length, K), null, fixed);

  // Of a batch's values those that belong to the batch as a whole: the steps without the sample axis.
  const ofTheBatch = (exported, found) => Object.fromEntries(exported.nodes
    .filter((node) => node.kind === "step" && !node.axes.includes(SAMPLES)).map((node) => [node.name, found[node.name]]));

  function drawn(view, found, xs, K) {
    const sizes = sizesOf(xs.length, K);
    const laid = (name, axes) => primitives.along(primitives.evaluate(view[name], found, sizes), axes, sizes).data;
    const rows = (data) => Array.from({ length: K }, (_, k) => data.slice(k * xs.length, (k + 1) * xs.length));
    return { laid, rows, of: (name) => rows(laid(name, ["k", SAMPLES, "c"])) };
  }

  // A mixture: densities of the components and of all together, posterior, priors, variances, peaks; y where there is one.
  // `view`: uanref.stepping.page_data.mixture; `given`: the derivation's inputs without x; `fixed`: as in values.
  function mixture(exported, view, xs, given, fixed) {
    const K = given.mean.data.length;
    const found = values(exported, xs, given, fixed, K);
    const on = drawn(view, found, xs, K);
    const means = Array.from(given.mean.data);
    const peaks = drawn(view, values(exported, means, given, fixed, K), means, K).of("density");
    return {
      density: on.of("density"),
      total: on.laid("total", [SAMPLES, "c"]),
      posterior: on.of("posterior"),
      prior: on.laid("prior", ["k", "c"]),
      variance: on.laid("variance", ["k", "c"]),
      peaks: peaks.map((row, k) => row[k]),
      y: view.transform && found[view.transform].data,
    };
  }

  // One Gaussian, as batch normalization sees the channel: its density and its x -> y.
  function single(view, xs, given, fixed) {
    const found = values(view, xs, given, fixed);
    return {
      density: drawn(view, found, xs, 1).laid("density", [SAMPLES, "c"]),
      y: found[view.transform].data,
    };
  }

  return { column, perComponent, perChannel, values, ofTheBatch, mixture, single };
})();
