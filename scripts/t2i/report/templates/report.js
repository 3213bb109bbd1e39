"use strict";
// The page is complete without this script; it adds the enlarged view and printing of folded parts.
(() => {
  const rows = [...document.querySelectorAll(".rows > li")].map((row) => ({
    row,
    buttons: [...row.querySelectorAll("figure button")],
    reveal: row.querySelector(".reveal"),
  })).filter((entry) => entry.buttons.length);
  const viewer = document.getElementById("viewer");
  const image = document.getElementById("viewer-image");
  let at = [0, 0];

  function show(row, column) {
    row = (row + rows.length) % rows.length;
    const { buttons, reveal } = rows[row];
    column = (column + buttons.length) % buttons.length;
    at = [row, column];
    const small = buttons[column].querySelector("img");
    image.src = small.src;
    image.alt = small.alt;
    image.className = small.className;
    image.classList.toggle("blurred", Boolean(reveal && !reveal.checked));
    document.getElementById("viewer-caption").textContent = small.alt;
    document.getElementById("viewer-title").textContent =
      buttons[column].getAttribute("aria-label").replace("Enlarge sample", "Sample");
  }

  rows.forEach(({ buttons, reveal }, row) => buttons.forEach((button, column) => {
    button.addEventListener("click", () => {
      if (reveal && !reveal.checked) {
        reveal.checked = true;
        return;
      }
      show(row, column);
      viewer.showModal();
    });
  }));

  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  viewer.addEventListener("keydown", (event) => {
    const step = keys[event.key];
    if (step) {
      event.preventDefault();
      show(at[0] + step[0], at[1] + step[1]);
    }
  });
  viewer.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (step === "close" || event.target === viewer) {
      viewer.close();
    } else if (step) {
      const [down, right] = step.split(",").map(Number);
      show(at[0] + down, at[1] + right);
    } else if (event.target === image && image.classList.contains("blurred")) {
      rows[at[0]].reveal.checked = true;
      image.classList.remove("blurred");
    }
  });
  viewer.addEventListener("close", () => rows[at[0]].buttons[at[1]].focus());

  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((part) => {
      part.open = true;
      addEventListener("afterprint", () => { part.open = false; }, { once: true });
    });
  });
})();
