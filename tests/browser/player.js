// Plays ?url= with one of the players that viewers use, set up as their documentation says for low latency.
const query = new URLSearchParams(location.search);
const url = query.get("url");
const video = document.getElementById("video");
const fatal = (text) => window.watched.errors.push(text);

function load(library) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `/library/${library}`;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${library} does not load`));
    document.head.append(script);
  });
}

// As docs/players.md says: a server that is restarted refuses connections for some seconds, which hls.js by itself takes for the end.
const again = (times, codes, firstMs) => ({
  maxNumRetry: times, retryDelayMs: firstMs, maxRetryDelayMs: 500, backoff: "exponential",
  shouldRetry: (policy, count, isTimeout, response, usual) => usual || (count < policy.maxNumRetry && codes.includes(response?.code)),
});
const patient = (firstByteMs, codes = [0], firstMs = 500) => ({
  default: { maxTimeToFirstByteMs: firstByteMs, maxLoadTimeMs: 20000, timeoutRetry: again(4, codes, firstMs), errorRetry: again(60, codes, firstMs) },
});

/** What hls.js believes of its newest parts, for the report of a stall. */
function hlsState(hls) {
  const ranges = ({ buffered }) => Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
  const track = (controller, details) => ({
    state: controller.state, next: controller.nextLoadPosition,
    parts: details?.partList?.slice(-20).map((part) => ({
      sn: part.fragment.sn, index: part.index, start: part.start, end: part.end, gap: part.gap, loaded: part.loaded, segment: controller.fragmentTracker?.getState(part.fragment),
    })),
  });
  const levels = hls.latestLevelDetails;
  const sound = hls.audioTracks[hls.audioTrack]?.details;
  return {
    edge: levels?.edge, age: levels?.age, buffered: ranges(video),
    video: track(hls.streamController, levels), audio: track(hls.audioStreamController ?? {}, sound),
    buffers: Object.entries(hls.bufferController.tracks).map(([kind, { buffer }]) => [kind, buffer && ranges(buffer)]),
  };
}

const players = {
  async hls() {
    await load("hls.js");
    window.playerVersion = window.Hls.version;
    const hls = new window.Hls({
      lowLatencyMode: true,
      maxLiveSyncPlaybackRate: 1.2,
      // hls.js 1.7.4 can wedge itself when it sets MediaSource.duration while it appends; see web/public/assets/live.js.
      liveDurationInfinity: true,
      // After a crash there is nothing to play before the publisher is back.
      manifestLoadPolicy: patient(10000, [0, 404]),
      playlistLoadPolicy: patient(16000),
      // The newest gap of an outage is a load error to hls.js, and what lies behind it waits for the repetition.
      fragLoadPolicy: patient(10000, [0], 100),
    });
    hls.on(window.Hls.Events.ERROR, (_, data) => {
      // After a crash the epoch is another one; only the multivariant playlist knows its name.
      if (data.response?.code === 404 && ["levelLoadError", "audioTrackLoadError"].includes(data.details)) return hls.loadSource(url);
      if (data.fatal) fatal(`hls.js: ${data.type} ${data.details} ${data.response?.code ?? ""}`);
    });
    hls.on(window.Hls.Events.MANIFEST_PARSED, () => video.play());
    const { helpHls } = await import(new URL("/assets/help-hls.js", url));
    helpHls(window.Hls, hls, video);
    window.ownLatency = () => hls.latency || null;
    window.ownState = () => hlsState(hls);
    hls.loadSource(url);
    hls.attachMedia(video);
  },
  async shaka() {
    await load("shaka.js");
    window.shaka.polyfill.installAll();
    window.playerVersion = window.shaka.Player.version;
    const player = new window.shaka.Player();
    await player.attach(video);
    // Left alone, Shaka goes as close as half a second, which no buffer survives; this is a distance it can hold.
    player.configure({ streaming: { lowLatencyMode: true, liveSync: { enabled: true, targetLatency: 1.5, targetLatencyTolerance: 0.3 } } });
    player.addEventListener("error", (event) => { if (event.detail.severity === 2) fatal(`shaka: ${event.detail.code} ${JSON.stringify(event.detail.data)?.slice(0, 200)}`); });
    window.ownLatency = () => player.getStats().liveLatency || null;
    await player.load(url);
    await video.play();
  },
  async dash() {
    await load("dash.js");
    const player = window.dashjs.MediaPlayer().create();
    window.playerVersion = player.getVersion();
    // As docs/players.md says, for a server that is restarted. In low latency dash.js asks five times as often, ten times as quickly: for 0.75 s.
    const times = 40;
    const retryAttempts = { MPD: times, MediaSegment: times, InitializationSegment: times, lowLatencyMultiplyFactor: 1 };
    const retryIntervals = { MPD: 500, MediaSegment: 500, InitializationSegment: 500, lowLatencyReductionFactor: 1 };
    player.updateSettings({ streaming: { liveCatchup: { enabled: true }, retryAttempts, retryIntervals } });
    player.on("error", (event) => fatal(`dash.js: ${event.error?.code} ${event.error?.message}`));
    player.initialize(video, url, true);
    window.ownLatency = () => player.getCurrentLiveLatency() || null;
  },
};

players[query.get("player")]().catch((error) => fatal(String(error?.message || error?.code || error)));
