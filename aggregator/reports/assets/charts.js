// Charts, drawn by ECharts from the numbers in the page; colours come from the style sheet.
"use strict";

const LOOKS = {
  ABORTED: { color: "aborted", lines: -Math.PI / 4 },
  UNKNOWN: { color: "unknown", symbol: "diamond" },
  ABORTED_SUCCESS: { color: "aborted-success", symbol: "triangle" },
  FAILED: { color: "failed", lines: 0 },
  BLOCKED: { color: "blocked", lines: Math.PI / 4 },
  SUCCESSFUL: { color: "successful" },
};

const FAILURES = ["aborted", "unknown", "failed"];

// Parts of bars, in the order that statuses have everywhere; successful quanta have two parts.
function statusParts(report) {
  return Object.keys(report.summary.statuses).flatMap((status) => {
    const part = { ...LOOKS[status], name: report.titles[status], count: (task) => task.statuses[status] };
    if (status !== "SUCCESSFUL") return [part];
    return [
      { color: "caveats", symbol: "circle", name: `${part.name} with caveats`, count: (task) => task.n_with_caveats },
      { ...part, name: `${part.name} without caveats`, count: (task) => task.statuses[status] - task.n_with_caveats },
    ];
  });
}

// All quanta of a status, as the table has them.
function statusLines(report, task) {
  const total = Object.values(task.statuses).reduce((sum, count) => sum + count, 0);
  return Object.entries(task.statuses).filter(([, count]) => count).map(([status, count]) => {
    const caveats = status === "SUCCESSFUL" && task.n_with_caveats ? `, ${grouped(task.n_with_caveats)} of them with caveats` : "";
    return `${report.titles[status]}: ${grouped(count)} (${threeDigits((100 * count) / total)} %)${caveats}`;
  });
}

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
  const used = statusParts(report).filter((status) => tasks.some((task) => status.count(task)));
  const totals = report.tasks.map((row) => row.TOTAL);
  const share = (task, i, status) => (totals[i] ? (100 * status.count(task)) / totals[i] : 0);
  const bad = (task) => task.statuses.FAILED + task.statuses.ABORTED;
  return {
    ...common(),
    legend: legend({ type: "scroll", pageIconColor: color("soft"), pageTextStyle: { color: color("soft") } }),
    grid: { left: 2, right: 2, top: 34, bottom: 4, ...LABELS_INSIDE },
    xAxis: axis({ type: "value", max: 100, axisLabel: { hideOverlap: true, formatter: "{value} %" } }),
    yAxis: [taskAxis(report, {}), taskAxis(report, {
      position: "right",
      axisLabel: {
        interval: 0, color: color("soft"),
        formatter: (label, i) => (bad(tasks[i]) ? `{bad|✕ ${grouped(bad(tasks[i]))}} of ${grouped(totals[i])}` : grouped(totals[i])),
        rich: { bad: { color: color("failed"), fontWeight: 600 } },
      },
    })],
    // What is wrong is seen if it is ever so little: it has some width, and lies above what comes after. None has none.
    series: used.map((status, place) => ({
      name: status.name, type: "bar", stack: "all", barMaxWidth: 16, color: color(status.color),
      barMinHeight: ["caveats", "successful"].includes(status.color) ? 0 : 3, z: 2 + used.length - place + (FAILURES.includes(status.color) ? used.length : 0),
      itemStyle: { decal: decal(status), borderColor: color("card"), borderWidth: 0.5 },
      data: tasks.map((task, i) => share(task, i, status) || null),
    })),
    tooltip: {
      ...common().tooltip, trigger: "axis", axisPointer: { type: "none" },
      formatter: ([{ dataIndex: i }]) => `<b>${escape(tasks[i].task)}</b><br>${statusLines(report, tasks[i]).join("<br>")}`,
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
