// The pipeline as a graph: dagre decides where tasks and lines go.
"use strict";

const NODE = { width: 172, height: 58 };

function svgElement(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function withTitle(text) {
  const title = svgElement("title", {});
  title.textContent = text;
  return title;
}

const SIGNS = { ABORTED: "✕", UNKNOWN: "?", ABORTED_SUCCESS: "!", FAILED: "✕", BLOCKED: "⊘" };

function troubles(task) {
  return Object.keys(task.statuses).filter((name) => name in SIGNS && task.statuses[name]);
}

// Statuses come worst first, but for a missing log, which holds nothing up.
function worstOf(task) {
  return troubles(task).find((name) => name !== "ABORTED_SUCCESS") || "SUCCESSFUL";
}

function totalOf(task) {
  return Object.values(task.statuses).reduce((sum, count) => sum + count, 0);
}

function outcome(report, task) {
  const names = troubles(task);
  if (!names.length) return `✓ ${grouped(totalOf(task))}`;
  const texts = names.map((name) => `${SIGNS[name]} ${grouped(task.statuses[name])}`);
  const title = (name) => report.titles[name].toLowerCase();
  if (names.length === 1) return `${texts[0]} of ${grouped(totalOf(task))} ${title(names[0])}`;
  return names.map((name, i) => (names.length < 3 && name !== "ABORTED_SUCCESS" ? `${texts[i]} ${title(name)}` : texts[i])).join("  ");
}

function layOut(tasks, edges) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 44, marginx: 6, marginy: 6 });
  for (const task of tasks) graph.setNode(task.task, { ...NODE });
  for (const edge of edges) {
    if (graph.hasNode(edge.source) && graph.hasNode(edge.target)) {
      graph.setEdge(edge.source, edge.target, { types: edge.dataset_types });
    }
  }
  dagre.layout(graph);
  return graph;
}

// Lines go through the layout's points, rounded.
function curve(points) {
  const middle = (a, b) => `${((a.x + b.x) / 2).toFixed(1)} ${((a.y + b.y) / 2).toFixed(1)}`;
  let path = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    path += `Q${points[i].x} ${points[i].y} ${middle(points[i], points[i + 1])}`;
  }
  const last = points[points.length - 1];
  return `${path}L${last.x} ${last.y}`;
}

function drawEdge(graph, key) {
  const edge = graph.edge(key);
  const line = svgElement("path", { class: "edge", d: curve(edge.points), "marker-end": "url(#arrow)" });
  line.append(withTitle(`${key.v} → ${key.w}: ${edge.types.join(", ")}`));
  return line;
}

function shares(report, task, x, y, width) {
  const total = totalOf(task);
  const result = [];
  let begin = x;
  for (const status of statusParts(report)) {
    const share = total ? status.count(task) / total : 0;
    if (share > 0) {
      const size = Math.max(share * width, 2);
      result.push(svgElement("rect", { x: Math.min(begin, x + width - size), y, width: size, height: 5, fill: `var(--${status.color})` }));
      begin += share * width;
    }
  }
  // Little parts lie above what comes after them.
  return result.reverse();
}

function drawNode(report, task, row, place) {
  const x = place.x - NODE.width / 2;
  const y = place.y - NODE.height / 2;
  const worst = worstOf(task);
  const label = task.task.length > 22 ? `${task.task.slice(0, 21)}…` : task.task;
  const name = svgElement("text", { class: "label", x: x + 11, y: y + 21 });
  name.textContent = label;
  const text = svgElement("text", { class: "outcome", x: x + 11, y: y + 38 });
  text.textContent = outcome(report, task);
  const body = svgElement("rect", {
    class: "body", x, y, width: NODE.width, height: NODE.height, rx: 7,
    style: `stroke: var(--${worst.toLowerCase().replace("_", "-")})`,
    ...(worst === "BLOCKED" ? { "stroke-dasharray": "5 3" } : {}),
  });
  const link = svgElement("a", { class: "node", href: `#task-${row}`, "data-task": task.task, "data-worst": worst });
  link.setAttribute("aria-label", `${task.task}: ${outcome(report, task)}`);
  link.append(withTitle(`${task.task}: ${outcome(report, task)}`), body, name, text, ...shares(report, task, x + 11, y + NODE.height - 13, NODE.width - 22));
  return svgElement("g", { class: "node" }, link);
}

function drawPipeline(report) {
  const place = document.getElementById("chart-pipeline");
  if (!place) return;
  const graph = layOut(report.details, report.pipeline);
  const { width, height } = graph.graph();
  const scale = Math.max(0.55, Math.min(1, place.clientWidth / width));
  const marker = svgElement("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svgElement("path", { class: "arrow", d: "M0 0L8 4L0 8z" }));
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, width: width * scale, height: height * scale },
    svgElement("defs", {}, marker),
    ...graph.edges().map((key) => drawEdge(graph, key)),
    ...report.details.map((task, row) => drawNode(report, task, row, graph.node(task.task))));
  place.replaceChildren(svg);
  place.scrollLeft = (place.scrollWidth - place.clientWidth) / 2;
}
