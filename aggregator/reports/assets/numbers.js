// How numbers are written, as in the tables of the page.
"use strict";

function grouped(value) {
  return value.toLocaleString("en");
}

function threeDigits(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.?0+$/, "");
}

// How many rows are seen, of how many that the page has, of how many that there are.
function countText(fits, { shown, all, what }) {
  const [n, m] = [Number(shown), Number(all)];
  if (fits < n && n < m) return `${grouped(fits)} of ${grouped(n)} shown; ${grouped(m)} ${what} in all`;
  if (fits < n) return `${grouped(fits)} of ${grouped(n)} ${what}`;
  return n < m ? `${grouped(n)} of ${grouped(m)} ${what} shown` : `${grouped(n)} ${what}`;
}

function duration(seconds) {
  if (seconds === 0) return "0 s";
  for (const [limit, unit, name] of [[0.9995, 0.001, "ms"], [59.95, 1, "s"], [3597, 60, "min"], [86340, 3600, "h"]]) {
    if (seconds < limit) return `${threeDigits(seconds / unit)} ${name}`;
  }
  return `${threeDigits(seconds / 86400)} d`;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (value >= 999.5 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${threeDigits(value)} ${units[power]}`;
}

const SECONDS = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 10800, 43200, 86400, 864e3, 864e4, 864e5];
const SIZES = [1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9, 5e9, 1e10, 2e10, 5e10, 1e11, 2e11, 5e11, 1e12, 1e13];

// Smaller values are drawn as the least; steps are those of the axes.
const QUANTITIES = {
  run_time: { title: "run time", write: duration, least: 0.001, steps: SECONDS },
  memory: { title: "memory", write: bytes, least: 1e6, steps: SIZES },
  wait_after_inputs: { title: "wait", write: duration, least: 0.1, steps: SECONDS },
};
