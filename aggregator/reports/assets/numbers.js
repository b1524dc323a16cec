// How numbers are written, as in the tables of the page.
"use strict";

function grouped(value) {
  return value.toLocaleString("en");
}

function threeDigits(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.?0+$/, "");
}

function duration(seconds) {
  if (seconds === 0) return "0 s";
  for (const [limit, unit, name] of [[0.9995, 0.001, "ms"], [120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"]]) {
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

const QUANTITIES = {
  run_time: { title: "run time", write: duration, least: 0.001 },
  memory: { title: "memory", write: bytes, least: 1e6 },
  wait: { title: "wait", write: duration, least: 0.1 },
};
