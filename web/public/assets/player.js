// The player page: buttons, keys and words around a LiveSession.

import { Figures } from "./figures.js";
import { HealthPanel } from "./health.js";
import { LiveSession } from "./live.js";

const $ = (id) => document.getElementById(id);
const stage = $("stage");
const video = $("video");
const HIDE_AFTER_MS = 2500;

// The page lives at /APP/NAME, or below /t/TOKEN/ for signed viewing; what it plays lies right below itself.
const path = location.pathname.replace(/\/+$/, "");
const [app, name] = path.split("/").slice(-2).map(decodeURIComponent);
const signed = path.startsWith("/t/");
const query = new URLSearchParams(location.search);
const wantsHealth = query.has("health");
query.delete("health");
const api = signed ? null : `/api/v1/streams/${encodeURIComponent(app)}/${encodeURIComponent(name)}`;
const session = new LiveSession(video, {
  playlist: `${path}/index.m3u8${query.size ? `?${query}` : ""}`,
  api,
  time: "/time",
});
const figures = new Figures(session, $("stats"));
const health = new HealthPanel($("health"), api);
const label = app === "live" ? name : `${app}/${name}`;

// ------------------------------------------------------------------ words

const VEIL = {
  checking: { title: "Connecting…", text: "", art: "antenna" },
  starting: { title: "Starting…", text: "", art: "antenna" },
  live: { title: "", text: "", art: "sound" },
  offline: { title: `${label} is offline`, text: "Nothing is being streamed here right now. Leave this page open: playback starts by itself as soon as the stream does.", art: "antenna" },
  ended: { title: "The stream has ended", text: "Thanks for watching. If it comes back, playback starts by itself.", art: "antenna" },
  waiting: { title: "The stream is interrupted", text: "The streamer's connection dropped. Playback goes on by itself when it is back.", art: "antenna" },
  unreachable: { title: "The server does not answer", text: "Check your connection. This page keeps trying.", art: "antenna" },
  // The server's build embeds hls.js from npm; a build without the packages serves a page that cannot play.
  incomplete: { title: "The player is incomplete", text: "This server was built without hls.js. Run scripts/setup.sh run and build it again.", art: "antenna" },
  unsupported: { title: "This browser cannot play the stream", text: "It has neither Media Source Extensions nor HLS built in. A current Chromium, Firefox or Safari plays it.", art: "antenna" },
};

function showState() {
  const { state } = session;
  stage.dataset.state = state;
  const audioOnly = state === "live" && isAudioOnly();
  stage.dataset.kind = audioOnly ? "audio" : "video";
  const words = audioOnly ? { title: label, text: "Audio only", art: "sound" } : VEIL[state];
  // While the veil fades out it keeps its words.
  if (state !== "live" || audioOnly) {
    $("veil-title").textContent = words.title;
    $("veil-text").textContent = words.text;
    $("veil-art").setAttribute("href", `/assets/icons.svg#${words.art}`);
  }
  $("status").textContent = state === "live" ? `${label} is live` : state === "checking" || state === "starting" ? "" : words.title;
  document.title = `${state === "live" ? "🔴 " : ""}${label} · Rillcast`;
  if (state !== "live" && state !== "starting") {
    $("begin").hidden = true;
    $("unmute").hidden = true;
  }
  showControls();
}

function isAudioOnly() {
  if (session.hls) return session.hls.levels.length > 0 && session.hls.levels.every((level) => !level.videoCodec && !level.width) && !video.videoWidth;
  return video.readyState > 0 && !video.videoWidth;
}

function showFacts() {
  const viewers = (session.stream?.viewers?.exact ?? 0) + (session.stream?.viewers?.estimated ?? 0);
  $("viewers").textContent = session.state === "live" && viewers > 0 ? `${viewers} watching` : "";
}

// ------------------------------------------------------------------ playing and sound

const remembered = {
  get(key) { try { return localStorage.getItem(`rillcast.${key}`); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(`rillcast.${key}`, value); } catch { /* Storage is refused: nothing is remembered. */ } },
};

// True while sound is off only because the browser refused to begin with it.
let mutedByPolicy = false;
let pausedAt = 0;

/** With sound where the browser allows it, else muted with one big button, else with a play button. */
async function begin() {
  $("begin").hidden = true;
  if (mutedByPolicy && !navigator.userActivation?.isActive) return playMuted();
  try {
    await video.play();
  } catch (error) {
    if (error.name === "NotAllowedError") await playMuted();
  }
}

async function playMuted() {
  const wanted = !video.muted || mutedByPolicy;
  video.muted = true;
  try {
    await video.play();
    mutedByPolicy = wanted;
    $("unmute").hidden = !wanted;
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    video.muted = !wanted;
    $("begin").hidden = false;
  }
}

function setMuted(muted) {
  mutedByPolicy = false;
  video.muted = muted;
  if (!muted && video.volume < 0.02) video.volume = 0.5;
  $("unmute").hidden = true;
  remembered.set("muted", String(muted));
}

function setVolume(volume) {
  video.volume = Math.min(1, Math.max(0, volume));
  setMuted(video.volume === 0);
  remembered.set("volume", String(video.volume));
}

function togglePlay() {
  if (session.state !== "live" && $("begin").hidden) return;
  if (video.paused) {
    begin();
  } else {
    video.pause();
  }
}

function showSound() {
  const silent = video.muted || video.volume === 0;
  stage.dataset.muted = String(silent);
  setIcon("mute", silent ? "muted" : "loud", silent ? "Unmute" : "Mute", "m");
  const percent = silent ? 0 : Math.round(video.volume * 100);
  $("volume").value = String(percent);
  $("volume").style.setProperty("--fill", `${percent}%`);
  $("volume").setAttribute("aria-valuetext", silent ? "muted" : `${percent} percent`);
}

function setIcon(id, icon, text, key) {
  const button = $(id);
  button.querySelector("use").setAttribute("href", `/assets/icons.svg#${icon}`);
  button.setAttribute("aria-label", text);
  button.dataset.tip = `${text} (${key})`;
}

// ------------------------------------------------------------------ full screen, picture in picture

function toggleFull() {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (stage.requestFullscreen) return stage.requestFullscreen().catch(() => {});
  video.webkitEnterFullscreen?.();
}

async function togglePip() {
  try {
    if (document.pictureInPictureElement) await document.exitPictureInPicture();
    else await video.requestPictureInPicture();
  } catch { /* The picture is not ready yet, or the viewer refused. */ }
}

// ------------------------------------------------------------------ controls that hide

let hideTimer = 0;

function showControls() {
  stage.dataset.controls = "shown";
  clearTimeout(hideTimer);
  hideTimer = setTimeout(hideControls, HIDE_AFTER_MS);
}

function hideControls() {
  // Keyboard users would lose what has focus; a paused or unplayed stream has nothing to uncover.
  const focused = document.activeElement?.matches(".chrome :focus-visible");
  if (session.state !== "live" || video.paused || focused || stage.querySelector(".bar:hover")) return;
  stage.dataset.controls = "hidden";
}

function showEdge() {
  const { atEdge } = session;
  const button = $("golive");
  if (button.dataset.atEdge === String(atEdge)) return;
  button.dataset.atEdge = String(atEdge);
  $("golive-text").textContent = atEdge ? "Live" : "Go live";
  button.setAttribute("aria-label", atEdge ? "Playing live" : "Go to the live edge");
}

// ------------------------------------------------------------------ wiring

const KEYS = {
  " ": togglePlay,
  k: togglePlay,
  m: () => setMuted(!video.muted),
  f: toggleFull,
  p: togglePip,
  s: toggleFigures,
  h: toggleHealth,
  l: goLive,
  arrowup: () => setVolume((video.muted ? 0 : video.volume) + 0.05),
  arrowdown: () => setVolume((video.muted ? 0 : video.volume) - 0.05),
  arrowleft: () => session.step(-5),
  arrowright: () => session.step(5),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const action = KEYS[key];
  // A focused button answers to space itself, the volume slider to the arrows.
  if (!action || (key === " " && event.target.closest("button, a")) || (key.startsWith("arrow") && event.target.matches("input, .health, .health *"))) return;
  event.preventDefault();
  showControls();
  action();
}

function toggleFigures() {
  figures.toggle();
  $("figures").setAttribute("aria-pressed", String(figures.open));
}

function toggleHealth() {
  if (!api) return;
  health.toggle();
  $("health-button").setAttribute("aria-pressed", String(health.open));
  if (health.open) $("health").focus();
  else if (!document.activeElement || document.activeElement === document.body) $("health-button").focus();
}

function goLive() {
  session.goLive();
  if (video.paused) begin();
}

let lastTouch = 0;

function onStageClick(event) {
  if (event.target.closest("button, input, a, .bar, .stats, .health")) return;
  if (mutedByPolicy) return setMuted(false);
  // A finger first brings the controls back; a mouse pauses.
  if (performance.now() - lastTouch < 800) return;
  togglePlay();
}

session.addEventListener("state", showState);
session.addEventListener("state", showFacts);
session.addEventListener("facts", showFacts);
session.addEventListener("stall", () => { stage.dataset.stalled = String(session.stalled); });
session.addEventListener("ready", begin);
video.addEventListener("loadeddata", showState);
video.addEventListener("volumechange", showSound);
video.addEventListener("pause", () => {
  stage.dataset.paused = "true";
  pausedAt = performance.now();
  setIcon("play", "play", "Play", "space");
  showControls();
});
video.addEventListener("play", () => {
  stage.dataset.paused = "false";
  setIcon("play", "pause", "Pause", "space");
  // Whoever comes back from a pause wants what is on now.
  if (pausedAt && performance.now() - pausedAt > 1000 && session.state === "live") session.goLive();
  showControls();
});
$("unmute").addEventListener("click", () => setMuted(false));
$("begin").addEventListener("click", begin);
$("play").addEventListener("click", togglePlay);
$("mute").addEventListener("click", () => setMuted(!video.muted));
$("volume").addEventListener("input", (event) => setVolume(event.target.value / 100));
$("golive").addEventListener("click", goLive);
$("figures").addEventListener("click", toggleFigures);
$("health-button").addEventListener("click", toggleHealth);
$("health-close").addEventListener("click", toggleHealth);
$("full").addEventListener("click", toggleFull);
$("pip").addEventListener("click", togglePip);
stage.addEventListener("click", onStageClick);
stage.addEventListener("dblclick", (event) => { if (!event.target.closest("button, input, a, .stats, .health")) toggleFull(); });
stage.addEventListener("pointermove", showControls);
stage.addEventListener("pointerdown", (event) => {
  if (event.pointerType !== "mouse") lastTouch = performance.now();
  showControls();
});
stage.addEventListener("focusin", showControls);
document.addEventListener("keydown", onKey);
document.addEventListener("fullscreenchange", () => {
  const on = document.fullscreenElement !== null;
  setIcon("full", on ? "small" : "full", on ? "Leave full screen" : "Full screen", "f");
});
setInterval(() => {
  showEdge();
  // For tests and for whoever embeds the page: the latency the page itself believes in.
  const { latency } = session;
  stage.dataset.latency = latency === null ? "" : latency.toFixed(3);
}, 250);

$("title").textContent = label;
$("heading").textContent = `Live stream ${label}`;
$("full").hidden = !(document.fullscreenEnabled || video.webkitSupportsFullscreen || video.webkitEnterFullscreen);
$("pip").hidden = !document.pictureInPictureEnabled;
// Signed viewing knows the stream by its token alone.
$("health-button").hidden = !api;
if (wantsHealth && api) {
  health.toggle();
  $("health-button").setAttribute("aria-pressed", "true");
}
video.volume = Number(remembered.get("volume") ?? 1) || 1;
video.muted = remembered.get("muted") === "true";
showSound();
showState();
session.start();
