// The form: shows item after item, takes the answers, keeps them in the browser and saves them as a file.

const study = JSON.parse(document.getElementById("study").textContent);
const element = (id) => document.getElementById(id);
const storeName = `medsr-reading:${study.study}:${study.reader}`;
const names = study.questions;

let answers = {}; // by item's id: { <question>: 1 to 5, note: text }
let current = 0;
let asked = 0; // the question that the digits answer
let view = null;
let panels = [];
const decoded = new Map(); // panels of the items around the current one

const known = new Set(study.items.map((item) => item.id));
const answerOf = (item) => (answers[item.id] ??= {});
const nAnswered = (item) => names.filter((name) => answers[item.id]?.[name]).length;
const isDone = (item) => nAnswered(item) === names.length;

function say(text) {
  element("message").textContent = text;
  element("message").hidden = !text;
}

// ---- keeping, saving and loading

function keep() {
  try {
    localStorage.setItem(storeName, JSON.stringify({ answers, current }));
  } catch {
    say("This browser cannot keep your answers: download them before you close the form, and load them to go on.");
  }
}

function saved() {
  const given = study.items.filter((item) => nAnswered(item) || answers[item.id]?.note);
  const { format, version, study: name, reader } = study;
  return { format, version, study: name, reader, answers: given.map(({ id }) => ({ item: id, ...answers[id] })) };
}

function download() {
  const blob = new Blob([JSON.stringify(saved(), null, 1) + "\n"], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `reader_${study.reader}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  const left = study.items.filter((item) => !isDone(item)).length;
  say(left ? `Saved as ${link.download}. ${left} items are still to be answered.`
    : `Saved as ${link.download}: all items are answered. Send the file to the person who runs the study. Thank you.`);
}

async function load(file) {
  const content = await file.text().then(JSON.parse).catch(() => null);
  if (content?.format !== study.format || content.version !== study.version || !Array.isArray(content.answers)) {
    return say(`${file.name} is not a file of answers.`);
  }
  if (content.study !== study.study || content.reader !== study.reader) {
    return say(`${file.name} belongs to another form; nothing was loaded.`);
  }
  const found = {};
  for (const { item, note, ...values } of content.answers) {
    const isRating = (value) => Number.isInteger(value) && value >= 1 && value <= 5;
    if (!known.has(item) || !Object.entries(values).every(([name, v]) => names.includes(name) && isRating(v))) {
      return say(`${file.name}: item ${item} is not as this form saved it; nothing was loaded.`);
    }
    found[item] = { ...values, ...(note ? { note: String(note) } : {}) };
  }
  answers = found;
  keep();
  const open = study.items.findIndex((item) => !isDone(item));
  show(open < 0 ? study.items.length - 1 : open);
  say(`${content.answers.length} items loaded from ${file.name}.`);
}

// ---- showing

function panelsOf(index) {
  const item = study.items[index];
  if (!decoded.has(index)) {
    const made = [new Panel(item.picture, item.letters, false)];
    if (item.aid !== null) made.unshift(new Panel(study.aids[item.aid], item.letters, true));
    decoded.set(index, { panels: made, ready: Promise.all(made.map((panel) => panel.decode())) });
  }
  return decoded.get(index);
}

async function show(index) {
  current = Math.min(Math.max(index, 0), study.items.length - 1);
  const item = study.items[current];
  asked = Math.max(0, names.findIndex((name) => !answers[item.id]?.[name]));
  const { panels: made, ready } = panelsOf(current);
  panels = made;
  resetView();
  view.slice = Math.floor(item.picture.slices / 2);
  element("panels").replaceChildren(...panels.map((panel) => panel.element));
  element("number").textContent = `Item ${current + 1} of ${study.items.length}`;
  element("identifier").textContent = item.id;
  element("note").value = answers[item.id]?.note ?? "";
  element("slice").max = item.picture.slices;
  element("previous").disabled = current === 0;
  update();
  keep();
  await ready;
  if (panels !== made) return; // the reader went on meanwhile
  draw();
  document.body.dataset.shown = item.id;
  for (const near of decoded.keys()) if (Math.abs(near - current) > 1) decoded.delete(near);
  if (current + 1 < study.items.length) panelsOf(current + 1);
}

function resetView() {
  view = { slice: view?.slice ?? 0, zoom: 1, across: 0, down: 0, ...WHOLE_WINDOW };
}

function draw() {
  for (const panel of panels) panel.draw(view);
  const slices = Number(element("slice").max);
  element("slice").value = view.slice + 1;
  element("position").textContent = `${view.slice + 1} / ${slices}`;
  for (const name of ["level", "width"]) {
    element(name).value = view[name];
    element(`${name}-value`).textContent = `${Math.round(view[name])} %`;
  }
}

function update() {
  const item = study.items[current];
  names.forEach((name, i) => {
    const field = element("questions").children[i];
    field.classList.toggle("active", i === asked);
    for (const label of field.querySelectorAll(".answer")) {
      const chosen = Number(label.dataset.value) === answers[item.id]?.[name];
      label.classList.toggle("chosen", chosen);
      label.control.checked = chosen;
    }
  });
  const done = study.items.filter(isDone).length;
  element("count").textContent = `${done} of ${study.items.length} answered`;
  element("bar").style.width = `${(100 * done) / study.items.length}%`;
  element("progress").setAttribute("aria-valuenow", done);
  element("download").classList.toggle("main", done === study.items.length);
  element("next").disabled = current === study.items.length - 1;
  study.items.forEach((entry, i) => {
    const button = element("overview").children[i];
    const n = nAnswered(entry);
    button.className = n === names.length ? "done" : n ? "half" : "";
    button.classList.toggle("current", i === current);
  });
}

// ---- acting

function rate(question, value) {
  answerOf(study.items[current])[names[question]] = value;
  const open = names.findIndex((name) => !answerOf(study.items[current])[name]);
  asked = open < 0 ? question : open;
  keep();
  update();
  if (study.items.every(isDone)) say("All items are answered: download the answers and send the file.");
}

function move(change) {
  Object.assign(view, change);
  view.slice = Math.min(Math.max(view.slice, 0), Number(element("slice").max) - 1);
  view.level = Math.min(Math.max(view.level, 0), 100);
  view.width = Math.min(Math.max(view.width, 2), 200);
  view.zoom = Math.min(Math.max(view.zoom, 1), 8);
  if (view.zoom === 1) view.across = view.down = 0;
  draw();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || element("guide").open) return;
  if (event.target.tagName === "TEXTAREA") {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const isButton = event.target.tagName === "BUTTON";
  const actions = {
    ArrowUp: () => move({ slice: view.slice + 1 }),
    ArrowDown: () => move({ slice: view.slice - 1 }),
    PageUp: () => move({ slice: view.slice + 5 }),
    PageDown: () => move({ slice: view.slice - 5 }),
    ArrowRight: () => show(current + 1),
    ArrowLeft: () => show(current - 1),
    Enter: isButton ? null : () => isDone(study.items[current]) && show(current + 1),
    Tab: isButton || event.shiftKey ? null : () => { asked = (asked + 1) % names.length; update(); },
    "+": () => move({ zoom: view.zoom * 1.25 }),
    "=": () => move({ zoom: view.zoom * 1.25 }),
    "-": () => move({ zoom: view.zoom / 1.25 }),
    r: () => { resetView(); draw(); },
    "?": () => element("guide").showModal(),
  };
  const action = /^[1-5]$/.test(event.key)
    ? () => rate(asked, Number(event.key))
    : actions[event.key] ?? actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

function dragging(event) {
  if (!(event.buttons & 3)) return;
  if (event.shiftKey) {
    const scale = panels[0].scale;
    move({ across: view.across - event.movementX / scale, down: view.down - event.movementY / scale });
  } else {
    move({ width: view.width + event.movementX / 3, level: view.level + event.movementY / 4 });
  }
}

let wheeled = 0;
function wheel(event) {
  event.preventDefault();
  if (event.ctrlKey) return move({ zoom: view.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15) });
  // A touch pad sends many small steps, a wheel few large ones.
  wheeled += event.deltaMode ? 40 * event.deltaY : event.deltaY;
  const steps = Math.trunc(wheeled / 40);
  wheeled -= 40 * steps;
  if (steps) move({ slice: view.slice - Math.sign(steps) * Math.min(Math.abs(steps), 2) });
}

// ---- beginning

function listen() {
  const theme = document.documentElement.dataset;
  theme.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const on = (id, type, action) => element(id).addEventListener(type, action);
  on("download", "click", download);
  on("load", "click", () => element("file").click());
  on("file", "change", async (event) => { await load(event.target.files[0]); event.target.value = ""; });
  on("help", "click", () => element("guide").showModal());
  on("begin", "click", () => element("guide").close());
  on("questions", "change", ({ target }) => { target.blur(); rate(names.indexOf(target.name), Number(target.value)); });
  on("overview", "click", ({ target }) => { if (target.title) show([...target.parentNode.children].indexOf(target)); });
  on("previous", "click", () => show(current - 1));
  on("next", "click", () => show(current + 1));
  on("reset", "click", () => { resetView(); draw(); });
  on("slice", "input", (event) => move({ slice: Number(event.target.value) - 1 }));
  on("level", "input", (event) => move({ level: Number(event.target.value) }));
  on("width", "input", (event) => move({ width: Number(event.target.value) }));
  on("note", "input", (event) => { answerOf(study.items[current]).note = event.target.value; keep(); });
  on("theme", "click", () => {
    theme.theme = theme.theme === "dark" ? "light" : "dark";
  });
  on("panels", "pointermove", dragging);
  on("panels", "pointerdown", (event) => event.target.setPointerCapture?.(event.pointerId));
  on("panels", "contextmenu", (event) => event.preventDefault());
  on("panels", "wheel", wheel);
  document.addEventListener("keydown", press);
  new ResizeObserver(() => { for (const panel of panels) if (panel.grey) panel.show(view); }).observe(element("panels"));
}

function start() {
  if (typeof DecompressionStream === "undefined") {
    return say("This browser is too old for the form: use Chrome or Edge 80, Firefox 113, Safari 16.4, or newer.");
  }
  listen();
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(storeName));
  } catch { /* the form begins anew */ }
  answers = kept?.answers ?? {};
  show(kept?.current ?? 0);
  if (!kept) element("guide").showModal();
}

start();
