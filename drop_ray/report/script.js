/* What makes the page workable: values under the pointer, tables that sort and hide columns, variants that are found and
   followed through every drawing. Without it the page says the same. The state is in the address, behind #. */
(() => {
  "use strict";
  const main = document.querySelector("main");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const words = (node) => node.textContent.replace(/\s+/g, " ").trim();

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value !== false) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /* The name that a row begins with: what its heading has before notes and badges. */
  function rowName(row) {
    const heading = row.querySelector("th");
    if (!heading) return "";
    const text = [...heading.childNodes].find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    return text ? text.data.trim() : "";
  }

  /* ---- Variants: the rows of their table, and all rows and marks elsewhere that are of one of them. */
  const variants = new Map();
  for (const row of all("#variants table tbody tr").filter((row) => row.closest("details") === null)) {
    variants.set(rowName(row), row);
  }
  const base = variants.keys().next().value;
  const marks = [];
  for (const title of all("svg g > title")) {
    const mark = title.parentNode;
    const name = title.textContent.split(/[:,]/)[0].trim();
    mark.dataset.tip = title.textContent;
    title.remove(); /* or the browser would show it a second time */
    if (variants.has(name)) {
      mark.dataset.variant = name;
      marks.push(mark);
    }
  }
  const rows = [];
  for (const row of all("tbody tr")) {
    const name = rowName(row);
    if (!variants.has(name)) continue;
    row.dataset.variant = name;
    rows.push(row);
  }

  /* ---- The value under the pointer, or at the mark that the keyboard has reached. */
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  let pointed = null;
  document.body.append(tip);

  function point(mark, x, y) {
    pointed?.classList.remove("pointed");
    pointed = mark;
    tip.hidden = !mark;
    if (!mark) return;
    mark.classList.add("pointed");
    if (tip.textContent !== mark.dataset.tip) tip.textContent = mark.dataset.tip;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(x + 14, room))}px`;
    const below = y + 18 + tip.offsetHeight < document.documentElement.clientHeight;
    tip.style.top = `${below ? y + 18 : y - tip.offsetHeight - 10}px`;
  }

  function pointAt(mark) {
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
    const box = mark.getBoundingClientRect();
    point(mark, box.left + box.width / 2, box.top + box.height / 2);
  }

  document.addEventListener("pointermove", (event) => point(event.target.closest?.("[data-tip]"), event.clientX, event.clientY));

  /* A drawing is one stop of the keyboard: arrows go from mark to mark, Enter chooses the variant. */
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  for (const drawing of all("figure svg")) {
    const own = all("[data-tip]", drawing);
    if (!own.length) continue;
    let at = -1;
    drawing.setAttribute("tabindex", "0");
    drawing.setAttribute("role", "application");
    drawing.setAttribute("aria-roledescription", "chart, whose marks the arrow keys read");
    drawing.addEventListener("blur", () => point(null));
    drawing.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (step) at = at < 0 ? (step > 0 ? 0 : own.length - 1) : (at + step + own.length) % own.length;
      else if (event.key === "Home") at = 0;
      else if (event.key === "End") at = own.length - 1;
      else if ((event.key === "Enter" || event.key === " ") && own[at]?.dataset.variant) choose(own[at].dataset.variant);
      else return;
      event.preventDefault();
      pointAt(own[at]);
    });
  }

  /* ---- State: what is chosen, found, sorted and hidden; kept in the address. */
  const FILTERS = ["strategy", "change", "task"];
  const state = { variant: "", find: "", strategy: "", change: "", task: "", sort: new Map(), hide: new Map() };
  const tables = all("main table").filter((table) => table.tHead);

  function keep() {
    const fields = new URLSearchParams();
    if (state.variant) fields.set("variant", state.variant);
    for (const name of ["find", ...FILTERS]) if (state[name]) fields.set(name, state[name]);
    for (const [table, [column, down]] of state.sort) fields.append("sort", `${table}.${column}.${down ? "down" : "up"}`);
    for (const [table, columns] of state.hide) if (columns.size) fields.append("hide", [table, ...columns].join("."));
    const text = fields.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function restore() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return; /* the name of a section */
    const fields = new URLSearchParams(hash);
    state.variant = variants.has(fields.get("variant")) ? fields.get("variant") : "";
    for (const name of ["find", ...FILTERS]) state[name] = fields.get(name) ?? "";
    state.sort = new Map(fields.getAll("sort").map((text) => text.split(".")).map(([table, column, way]) => [+table, [+column, way === "down"]]));
    state.hide = new Map(fields.getAll("hide").map((text) => text.split(".").map(Number)).map(([table, ...columns]) => [table, new Set(columns)]));
  }

  /* ---- Finding variants by words of their name, strategy and changes; what a task has by the task. */
  const made = new Map([...variants].map(([name, row]) => {
    const parts = words(row.querySelector("th small") ?? row).split(", ");
    const dropped = parts.findIndex((part) => part.endsWith(" dropped"));
    return [name, { strategy: parts[0], change: parts.slice(dropped + 1).join(" + ") || "dropped only" }];
  }));
  const heads = (table) => [...table.tHead.rows[0].cells].map((heading) => [...heading.querySelectorAll("small")].reduce((text, note) => text.replace(words(note), ""), words(heading)).trim());
  const first = variants.get(base)?.closest("table");
  const taskColumns = new Map((first ? heads(first) : []).flatMap((text, at) => (/^(?!KL\s).*\s[\u2191\u2193]$/.test(text) ? [[at, text.slice(0, -1).trim()]] : [])));
  const taskRows = tables.flatMap((table) => {
    const at = heads(table).indexOf("task");
    return at < 0 ? [] : [...table.tBodies[0].rows].map((row) => [row, words(row.cells[at])]);
  });
  const taskCharts = all("#quality .columns > div").map((cell) => [cell, words(cell.querySelector(".chart-title") ?? cell)]);
  const options = {
    strategy: [...new Set([...made].filter(([name]) => name !== base).map(([, how]) => how.strategy))],
    change: [...new Set([...made].filter(([name]) => name !== base).map(([, how]) => how.change))],
    task: [...new Set(taskColumns.values())],
  };
  const selects = FILTERS.map((name) => make("select", { "aria-label": name, change: (event) => { state[name] = event.target.value; showFound(); tables.forEach(hide); keep(); } },
    make("option", { value: "" }, { strategy: "every strategy", change: "every change", task: "every task" }[name]), ...options[name].map((value) => make("option", { value }, value))));
  const find = make("input", { type: "search", id: "find", list: "variant-names", placeholder: "attention refit", input: () => { state.find = find.value; showFound(); keep(); } });
  const names = make("datalist", { id: "variant-names" }, ...[...variants.keys()].map((name) => make("option", { value: name })));
  const count = make("output", { for: "find" });

  function showFound() {
    const wanted = state.find.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set([...variants].filter(([name, row]) => {
      const text = words(row.querySelector("th")).toLowerCase(), how = made.get(name);
      if (name === base) return true;
      if ((state.strategy && how.strategy !== state.strategy) || (state.change && how.change !== state.change)) return false;
      return name.toLowerCase() === state.find.trim().toLowerCase() || wanted.every((word) => text.includes(word));
    }).map(([name]) => name));
    const isOther = (task) => state.task && task !== state.task;
    for (const row of rows) row.hidden = !shown.has(row.dataset.variant);
    for (const [row, task] of taskRows) row.hidden = (row.dataset.variant && !shown.has(row.dataset.variant)) || Boolean(isOther(task));
    for (const [cell, task] of taskCharts) cell.hidden = Boolean(isOther(task));
    for (const mark of marks) mark.classList.toggle("away", !shown.has(mark.dataset.variant));
    count.textContent = wanted.length || state.strategy || state.change ? `${shown.size - 1} of ${variants.size - 1} variants` : "";
  }

  /* ---- One variant, followed through all tables and drawings. */
  const panel = make("aside", { class: "panel", "aria-live": "polite", "aria-label": "the chosen variant", hidden: "" });

  function choose(name) {
    state.variant = name === state.variant ? "" : name;
    showChosen();
    keep();
  }

  function showChosen() {
    for (const item of [...rows, ...marks]) item.classList.toggle("chosen", item.dataset.variant === state.variant);
    for (const button of all("button.variant")) button.setAttribute("aria-pressed", String(button.value === state.variant));
    document.body.classList.toggle("choosing", Boolean(state.variant));
    panel.hidden = !state.variant;
    panel.replaceChildren();
    const row = variants.get(state.variant);
    if (!row) return;
    const strip = row.querySelector("td svg")?.cloneNode(true);
    all("[id]", strip ?? document.createElement("i")).concat(strip ?? []).forEach((node) => node.id && (node.id += "-chosen"));
    strip?.removeAttribute("aria-labelledby");
    strip?.setAttribute("aria-label", "the layers that it drops");
    const notes = all("small", row.querySelector("th")).map(words).join(", ");
    const dropped = [...all("small", row.cells[1]).map(words), ...all("td[title]", row).map((cell) => cell.title)].join("; ");
    const close = make("button", { type: "button", click: () => choose(state.variant) }, "Close");
    panel.append(make("b", {}, state.variant), make("small", {}, notes), ...(strip ? [strip] : []), make("small", {}, dropped), close);
  }

  for (const row of rows) {
    const heading = row.querySelector("th");
    const text = [...heading.childNodes].find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const name = row.dataset.variant;
    text.replaceWith(make("button", { type: "button", class: "variant", value: name, "aria-pressed": "false", click: () => choose(name) }, name));
  }
  for (const mark of marks) mark.addEventListener("click", () => choose(mark.dataset.variant));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.variant) choose(state.variant); });

  /* ---- Tables that sort, by the number that a cell begins with, or by its text; what has none comes last. */
  const SCALES = { K: 1e3, k: 1e3, M: 1e6, B: 1e9, G: 1e9, T: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

  function value(cell) {
    const copy = cell.cloneNode(true);
    if (copy.childNodes.length > 1) all("small, svg", copy).forEach((node) => node.remove());
    const text = words(copy);
    const number = text.replace(/[\u2212\u2013]/g, "-").match(/^([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([A-Za-z]*)/);
    if (number) return Number(number[1].replaceAll(",", "")) * (SCALES[number[2]] ?? 1);
    return /^[+-]?(inf|\u221e)/.test(text) ? Infinity : text;
  }

  function order(one, other) {
    const empty = (found) => found === "" || found === "n/a" || found === "-";
    if (empty(one) || empty(other)) return empty(one) - empty(other) || 0;
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), undefined, { numeric: true });
  }

  function sort(table) {
    const [column, down] = state.sort.get(tables.indexOf(table)) ?? [];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, index) => heading.setAttribute("aria-sort", index !== column ? "none" : down ? "descending" : "ascending"));
    const body = table.tBodies[0];
    const sorted = column === undefined ? originals.get(table) : [...originals.get(table)].sort((one, other) => {
      const [a, b] = [value(one.cells[column]), value(other.cells[column])];
      const isText = [a, b].some((found) => typeof found === "string" && ["", "n/a", "-"].includes(found));
      return down && !isText ? order(b, a) : order(a, b);
    });
    body.append(...sorted);
  }

  const originals = new Map(tables.map((table) => [table, [...table.tBodies[0].rows]]));
  tables.forEach((table, index) => {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = make("button", {
        type: "button",
        class: "sort",
        click: () => {
          const before = state.sort.get(index);
          const isSame = before?.[0] === column;
          if (isSame && !before[1]) state.sort.delete(index); /* third press: as it was */
          else state.sort.set(index, [column, !isSame]);
          sort(table);
          keep();
        },
      });
      button.append(...heading.childNodes);
      heading.append(button);
    });
    if (table.tHead.rows[0].cells.length > 7) table.closest(".scroll").before(chooser(table, index));
  });

  /* ---- Columns that are hidden. */
  function chooser(table, index) {
    const boxes = [...table.tHead.rows[0].cells].slice(1).map((heading, at) => {
      const box = make("input", { type: "checkbox", checked: "", value: String(at + 1), change: () => {
        const hidden = state.hide.get(index) ?? new Set();
        hidden[box.checked ? "delete" : "add"](at + 1);
        state.hide.set(index, hidden);
        hide(table);
        keep();
      } });
      return make("label", {}, box, words(heading));
    });
    return make("details", { class: "columns-shown" }, make("summary", {}, `Columns (${boxes.length + 1})`), ...boxes);
  }

  function hide(table) {
    const index = tables.indexOf(table);
    const hidden = state.hide.get(index) ?? new Set();
    const isOther = (at) => table === first && state.task && taskColumns.has(at) && taskColumns.get(at) !== state.task;
    for (const row of table.rows) [...row.cells].forEach((cell, at) => { cell.hidden = hidden.has(at) || Boolean(isOther(at)); });
    const boxes = table.closest(".scroll").previousElementSibling;
    if (boxes?.matches(".columns-shown")) all("input", boxes).forEach((box) => { box.checked = !hidden.has(Number(box.value)); });
  }

  /* ---- What a cell says under the pointer only; of variants, the panel says it. */
  for (const cell of all("td[title]")) {
    if (cell.parentNode.dataset.variant) continue;
    cell.dataset.tip = cell.title;
    cell.removeAttribute("title");
    cell.tabIndex = 0;
    cell.addEventListener("focus", () => pointAt(cell));
    cell.addEventListener("blur", () => point(null));
  }

  /* ---- Commands that are copied. */
  for (const code of all("main pre")) {
    const text = code.textContent;
    const copy = make("button", { type: "button", class: "copy", click: async () => {
      if (navigator.clipboard) await navigator.clipboard.writeText(text);
      else getSelection().selectAllChildren(code); /* a page from http may only select */
      copy.textContent = navigator.clipboard ? "Copied" : "Selected";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    } }, "Copy");
    code.append(copy);
  }

  /* ---- On paper nothing can be opened: commands and the configuration are, while it prints. */
  const closed = () => all("main details:not([open])").filter((part) => part.querySelector(":scope > pre"));
  let opened = [];
  addEventListener("beforeprint", () => { opened = closed(); opened.forEach((part) => { part.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((part) => { part.open = false; }); });

  /* ---- All of it, at the start and where the address changes. */
  function show() {
    find.value = state.find;
    selects.forEach((select, at) => { select.value = state[FILTERS[at]]; });
    showFound();
    showChosen();
    tables.forEach((table) => { sort(table); hide(table); });
  }

  if (variants.size > 1) {
    const bar = make("div", { class: "bar", role: "search" }, make("label", { for: "find" }, "Find variants"), find, names, ...selects.filter((select) => select.options.length > 2), count);
    main.querySelector("header").after(bar);
    document.body.append(panel);
  }
  addEventListener("hashchange", () => { restore(); show(); });
  restore();
  show();
})();
