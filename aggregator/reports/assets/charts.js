// Charts, drawn by ECharts from the numbers in the page; colours come from the style sheet.
"use strict";

const STATUSES = [
  { name: "Successful", color: "successful", count: (task) => task.statuses.SUCCESSFUL - task.n_with_caveats },
  { name: "With caveats", color: "caveats", symbol: "circle", count: (task) => task.n_with_caveats },
  { name: "Aborted success", color: "aborted-success", symbol: "triangle", count: (task) => task.statuses.ABORTED_SUCCESS },
  { name: "Blocked", color: "blocked", lines: Math.PI / 4, count: (task) => task.statuses.BLOCKED },
  { name: "Unknown", color: "unknown", symbol: "diamond", count: (task) => task.statuses.UNKNOWN },
  { name: "Aborted", color: "aborted", lines: -Math.PI / 4, count: (task) => task.statuses.ABORTED },
  { name: "Failed", color: "failed", lines: 0, count: (task) => task.statuses.FAILED },
];

const escape = (text) => echarts.format.encodeHTML(String(text));

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Patterns tell statuses apart without colours.
function decal(status) {
  const base = { color: color("card"), dashArrayX: [1, 0], dashArrayY: [1.5, 4.5], symbolSize: 1 };
  if (status.lines !== undefined) return { ...base, rotation: status.lines };
  if (status.symbol) return { ...base, symbol: status.symbol, dashArrayX: [[6, 6], [0, 6, 6, 0]], dashArrayY: [6, 2], symbolSize: 0.5 };
  return { symbol: "none" };
}

function common() {
  return {
    animation: false,
    useUTC: true,
    // Widths of texts are measured with this, so it has to be the font that is shown.
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: color("ink") },
    tooltip: {
      confine: true, backgroundColor: color("card"), borderColor: color("line"), borderWidth: 1,
      textStyle: { color: color("ink"), fontSize: 13 }, extraCssText: "box-shadow: none",
    },
  };
}

function axis(extra) {
  const { axisLabel, ...rest } = extra;
  return {
    axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: color("line") } },
    axisLabel: { color: color("soft"), ...axisLabel }, nameTextStyle: { color: color("soft"), align: "left" }, ...rest,
  };
}

function legend(extra) {
  return { itemWidth: 18, itemHeight: 11, itemGap: 18, left: 0, top: 0, textStyle: { color: color("soft") }, inactiveColor: color("faint"), ...extra };
}

const LABELS_INSIDE = { outerBoundsMode: "same", outerBoundsContain: "axisLabel" };

function short(label) {
  return label.length > 24 ? `${label.slice(0, 23)}…` : label;
}

function taskAxis(report, extra) {
  return axis({
    type: "category", inverse: true, data: report.details.map((task) => task.task), splitLine: { show: false },
    axisLabel: { interval: 0, formatter: short, color: color("ink") }, ...extra,
  });
}

function statusOption(report) {
  const tasks = report.details;
  const used = STATUSES.filter((status) => tasks.some((task) => status.count(task)));
  const totals = report.tasks.map((row) => row.TOTAL);
  const share = (task, i, status) => (totals[i] ? (100 * status.count(task)) / totals[i] : 0);
  const bad = (task) => task.statuses.FAILED + task.statuses.ABORTED;
  return {
    ...common(),
    legend: legend({ type: "scroll", pageIconColor: color("soft"), pageTextStyle: { color: color("soft") } }),
    grid: { left: 2, right: 2, top: 34, bottom: 4, ...LABELS_INSIDE },
    xAxis: axis({ type: "value", max: 100, axisLabel: { formatter: "{value} %" } }),
    yAxis: [taskAxis(report, {}), taskAxis(report, {
      position: "right",
      axisLabel: {
        interval: 0, color: color("soft"),
        formatter: (label, i) => (bad(tasks[i]) ? `{bad|✕ ${grouped(bad(tasks[i]))}} of ${grouped(totals[i])}` : grouped(totals[i])),
        rich: { bad: { color: color("failed"), fontWeight: 600 } },
      },
    })],
    series: used.map((status) => ({
      name: status.name, type: "bar", stack: "all", barMaxWidth: 16, color: color(status.color),
      barMinHeight: status.name === "Failed" ? 3 : 0,
      itemStyle: { decal: decal(status), borderColor: color("card"), borderWidth: 0.5 },
      data: tasks.map((task, i) => share(task, i, status)),
    })),
    tooltip: {
      ...common().tooltip, trigger: "axis", axisPointer: { type: "none" },
      formatter: ([{ dataIndex: i }]) => `<b>${escape(tasks[i].task)}</b><br>${STATUSES.filter((status) => status.count(tasks[i]))
        .map((status) => `${status.name}: ${grouped(status.count(tasks[i]))} (${threeDigits(share(tasks[i], i, status))} %)`).join("<br>")}`,
    },
  };
}

const DAY = "{MM}-{dd}";
const TIMES = { year: "{yyyy}-01-01", month: DAY, day: DAY, hour: "{HH}:{mm}", minute: "{HH}:{mm}", second: "{HH}:{mm}:{ss}", millisecond: "{ss}.{SSS}" };

function timelineOption(report) {
  const line = report.timeline;
  const first = Date.parse(line.start);
  const width = line.bin_seconds * 1000;
  const n = line.concurrency.length;
  const points = (values) => values.map((value, i) => [first + (i + 0.5) * width, value]);
  const steps = [...line.concurrency, line.concurrency[n - 1]].map((value, i) => [first + i * width, value]);
  const range = { min: first, max: first + width * n, containShape: false };
  const time = (i) => echarts.time.format(first + i * width, "{yyyy}-{MM}-{dd} {HH}:{mm}:{ss}", true);
  const bar = (name, key, status) => ({
    name, type: "bar", stack: "ended", xAxisIndex: 1, yAxisIndex: 1, data: points(line[key]), color: color(status.color),
    barCategoryGap: "12%",
  });
  return {
    ...common(),
    legend: legend({ data: ["Succeeded", "Failed"], top: 198, left: "auto", right: 10 }),
    axisPointer: { link: [{ xAxisIndex: "all" }], lineStyle: { color: color("faint") } },
    title: [{ text: "Attempts under way", top: 0 }, { text: `Ended per ${duration(line.bin_seconds)}`, top: 200 }]
      .map((title) => ({ textStyle: { fontSize: 13, fontWeight: 600, color: color("ink") }, padding: [1, 0], left: 0, ...title })),
    grid: [{ left: 46, right: 12, top: 28, height: 140 }, { left: 46, right: 12, top: 230, height: 110 }],
    xAxis: [0, 1].map((gridIndex) => axis({ type: "time", gridIndex, ...range, splitLine: { show: false }, axisLine: { show: true, lineStyle: { color: color("faint") } }, axisLabel: { hideOverlap: true, formatter: TIMES } })),
    yAxis: [0, 1].map((gridIndex) => axis({ type: "value", gridIndex, minInterval: gridIndex, splitNumber: 4 })),
    series: [
      { name: "Under way", type: "line", step: "end", data: steps, color: color("area"), showSymbol: false, lineStyle: { width: 1.6 }, areaStyle: { opacity: 0.18 } },
      bar("Succeeded", "succeeded", STATUSES[0]), bar("Failed", "failed", STATUSES[6]),
    ],
    tooltip: {
      ...common().tooltip, trigger: "axis",
      formatter: (items) => {
        const i = Math.min(n - 1, items[items.length - 1].dataIndex);
        return `<b>${time(i)}</b><br>under way: ${threeDigits(line.concurrency[i])}<br>succeeded: ${grouped(line.succeeded[i])}<br>failed: ${grouped(line.failed[i])}`;
      },
    },
  };
}

// Ticks that people use: minutes and hours, not powers of ten seconds.
function logTicks(key, values) {
  const { steps } = QUANTITIES[key];
  if (!values.length) return steps.slice(0, 2);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const first = Math.max(0, steps.findLastIndex((step) => step <= low));
  const last = steps.findIndex((step) => step >= high);
  return steps.slice(first, Math.max(first + 1, last < 0 ? steps.length - 1 : last) + 1);
}

function boxOption(report, key) {
  const { write, least } = QUANTITIES[key];
  const found = report.details.map((task) => task[key]);
  const at = (value) => Math.max(value, least);
  const ticks = logTicks(key, found.flatMap((d) => (d ? [at(d.p05), at(d.max)] : [])));
  const names = [["5 %", "p05"], ["25 %", "p25"], ["median", "median"], ["75 %", "p75"], ["95 %", "p95"], ["largest", "max"]];
  return {
    ...common(),
    grid: { left: 2, right: 22, top: 4, bottom: 4, ...LABELS_INSIDE },
    xAxis: axis({
      type: "log", min: ticks[0], max: ticks[ticks.length - 1], axisTick: { show: false, customValues: ticks },
      splitLine: { customValues: ticks, lineStyle: { color: color("line") } },
      axisLabel: { customValues: ticks, hideOverlap: true, showMinLabel: true, alignMinLabel: "left", formatter: (value) => (value <= least ? `≤ ${write(value)}` : write(value)) },
    }),
    yAxis: taskAxis(report, {}),
    series: [
      {
        type: "boxplot", boxWidth: [6, 12], itemStyle: { color: color("box"), borderColor: color("box-line"), borderWidth: 1.4 },
        data: found.map((d) => (d ? [at(d.p05), at(d.p25), at(d.median), at(d.p75), at(d.p95)] : [])),
      },
      {
        type: "scatter", symbol: "diamond", symbolSize: 7, color: color("box-line"), itemStyle: { opacity: 0.75 },
        data: found.flatMap((d, i) => (d ? [[at(d.max), i]] : [])),
      },
    ],
    tooltip: {
      ...common().tooltip, trigger: "item",
      formatter: (item) => {
        const i = item.seriesIndex ? item.value[1] : item.dataIndex;
        return `<b>${escape(report.details[i].task)}</b><br>${names.map(([name, field]) => `${name}: ${write(found[i][field])}`).join("<br>")}`;
      },
    },
  };
}

function histogramOption(report, key, index) {
  const { write, title } = QUANTITIES[key];
  const found = report.details[index][key];
  const { edges, counts } = found ? found.histogram : { edges: [], counts: [] };
  const span = (i) => `${write(edges[i])} to ${write(edges[i + 1])}`;
  return {
    ...common(),
    grid: { left: 2, right: 22, top: 26, bottom: 26, ...LABELS_INSIDE },
    xAxis: axis({ type: "category", name: title, nameLocation: "middle", nameGap: 26, data: counts.map((_, i) => write(edges[i])), splitLine: { show: false }, axisLabel: { hideOverlap: true } }),
    yAxis: axis({ type: "value", name: "quanta", minInterval: 1, splitNumber: 4 }),
    series: [{ type: "bar", data: counts, color: color("area"), barCategoryGap: "6%" }],
    tooltip: { ...common().tooltip, trigger: "item", formatter: ({ dataIndex: i }) => `${span(i)}: ${grouped(counts[i])} quanta` },
  };
}
