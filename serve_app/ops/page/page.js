// The operators' page: asks for figures every two seconds and shows them. No text of clients is ever in them.

const REFRESH_MS = 2000;
const HISTORY_EVERY = 5; // refreshes
const WINDOWS = { "5m": "5 minutes", "1h": "hour", "24h": "24 hours", "7d": "week", "28d": "28 days", "1y": "year" };
const STAGES = {
  offered: "by clients",
  reachable: "on the replica that had most of it cached",
  selected: "estimated to be cached on the replica that was chosen",
  reused: "by the engine's own count",
};
const CAUSES = {
  partial_block: "the prompt's end, which fills no block",
  new: "no replica ever had it cached, as far as is remembered",
  evicted: "it was cached, and evicted",
  gone: "the replica that had it left, is not eligible, or was emptied",
  spilled: "another replica has it cached",
  uncomputed: "another prompt was to compute it there, not in time",
  mismatch: "engine and router disagree on the prompt's length",
  no_key: "the router could not read the prompt",
};

const state = { window: "5m", application: null, refreshes: 0, isLoggedIn: true };
const at = (id) => document.getElementById(id);

const percent = (share, digits = 1) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);
const number = (value) => value.toLocaleString("en");
const seconds = (value) => (value === null ? "–" : value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(1)} s`);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function meter(share, color = "c0") {
  const bar = element("i", { class: color });
  bar.style.width = `${100 * Math.min(1, share ?? 0)}%`;
  return element("span", { class: "meter" }, bar);
}

function rows(table, headers, lines) {
  at(table).tHead.replaceChildren(
    element("tr", {}, ...headers.map(([title, kind]) => element("th", { class: kind, scope: "col" }, title))),
  );
  at(table).tBodies[0].replaceChildren(
    ...lines.map((cells) =>
      element("tr", {}, ...cells.map((cell, index) =>
        element("td", { class: headers[index][1], "data-label": headers[index][0] }, ...[cell].flat()))),
    ),
  );
}

function showTiles({ tokens, hit_rates: rates, ttft }, seconds_) {
  const tile = (name, title, value, detail) => element("div", { class: "tile", id: name }, title, element("b", {}, value), element("span", {}, detail));
  const rate = tokens.prompts / seconds_;
  at("tiles").replaceChildren(
    tile("hit-rate", "Hit rate", percent(rates.actual), `predicted ${percent(rates.predicted)}, reachable ${percent(rates.reachable)}`),
    tile("shared-rate", "Hit rate of shared prefixes", percent(rates.shared), "system prompts and the like; 70 % and more is healthy"),
    tile("prompts", "Prompts", number(tokens.prompts), `${rate < 10 ? rate.toPrecision(2) : Math.round(rate)} a second, ${number(tokens.offered)} tokens`),
    tile("ttft-warm", "First token, warm", seconds(ttft.warm.p50_s), `95 %: ${seconds(ttft.warm.p95_s)}; ${number(ttft.warm.number)} prompts at least half cached`),
    tile("ttft-cold", "First token, cold", seconds(ttft.cold.p50_s), `95 %: ${seconds(ttft.cold.p95_s)}; ${number(ttft.cold.number)} prompts`),
  );
}

function showReplicas(replicas) {
  const headers = [
    ["replica", ""], ["state", "text"], ["hit rate, actual", ""], ["predicted", ""], ["prompts", ""], ["first token warm", ""],
    ["cold", ""], ["waiting", ""], ["running", ""], ["tokens to compute", ""], ["KV in use", ""], ["KV cached", ""], ["ring", ""], ["known by", "text"],
  ];
  rows("replicas", headers, replicas.map((each) => {
    const { tokens, hit_rates: rates, ttft } = each.figures;
    return [
      element("span", { title: each.replica }, String(each.rank)),
      element("span", { class: each.state === "ok" ? "ok" : "wrong" }, each.state),
      [percent(rates.actual), meter(rates.actual)], percent(rates.predicted), number(tokens.prompts),
      seconds(ttft.warm.p50_s), seconds(ttft.cold.p50_s), number(each.waiting), number(each.running),
      number(each.pending_tokens), percent(each.kv_use, 0), percent(each.held, 0), percent(each.ring_share, 0),
      each.knowledge === "kv_events" ? "KV events" : "receipts",
    ];
  }));
}

function showTenants(tenants) {
  at("tenants-section").hidden = tenants.length === 0;
  const headers = [
    ["tenant", "text"], ["hit rate, actual", ""], ["predicted", ""], ["reachable", ""], ["prompts", ""], ["tokens", ""],
    ["tokens computed", ""], ["first token warm", ""], ["cold", ""],
  ];
  rows("tenants", headers, tenants.map(({ name, figures: { tokens, hit_rates: rates, ttft } }) => [
    name, [percent(rates.actual), meter(rates.actual)], percent(rates.predicted), percent(rates.reachable), number(tokens.prompts),
    number(tokens.offered), number(tokens.offered - tokens.reused), seconds(ttft.warm.p50_s), seconds(ttft.cold.p50_s),
  ]));
}

function showFunnel({ tokens }) {
  const line = (name, kind, amount, meaning, color) => {
    const share = tokens.offered ? amount / tokens.offered : null;
    return element("tr", { class: kind },
      element("td", { class: "text" }, name), element("td", {}, number(amount)), element("td", {}, percent(share)),
      element("td", {}, meter(share, color)), element("td", { class: "text" }, meaning));
  };
  at("funnel").tBodies[0].replaceChildren(
    ...Object.entries(STAGES).map(([name, meaning]) => line(name, "", tokens[name], meaning, "c0")),
    ...Object.entries(CAUSES).filter(([cause]) => tokens.lost[cause]).sort(([a], [b]) => tokens.lost[b] - tokens.lost[a])
      .map(([cause, meaning]) => line(`lost: ${cause}`, "lost", tokens.lost[cause], meaning, "c1")),
  );
}

function showPrefixes(prefixes) {
  const headers = [["prefix", "text"], ["tokens", ""], ["of recent work", ""], ["for replicas", ""], ["cached on", "text"]];
  rows("prefixes", headers, prefixes.map((each) => [
    element("code", {}, each.hash), number(each.tokens), [percent(each.work_share), meter(each.work_share)],
    String(each.fan_out), each.ranks.join(", ") || "none",
  ]));
}

// Lines over time. A gap in time is a gap in the line; a lone bucket is a dot.
function showChart(id, history, series, format, top) {
  const svg = at(id), width = svg.clientWidth || 400, height = svg.clientHeight || 200;
  const left = 48, right = 8, above = 10, below = 20;
  const x = (time) => left + ((time - history.start_s) / Math.max(1, history.end_s - history.start_s)) * (width - left - right);
  const y = (value) => above + (1 - value / top) * (height - above - below);
  const draw = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    draw("line", { class: "grid", x1: left, x2: width - right, y1: y(part * top), y2: y(part * top) }),
    draw("text", { x: left - 6, y: y(part * top) + 4, "text-anchor": "end" }, format(part * top)),
  ]);
  const isLong = history.end_s - history.start_s > 2 * 86400;
  const clock = (time) => new Date(1000 * time).toLocaleString("en-GB", isLong ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" });
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const time = history.start_s + part * (history.end_s - history.start_s);
    parts.push(draw("text", { x: x(time), y: height - 4, "text-anchor": anchor }, clock(time)));
  }
  series.forEach(({ value }, index) => {
    let path = "", before = null;
    for (const bucket of history.buckets) {
      const here = value(bucket.figures);
      if (here === null) continue;
      const middle = Math.min(bucket.start_s + history.bucket_s / 2, history.end_s);
      const point = `${x(Math.max(middle, history.start_s)).toFixed(1)},${y(Math.min(here, top)).toFixed(1)}`;
      path += (before !== null && bucket.start_s - before <= 2 * history.bucket_s ? "L" : "M") + point;
      before = bucket.start_s;
      const [cx, cy] = point.split(",");
      const dot = draw("circle", { class: `mark c${index}`, cx, cy, r: 2.5 });
      dot.append(draw("title", {}, `${clock(bucket.start_s)}: ${format(here)}`));
      parts.push(dot);
    }
    parts.push(draw("path", { class: `series c${index}`, d: path || "M0,0" }));
    parts.at(-1).style.fill = "none";
  });
  svg.replaceChildren(...parts);
}

function legend(id, series) {
  at(id).replaceChildren(...series.map(({ name }, index) => element("span", {}, element("i", { class: `c${index}` }), name)));
}

function showHistory(history) {
  const rates = [
    { name: "actual", value: (figures) => figures.hit_rates.actual },
    { name: "predicted", value: (figures) => figures.hit_rates.predicted },
    { name: "of shared prefixes", value: (figures) => figures.hit_rates.shared },
  ];
  const times = [
    { name: "warm", value: (figures) => figures.ttft.warm.p50_s },
    { name: "cold", value: (figures) => figures.ttft.cold.p50_s },
  ];
  const longest = Math.max(0.1, ...history.buckets.flatMap(({ figures }) => times.map(({ value }) => value(figures) ?? 0)));
  showChart("rate-chart", history, rates, (value) => percent(value, 0), 1);
  showChart("ttft-chart", history, times, seconds, longest);
  legend("rate-legend", rates);
  legend("ttft-legend", times);
}

async function ask(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (response.status === 401) {
    showLogin(true);
    return null;
  }
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.json();
}

function showLogin(isNeeded) {
  state.isLoggedIn = !isNeeded;
  at("login").hidden = !isNeeded;
  at("figures").hidden = isNeeded;
}

function showApplications(applications) {
  const names = applications.map((each) => each.name);
  if (!names.includes(state.application)) state.application = names[0] ?? null;
  at("application-choice").hidden = names.length < 2;
  const select = at("application");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  }
  select.value = state.application ?? "";
  return applications.find((each) => each.name === state.application);
}

const WINDOW_S = { "5m": 300, "1h": 3600, "24h": 86400, "7d": 604800, "28d": 2419200, "1y": 31536000 };

function show(overview) {
  const application = showApplications(overview.applications);
  at("fault").hidden = overview.fault === null;
  at("fault").textContent = overview.fault === null ? "" : `History is not being written: ${overview.fault}`;
  at("figures").hidden = application === undefined;
  if (application === undefined) {
    at("subtitle").textContent = "no application with routers is running";
    return;
  }
  const engines = application.engine === "vllm" ? "" : `, ${application.engine} engines`;
  at("subtitle").textContent = `${application.model}: ${application.replicas.length} replicas${engines}, ${application.routers} routers, routing by ${application.policy}`;
  showTiles(application.figures, WINDOW_S[state.window]);
  showReplicas(application.replicas);
  showTenants(application.tenants);
  showFunnel(application.figures);
  showPrefixes(application.prefixes);
}

async function refresh() {
  if (!state.isLoggedIn) return;
  try {
    const overview = await ask(`api/overview?window=${state.window}`);
    if (overview === null) return;
    show(overview);
    if (state.application !== null && state.refreshes++ % HISTORY_EVERY === 0) {
      const history = await ask(`api/history?window=${state.window}&application=${encodeURIComponent(state.application)}`);
      if (history !== null) showHistory(history);
    }
    const age = overview.read_at_s === null ? null : Math.max(0, Date.now() / 1000 - overview.read_at_s);
    at("status").textContent = age === null ? "no router has answered yet" : age < 10 ? "live" : `as of ${seconds(age)} ago`;
    at("status").className = age !== null && age < 10 ? "ok" : "wrong";
  } catch (error) {
    at("status").textContent = `no answer (${error.message}); trying again`;
    at("status").className = "wrong";
  }
}

function showWindows() {
  at("windows").replaceChildren(...Object.entries(WINDOWS).map(([name, title]) => {
    const button = element("button", { type: "button", "aria-pressed": String(name === state.window), title: `the last ${title}` }, name);
    button.addEventListener("click", () => {
      state.window = name;
      refreshNow();
    });
    return button;
  }));
}

function refreshNow() {
  state.refreshes = 0;
  showWindows();
  return refresh();
}

at("application").addEventListener("change", (event) => {
  state.application = event.target.value;
  refreshNow();
});

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await fetch("api/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: at("token").value }),
  });
  at("login-fault").textContent = response.ok ? "" : response.status === 401 ? "This is not the operators' token."
    : `${(await response.json()).detail}.`;
  if (response.ok) {
    at("token").value = "";
    showLogin(false);
    await refreshNow();
  }
});

async function keepShowing() {
  for (;;) {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
  }
}

showWindows();
keepShowing();
