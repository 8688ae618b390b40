// An expression at one entry, written with the numbers put in. The numbers are the trace's; the parentheses are those of
// uanref/stepping/unicode.py.
//
// A text is a list of parts: {text}; {number, source} with source {kind: "value" | "gradient", name, entry}, null for a
// number of the rule's own; {more, count, value}, parts that a reader opens.

"use strict";

const written = (() => {
  const SUM = 0, NEGATIVE = 1, PRODUCT = 2, POWER = 3, ATOM = 4; // how strongly it binds
  const LONG = 8; // terms that are written out, of more
  const SHOWN = 6; // so many
  const FUNCTIONS = { exp: "exp", log: "log", sigmoid: "sigmoid", softplus: "softplus", step: "step", maximum: "max" };

  // names: what a reference means, {kind, name} by the name in expressions. known: all values, by the same names.
  function create(names, known, sizes) {
    const found = new Map();

    function evaluated(expression) {
      if (!found.has(expression)) found.set(expression, primitives.evaluate(expression, known, sizes));
      return found.get(expression);
    }

    // Where the entry at `index`, axis to place, stands in a value.
    const entryAt = ({ axes, shape }, index) => axes.reduce((entry, axis, i) => entry * shape[i] + index[axis], 0);
    const at = (expression, index) => {
      const value = evaluated(expression);
      return value.data[entryAt(value, index)];
    };

    // {parts, strength, value} of an expression at one entry.
    function write(expression, index) {
      const [op, options, ...args] = expression;
      const value = at(expression, index);
      const made = (parts, strength) => ({ parts: parts.flat(), strength, value });
      if (op === "ref") {
        const source = { ...names[options[0]], entry: entryAt(known[options[0]], index) };
        return made([{ number: value, source }], value < 0 ? NEGATIVE : ATOM);
      }
      if (op === "number") return made([own(value)], value < 0 ? NEGATIVE : ATOM);
      if (op === "count") return made(joined(options.map((axis) => [own(sizes[axis])]), " · "), options.length > 1 ? PRODUCT : ATOM);
      if (op === "patches") return write(args[0], pixelOf(index));
      if (op === "sum" || op === "mean") return total(expression, index);
      if (op === "fold") return made(...added(foldTerms(args[0], index)));
      if (op === "max") return made(["max(", listed(termsOver(args[0], options, index), ", ", (all) => Math.max(...all)), ")"].map(asParts), ATOM);
      if (op === "softmax" || op === "logsumexp") {
        const powers = termsOver(args[0], options, index).map((term) => call("exp", [term], Math.exp(term.value)));
        const [sum] = added(powers);
        if (op === "logsumexp") return made(["log(", sum, ")"].map(asParts), ATOM);
        const one = call("exp", [write(args[0], index)]).parts;
        return made([...one, asParts(" / ("), sum, asParts(")")], PRODUCT);
      }
      const inner = args.map((arg) => write(arg, index));
      if (op in FUNCTIONS) return { ...call(FUNCTIONS[op], inner), value };
      if (op === "neg") return made([asParts("−"), atLeast(inner[0], PRODUCT)], NEGATIVE);
      if (op === "square") return made([atLeast(inner[0], ATOM), asParts("²")], POWER);
      if (op === "sqrt") return made([asParts("√"), atLeast(inner[0], ATOM)], POWER);
      if (op === "add") return made(plus(inner), SUM);
      if (op === "sub") return made([inner[0].parts, asParts(" − "), atLeast(inner[1], PRODUCT)], SUM);
      if (op === "mul" || op === "div") {
        const strength = inner[0].strength === NEGATIVE ? NEGATIVE : PRODUCT;
        const sign = op === "mul" ? " · " : " / ";
        return made([atLeast(inner[0], NEGATIVE), asParts(sign), atLeast(inner[1], op === "mul" ? PRODUCT : POWER)], strength);
      }
      throw new Error(`no written form of ${op}`);
    }

    // A sum or mean over axes. Along an axis that the value lacks it is the same everywhere: that is a factor.
    function total(expression, index) {
      const [op, over, arg] = expression;
      const has = over.filter((axis) => evaluated(arg).axes.includes(axis));
      const count = (axes) => axes.reduce((n, axis) => n * sizes[axis], 1);
      const factor = op === "sum" ? count(over.filter((axis) => !has.includes(axis))) : 1;
      const terms = termsOver(arg, has, index);
      const value = at(expression, index);
      const before = op === "mean" && terms.length > 1 ? [own(1), { text: " / " }, own(count(has)), { text: " · " }]
        : factor !== 1 ? [own(factor), { text: " · " }] : [];
      if (terms.length === 1) {
        const [term] = terms;
        if (!before.length) return { ...term, value };
        return { parts: [...before, ...atLeast(term, PRODUCT)], strength: PRODUCT, value };
      }
      const [sum, strength] = added(terms);
      if (!before.length) return { parts: sum, strength, value };
      return { parts: [...before, { text: "(" }, ...sum, { text: ")" }], strength: PRODUCT, value };
    }

    // The value at every place of the axes.
    function termsOver(arg, axes, index) {
      let places = [index];
      for (const axis of axes)
        places = places.flatMap((place) => Array.from({ length: sizes[axis] }, (_, i) => ({ ...place, [axis]: i })));
      return places.map((place) => write(arg, place));
    }

    // Entry (u, v) of the patch at (p, q) is pixel (p + u, q + v).
    const pixelOf = (index) => ({ ...index, h: index.p + index.u, k: index.q + index.v });

    function foldTerms(arg, index) {
      const terms = [];
      for (let u = 0; u < sizes.u; ++u)
        for (let v = 0; v < sizes.v; ++v) {
          const [p, q] = [index.h - u, index.k - v];
          if (p >= 0 && q >= 0 && p < sizes.p && q < sizes.q) terms.push(write(arg, { ...index, u, v, p, q }));
        }
      return terms;
    }

    return { write };
  }

  const own = (number) => ({ number, source: null });
  const asParts = (part) => (typeof part === "string" ? [{ text: part }] : part);
  const atLeast = ({ parts, strength }, least) => (strength >= least ? parts : [{ text: "(" }, ...parts, { text: ")" }]);
  const joined = (terms, sign) => terms.flatMap((parts, i) => (i ? [{ text: sign }, ...parts] : parts));
  const call = (name, inner, value) =>
    ({ parts: [{ text: `${name}(` }, ...joined(inner.map(({ parts }) => parts), ", "), { text: ")" }], strength: ATOM, value });

  // Terms with their signs: a rule's minus is the sum's, a number's own minus stays with it.
  function plus(terms) {
    return terms.flatMap(({ parts }, i) => (i ? follows(parts) : parts));
  }

  function follows([first, ...rest]) {
    if (first.text?.startsWith("−")) return [{ text: " − " }, ...(first.text === "−" ? [] : [{ text: first.text.slice(1) }]), ...rest];
    if (first.number < 0) return [{ text: " + (" }, first, { text: ")" }, ...rest];
    return [{ text: " + " }, first, ...rest];
  }

  // [parts, strength] of a sum of terms; terms that are sums themselves stay together.
  function added(terms) {
    if (!terms.length) return [[own(0)], ATOM];
    if (terms.length === 1) return [terms[0].parts, terms[0].strength];
    const tight = terms.map((term) => ({ parts: atLeast(term, NEGATIVE), value: term.value }));
    return [listed(tight, null, (all) => all.reduce((sum, x) => sum + x, 0)), SUM];
  }

  // All terms, or of a long list the largest in their order and then the rest. sign: between them, null for a sum.
  function listed(terms, sign, valueOf) {
    const write = (some) => (sign === null ? plus(some) : joined(some.map(({ parts }) => parts), sign));
    if (terms.length <= LONG) return write(terms);
    const bySize = terms.map((_, i) => i).sort((a, b) => Math.abs(terms[b].value) - Math.abs(terms[a].value));
    const large = new Set(bySize.slice(0, SHOWN));
    const rest = terms.filter((_, i) => !large.has(i));
    const more = sign === null ? rest.flatMap(({ parts }) => follows(parts)) : rest.flatMap(({ parts }) => [{ text: sign }, ...parts]);
    return [...write(terms.filter((_, i) => large.has(i))), { more, count: rest.length, value: valueOf(rest.map((term) => term.value)) }];
  }

  return { create };
})();
