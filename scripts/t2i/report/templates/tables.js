"use strict";
// Tables that can be sorted, filtered and copied. Without this script they are whole.
(() => {
  const shown = (cell) => cell.innerText.trim().replace(/\s+/g, " ");
  // Numbers of a cell, but for one that names its row.
  const numbers = (cell) => [...cell.querySelectorAll("td data")].map((number) => number.value);
  // Unrounded where a cell has a number; the order of words elsewhere.
  const value = (cell) => {
    const [number] = numbers(cell);
    return number === undefined ? shown(cell).toLowerCase() : Number(number);
  };
  const after = (a, b) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "string" ? 1 : -1);

  function sort(table, column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
    rows.sort(([a], [b]) => (down ? after(b, a) : after(a, b)));
    body.append(...rows.map(([, row]) => row));
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head));
    });
  }

  // Every number of a cell, unrounded, or its words.
  const plain = (cell) => numbers(cell).join(" ") || shown(cell);
  const visible = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const cells = (row, text) => [...row.cells].map(text);

  function csv(table) {
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const rows = [cells(table.tHead.rows[0], shown), ...visible(table).map((row) => cells(row, plain))];
    return `${rows.map((row) => row.map(quoted).join(",")).join("\n")}\n`;
  }

  function markdown(table) {
    const line = (texts) => `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
    const head = cells(table.tHead.rows[0], shown);
    const rows = visible(table).map((row) => line(cells(row, shown)));
    return `${[line(head), line(head.map(() => "---")), ...rows].join("\n")}\n`;
  }

  async function copy(text, status) {
    try {
      await navigator.clipboard.writeText(text);
      status.textContent = "copied";
    } catch {
      status.textContent = "the browser does not allow copying here; summary.csv has the same";
    }
  }

  function tools(table) {
    const bar = document.createElement("p");
    bar.className = "tools";
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    const filter = document.createElement("input");
    filter.type = "search";
    filter.placeholder = "filter rows";
    filter.setAttribute("aria-label", "Filter rows");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      status.textContent = filter.value ? `${visible(table).length} of ${table.tBodies[0].rows.length} rows` : "";
    });
    const buttons = [["copy as CSV", csv], ["copy as Markdown", markdown]].map(([name, text]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => copy(text(table), status));
      return button;
    });
    bar.append(filter, ...buttons, status);
    table.closest(".scroll").before(bar);
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    sortable(table);
    tools(table);
  });

  const closed = "details:not([open])";
  addEventListener("beforeprint", () => {
    document.querySelectorAll(`main > section:not(#compliance, #provenance) ${closed}`).forEach((part) => {
      part.open = true;
      addEventListener("afterprint", () => { part.open = false; }, { once: true });
    });
  });
})();
