// Keeps one live stream playing in a <video>: waits until it is on air, plays it close to the live edge, recovers, waits again.
// Knows hls.js, the playlist and the API; knows no buttons. What it finds out it tells by events, see LiveSession.
// How far from the live edge to play is decided in pace.js, what hls.js stumbles over is in help-hls.js.
//
//            +--> offline --+                        +--> waiting --+     (the publisher's connection is gone, its return is awaited)
//   checking |--> waiting --|--> starting --> live --|              |--> live
//            +--> ended   --+        ^               +--> ended     +--> starting
//                 (polling)          +----------------------+ (fatal error, new epoch, nothing moves)

import { helpHls } from "./help-hls.js";
import { Pace } from "./pace.js";

const POLL_FIRST_MS = 700;
const POLL_MAX_MS = 2000;
// So soon after a picture the stream is likely to be back in a moment: a server that is restarted, or has crashed.
const SOON_MS = 60000;
const WATCH_MS = 250;
// Further behind than this, playing faster would take too long: jump.
const JUMP_BEHIND_S = 4;
// A picture that stands this long, although the server calls the stream live, is loaded afresh.
const GIVE_UP_MS = 8000;
// Sooner where so much media has been listed beyond the picture for so long: then it is the player that hangs.
const HUNG_MS = 2500;
const HUNG_BEHIND_S = 1.5;
// A publisher who is connected again and sends nothing that is listed.
const BACK_MS = 5000;
const ASK_AFTER_MS = 1500;
const FACTS_EVERY_MS = 10000;

const seconds = () => performance.now() / 1000;
const retry = (maxNumRetry, retryDelayMs = 300) => ({ maxNumRetry, retryDelayMs, maxRetryDelayMs: 2000, backoff: "exponential" });

/** The settings that keep hls.js near the live edge. PART-HOLD-BACK of the playlist sets the distance, so none is named here. */
export const HLS_CONFIG = {
  lowLatencyMode: true,
  // hls.js catches up only while more than a second is buffered, which is more than low latency ever has: #keepPace does it instead.
  maxLiveSyncPlaybackRate: 1,
  // hls.js moves further back after each stall and never returns; Pace does both.
  liveSyncOnStallIncrease: 0,
  // Enough to step back inside the window; a page that is open all day must not grow.
  backBufferLength: 15,
  maxBufferLength: 12,
  startFragPrefetch: true,
  // Otherwise hls.js 1.7.4 sets MediaSource.duration at every reload, and when a SourceBuffer is busy in that moment the
  // InvalidStateError leaves its append queue blocked for good: the picture stands although playlists go on.
  liveDurationInfinity: true,
  testBandwidth: false,
  abrEwmaDefaultEstimate: 4_000_000,
  capLevelToPlayerSize: true,
  // CMAF needs no remuxing: a worker would only add a copy, and a blob: source to the content security policy.
  enableWorker: false,
  // A blocking reload is held for up to three target durations; giving up earlier would turn a pause of the publisher into an error.
  playlistLoadPolicy: { default: { maxTimeToFirstByteMs: 16000, maxLoadTimeMs: 20000, timeoutRetry: retry(4), errorRetry: retry(8) } },
  manifestLoadPolicy: { default: { maxTimeToFirstByteMs: 5000, maxLoadTimeMs: 8000, timeoutRetry: retry(1), errorRetry: retry(1) } },
  // hls.js calls the newest gap of an outage a load error, and does not look at what lies behind it before it would repeat: soon.
  fragLoadPolicy: { default: { maxTimeToFirstByteMs: 9000, maxLoadTimeMs: 20000, timeoutRetry: retry(3), errorRetry: retry(6, 100) } },
};

/**
 * Events: `state` (this.state changed), `ready` (the media can be played: call play() on the video), `stall` (this.stalled changed),
 * `facts` (this.stream, what the API says, changed).
 */
export class LiveSession extends EventTarget {
  /**
   * @param {HTMLVideoElement} video
   * @param {{playlist: string, api: string|null, time: string|null}} urls
   */
  constructor(video, urls) {
    super();
    this.video = video;
    this.urls = urls;
    this.state = "checking";
    this.stream = null;
    this.stalled = false;
    this.stalls = 0;
    /** True while the viewer chose to be behind the live edge (paused, or stepped back). */
    this.behind = false;
    this.hls = null;
    this.pace = new Pace();
    this.lastError = null;
    this.epoch = null;
    this.endedEpoch = null;
    this.clockOffset = 0;
    this.moved = { time: 0, at: performance.now() };
    this.playedAt = -Infinity;
    this.tries = 0;
    this.run = 0;
    this.asking = false;
    this.factsAt = 0;
    /** When the publisher was first found to be back while the picture still stood. */
    this.backAt = null;
    /** Since when media has been listed that the picture should have reached. */
    this.aheadAt = null;
    this.sawEnd = false;
    this.recoveredAt = -Infinity;
    video.addEventListener("seeking", () => this.pace.reset());
    video.addEventListener("playing", () => this.#onPlaying());
    video.addEventListener("ended", () => this.#onEnded());
    video.addEventListener("waiting", () => this.#onStarved());
    video.addEventListener("error", () => { if (!this.hls && video.error && this.#isPlayingState()) this.restart(`media error ${video.error.code}`); });
    setInterval(() => this.#watch(), WATCH_MS);
  }

  start() {
    this.#measureClock();
    this.#poll();
  }

  /** Seconds between what is shown and what the publisher's server received last, or null. */
  get latency() {
    const date = this.#playingDate();
    return date === null ? null : (Date.now() + this.clockOffset - date) / 1000;
  }

  /** The distance from the live edge that the player aims at, in seconds, or null. Late arrivals make it longer, for a while. */
  get targetLatency() {
    const off = this.#off();
    return off === null ? this.hls?.targetLatency ?? null : this.hls.latency - off;
  }

  /** Seconds of media ahead of the playhead. */
  get bufferAhead() {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + 0.1 && currentTime <= buffered.end(i)) return buffered.end(i) - currentTime;
    }
    return 0;
  }

  get atEdge() {
    if (this.behind || this.video.paused) return false;
    if (!this.hls) return true;
    return this.hls.latency - (this.targetLatency ?? 0) < 2.5;
  }

  /** Back to the live edge. */
  goLive() {
    this.behind = false;
    const edge = this.#edge();
    if (edge !== null && Math.abs(edge - this.video.currentTime) > 0.3) this.video.currentTime = edge;
  }

  /** Steps back (negative) or forward; past the edge it is live again. */
  step(seconds) {
    const edge = this.#edge();
    const { seekable } = this.video;
    if (edge === null || !seekable.length) return;
    const to = this.video.currentTime + seconds;
    if (to >= edge - 0.5) return this.goLive();
    this.stayBehind();
    this.video.currentTime = Math.max(seekable.start(0) + 0.5, to);
  }

  /** The viewer wants to be where they are: do not catch up. */
  stayBehind() {
    this.behind = true;
  }

  /** Drops what plays and begins again at the multivariant playlist, where a new epoch is found. */
  restart(reason) {
    console.info(`rillcast: loading again: ${reason}`);
    this.lastError = reason;
    this.#drop();
    this.#enter("starting");
    this.#poll();
  }

  #emit(type) { this.dispatchEvent(new Event(type)); }

  #enter(state) {
    if (this.state === state) return;
    this.state = state;
    if (state !== "live") this.#setStalled(false);
    this.backAt = null;
    this.#emit("state");
  }

  #isPlayingState() { return this.state === "live" || this.state === "waiting" || this.state === "starting"; }

  #setStalled(stalled) {
    if (this.stalled === stalled) return;
    this.stalled = stalled;
    this.#emit("stall");
  }

  #edge() {
    const { seekable } = this.video;
    if (this.hls) return this.hls.liveSyncPosition ?? null;
    return seekable.length ? seekable.end(seekable.length - 1) : null;
  }

  #playingDate() {
    if (this.hls) return this.hls.playingDate?.getTime() ?? null;
    const start = this.video.getStartDate?.().getTime();
    return Number.isFinite(start) ? start + this.video.currentTime * 1000 : null;
  }

  /** Viewers' clocks are often seconds off; latency is told by the server's. The fastest of three answers counts. */
  async #measureClock() {
    if (!this.urls.time) return;
    let best = Infinity;
    for (let i = 0; i < 3; i++) {
      try {
        const sent = Date.now();
        const response = await fetch(this.urls.time, { cache: "no-store" });
        const server = Date.parse(await response.text());
        const trip = Date.now() - sent;
        this.pace.answered(seconds(), trip / 1000);
        if (response.ok && Number.isFinite(server) && trip < best) {
          best = trip;
          this.clockOffset = server - (sent + trip / 2);
        }
      } catch { return; }
    }
  }

  /** Asks until the stream is on air, then loads it. Only the newest poll goes on. */
  async #poll() {
    const run = ++this.run;
    let delay = this.tries > 0 ? Math.min(POLL_MAX_MS, 250 * 2 ** this.tries) : 0;
    for (;;) {
      // A little at random, so that a full house does not ask in step after a restart.
      if (delay) await new Promise((resolve) => setTimeout(resolve, delay * (0.85 + Math.random() * 0.3)));
      if (run !== this.run) return;
      const found = await this.#look();
      if (run !== this.run) return;
      if (found === "live") {
        this.tries++;
        this.#enter("starting");
        return this.#load();
      }
      this.#enter(found);
      this.tries = 0;
      const most = performance.now() - this.playedAt < SOON_MS ? POLL_FIRST_MS : POLL_MAX_MS;
      delay = delay < POLL_FIRST_MS ? POLL_FIRST_MS : Math.min(most, delay * 1.4);
    }
  }

  /** What the stream is now: live, waiting, ended or offline. The playlist decides whether there is one, the API what it is doing. */
  async #look() {
    let text;
    // The first look costs start-up time, so both questions go out together; later ones are asked one by one.
    const early = this.state === "checking" ? this.#askApi() : null;
    try {
      const response = await fetch(this.urls.playlist, { cache: "no-store" });
      if (!response.ok) {
        this.#learn(null);
        return this.endedEpoch && response.status === 404 ? "ended" : "offline";
      }
      text = await response.text();
    } catch {
      return "unreachable";
    }
    // The first path element of every URI in the playlist is the epoch.
    const epoch = text.match(/^(?!#)([^/\n]+)\/[^\n]+$/m)?.[1] ?? text.match(/URI="([^/"]+)\//)?.[1] ?? null;
    this.epoch = epoch;
    const stream = await (early ?? this.#askApi());
    if (stream?.state === "waiting" || stream?.state === "ended") return stream.state;
    if (stream?.state === "live") return "live";
    return epoch !== null && epoch === this.endedEpoch ? "ended" : "live";
  }

  async #askApi() {
    if (!this.urls.api) return null;
    this.factsAt = performance.now();
    const asked = seconds();
    try {
      const response = await fetch(this.urls.api, { cache: "no-store", headers: { accept: "application/json" } });
      this.pace.answered(seconds(), seconds() - asked);
      // An edge that knows no streams by name still serves them.
      if (response.status === 401 || response.status === 403) this.urls.api = null;
      this.#learn(response.ok ? await response.json() : null);
    } catch {
      this.#learn(null);
    }
    return this.stream;
  }

  #learn(stream) {
    this.stream = stream;
    this.#emit("facts");
  }

  #drop() {
    this.run++;
    this.hls?.destroy();
    this.hls = null;
    this.sawEnd = false;
    this.behind = false;
    this.pace.reset();
    this.video.playbackRate = 1;
    this.video.removeAttribute("src");
    this.video.load();
  }

  #load() {
    this.#drop();
    this.aheadAt = null;
    this.moved = { time: 0, at: performance.now() };
    const { Hls } = window;
    if (Hls?.isSupported()) return this.#loadHls(Hls);
    if (!this.video.canPlayType("application/vnd.apple.mpegurl")) return this.#enter(Hls ? "unsupported" : "incomplete");
    // Safari where Media Source is missing: it plays low-latency HLS itself.
    this.video.src = this.urls.playlist;
    this.#emit("ready");
  }

  #loadHls(Hls) {
    const hls = new Hls(HLS_CONFIG);
    this.hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#emit("ready"));
    helpHls(Hls, hls, this.video, () => this.state !== "starting");
    hls.on(Hls.Events.BUFFER_APPENDED, () => this.#onMedia());
    hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => this.#onPlaylist(details));
    hls.on(Hls.Events.ERROR, (_, data) => { if (hls === this.hls) this.#onHlsError(Hls, hls, data); });
    hls.attachMedia(this.video);
    hls.loadSource(this.urls.playlist);
  }

  #onPlaylist(details) {
    if (details.live) return;
    this.sawEnd = true;
    // A show that was over before anything of it was seen is not worth its last seconds.
    if (this.state === "starting") this.#onEnded();
  }

  #onHlsError(Hls, hls, data) {
    const code = data.response?.code;
    const what = `${data.details}${code ? ` (${code})` : ""}`;
    this.lastError = what;
    const { LEVEL_LOAD_ERROR, AUDIO_TRACK_LOAD_ERROR } = Hls.ErrorDetails;
    // The media playlist is gone: its epoch is over, the multivariant playlist names the next.
    if ((code === 404 || code === 410) && (data.details === LEVEL_LOAD_ERROR || data.details === AUDIO_TRACK_LOAD_ERROR)) return this.restart(what);
    if (!data.fatal) return;
    const now = performance.now();
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && now - this.recoveredAt > 5000) {
      this.recoveredAt = now;
      return hls.recoverMediaError();
    }
    this.restart(what);
  }

  #onPlaying() {
    if (!this.#isPlayingState()) return;
    this.tries = 0;
    this.moved = { time: this.video.currentTime, at: performance.now() };
    this.#setStalled(false);
    this.#enter("live");
  }

  #onStarved() {
    if (this.state === "live" && !this.video.seeking && !this.sawEnd) this.stalls++;
  }

  #onEnded() {
    this.endedEpoch = this.epoch;
    this.#drop();
    this.#enter("ended");
    this.#poll();
  }

  /** Runs four times a second: sees that the picture moves, and keeps it near the edge. */
  #watch() {
    const { video } = this;
    const now = performance.now();
    if (this.state === "live" && now - this.factsAt > FACTS_EVERY_MS && !document.hidden) this.#askApi();
    if (!(this.state === "live" || this.state === "waiting" || this.state === "starting") || (!this.hls && !video.src)) return;
    if (video.currentTime !== this.moved.time || (video.paused && this.state !== "starting")) {
      this.moved = { time: video.currentTime, at: now };
      this.aheadAt = null;
      if (!video.paused && !video.seeking && video.readyState > 2) {
        this.playedAt = now;
        this.#setStalled(false);
        if (this.state === "waiting") this.#enter("live");
        this.#keepPace();
      }
      return;
    }
    const still = now - this.moved.at;
    // Autoplay was refused and the viewer has not begun yet: there is nothing to repair.
    if (video.paused && this.state === "starting" && video.readyState > 2) return;
    if (this.state === "live" && still > 400) this.#setStalled(true);
    if (this.sawEnd && this.bufferAhead < 0.3 && still > 700) return this.#onEnded();
    this.aheadAt = this.#mediaLiesAhead() ? this.aheadAt ?? now : null;
    if (this.aheadAt !== null && now - this.aheadAt > HUNG_MS && !video.paused) return this.restart("the player hangs");
    if (still > GIVE_UP_MS && this.state !== "waiting") return this.restart("nothing moved");
    if (still > ASK_AFTER_MS && this.state !== "starting") this.#askWhyStill();
  }

  #onMedia() {
    const { hls, video, bufferAhead } = this;
    const edge = hls?.latestLevelDetails?.edge;
    if (edge === undefined || this.behind || video.seeking || !bufferAhead) return;
    this.pace.arrived(seconds(), video.currentTime + bufferAhead, edge);
  }

  /** How much further from the live edge than aimed at, in seconds, or null where that is not known yet. */
  #off() {
    const hold = this.hls?.targetLatency ?? null;
    const now = seconds();
    const aim = hold === null ? null : this.pace.aim(now, hold);
    return aim === null ? null : now - this.video.currentTime - aim;
  }

  /** Holds the aimed distance from the live edge: a jump when far behind, else a little faster or slower. */
  #keepPace() {
    const { hls, video } = this;
    const off = this.#off();
    if (this.behind || this.sawEnd || off === null) return this.#setRate(1);
    if (off > JUMP_BEHIND_S && hls.liveSyncPosition > video.currentTime + 1) {
      video.currentTime = hls.liveSyncPosition;
      return this.#setRate(1);
    }
    this.#setRate(this.pace.rate(off));
  }

  /** Whether media is listed that the picture should have reached. Gaps are listed too while nobody publishes, and hold nothing. */
  #mediaLiesAhead() {
    const details = this.hls?.latestLevelDetails;
    if (!details?.live) return false;
    const newest = (list) => list?.filter((piece) => !piece.gap).pop();
    const last = newest(details.partList) ?? newest(details.fragments);
    return last !== undefined && last.end - this.video.currentTime > HUNG_BEHIND_S;
  }

  #setRate(rate) {
    if (this.video.playbackRate !== rate) this.video.playbackRate = rate;
  }

  async #askWhyStill() {
    if (this.asking || performance.now() - this.factsAt < 900) return;
    this.asking = true;
    const { run, epoch, state } = this;
    const found = await this.#look();
    this.asking = false;
    // Something else happened meanwhile, or the picture moves again.
    if (run !== this.run || performance.now() - this.moved.at < ASK_AFTER_MS) return;
    if (found === "waiting") {
      this.backAt = null;
      return this.#enter("waiting");
    }
    if (found === "unreachable") return;
    if (this.epoch !== epoch || found !== "live") {
      if (found === "ended") return this.#onEnded();
      return this.restart("another show, or none");
    }
    if (state !== "waiting") return;
    // The publisher is connected again. Its media is half a second away, and hls.js is there for it: a new one would begin with what is old.
    this.backAt ??= performance.now();
    if (performance.now() - this.backAt > BACK_MS) this.restart("the publisher is back");
  }
}
