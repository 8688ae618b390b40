// Two runs of the same ten questions. Answers are kept in this page's storage where the browser allows it, else in
// memory; they leave the page only in a file that the reader saves.

"use strict";

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main");
  const KEY = `uanref-quiz-${data.version}`;
  const RUNS = Object.keys(data.runs);

  // --- what is kept ---

  const fresh = () => ({ code: "", runs: {} });
  let state = fresh();
  let lasting = true;

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      if (kept && typeof kept.code === "string" && kept.runs && typeof kept.runs === "object") {
        state = { code: cleaned(kept.code), runs: {} };
        for (const run of RUNS) if (Array.isArray(kept.runs[run]?.answers)) state.runs[run] = checked(run, kept.runs[run]);
      }
      localStorage.setItem(KEY, JSON.stringify(state));
    } catch {
      lasting = false;
    }
  }

  // Whatever the storage holds, an answer is a place among the choices, a text of modest length, or nothing.
  function checked(run, kept) {
    const answers = data.runs[run].map((question, i) => {
      const answer = kept.answers[i];
      if (question.choices.length) return Number.isInteger(answer) && answer >= 0 && answer < question.choices.length ? answer : null;
      return typeof answer === "string" ? answer.slice(0, 20) : null;
    });
    return { answers, done: kept.done === true, seconds: Number.isFinite(kept.seconds) ? kept.seconds : 0 };
  }

  function keep() {
    if (!lasting) return;
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
    } catch {
      lasting = false;
    }
  }

  const cleaned = (code) => code.replace(/[^\p{L}\p{N} _.-]/gu, "").replace(/^[-. ]+/, "").slice(0, 40);

  // --- right or wrong ---

  const number = (text) => {
    const typed = String(text ?? "").trim().replace(/[\u2212\u2013]/, "-").replace(",", ".");
    return /^[-+]?(\d+\.?\d*|\.\d+)$/.test(typed) ? Number(typed) : NaN;
  };
  const isRight = (question, answer) =>
    question.choices.length ? answer === question.right : Math.abs(number(answer) - question.right) <= data.tolerance;
  const told = (question, answer) => (answer === null || answer === "" ? "" : question.choices.length ? question.choices[answer] : String(answer));
  const rightText = (question) => (question.choices.length ? question.choices[question.right] : String(Number(question.right.toFixed(3))));
  const score = (run) => data.runs[run].filter((question, i) => isRight(question, state.runs[run].answers[i])).length;
  const done = (run) => state.runs[run]?.done === true;

  // On the screen every minus is the sign; a file keeps what programs read. A hyphen between letters stays.
  const signed = (text) => text.replace(/(?<!\p{L})-/gu, "\u2212");

  // --- elements ---

  function el(tag, given = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name === "class") made.className = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function show(...children) {
    main.replaceChildren(...children.filter((child) => child !== null));
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }

  // --- the first screen, with what has been reached ---

  function start() {
    const code = el("input", { type: "text", id: "code", maxlength: 40, autocomplete: "off", oninput: () => {
      state.code = cleaned(code.value);
      keep();
    } });
    code.value = state.code;
    show(
      el("h2", {}, RUNS.some(done) ? "Your runs" : "Begin"),
      el("div", { class: "row" }, el("label", { for: "code" }, "A code that your teacher knows you by (no name needed)"), code),
      el("div", { class: "row" }, ...RUNS.map((run) => done(run)
        ? el("span", { class: "score", id: `score-${run}` }, `${run}: ${score(run)} of ${data.runs[run].length}`)
        : el("button", { type: "button", class: run === RUNS.find((each) => !done(each)) ? "main" : "", id: run, onclick: () => ask(run) }, state.runs[run] ? `Go on: ${run}` : `Start: ${run}`))),
      lasting ? null : el("p", { class: "wrong" }, "This browser keeps nothing for this page: save your answers before you close it."),
      RUNS.some(done) ? el("div", { class: "row" },
        el("button", { type: "button", id: "csv", onclick: () => save("csv") }, "Save answers (CSV)"),
        el("button", { type: "button", id: "json", onclick: () => save("json") }, "Save answers (JSON)"),
        el("button", { type: "button", id: "delete", onclick: erase }, "Delete all answers")) : null,
      RUNS.every(done) ? results() : done("before") ? el("p", {}, "Which answers were right is shown after the second run.") : null,
    );
  }

  // --- a run ---

  function ask(run) {
    const questions = data.runs[run];
    const mine = (state.runs[run] ??= { answers: questions.map(() => null), done: false, seconds: 0 });
    const began = Date.now() - mine.seconds * 1000;
    const note = (i, answer) => {
      mine.answers[i] = answer;
      mine.seconds = Math.round((Date.now() - began) / 1000);
      keep();
    };
    let warned = false;
    const missing = el("p", { class: "wrong", role: "status" });
    const finish = () => {
      const open = questions.filter((question, i) => (question.choices.length ? mine.answers[i] === null : !Number.isFinite(number(mine.answers[i])))).length;
      if (open && !warned) {
        warned = true;
        missing.textContent = `${open} without an answer, or with one that is no number: these will count as wrong. Press again to finish.`;
        return;
      }
      mine.done = true;
      mine.seconds = Math.round((Date.now() - began) / 1000);
      keep();
      start();
    };
    show(el("h2", {}, `Run: ${run}`), ...questions.map((question, i) => asked(run, question, i, mine, note)), missing,
      el("div", { class: "row" }, el("button", { type: "button", class: "main", id: "finish", onclick: finish }, "Finish"),
        el("button", { type: "button", onclick: start }, "Pause")));
  }

  function asked(run, question, i, mine, note) {
    const title = `${run}-${question.id}`;
    const box = el("fieldset", { id: title, "aria-describedby": `${title}-asked` }, el("legend", {}, `${i + 1} of ${data.runs[run].length}`),
      el("div", { class: "given" }, ...question.given.map((line) => el("div", {}, el("code", {}, signed(line))))), el("p", { id: `${title}-asked` }, question.asked));
    if (question.choices.length) {
      question.choices.forEach((choice, k) => {
        const button = el("input", { type: "radio", name: title, value: k, onchange: () => note(i, k) });
        button.checked = mine.answers[i] === k;
        box.append(el("label", { class: "choice" }, button, el("code", {}, signed(choice))));
      });
    } else {
      const field = el("input", { type: "text", inputmode: "text", maxlength: 20, autocomplete: "off", "aria-label": "A number, to two places", oninput: () => note(i, field.value) });
      field.value = mine.answers[i] ?? "";
      box.append(el("label", { class: "row" }, "A number, to two places:", field));
    }
    return box;
  }

  // --- what was learned ---

  function results() {
    const [before, after] = RUNS;
    const mark = (run, i) => {
      const right = isRight(data.runs[run][i], state.runs[run].answers[i]);
      return el("td", {}, el("span", { class: right ? "right" : "wrong" }, right ? "✓ " : "✗ "), el("code", {}, signed(told(data.runs[run][i], state.runs[run].answers[i])) || "–"));
    };
    const rows = data.runs[after].map((question, i) => el("tr", {},
      el("td", {}, String(i + 1)), mark(before, i), mark(after, i),
      el("td", {}, el("code", {}, signed(rightText(question))), el("div", { class: "small" }, question.why, " ",
        el("a", { href: `explore/${question.explorer[0]}.html#node=${question.explorer[1]}`, target: "_blank", rel: "noopener" }, `explorer: ${question.explorer.join(", ")}`)))));
    return el("section", { id: "results" }, el("h2", {}, "What was learned"),
      el("p", { class: "score", id: "gain" }, `From ${score(before)} to ${score(after)} of ${rows.length}.`),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers, scrollable" }, el("table", {},
        el("thead", {}, el("tr", {}, ...["", before, after, `right (${after})`].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...rows))));
  }

  // --- files ---

  const rows = () => RUNS.filter(done).flatMap((run) => data.runs[run].map((question, i) => ({
    quiz: data.version, code: state.code, run, number: i + 1, question: question.id, kind: question.choices.length ? "rule" : "number",
    answer: told(question, state.runs[run].answers[i]), right: rightText(question),
    correct: isRight(question, state.runs[run].answers[i]) ? 1 : 0, seconds: state.runs[run].seconds,
  })));

  // A table's program takes a cell that begins so for a formula.
  const cell = (value) => `"${String(value).replace(/^(?=[=+@\t])/, "'").replaceAll('"', '""')}"`;

  function save(kind) {
    const found = rows();
    const text = kind === "json" ? JSON.stringify(found, null, 1) + "\n"
      : [Object.keys(found[0]), ...found.map(Object.values)].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    const address = URL.createObjectURL(new Blob([kind === "csv" ? "\ufeff" + text : text], { type: kind === "csv" ? "text/csv" : "application/json" }));
    const link = el("a", { href: address, download: `gradients-${(state.code || "answers").replace(/[^\w-]/g, "_")}.${kind}` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  let sure = false;
  function erase(event) {
    if (!sure) {
      sure = true;
      event.target.textContent = "Really delete? Press again";
      return;
    }
    sure = false;
    state = fresh();
    keep();
    start();
  }

  load();
  start();
})();
