"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  document.querySelectorAll(".needs-script").forEach((element) => { element.hidden = false; });

  // One condition, and one measure of the matrix, at a time; without this script all are shown.
  const showOne = (attribute, chosen) => {
    document.querySelectorAll(`[${attribute}]`).forEach((element) => {
      element.hidden = element.getAttribute(attribute) !== chosen;
    });
  };
  const choose = (select, attribute) => {
    if (!select) return;
    select.addEventListener("change", () => showOne(attribute, select.value));
    showOne(attribute, select.value);
  };
  choose(byId("condition"), "data-condition");
  choose(byId("matrix-measure"), "data-matrix");

  // Tables: sort by a column, missing values last; means or differences to the baseline.
  const summary = byId("summary");
  const isDifference = () => summary.classList.contains("show-difference");
  summary.querySelectorAll("input[name=shown]").forEach((radio) => {
    radio.checked = radio.value === "mean";
    radio.addEventListener("change", () => summary.classList.toggle("show-difference", radio.value === "difference"));
  });
  const sortKey = (row, column) => {
    const cell = row.children[column];
    if (column === 0) return cell.textContent.trim().toLowerCase();
    const text = isDifference() && summary.contains(row) ? cell.dataset.difference : cell.dataset.mean;
    return text === undefined || text === "" ? null : Number(text);
  };
  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const descending = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return (a < b ? -1 : a > b ? 1 : 0) * (descending ? -1 : 1);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, column));
    });
  });

  // The slider.
  const stacks = JSON.parse(byId("stacks").textContent);
  if (!stacks.length) return;
  const canvas = byId("view-canvas"), stage = byId("view-stage"), brush = canvas.getContext("2d");
  const cases = byId("view-case"), left = byId("view-left"), right = byId("view-right");
  const slice = byId("view-slice"), divider = byId("view-divider");
  const pictures = new Map();

  const picture = (image) => {
    if (!pictures.has(image.atlas)) {
      const element = new Image();
      element.onload = () => draw();
      element.src = image.atlas;
      pictures.set(image.atlas, element);
    }
    return pictures.get(image.atlas);
  };
  const fill = (select, labels, chosen) => {
    select.replaceChildren(...labels.map((label) => new Option(label)));
    select.selectedIndex = Math.max(chosen, 0);
  };
  const current = () => stacks[cases.selectedIndex];

  const isReady = (image) => picture(image).complete && picture(image).naturalWidth > 0;
  const paint = (image, from, to) => {
    const element = picture(image);
    if (!isReady(image) || to <= from) return;
    const frame = current().images.at(-1);
    const number = Number(slice.value);
    const width = element.naturalWidth / image.across, height = element.naturalHeight / image.down;
    const mm = canvas.width / frame.width_mm;
    const w = image.width_mm * mm, h = image.height_mm * mm;
    brush.save();
    brush.beginPath();
    brush.rect(from, 0, to - from, canvas.height);
    brush.clip();
    brush.imageSmoothingEnabled = false;
    brush.drawImage(element, (number % image.across) * width, Math.floor(number / image.across) * height, width, height,
      (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
    brush.restore();
  };
  function draw() {
    const stack = current(), one = stack.images[left.selectedIndex], other = stack.images[right.selectedIndex];
    const at = canvas.width * Number(divider.value) / 100;
    brush.fillStyle = "#000";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    paint(one, 0, at);
    paint(other, at, canvas.width);
    if (at > 0 && at < canvas.width) {
      const dot = canvas.width / 720;
      brush.fillStyle = "#ffb74d";
      brush.fillRect(at - dot, 0, 2 * dot, canvas.height);
      brush.beginPath();
      brush.arc(at, canvas.height / 2, 9 * dot, 0, 7);
      brush.fill();
    }
    stage.setAttribute("aria-busy", String(!isReady(one) || !isReady(other)));
    byId("view-tag-left").textContent = one.label;
    byId("view-tag-right").textContent = other.label;
    byId("view-tag-left").hidden = at < 1;
    byId("view-tag-right").hidden = at > canvas.width - 1;
    const position = stack.positions_mm[Number(slice.value)];
    byId("view-status").textContent = `${stack.case}, ${stack.plane}, slice ${Number(slice.value) + 1} of ` +
      `${stack.positions_mm.length} at ${position.toFixed(1)} mm; ${one.label} | ${other.label}, divider at ${divider.value} %`;
    slice.setAttribute("aria-valuetext", `slice ${Number(slice.value) + 1}, ${position.toFixed(1)} mm`);
  }
  const size = () => {
    const frame = current().images.at(-1);
    stage.style.maxWidth = `${Math.max(240, 0.8 * window.innerHeight * frame.width_mm / frame.height_mm)}px`;
    const width = Math.max(1, Math.round(stage.clientWidth * (window.devicePixelRatio || 1)));
    canvas.width = width;
    canvas.height = Math.max(1, Math.round(width * frame.height_mm / frame.width_mm));
    draw();
  };
  const open = () => {
    const stack = current(), labels = stack.images.map((image) => image.label);
    const network = stack.images.findIndex((image) => /^sr/.test(image.name));
    [[left, 0], [right, network < 0 ? labels.length - 1 : network]].forEach(([select, first]) => {
      fill(select, labels, select.value ? labels.indexOf(select.value) : first);
    });
    slice.max = String(stack.positions_mm.length - 1);
    slice.value = String(Math.floor(stack.positions_mm.length / 2));
    [["left", 0], ["right", 1], ["bottom", 2], ["top", 3]].forEach(([side, index]) => {
      byId(`letter-${side}`).textContent = stack.letters[index];
    });
    size();
  };
  const move = (range, by) => {
    range.value = String(Math.min(Math.max(Number(range.value) + by, Number(range.min)), Number(range.max)));
    draw();
  };
  const flip = () => { divider.value = Number(divider.value) > 50 ? "0" : "100"; draw(); };

  const keys = {
    ArrowLeft: () => move(divider, -2), ArrowRight: () => move(divider, 2), ArrowUp: () => move(slice, 1), ArrowDown: () => move(slice, -1),
    PageUp: () => move(slice, 5), PageDown: () => move(slice, -5), Home: () => move(slice, -1e6), End: () => move(slice, 1e6), f: flip, F: flip,
  };
  stage.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    divider.value = String(100 * (event.clientX - box.left) / box.width);
    draw();
  };
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
  byId("view-flip").addEventListener("click", flip);
  [slice, divider].forEach((range) => range.addEventListener("input", draw));
  [left, right].forEach((select) => select.addEventListener("change", draw));
  cases.addEventListener("change", open);
  window.addEventListener("resize", size);
  fill(cases, stacks.map((stack) => stack.case), 0);
  divider.value = "50";
  open();
})();
