"use strict";
// Labels and reasons come from strangers: they enter the page by textContent only.

const SILENCE_MS = 6000;
const RETRY_MS = [1000, 2000, 4000, 8000];
const PICTURE_TIMEOUT_MS = 20000;

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// In a frame of another site browsers keep no cookie, so the token of the address goes with every request.
const token = new URLSearchParams(location.search).get("token");
const query = (mark) => (token ? mark + "token=" + encodeURIComponent(token) : "");
if (token && window.top === window) history.replaceState(null, "", location.pathname);

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function show(id, visible) {
  element(id).hidden = !visible;
}

// ---- figures ----

function number(value, digits, unit) {
  return value === null || value === undefined ? "–" : value.toFixed(digits) + unit;
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? (value / 1000).toFixed(1) + " s" : value.toFixed(value < 100 ? 1 : 0) + " ms";
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
  if (hours) return hours + " h " + (minutes % 60) + " min";
  return minutes ? minutes + " min" : Math.floor(seconds) + " s";
}

function percent(score) {
  if (score === null || score === undefined) return "–";
  return (score * 100).toFixed(score >= 0.995 || score < 0.0995 ? 1 : 0) + " %";
}

function figures(state) {
  const latency = state.latency_ms;
  setText(element("fps"), number(state.frames_per_second, 1, ""));
  setText(element("age"), milliseconds(state.age_ms.p50));
  setText(element("age-99"), milliseconds(state.age_ms.p99));
  show("temperature-row", state.temperature_c !== null);
  setText(element("temperature"), number(state.temperature_c, 0, " °C"));
  for (const stage of ["decode", "preprocess", "invoke"]) setText(element(stage), milliseconds(latency[stage]));
  setText(element("memory"), number(state.resident_bytes === null ? null : state.resident_bytes / 1e6, 0, " MB"));
  for (const count of ["answered", "skipped", "reconnects"]) setText(element(count), state[count].toLocaleString("en"));
  setText(element("uptime"), duration(state.uptime_s));
}

// ---- answer ----

function barRow() {
  const row = document.createElement("li");
  for (const name of ["label", "score", "track"]) {
    const part = document.createElement("span");
    part.className = name;
    row.append(part);
  }
  row.lastChild.setAttribute("aria-hidden", "true");
  row.lastChild.append(document.createElement("i"));
  return row;
}

function bars(answer) {
  const list = element("bars");
  const top = answer ? answer.top : [];
  while (list.children.length < top.length) list.append(barRow());
  while (list.children.length > top.length) list.lastChild.remove();
  top.forEach((item, index) => {
    const [label, score, track] = list.children[index].children;
    setText(label, item.label);
    setText(score, percent(item.score));
    track.firstChild.style.width = 100 * Math.min(1, Math.max(0, item.score || 0)) + "%";
    list.children[index].classList.toggle("best", item.label === answer.label);
  });
}

function decision(state) {
  const answer = state.answer;
  const decided = answer && answer.decision;
  let text = "–";
  let note = "";
  if (decided) {
    text = decided.label === null ? "Nothing certain" : decided.label;
    note = decided.label === null ? "" : percent(decided.score) + " over the last frames";
  } else if (answer) {
    text = answer.label;
    note = percent(answer.score);
  }
  if (answer && answer.rejected) note = "it may be none of the classes";
  setText(element("decision"), text);
  element("decision").classList.toggle("uncertain", !answer || Boolean(decided && decided.label === null));
  setText(element("decision-note"), note);
  const alt = answer ? "Live image: " + text : "Live image";
  if (element("image").alt !== alt) element("image").alt = alt;
}

// ---- lists ----

function rows(list, items) {
  while (list.children.length < items.length) {
    const row = document.createElement("li");
    row.append(document.createElement("span"), document.createElement("span"));
    list.append(row);
  }
  while (list.children.length > items.length) list.lastChild.remove();
  items.forEach((item, index) => {
    setText(list.children[index].children[0], item.left);
    setText(list.children[index].children[1], item.right);
    list.children[index].classList.toggle("bad", item.bad);
  });
}

function eventRow(event) {
  const moment = new Date(event.at * 1000);
  const today = moment.toDateString() === new Date().toDateString();
  const right = today ? moment.toLocaleTimeString() : moment.toLocaleString();
  if (event.error) return { left: event.error, right, bad: true };
  if (event.state) {
    return { left: "camera " + event.state + (event.reason ? ": " + event.reason : ""), right, bad: event.state !== "connected" };
  }
  return { left: (event.label === null ? "nothing" : event.label) + "  " + percent(event.score), right, bad: false };
}

function sinkRow(sink) {
  const dropped = sink.dropped ? sink.dropped.toLocaleString("en") + " dropped" : "";
  return { left: sink.name + (sink.problem ? ": " + sink.problem : ""), right: dropped || (sink.problem ? "" : "fine"), bad: Boolean(sink.problem) };
}

function lists(state) {
  const others = state.sinks.filter((sink) => sink.name !== "web");
  rows(element("sinks"), others.map(sinkRow));
  show("sinks-card", others.length > 0);
  rows(element("events"), state.events.map(eventRow));
  show("no-events", state.events.length === 0);
}

// ---- what is wrong ----

function pill(text, tone) {
  setText(element("state"), text);
  element("state").dataset.tone = tone;
}

function banner(text) {
  setText(element("banner"), text);
  show("banner", text !== "");
}

function worries(state) {
  const reason = state.reason ? ": " + state.reason : "";
  if (state.state === "stalled") return "The camera gives no images" + reason + ".";
  if (state.state === "reconnecting") return "The camera is away and is being opened again" + reason + ".";
  if (state.state === "ended") return "The camera or video has ended" + reason + ".";
  if (state.trouble && state.answered) return "Not well: " + state.trouble + ".";
  const now = state.throttled.filter((reason) => reason.endsWith(" now")).map((reason) => reason.slice(0, -4));
  return now.length ? "The board is slowed down: " + now.join(", ") + "." : "";
}

function render(state) {
  setText(element("name"), state.name);
  if (document.title !== state.name + " – edgekit") document.title = state.name + " – edgekit";
  figures(state);
  bars(state.answer);
  decision(state);
  lists(state);
  pill(state.state || "starting", state.trouble ? (state.answered ? "bad" : "wait") : "good");
  banner(worries(state));
  setText(element("answer-title"), state.trouble ? "Last answer" : "Now");
  document.body.classList.toggle("stale", Boolean(state.trouble));
}

// ---- connections ----

let source = null;
let silence = 0;
let failures = 0;
let signedOut = false;

function listen() {
  hangUp();
  source = new EventSource("events" + query("?"));
  source.onmessage = (message) => {
    failures = 0;
    watch();
    render(JSON.parse(message.data));
  };
  source.onerror = lost;
  watch();
}

function hangUp() {
  clearTimeout(silence);
  if (source) source.close();
  source = null;
}

// A dead network tells nobody, so silence counts as loss.
function watch() {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

async function lost() {
  hangUp();
  const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  failures += 1;
  pill("offline", "bad");
  document.body.classList.add("stale");
  let why = "No connection to the device; trying again.";
  try {
    const answer = await fetch("api/state" + query("?"), { cache: "no-store" });
    if (answer.status === 401) {
      signedOut = true;
      banner("The token is no longer right: open the address that edge-run camera printed.");
      return;
    }
    why = answer.ok ? "The page is watched by too many; trying again." : "The device answers " + answer.status + "; trying again.";
    if (answer.ok && failures < 2) why = "";
  } catch {
    // the first words hold
  }
  if (why) banner(why);
  silence = setTimeout(() => { if (!document.hidden) listen(); }, wait);
}

async function fetchImage(after) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), PICTURE_TIMEOUT_MS);
  try {
    const answer = await fetch("frame.jpg?after=" + after + query("&"), { cache: "no-store", signal: control.signal });
    if (answer.status === 204) return { number: after, blob: null };
    if (!answer.ok) return null;
    return { number: Number(answer.headers.get("X-Picture-Number")), blob: await answer.blob() };
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

// Decoded apart and then exchanged, so that nothing flickers.
async function showImage(blob) {
  const before = element("image");
  const next = new Image();
  next.id = "image";
  next.src = URL.createObjectURL(blob);
  try {
    await next.decode();
  } catch {
    URL.revokeObjectURL(next.src);
    return;
  }
  next.alt = before.alt;
  before.replaceWith(next);
  show("no-image", false);
  if (before.src) URL.revokeObjectURL(before.src);
}

// The next image is asked for when this one is shown, so that a slow phone or network gets fewer, never older ones.
async function images() {
  let number = 0;
  while (!signedOut) {
    if (document.hidden) {
      await pause(500);
      continue;
    }
    const image = await fetchImage(number);
    if (image && image.blob) await showImage(image.blob);
    number = image ? image.number : 0;
    if (!image) await pause(2000);
  }
}

document.addEventListener("visibilitychange", () => {
  if (signedOut) return;
  if (document.hidden) hangUp();
  else listen();
});
listen();
images();
