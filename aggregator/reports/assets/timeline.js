// The run over time: of all tasks or one, and all tasks below each other; parts of it can be looked at closely.
"use strict";

const DAY = "{MM}-{dd}";
const TIMES = { year: "{yyyy}-01-01", month: DAY, day: DAY, hour: "{HH}:{mm}", minute: "{HH}:{mm}", second: "{HH}:{mm}:{ss}", millisecond: "{ss}.{SSS}" };
const TASK_HEIGHT = 24;
const TASKS_TOP = 424;

// What is shown: a task, or all, and from which percentage of the run to which.
const view = { task: "", start: 0, end: 100 };

function timelineHeight(report) {
  return TASKS_TOP + TASK_HEIGHT * report.timeline.tasks.length + 66;
}

// A task's bins begin where it began; those before and after are empty.
function chosenBins(line) {
  const task = line.tasks.find((each) => each.task === view.task);
  if (!task) return line;
  const fill = (values) => line.failed.map((_, i) => values[i - task.first_bin] || 0);
  return { concurrency: fill(task.concurrency), succeeded: fill(task.succeeded), failed: fill(task.failed) };
}

// The outline of a task's attempts under way, as high as its row where most were, and marks where some failed.
function taskShape(line, first, width, api, params) {
  const task = line.tasks[params.dataIndexInside];
  const at = (bin) => api.coord([first + (task.first_bin + bin) * width, params.dataIndexInside]);
  const [left, middle] = at(0);
  const [right] = at(task.concurrency.length);
  const base = middle + TASK_HEIGHT / 2 - 5;
  const scale = (TASK_HEIGHT - 8) / Math.max(...task.concurrency, 1e-9);
  const points = task.concurrency.flatMap((value, i) => [[at(i)[0], base - value * scale], [at(i + 1)[0], base - value * scale]]);
  const marks = task.failed.flatMap((count, i) => (count ? [{
    type: "rect", shape: { x: at(i)[0], y: base + 1, width: Math.max(2, at(i + 1)[0] - at(i)[0]), height: 3 }, style: { fill: color("failed") },
  }] : []));
  return {
    type: "group",
    children: [
      { type: "rect", shape: { x: left, y: middle - TASK_HEIGHT / 2, width: right - left, height: TASK_HEIGHT }, style: { fill: "transparent" } },
      { type: "polygon", shape: { points: [[left, base], ...points, [right, base]] }, style: { fill: color("area"), opacity: 0.75 } },
      ...marks,
    ],
  };
}

function taskSeries(line, first, width) {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  return {
    name: "tasks", type: "custom", xAxisIndex: 2, yAxisIndex: 2, clip: true, encode: { x: [0, 2], y: 1 },
    data: line.tasks.map((task, i) => [first + task.first_bin * width, i, first + (task.first_bin + task.concurrency.length) * width]),
    renderItem: (params, api) => taskShape(line, first, width, api, params),
    tooltip: {
      trigger: "item",
      formatter: ({ dataIndex: i }) => {
        const { task, concurrency, succeeded, failed } = line.tasks[i];
        const most = threeDigits(Math.max(...concurrency));
        return `<b>${escape(task)}</b><br>under way: up to ${most}<br>succeeded: ${grouped(sum(succeeded))}<br>failed: ${grouped(sum(failed))}`;
      },
    },
  };
}

function zoomBars() {
  const both = { xAxisIndex: [0, 1, 2], filterMode: "none", start: view.start, end: view.end };
  const slider = {
    ...both, type: "slider", height: 16, bottom: 6, showDataShadow: false, showDetail: false, brushSelect: false,
    borderColor: color("line"), fillerColor: color("box"), backgroundColor: color("page"),
    handleStyle: { color: color("card"), borderColor: color("box-line") }, moveHandleStyle: { color: color("faint") },
  };
  // Fingers and wheels scroll the page.
  const inside = { ...both, type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false };
  return matchMedia("(pointer: coarse)").matches ? [slider] : [slider, inside];
}

function timelineOption(report) {
  const line = report.timeline;
  const bins = chosenBins(line);
  const first = Date.parse(line.start);
  const width = line.bin_seconds * 1000;
  const n = bins.concurrency.length;
  const isNarrow = document.getElementById("chart-timeline").clientWidth < 560;
  const label = (text) => (isNarrow && text.length > 11 ? `${text.slice(0, 10)}…` : short(text));
  const left = Math.max(46, 14 + 6.8 * Math.max(...line.tasks.map((task) => label(task.task).length)));
  const points = (values) => values.map((value, i) => [first + (i + 0.5) * width, value]);
  const steps = [...bins.concurrency, bins.concurrency[n - 1]].map((value, i) => [first + i * width, value]);
  const time = (i) => echarts.time.format(first + i * width, "{yyyy}-{MM}-{dd} {HH}:{mm}:{ss}", true);
  const bar = (name, key, tone) => ({
    name, type: "bar", stack: "ended", xAxisIndex: 1, yAxisIndex: 1, data: points(bins[key]), color: color(tone), barCategoryGap: "12%",
  });
  const heading = (text, top) => ({ text, top, textStyle: { fontSize: 13, fontWeight: 600, color: color("ink") }, padding: [1, 0], left: 0 });
  return {
    ...common(),
    legend: legend({ data: ["Failed", "Succeeded"], top: 198, left: "auto", right: 10, itemGap: isNarrow ? 6 : 18 }),
    axisPointer: { link: [{ xAxisIndex: [0, 1] }], lineStyle: { color: color("faint") } },
    title: [
      heading("Attempts under way", 0), heading(isNarrow ? "Ended" : `Ended per ${duration(line.bin_seconds)}`, 200),
      heading(isNarrow ? "Each task" : "Attempts under way of each task, as a share of its most; marks below: some failed", TASKS_TOP - 30),
    ],
    grid: [
      { left, right: 14, top: 28, height: 140 }, { left, right: 14, top: 230, height: 110 },
      { left, right: 14, top: TASKS_TOP, height: TASK_HEIGHT * line.tasks.length },
    ],
    xAxis: [0, 1, 2].map((gridIndex) => axis({
      type: "time", gridIndex, min: first, max: first + width * n, containShape: false, splitLine: { show: gridIndex === 2, lineStyle: { color: color("line") } },
      axisLine: { show: true, lineStyle: { color: color("faint") } }, axisLabel: { hideOverlap: true, formatter: TIMES },
      axisPointer: { triggerTooltip: gridIndex < 2 },
    })),
    yAxis: [
      ...[0, 1].map((gridIndex) => axis({ type: "value", gridIndex, minInterval: gridIndex, splitNumber: 4 })),
      axis({ type: "category", gridIndex: 2, inverse: true, data: line.tasks.map((task) => task.task), splitLine: { show: false }, axisLabel: { interval: 0, formatter: label, color: color("ink") } }),
    ],
    series: [
      { name: "Under way", type: "line", step: "end", data: steps, color: color("area"), showSymbol: false, lineStyle: { width: 1.6 }, areaStyle: { opacity: 0.18 } },
      bar("Failed", "failed", "failed"), bar("Succeeded", "succeeded", "successful"), taskSeries(line, first, width),
    ],
    dataZoom: zoomBars(),
    tooltip: {
      ...common().tooltip, trigger: "axis",
      formatter: (items) => {
        const i = Math.min(n - 1, items[items.length - 1].dataIndex);
        return `<b>${time(i)}</b><br>under way: ${threeDigits(bins.concurrency[i])}<br>failed: ${grouped(bins.failed[i])}<br>succeeded: ${grouped(bins.succeeded[i])}`;
      },
    },
  };
}

// Buttons do for keyboards what the slider does for mice; what is shown stays inside the run.
const ZOOMS = {
  in: (start, end) => [start + (end - start) / 4, end - (end - start) / 4],
  out: (start, end) => [start - (end - start) / 2, end + (end - start) / 2],
  back: (start, end) => [start - (end - start) / 2, end - (end - start) / 2],
  on: (start, end) => [start + (end - start) / 2, end + (end - start) / 2],
  all: () => [0, 100],
};

function zoomed(how) {
  const [start, end] = ZOOMS[how](view.start, view.end);
  const size = Math.min(100, end - start);
  const begin = Math.max(0, Math.min(100 - size, start));
  return { start: begin, end: begin + size };
}

function setUpTimeline(report, chart) {
  const task = document.getElementById("timeline-task");
  const note = document.getElementById("timeline-note");
  const { start, bin_seconds: width, failed, tasks } = report.timeline;
  const moment = (share) => echarts.time.format(Date.parse(start) + (share / 100) * failed.length * width * 1000, "{yyyy}-{MM}-{dd} {HH}:{mm}:{ss}", true);
  task.append(...tasks.map((each) => new Option(each.task, each.task)));
  const redraw = () => chart.setOption(timelineOption(report), true);
  const choose = (label) => {
    view.task = label;
    task.value = label;
    redraw();
  };
  task.addEventListener("change", () => choose(task.value));
  chart.on("click", ({ seriesName, dataIndex }) => seriesName === "tasks" && choose(tasks[dataIndex].task));
  chart.on("datazoom", () => {
    const [{ start: from, end: to }] = chart.getOption().dataZoom;
    Object.assign(view, { start: from, end: to });
    note.textContent = to - from < 100 ? `${moment(from)} to ${moment(to)}` : "";
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => chart.dispatchAction({ type: "dataZoom", ...zoomed(button.dataset.zoom) }));
  }
}
