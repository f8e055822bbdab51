"use strict";

// Tables sort by the button in a column's heading; rows without a number stay last.
const order = new Intl.Collator(undefined, { numeric: true });
function valueOf(row, index) {
  const cell = row.cells[index];
  const data = cell.querySelector("data");
  return data ? Number(data.value) : cell.classList.contains("number") ? null : cell.textContent.trim();
}
function sort(heading) {
  const body = heading.closest("table").tBodies[0];
  const index = heading.cellIndex;
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = Array.from(body.rows, row => [valueOf(row, index), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b));
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  body.parentNode.dispatchEvent(new Event("sorted"));
}
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}

// Long tables show one page of the rows that hold what is searched for.
const PAGE = 25;
for (const table of document.querySelectorAll("table.paged")) {
  const bar = document.createElement("div");
  bar.className = "pager";
  bar.innerHTML = '<label>Search <input type="search"></label><button type="button">Previous</button><button type="button">Next</button><span role="status"></span>';
  table.parentNode.before(bar);
  const [search, status] = [bar.querySelector("input"), bar.querySelector("span")];
  const [previous, next] = bar.querySelectorAll("button");
  let first = 0;
  function show() {
    const words = search.value.trim().toLowerCase();
    const rows = Array.from(table.tBodies[0].rows);
    const found = rows.filter(row => row.textContent.toLowerCase().includes(words));
    const page = new Set(found.slice(first, first + PAGE));
    for (const row of rows) row.hidden = !page.has(row);
    const last = Math.min(first + PAGE, found.length);
    status.textContent = found.length ? `${first + 1} to ${last} of ${found.length}` : "none found";
    previous.disabled = first === 0;
    next.disabled = last === found.length;
  }
  function turn(to) { first = to; show(); }
  search.addEventListener("input", () => turn(0));
  previous.addEventListener("click", () => turn(Math.max(0, first - PAGE)));
  next.addEventListener("click", () => turn(first + PAGE));
  table.addEventListener("sorted", () => turn(0));
  show();
}

// Figures open enlarged; Escape, the button or a click beside the figure closes.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img").cloneNode();
    dialog.querySelector("img")?.remove();
    dialog.prepend(image);
    dialog.querySelector("p").textContent = button.closest("figure").querySelector("figcaption").textContent;
    dialog.showModal();
  });
}
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });

// Paper has nothing to unfold; what is too wide for it stays on the screen.
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open], .screen)"));
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => { for (const part of folded.splice(0)) part.open = false; });
