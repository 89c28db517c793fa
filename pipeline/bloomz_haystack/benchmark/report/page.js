// A press on a head sorts its table: numbers with the highest first, then the lowest; what is not measured stays last.
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}

function sort(table, head, column) {
  const first = column === 0 ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === first ? (column === 0 ? "descending" : "ascending") : first;
  const sign = order === "ascending" ? 1 : -1;
  const value = row => column === 0 ? row.cells[0].textContent : parseFloat(row.cells[column].textContent);
  const compare = (a, b) => column === 0 ? sign * a.localeCompare(b)
    : Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : sign * (a - b);
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
}
