// The figures that are shown on demand: latency, resolution, bitrate and what explains them. Read only while they are open.

const at = (name) => document.getElementById(`stat-${name}`);

export class Figures {
  #session;
  #panel;
  #timer = 0;
  #last = null;
  #loaded = [];
  #bound = null;

  constructor(session, panel) {
    this.#session = session;
    this.#panel = panel;
  }

  get open() { return !this.#panel.hidden; }

  toggle() {
    this.#panel.hidden = !this.#panel.hidden;
    clearInterval(this.#timer);
    this.#last = null;
    if (!this.#panel.hidden) {
      this.#show();
      this.#timer = setInterval(() => this.#show(), 500);
    }
  }

  /** Bits that arrived over the last five seconds of media, which is what the stream costs this viewer. */
  #measure(hls) {
    if (this.#bound !== hls) {
      this.#bound = hls;
      this.#loaded = [];
      hls?.on(window.Hls.Events.FRAG_BUFFERED, (_, { stats, part, frag }) => {
        this.#loaded.push({ at: performance.now(), bytes: stats.total || stats.loaded, seconds: part?.duration ?? frag.duration, type: frag.type });
        while (this.#loaded.length > 400) this.#loaded.shift();
      });
    }
    const since = performance.now() - 5000;
    let rate = 0;
    for (const type of ["main", "audio"]) {
      const recent = this.#loaded.filter((load) => load.at > since && load.type === type);
      const seconds = recent.reduce((sum, load) => sum + load.seconds, 0);
      if (seconds > 0) rate += recent.reduce((sum, load) => sum + load.bytes * 8, 0) / seconds;
    }
    return rate;
  }

  #show() {
    const session = this.#session;
    const { video, hls } = session;
    const level = hls?.levels?.[hls.currentLevel >= 0 ? hls.currentLevel : hls.loadLevel];
    const { latency, targetLatency } = session;
    at("latency").textContent = latency === null ? "–" : `${latency.toFixed(2)} s${targetLatency ? ` (aim ${targetLatency.toFixed(2)})` : ""}`;

    const quality = video.getVideoPlaybackQuality?.();
    const now = { at: performance.now(), frames: quality?.totalVideoFrames ?? 0 };
    const seconds = this.#last ? (now.at - this.#last.at) / 1000 : 0;
    if (!this.#last || seconds >= 1) {
      const fps = seconds > 0 ? Math.max(0, (now.frames - this.#last.frames) / seconds) : null;
      at("resolution").textContent = video.videoWidth ? `${video.videoWidth}×${video.videoHeight}${fps ? `, ${fps.toFixed(0)} fps` : ""}` : "–";
      this.#last = now;
    }
    const measured = this.#measure(hls);
    at("bitrate").textContent = measured ? formatBits(measured) : level ? `${formatBits(level.bitrate)} (announced)` : "–";
    at("buffer").textContent = `${session.bufferAhead.toFixed(2)} s`;
    at("frames").textContent = quality ? `${quality.totalVideoFrames}, ${quality.droppedVideoFrames} dropped` : "–";
    at("speed").textContent = `${video.playbackRate.toFixed(2)}×`;
    at("stalls").textContent = String(session.stalls);
    at("codecs").textContent = [level?.videoCodec, level?.audioCodec].filter(Boolean).join(", ") || "–";
    at("player").textContent = hls ? `hls.js ${window.Hls.version}` : video.src ? "built in" : "–";
  }
}

export function formatBits(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(2)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}
