// Puts the page together: charts follow the window, the colour scheme and the printer.
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const charts = [];

function addChart(id, height, option) {
  const place = document.getElementById(`chart-${id}`);
  if (!place) return null;
  place.style.height = `${height}px`;
  const chart = echarts.init(place, null, { renderer: "svg" });
  charts.push({ chart, option });
  return chart;
}

function drawAll() {
  for (const { chart, option } of charts) {
    chart.resize();
    chart.setOption(option(), true);
  }
  drawPipeline(report);
}

function setUpHistogram() {
  const task = document.getElementById("histogram-task");
  const quantity = document.getElementById("histogram-quantity");
  if (!task) return;
  task.append(...report.details.map((found, i) => new Option(found.task, i)));
  const option = () => histogramOption(report, quantity.value, Number(task.value));
  const chart = addChart("histogram", 230, option);
  const update = () => {
    const found = report.details[Number(task.value)][quantity.value];
    const zero = found && found.histogram.n_zero;
    document.getElementById("histogram-note").textContent = found
      ? `${grouped(found.count)} quanta, median ${QUANTITIES[quantity.value].write(found.median)}${zero ? `; ${grouped(zero)} of zero are not drawn` : ""}`
      : "nothing on record";
    chart.setOption(option(), true);
  };
  task.addEventListener("change", update);
  quantity.addEventListener("change", update);
  task.value = Math.max(0, report.details.findIndex((found) => found.run_time));
  update();
}

function setUpPrinting() {
  let closed = [];
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    closed = [...document.querySelectorAll("details.group:not([open])")];
    for (const group of closed) group.open = true;
    document.body.style.width = "180mm";
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    for (const group of closed) group.open = false;
    document.body.style.width = "";
    drawAll();
  });
}

function main() {
  setUpTables();
  const height = 20 + 24 * report.details.length;
  if (report.details.length) addChart("status", height + 54, () => statusOption(report));
  if (report.timeline) {
    setUpTimeline(report, addChart("timeline", timelineHeight(report), () => timelineOption(report)));
    for (const key of Object.keys(QUANTITIES)) addChart(key, height + 30, () => boxOption(report, key));
  }
  setUpHistogram();
  setUpPrinting();
  drawAll();
  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(drawAll);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.documentElement.dataset.ready = "yes";
}

main();
