// Sorting and filtering of tables; everything is in the page already.
"use strict";

function cellValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent.trim();
  return value === "" ? null : Number(value);
}

function compareValues(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

// A row can have a second one with its log, which stays with it.
function rowsWithLogs(body) {
  const found = [];
  for (const row of body.rows) {
    if (row.classList.contains("log-row")) found[found.length - 1].push(row);
    else found.push([row]);
  }
  return found;
}

function sortTable(table, header) {
  const ascending = header.getAttribute("aria-sort") === "ascending"
    || (header.getAttribute("aria-sort") === null && header.classList.contains("number"));
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const sign = ascending ? -1 : 1;
  const keyed = rowsWithLogs(body).map((rows) => [cellValue(rows[0], header.cellIndex), rows]);
  // What has no value stays last, whatever the direction.
  keyed.sort(([a], [b]) => (a === null || b === null ? compareValues(a, b) : sign * compareValues(a, b)));
  body.append(...keyed.flatMap(([, rows]) => rows));
}

// The row with the log is there when its button says so, and when what it belongs to is.
function showRows(rows, fits) {
  const opener = rows[0].querySelector(".opener");
  rows[0].hidden = !fits;
  for (const log of rows.slice(1)) log.hidden = !fits || opener.getAttribute("aria-expanded") === "false";
}

function toggleLog(opener) {
  const open = opener.getAttribute("aria-expanded") === "false";
  opener.setAttribute("aria-expanded", String(open));
  opener.textContent = open ? "Hide" : "Show";
  opener.closest("tr").nextElementSibling.hidden = !open;
}

// Words can be those of the heading above the rows as well.
function filterRows(body, words, heading) {
  let fitting = 0;
  for (const rows of rowsWithLogs(body)) {
    const text = [heading, ...rows.map((row) => row.textContent)].join(" ").toLowerCase();
    const fits = words.every((word) => text.includes(word));
    showRows(rows, fits);
    fitting += fits;
  }
  return fitting;
}

function tell(count, fits) {
  count.textContent = countText(fits, count.dataset);
}

function wordsOf(input) {
  return input.value.toLowerCase().split(/\s+/).filter(Boolean);
}

function filterTable(input) {
  const table = document.getElementById(input.dataset.filters);
  tell(document.getElementById(`count-${table.id}`), filterRows(table.tBodies[0], wordsOf(input), ""));
}

function filterQuanta(input) {
  const words = wordsOf(input);
  let fitting = 0;
  for (const group of document.querySelectorAll("details.group")) {
    const exception = group.querySelector("summary > :first-child").textContent;
    const found = filterRows(group.querySelector("tbody"), words, exception);
    tell(group.querySelector(".count"), found);
    group.hidden = found === 0;
    if (words.length) group.open = found > 0;
    fitting += found;
  }
  tell(document.getElementById("count-quanta"), fitting);
}

// Where the page may not write to the clipboard, the text is selected, so that the keyboard's copy takes it.
async function copyText(button) {
  const place = button.parentElement.querySelector("pre");
  getSelection().selectAllChildren(place);
  try {
    await navigator.clipboard.writeText(place.textContent);
  } catch {
    if (!document.execCommand("copy")) {
      button.textContent = "Selected";
      return;
    }
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function setUpTables() {
  for (const header of document.querySelectorAll("table[data-sortable] thead th")) {
    header.querySelector("button")?.addEventListener("click", () => sortTable(header.closest("table"), header));
  }
  for (const opener of document.querySelectorAll(".opener")) {
    opener.addEventListener("click", () => toggleLog(opener));
  }
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => copyText(button));
  }
  for (const input of document.querySelectorAll("[data-filters]")) {
    input.addEventListener("input", () => filterTable(input));
  }
  const quanta = document.getElementById("filter-quanta");
  if (!quanta) return;
  quanta.addEventListener("input", () => filterQuanta(quanta));
  const opener = document.getElementById("open-all");
  opener.addEventListener("click", () => {
    const open = opener.textContent === "Open all";
    for (const group of document.querySelectorAll("details.group")) group.open = open;
    opener.textContent = open ? "Close all" : "Open all";
  });
}
