"use strict";
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const grown of document.querySelectorAll("details.grow[open]")) grown.open = false;
});
// Tables of the class "sortable": a click on a heading sorts by data-sort or the text of the cells, another one reverses.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, body = heading.closest("table").tBodies[0];
    const order = heading.ariaSort === "ascending" ? -1 : 1, column = heading.cellIndex;
    const key = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      return order * (Number(x) - Number(y) || x.localeCompare(y, undefined, { numeric: true }));
    };
    for (const other of heading.parentElement.cells) other.ariaSort = null;
    heading.ariaSort = order === 1 ? "ascending" : "descending";
    body.append(...[...body.rows].sort(compare));
  });
}
