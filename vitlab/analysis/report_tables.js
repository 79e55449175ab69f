"use strict";
// Tables that sort: a click on a head, or Enter on it, puts the rows in its order, then the other way round, then back.

function number(text) {
  const found = text.replaceAll("\u2212", "-").replace(/[,\u202f]/g, "").match(/[-+]?\d*\.?\d+(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
}

// A head that stands for several rows is given to each of them, so that rows can part.
function rowsOf(table) {
  const rows = [];
  for (const body of table.tBodies) {
    let head = null;
    for (const row of body.rows) {
      if (row.cells[0].scope === "rowgroup") head = row.cells[0];
      rows.push({ row, head, index: rows.length });
    }
  }
  return rows;
}

function makeSortable(table) {
  const rows = rowsOf(table), bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows] }));
  const sorted = document.createElement("tbody");
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = control("button", head.textContent, { type: "button", className: "sort" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.ariaSort || "none"];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (next !== "none") head.setAttribute("aria-sort", next);
      arrange(table, rows, bodies, sorted, column, next);
      announce(next === "none" ? "rows in their first order" : `sorted by ${button.textContent}, ${next}`);
    });
  });
}

function arrange(table, rows, bodies, sorted, column, order) {
  for (const { row } of rows) row.querySelector(".repeated")?.remove();
  sorted.remove();
  if (order === "none") {
    for (const { body, rows: own } of bodies) { body.append(...own); table.append(body); }
    for (const { head } of rows) if (head) head.hidden = false;
    return;
  }
  const cellOf = ({ row, head }) => (head && column === 0 ? head : row.cells[column - (head && row.cells[0] !== head ? 1 : 0)]);
  const keyed = rows.map((entry) => ({ ...entry, text: cellOf(entry)?.textContent.trim() ?? "" }));
  for (const entry of keyed) entry.value = number(entry.text);
  const named = column === 0 && keyed.some((entry) => /^\p{L}/u.test(entry.text)); // resnet18 is a name, not an 18
  const numeric = !named && keyed.filter((entry) => !Number.isNaN(entry.value)).length * 2 >= keyed.length;
  const sign = order === "ascending" ? 1 : -1;
  keyed.sort((a, b) => {
    if (!numeric) return sign * a.text.localeCompare(b.text, "en", { numeric: true }) || a.index - b.index;
    const missing = Number.isNaN(a.value) - Number.isNaN(b.value); // what has no number comes last either way
    return missing || sign * (a.value - b.value) || a.index - b.index;
  });
  for (const { body } of bodies) body.remove();
  for (const { row, head } of keyed) {
    if (head) {
      if (row.cells[0] === head) head.hidden = true;
      const own = head.cloneNode(true);
      own.hidden = false;
      own.className += " repeated";
      own.removeAttribute("rowspan");
      own.scope = "row";
      row.prepend(own);
    }
    sorted.append(row);
  }
  table.append(sorted);
}
