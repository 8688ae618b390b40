// Where a gradient comes from, part by part, and where it goes.

"use strict";

const nodeWays = (() => {
  const { el, equation } = dom;

  // picking(kind, name, user): what a click on an entry of such a part does.
  function create(store, says, picking) {
    const { exported } = store;
    const table = (value, options) => arrays.table(value, exported.axes, options);

    // The sum of the parts that have arrived.
    const soFar = (name, users) => derivation.total(
      users.map((user) => store.traced.contributions[name][user]), store.traced.gradients[name]);

    // What each user has sent back, and the sum; first by the ways that have names, if there are some.
    function arrived(node, users, all) {
      const parts = store.traced.contributions[node.name];
      const complete = users.length === all.length;
      const gradient = complete ? store.traced.gradients[node.name] : soFar(node.name, users);
      const scale = Math.max(...[...Object.values(parts), store.traced.gradients[node.name]].map(arrays.largestOf));
      const waiting = all.filter((user) => !users.includes(user));
      return [
        ...(complete ? named(node) : []),
        el("h4", {}, all.length > 1 ? "Arrived, part by part" : "Arrived from its only user"),
        el("div", { class: "parts", id: "contributions" },
          users.map((user) => el("div", { class: "part", "data-user": user },
            el("p", { class: "small" }, "from ", says.link(user)),
            equation(store.byName[user].backward[node.name].equation), says.slip(user, node.name),
            table(parts[user], { scale, pick: picking("contribution", node.name, user) }).element)),
          waiting.map((user) => el("p", { class: "small waiting" }, "still to come: from ", says.link(user))),
          all.length > 1 && users.length ? sum(gradient, complete ? "Summed: the gradient" : "The sum so far", scale) : null),
      ];
    }

    function named(node) {
      const ways = store.data.ways[node.name];
      // Where a line of the way does not follow its rule, the ways do not add up; unseen, nothing shall tell which one it is.
      if (!ways || store.secret || store.mistake?.input === node.name) return [];
      const gradient = store.traced.gradients[node.name];
      const titles = Object.keys(ways);
      const values = titles.map((title) => derivation.total(ways[title].map((hop) => along(node.name, hop)), gradient));
      const scale = Math.max(...[...values, gradient].map(arrays.largestOf));
      return [
        el("h4", {}, "The ways of ", says.named(node.name)[0], " to the loss"),
        el("div", { class: "parts", id: "named-ways" },
          titles.map((title, i) => el("div", { class: "part", "data-way": title },
            el("p", { class: "small" }, el("b", {}, says.sentence(title).slice(0, -1)), `: ${ways[title].map(hopText).join("; ")}`),
            table(values[i], { scale }).element)),
          sum(gradient, "Together", scale)),
      ];
    }

    const sum = (gradient, title, scale) => el("div", { class: "part sum" }, el("p", { class: "small" }, el("b", {}, title)),
      table(gradient, { scale }).element);

    function along(name, hop) {
      const [user, second] = hop.split("/");
      if (second === undefined) return store.traced.contributions[name][user];
      const part = store.traced.contributions[user][second];
      return derivation.contribution(exported, store.traced, user, name, part);
    }

    function hopText(hop) {
      const [user, second] = hop.split("/");
      return second === undefined ? `from ${user}` : `from ${user}, what came from ${second}`;
    }

    // What this step sends on, and how much of its inputs' gradients has arrived with it.
    function sent(node) {
      const targets = (node.inputs ?? []).filter((name) => store.traced.contributions[name]?.[node.name] && !store.hides(name));
      if (!targets.length) return [];
      return [
        el("h4", {}, "Sent on from here"),
        el("div", { class: "parts" }, targets.map((name) => {
          const { users, all } = store.arrived(name);
          return el("div", { class: "part", "data-target": name }, el("p", { class: "small" }, "to ", says.link(name)),
            table(store.traced.contributions[name][node.name], { pick: picking("contribution", name, node.name) }).element,
            el("p", { class: "small" }, says.count(name, users.length, all.length)));
        })),
      ];
    }

    return { soFar, arrived, sent };
  }

  return { create };
})();
