// The page's state as the fragment of an address, written and read:
//
//     #of=bn:0:1x2y3z&at=8&edit=x.0.1:2.5&mistake=mu+%3C-+centred:+sign+flipped&tab=mistakes
//
// of: the page that it belongs to (derivation, seed, a sum over its numbers). at: stop of the road, counted from 1; node:
// another node looked at from there. edit, upstream: entries that differ, indices from 0. mistake, tab, quiz, big. find: the
// number by which a game drew its mistake. A fragment is taken whole or not at all: what does not fit changes nothing.

"use strict";

const fragment = (() => {
  const LONGEST = 4000; // characters of a fragment: what mail and chat still pass on
  const KEYS = ["of", "at", "node", "edit", "upstream", "mistake", "tab", "quiz", "big", "find"];
  const DECIMAL = /^-?(\d{1,25}\.?\d{0,25}|\.\d{1,25})(e-?\d{1,3})?$/;
  const has = (object, name) => Object.hasOwn(object, name);

  // What belongs to a page: its derivation, its seed, and a sum over all numbers that it begins with (FNV-1a).
  function identity(store) {
    let sum = 0x811c9dc5;
    const numbers = [...Object.values(store.base.inputs), store.base.upstream].map(({ shape, data }) => [shape, [...data]]);
    for (const letter of JSON.stringify(numbers)) sum = Math.imul(sum ^ letter.charCodeAt(0), 0x01000193) >>> 0;
    return [store.exported.name, store.data.seed, sum.toString(36)];
  }

  // --- writing ---

  const numberText = (x) => String(x).replace("e+", "e");

  function indices(value, entry) {
    const found = [];
    for (let i = value.shape.length - 1; i >= 0; --i) {
      found.unshift(entry % value.shape[i]);
      entry = Math.floor(entry / value.shape[i]);
    }
    return found;
  }

  function changes(name, value, from) {
    return [...value.data].flatMap((x, entry) =>
      Object.is(x, from.data[entry]) ? [] : [`${[...(name ? [name] : []), ...indices(value, entry)].join(".")}:${numberText(x)}`]);
  }

  // As many of the changes as fit; how many did not is counted.
  function fitting(found, room) {
    const kept = [];
    for (const change of found) {
      room -= change.length + 1;
      if (room < 0) break;
      kept.push(change);
    }
    return kept;
  }

  const encoded = (text) =>
    encodeURIComponent(text).replaceAll("%20", "+").replaceAll("%3A", ":").replaceAll("%2C", ",");

  // {text, left}: the fragment, "" where nothing differs from the page as it begins, and how many changes are left out.
  function written(store, parts) {
    const { inputs, upstream, base } = store;
    const edits = Object.keys(inputs).flatMap((name) => changes(name, inputs[name], base.inputs[name]));
    const slopes = changes("", upstream, base.upstream);
    const given = {
      at: store.last > 0 ? store.last + 1 : null,
      node: store.at === null ? store.current : null,
      edit: fitting(edits, LONGEST),
      mistake: parts.game.seed === null ? store.mistake?.id : null,
      tab: parts.tab.get(),
      quiz: parts.quiz.on ? 1 : null,
      big: parts.big.get() ? 1 : null,
      find: parts.game.seed,
    };
    given.upstream = fitting(slopes, LONGEST - given.edit.join().length);
    const left = edits.length + slopes.length - given.edit.length - given.upstream.length;
    const items = KEYS.flatMap((key) => {
      const item = Array.isArray(given[key]) ? given[key].join() : given[key];
      return item === null || item === undefined || item === "" ? [] : [`${key}=${encoded(String(item))}`];
    });
    return { text: items.length ? [`of=${identity(store).join(":")}`, ...items].join("&") : "", left };
  }

  // --- reading ---

  const refuse = (sentence) => {
    throw new RangeError(sentence);
  };

  function checkOwner(store, text) {
    const [name, seed, sum] = identity(store);
    const [, ofName, ofSeed, ofSum] = /^([\w-]{1,60}):(\d{1,10}):([0-9a-z]{1,7})$/.exec(text) ?? refuse("it is not written as this page writes it");
    if (ofName !== name) refuse(`it belongs to the derivation ${ofName}, this page shows ${name}`);
    if (ofSeed !== String(seed))
      refuse(`it belongs to a page with seed ${ofSeed}, made by: uanref explore ${name} --seed ${ofSeed}`);
    if (ofSum !== sum) refuse("it belongs to a page that was made with other numbers: other sizes, or inputs from a file");
  }

  function count(text, most) {
    const found = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
    return found >= 1 && found <= most ? found : refuse("it names a place that is not there");
  }

  // Entries "0.1:2.5,1.0:3" (after a name where `values` has names) put into copies of values.
  function edited(text, pick) {
    for (const change of text.split(",")) {
      const [place, number, ...rest] = change.split(":");
      const made = number !== undefined && !rest.length && DECIMAL.test(number) ? Number(number) : NaN;
      if (!Number.isFinite(made)) refuse("it has an entry that is no number");
      const [value, at] = pick(place === "" ? [] : place.split("."));
      if (at.length !== value.shape.length || !at.every((index, i) => /^\d{1,6}$/.test(index) && Number(index) < value.shape[i]))
        refuse("it names an entry that is not there");
      value.data[at.reduce((entry, index, i) => entry * value.shape[i] + Number(index), 0)] = made;
    }
  }

  const copied = ({ axes, shape, data }) => primitives.value(axes, shape, Float64Array.from(data));

  // What a fragment asks for, all of it checked. Throws a RangeError with a sentence.
  function read(store, parts, text) {
    const given = {};
    for (const [key, item] of new URLSearchParams(text)) {
      if (!KEYS.includes(key) || has(given, key)) refuse("it is not written as this page writes it");
      given[key] = item;
    }
    if (has(given, "of")) checkOwner(store, given.of);
    const inputs = Object.fromEntries(Object.entries(store.base.inputs).map(([name, value]) => [name, copied(value)]));
    const upstream = copied(store.base.upstream);
    if (has(given, "edit"))
      edited(given.edit, ([name, ...at]) => has(inputs, name ?? "") ? [inputs[name], at] : refuse("it names a value that is not there"));
    if (has(given, "upstream")) edited(given.upstream, (at) => [upstream, at]);
    const switched = (key) => !has(given, key) ? false : given[key] === "1" || refuse("it is not written as this page writes it");
    const one = (key, among, what) => !has(given, key) ? null : among.includes(given[key]) ? given[key] : refuse(`it names ${what} that is not there`);
    const mistake = one("mistake", store.data.mistakes.map((m) => m.id), "a mistake");
    const plan = {
      inputs, upstream,
      mistake: store.data.mistakes.find((m) => m.id === mistake) ?? null,
      at: has(given, "at") ? count(given.at, store.road.length) - 1 : 0,
      node: one("node", store.nodes.map((node) => node.name), "a node"),
      tab: one("tab", parts.tab.names, "a tab"),
      quiz: switched("quiz"), big: switched("big"),
      find: has(given, "find") ? count(given.find, parts.game.most) : null,
    };
    if ((plan.quiz || plan.find !== null) && !store.proven.length) refuse("it asks for gradients where there are none");
    if (plan.find !== null && (plan.quiz || plan.mistake)) refuse("it is not written as this page writes it");
    return plan;
  }

  return { written, read, refuse };
})();
