"use strict";
// Draws /api/status every two seconds. Text only ever goes in as text, never as markup.
const REFRESH_MS = 2000;
const TIMEOUT_MS = 5000;
const ROWS_MAX = 500;
const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
let before = null;
let rates = null;
let last = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit++; }
  return (unit === 0 ? bytes : bytes.toFixed(1)) + " " + UNITS[unit];
}
function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 60) return s.toFixed(1) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}
const known = (value) => (value === null || value === undefined ? "–" : whole.format(value));
const total = (list, key) => list.reduce((sum, item) => sum + (item[key] || 0), 0);

function tile(label, value, note, share) {
  const made = element("div", null, "tile");
  made.append(element("div", label, "label"), element("div", value, "value"));
  if (share === undefined) {
    made.append(element("div", note || "", "note"));
  } else {
    const meter = element("div", null, "meter");
    const fill = element("i", null, share > 0.9 ? "high" : "");
    fill.style.width = Math.min(100, share * 100) + "%";
    meter.append(fill);
    made.append(meter, element("div", note || "", "note"));
  }
  return made;
}

function measure(status, now) {
  const read = total(status.partitions, "records_read");
  const bytes = total(status.partitions, "bytes_written");
  if (before && before.started === status.started && now > before.now) {
    const seconds = (now - before.now) / 1000;
    rates = { records: Math.max(0, read - before.read) / seconds, bytes: Math.max(0, bytes - before.bytes) / seconds };
  }
  before = { started: status.started, now, read, bytes };
}

function drawTiles(status) {
  const partitions = status.partitions;
  const oldest = Math.max(0, ...partitions.map((p) => p.lag_seconds || 0));
  const lag = partitions.some((p) => p.lag_records !== null) ? total(partitions, "lag_records") : null;
  const retries = status.retries.reduce((sum, [, count]) => sum + count, 0);
  byId("tiles").replaceChildren(
    tile("Read", rates ? whole.format(rates.records) + "/s" : "–", whole.format(total(partitions, "records_read")) + " records"),
    tile("Published", whole.format(status.published.records), size(status.published.bytes) + " in " + whole.format(status.published.files) + " files"),
    tile("Lag", known(lag), oldest > 0 ? "oldest waits " + span(oldest * 1000) : lag === null ? "not known yet" : "nothing waits"),
    tile("Partitions", whole.format(partitions.length), whole.format(total(partitions, "open_files")) + " open files"),
    tile("Store retries", whole.format(retries), whole.format(total(status.requests, "count")) + " requests"),
    tile("Memory", size(status.resident_bytes), "of " + size(status.memory_limit), status.resident_bytes / status.memory_limit),
  );
}

const CONDITIONS_MAX = 20;
function drawConditions(status) {
  const list = status.conditions;
  const shown = list.slice(0, CONDITIONS_MAX).map((c) => {
    const made = element("div", null, c.severity);
    made.append(element("b", c.text), element("span", "since " + new Date(c.since).toLocaleString() + (c.hint ? " · " + c.hint : "")));
    return made;
  });
  if (list.length > CONDITIONS_MAX) shown.push(element("div", "and " + whole.format(list.length - CONDITIONS_MAX) + " more; /health lists them", "warning"));
  byId("stops").hidden = list.length === 0;
  byId("stops").replaceChildren(...shown);
}

function drawRefused(status) {
  const list = status.partitions.flatMap((p) => p.refused_last.map((r) => ({ p, r }))).sort((a, b) => Date.parse(b.r.at) - Date.parse(a.r.at));
  byId("refusals").hidden = list.length === 0;
  byId("refused").replaceChildren(...list.slice(0, 50).map(({ p, r }) =>
    row([[new Date(r.at).toLocaleTimeString()], [p.topic], [String(p.partition), "n"], [String(r.offset), "n"], [r.step], [r.code], [r.detail, "wrap"]])));
}

function row(cells) {
  const made = element("tr");
  for (const [content, className] of cells) {
    const cell = element("td", null, className);
    cell.append(content);
    made.append(cell);
  }
  return made;
}

function drawPartitions(status) {
  const rank = { stopped: 0, opening: 1, running: 2 };
  const list = status.partitions.slice().sort((a, b) => rank[a.state] - rank[b.state] || (b.lag_records || 0) - (a.lag_records || 0) || a.topic.localeCompare(b.topic) || a.partition - b.partition);
  const rows = list.slice(0, ROWS_MAX).map((p) => {
    const state = element("span", p.state, "badge " + p.state);
    if (p.reason) state.title = p.reason;
    return row([[p.topic], [String(p.partition), "n"], [state], [known(p.published), "n"], [known(p.end), "n"], [known(p.unread_records), "n"], [known(p.lag_records), "n"],
      [p.lag_seconds ? span(p.lag_seconds * 1000) : "–", "n"], [whole.format(p.records_written), "n"],
      [whole.format(p.files_written), "n"], [size(p.bytes_written), "n"], [whole.format(p.open_files), "n"]]);
  });
  if (rows.length === 0) rows.push(row([["No partition is assigned.", "quiet"]]));
  if (list.length === 0) rows[0].firstChild.colSpan = 12;
  byId("partitions").replaceChildren(...rows);
  byId("more").hidden = list.length <= ROWS_MAX;
  byId("more").textContent = "The first " + ROWS_MAX + " of " + whole.format(list.length) + "; /api/status has all.";
}

function drawRest(status) {
  const requests = status.requests.map((r) => row([[r.request.replaceAll("_", " ")], [r.outcome], [whole.format(r.count), "n"], [span((r.seconds / r.count) * 1000), "n"], [size(r.bytes), "n"]]));
  if (requests.length) byId("requests").replaceChildren(...requests);
  const warnings = status.warnings.slice().reverse().map(([at, text]) => {
    const made = element("li");
    made.append(element("time", new Date(at).toLocaleTimeString()), element("span", text));
    return made;
  });
  if (warnings.length) byId("warnings").replaceChildren(...warnings);
}

function draw(status) {
  measure(status, Date.parse(status.now));
  document.title = status.pipeline + " – kas3";
  byId("pipeline").textContent = status.pipeline;
  const failing = status.conditions.some((c) => c.severity === "failing");
  byId("phase").textContent = failing ? status.phase + ", failing" : status.phase;
  byId("phase").className = "badge " + (failing ? "failing" : status.phase);
  byId("uptime").textContent = "up " + span(Date.parse(status.now) - Date.parse(status.started));
  byId("version").textContent = "kas3 " + status.version;
  drawTiles(status);
  drawConditions(status);
  drawPartitions(status);
  drawRefused(status);
  drawRest(status);
}

async function refresh() {
  try {
    const response = await fetch("/api/status", { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    draw(await response.json());
    last = new Date();
    byId("offline").hidden = true;
  } catch (error) {
    byId("offline").hidden = false;
    byId("stale").textContent = last ? last.toLocaleTimeString() : "never";
    byId("phase").textContent = "no answer";
    byId("phase").className = "badge gone";
  }
  setTimeout(refresh, REFRESH_MS);
}
refresh();
