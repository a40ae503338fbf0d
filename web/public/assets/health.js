// Stream health: what the server says about the stream as it comes from the encoder, for the streamer. Asked for only while it is shown.

import { formatBits } from "./figures.js";

const PERIOD_MS = 2000;

export const WORDS = { good: "Healthy", fair: "Could be better", poor: "Viewers notice problems" };

/** A few words for a list, by the advice's id; what is missing here says what `WORDS` says. */
const SHORT = {
  video_refused: "video is not taken", audio_refused: "audio is not taken", disconnected: "encoder is gone", silent: "nothing arrives",
  key_frame_interval: "key frames too rare", video_profile: "video format too rare", audio_codec: "sound that browsers do not play", audio_channels: "too many audio channels",
  frame_rate_low: "too few pictures", frame_rate_missed: "pictures are missing", frame_rate_variable: "frame rate varies",
  bitrate_over: "bit rate too high", uplink: "uplink too slow", jitter: "arrives in bursts", video_missing: "pictures are missing", audio_missing: "sound is missing",
  av_skew: "sound and pictures apart", repairs: "timestamps are broken",
};

/** What a list of streams shows: how it is, and why. Null where nothing is known. */
export function summarise(ingest) {
  if (!ingest?.health) return null;
  const worst = ingest.advice?.[0];
  return { health: ingest.health, words: ingest.health === "good" ? "healthy" : (SHORT[worst?.id] ?? WORDS[ingest.health]), title: worst && ingest.health !== "good" ? `${worst.finding} ${worst.remedy}` : "" };
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
const seconds = (value) => `${Number(value.toFixed(1))} s`;
const STEADINESS = { steady: "steady", uneven: "uneven", variable: "variable" };
const CHANNELS = { 1: "mono", 2: "stereo", 6: "5.1" };

function rate(measured, target) {
  if (measured === null) return "–";
  return target ? `${formatBits(measured)}, set to ${formatBits(target)}` : formatBits(measured);
}

/** Rows of the table: what it is called, what is to be said. */
function rows(ingest) {
  const { video, audio } = ingest;
  const found = [];
  if (video) {
    const size = video.width ? `${video.width}×${video.height}` : "";
    const fps = video.fps === null ? "" : `${Number(video.fps.toFixed(2))} fps${video.steadiness ? ` (${STEADINESS[video.steadiness]})` : ""}`;
    found.push(["Picture", [size, fps].filter(Boolean).join(", ") || "–"], ["Video codec", video.format], ["Video bit rate", rate(video.bitrate, video.bitrate_target)]);
    const longest = video.key_frame_interval_longest;
    const every = video.key_frame_interval ?? longest;
    found.push(["Key frames", every === null ? "none yet" : `every ${seconds(every)}${longest > every * 1.1 ? `, up to ${seconds(longest)}` : ""}`]);
    found.push(["B-frames", video.b_frames ? `${video.b_frames} in a row, ${video.reorder_ms} ms of delay` : "none"]);
  }
  if (audio) {
    const parts = [audio.format, audio.sample_rate && `${audio.sample_rate / 1000} kHz`, audio.channels && (CHANNELS[audio.channels] ?? `${audio.channels} channels`)];
    found.push(["Sound", parts.filter(Boolean).join(", ")], ["Audio bit rate", rate(audio.bitrate, audio.bitrate_target)]);
  }
  if (ingest.av_skew_ms !== null) {
    const skew = ingest.av_skew_ms;
    found.push(["Sound arrives", Math.abs(skew) < 40 ? "with its picture" : `${Math.abs(skew)} ms ${skew > 0 ? "before" : "after"} its picture`]);
  }
  const jitter = Math.max(video?.jitter_ms ?? 0, audio?.jitter_ms ?? 0);
  found.push(["Arrival", `jitter ${jitter} ms, ${ingest.lag_ms < 50 ? "on time" : `${ingest.lag_ms} ms behind`}`]);
  // Of a variable rate nobody can say what is missing.
  const dropped = [video?.dropped_ms && video.steadiness !== "variable" && `${video.dropped_ms} ms of pictures`, audio?.dropped_ms && `${audio.dropped_ms} ms of sound`].filter(Boolean);
  found.push(["Missing", dropped.join(", ") || "nothing"]);
  found.push(["Encoder", ingest.encoder ?? "does not say"], ["Connected", ingest.connected ? `for ${duration(ingest.seconds)}` : "no"]);
  return found;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 1 ? count(Math.floor(seconds), "second", "seconds") : minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export class HealthPanel {
  #panel;
  #url;
  #timer = 0;

  /** `panel` is the section of player.html; `url` the stream in the API. */
  constructor(panel, url) {
    this.#panel = panel;
    this.#url = url;
  }

  get open() { return !this.#panel.hidden; }

  toggle() {
    this.#panel.hidden = !this.#panel.hidden;
    clearTimeout(this.#timer);
    if (this.open) this.#poll();
  }

  async #poll() {
    if (!document.hidden) await this.#ask();
    clearTimeout(this.#timer);
    if (this.open) this.#timer = setTimeout(() => this.#poll(), PERIOD_MS);
  }

  async #ask() {
    try {
      const response = await fetch(this.#url, { cache: "no-store", headers: { accept: "application/json" } });
      if (response.status === 404) return this.#show(null, "Nothing is being streamed here");
      if (!response.ok) return this.#show(null, "The server does not tell");
      const { ingest } = await response.json();
      this.#show(ingest?.health ? ingest : null, "Nothing is known of the encoder");
    } catch {
      this.#show(null, "The server does not answer");
    }
  }

  #show(ingest, otherwise) {
    this.#panel.dataset.health = ingest?.health ?? "unknown";
    // A live region: written only when it says something new.
    const state = this.#at("health-state");
    const words = ingest ? WORDS[ingest.health] : otherwise;
    if (state.textContent !== words) state.textContent = words;
    this.#fill("health-advice", ingest?.advice ?? [], (advice) => JSON.stringify(advice), (advice) => {
      const item = element("li");
      item.dataset.severity = advice.severity;
      item.append(element("b", "", advice.finding), element("span", "", advice.remedy));
      return item;
    });
    this.#fill("health-facts", ingest ? rows(ingest) : [], ([name]) => name, ([name]) => {
      const row = element("div");
      row.append(element("dt", "", name), element("dd"));
      return row;
    }, (row, [, value]) => { if (row.lastChild.textContent !== value) row.lastChild.textContent = value; });
    const repairs = ingest?.repairs ?? [];
    this.#at("health-repairs").hidden = repairs.length === 0;
    this.#at("health-repairs-title").textContent = `${count(repairs.reduce((sum, repair) => sum + repair.count, 0), "repair", "repairs")} so far`;
    this.#fill("health-repairs-list", repairs, (repair) => repair.kind, (repair) => {
      const item = element("li");
      item.append(element("b"), ` ${repair.words}`);
      return item;
    }, (item, repair) => { item.firstChild.textContent = `${repair.count}×`; });
  }

  /** Makes `list` show `entries`, touching only what changed, so that what is selected or read aloud stays. */
  #fill(id, entries, key, make, update = () => {}) {
    const list = this.#at(id);
    const keys = entries.map(key);
    if (list.children.length !== keys.length || keys.some((wanted, index) => list.children[index].dataset.key !== wanted)) {
      list.replaceChildren(...entries.map((entry, index) => {
        const made = make(entry);
        made.dataset.key = keys[index];
        return made;
      }));
    }
    entries.forEach((entry, index) => update(list.children[index], entry));
  }

  #at(id) { return document.getElementById(id); }
}
