// The enlarged picture, alone or beside the first variant's. Without this script pictures are links.
(() => {
  const rows = [...document.querySelectorAll(".rows > li")].map((row) => ({
    links: [...row.querySelectorAll("a.picture")],
    reveal: row.querySelector(".reveal"),
  })).filter((entry) => entry.links.length);
  const part = (name) => document.getElementById(`viewer${name}`);
  const [viewer, stage, image, other] = ["", "-stage", "-image", "-other"].map(part);
  const slider = part("-slider");
  const position = slider.querySelector("input");
  const state = { row: 0, column: 0, way: null, flipped: false, zoom: 1, side: 0 };
  const SMALL = 512; // px: smaller pictures are enlarged to about this side

  const small = (link) => link.querySelector("img");
  function load(target, link) {
    target.onerror = () => { target.onerror = null; target.src = small(link).src; };
    target.src = link.href; // of a page without its pictures: the small one
    target.classList.toggle("pixelated", small(link).classList.contains("pixelated"));
  }

  function resize() {
    const side = image.naturalWidth;
    if (!side) return;
    for (const each of [image, other]) each.style.width = `${side * state.zoom}px`;
    part("-zoom").textContent = state.zoom >= 1 ? `${state.zoom}:1` : `1:${1 / state.zoom}`;
  }
  image.addEventListener("load", () => {
    if (state.side !== image.naturalWidth) {
      state.side = image.naturalWidth;
      state.zoom = Math.max(1, Math.floor(SMALL / state.side));
    }
    resize();
  });

  function compare() {
    const { way, flipped } = state;
    other.hidden = !way || (way === "f" && !flipped);
    other.style.clipPath = way === "s" ? `inset(0 0 0 ${position.value}%)` : "";
    other.style.mixBlendMode = way === "d" ? "difference" : "";
    stage.classList.toggle("difference", way === "d");
    slider.hidden = way !== "s";
    for (const name of "fsd") {
      const button = viewer.querySelector(`[data-do="${name}"]`);
      button.setAttribute("aria-pressed", String(way === name));
    }
    const names = rows[state.row].links.map((link) => link.dataset.variant);
    const beside = state.column ? 0 : 1;
    part("-partner").textContent = names[beside] ?? "";
    part("-ways").hidden = names.length < 2;
    const sample = rows[state.row].links[state.column].getAttribute("aria-label");
    const seen = way === "f" && flipped ? `, showing ${names[beside]}` : "";
    part("-title").textContent = sample.replace("Enlarge sample", "Sample") + seen;
  }

  function show(row, column) {
    state.row = (row + rows.length) % rows.length;
    const { links, reveal } = rows[state.row];
    state.column = (column + links.length) % links.length;
    const link = links[state.column];
    load(image, link);
    if (links.length > 1) load(other, links[state.column ? 0 : 1]);
    image.alt = small(link).alt;
    part("-caption").textContent = small(link).alt;
    stage.classList.toggle("blurred", Boolean(reveal && !reveal.checked));
    compare();
  }

  const acts = {
    ArrowLeft: () => show(state.row - 1, state.column),
    ArrowRight: () => show(state.row + 1, state.column),
    ArrowUp: () => show(state.row, state.column - 1),
    ArrowDown: () => show(state.row, state.column + 1),
    "+": () => { state.zoom = Math.min(16, state.zoom * 2); resize(); },
    "-": () => { state.zoom = Math.max(1 / 8, state.zoom / 2); resize(); },
    0: () => { state.zoom = 1; resize(); },
    f: () => {
      state.flipped = state.way === "f" ? !state.flipped : true;
      state.way = "f";
      compare();
    },
    s: () => { state.way = state.way === "s" ? null : "s"; compare(); },
    d: () => { state.way = state.way === "d" ? null : "d"; compare(); },
    close: () => viewer.close(),
  };

  rows.forEach(({ links, reveal }, row) => links.forEach((link, column) => {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (reveal && !reveal.checked) {
        reveal.checked = true;
        return;
      }
      Object.assign(state, { way: null, flipped: false });
      show(row, column);
      viewer.showModal();
    });
  }));
  viewer.addEventListener("keydown", (event) => {
    const sliding = event.target === position && event.key.startsWith("Arrow");
    if (acts[event.key] && !sliding && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      acts[event.key]();
    }
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
    acts[event.target.dataset.do]?.();
    if (stage.contains(event.target) && stage.classList.contains("blurred")) {
      rows[state.row].reveal.checked = true;
      stage.classList.remove("blurred");
    }
  });
  position.addEventListener("input", compare);
  viewer.addEventListener("close", () => rows[state.row].links[state.column].focus());
})();
