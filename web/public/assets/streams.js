// The list of what is live: asks the API every two seconds while the page is visible and touches only what changed.

import { summarise } from "./health.js";

const list = document.getElementById("streams");
const empty = document.getElementById("empty");
const summary = document.getElementById("summary");
const PERIOD_MS = 2000;
const cards = new Map();

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/assets/icons.svg#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** "1080p30 · 3 watching · 12 min", from what the API knows so far. */
function describe(stream) {
  const facts = [];
  const video = stream.tracks?.find((track) => track.kind === "video");
  if (video?.height) facts.push(`${video.height}p${video.fps ? Math.round(video.fps) : ""}`);
  else if (stream.tracks?.length) facts.push("audio only");
  const viewers = (stream.viewers?.exact ?? 0) + (stream.viewers?.estimated ?? 0);
  if (viewers) facts.push(`${viewers} watching`);
  const minutes = Math.floor((Date.now() - Date.parse(stream.started_at)) / 60000);
  if (minutes >= 0) facts.push(minutes < 1 ? "just started" : minutes < 60 ? `for ${minutes} min` : `for ${Math.floor(minutes / 60)} h ${minutes % 60} min`);
  return facts.join(" · ");
}

function makeCard(stream) {
  const item = element("li");
  const link = element("a", "card");
  link.href = stream.urls?.page ?? `/${stream.app}/${stream.name}`;
  const art = element("div", "card-art");
  const badge = element("span", "badge");
  const go = element("span", "go");
  go.append(icon("play"));
  art.append(icon("mark"), badge, go);
  const text = element("div", "card-text");
  const name = element("b", "", stream.app === "live" ? stream.name : `${stream.app}/${stream.name}`);
  name.title = `${stream.app}/${stream.name}`;
  const facts = element("span");
  const health = element("span", "card-health");
  health.append(element("i"), element("span"));
  health.firstChild.setAttribute("aria-hidden", "true");
  text.append(name, facts, health);
  link.append(art, text);
  item.append(link);
  return { item, badge, facts, health };
}

const BADGES = { live: "LIVE", waiting: "RECONNECTING", ended: "ENDED" };

/** A stream whose publisher is there, and that cannot be watched yet, has just begun. */
const badge = (stream) => stream.state === "waiting" && stream.ingest?.connected ? "STARTING" : (BADGES[stream.state] ?? stream.state);

function show(streams) {
  const seen = new Set();
  for (const stream of streams) {
    const key = `${stream.app}/${stream.name}`;
    seen.add(key);
    let card = cards.get(key);
    if (!card) {
      card = makeCard(stream);
      cards.set(key, card);
    }
    card.badge.dataset.state = stream.state;
    card.badge.textContent = badge(stream);
    card.facts.textContent = describe(stream);
    showHealth(card.health, summarise(stream.ingest));
    if (card.item !== list.children[seen.size - 1]) list.insertBefore(card.item, list.children[seen.size - 1] ?? null);
  }
  for (const [key, card] of cards) {
    if (seen.has(key)) continue;
    card.item.remove();
    cards.delete(key);
  }
  empty.hidden = streams.length > 0;
  say(streams.length === 0 ? "" : streams.length === 1 ? "1 stream is live" : `${streams.length} streams are live`);
}

function showHealth(place, summary) {
  place.hidden = summary === null;
  if (summary === null) return;
  place.dataset.health = summary.health;
  place.lastChild.textContent = summary.words;
  place.title = summary.title;
}

/** The summary is a live region: it is written only when it says something new. */
function say(text) {
  if (summary.textContent !== text) summary.textContent = text;
}

async function refresh() {
  try {
    const response = await fetch("/api/v1/streams", { cache: "no-store", headers: { accept: "application/json" } });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const body = await response.json();
    const streams = Array.isArray(body) ? body : (body.streams ?? []);
    show(streams.filter((stream) => stream.state !== "ended"));
  } catch {
    say("The server does not answer. Trying again…");
  }
}

async function keepFresh() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}

/** The fields to type into OBS, for the host this page came from. */
function fillHowTo() {
  const port = document.querySelector('meta[name="rillcast-rtmp-port"]')?.content || "1935";
  const server = `rtmp://${location.hostname || "localhost"}${port === "1935" ? "" : `:${port}`}/live`;
  document.getElementById("server").textContent = server;
  const watch = document.getElementById("watch");
  watch.textContent = `${location.origin}/live/demo`;
  document.getElementById("remote").hidden = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
  for (const button of document.querySelectorAll("[data-copy]")) {
    // Pages on plain HTTP from another host have no clipboard; the text can still be selected.
    button.hidden = !navigator.clipboard;
    button.setAttribute("aria-label", `Copy ${button.dataset.copy === "server" ? "the server" : "the stream key"}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}

fillHowTo();
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
keepFresh();
