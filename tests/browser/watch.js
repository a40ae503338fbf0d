// Runs inside the page before anything else: watches the first <video> and keeps what a viewer would have noticed in window.watched.
// Knows nothing about players. The clock it reads is drawn by tests/common/clock.rs.
(() => {
  const watched = (window.watched = {
    firstFrameMs: null, stalls: [], stills: [], frames: 0, dropped: 0, samples: [], drawn: [], unreadable: 0, errors: [], width: 0, height: 0,
  });
  const COLUMNS = 8;
  const ROWS = 8;
  const SIDE = 8;
  /** A picture that stands for less is not worth a line. */
  const STILL_MS = 250;
  /** What the player believes is noted in a stall of this length. */
  const LONG_STALL_MS = 1500;
  const canvas = document.createElement("canvas");
  canvas.width = COLUMNS * SIDE;
  canvas.height = ROWS * SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });

  /** The drawn wall clock in Unix milliseconds, or null where the picture holds none: 48 bits of time, 16 of checksum, most significant first. */
  function readClock(video) {
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const bytes = [];
    for (let row = 0; row < ROWS; row++) {
      let byte = 0;
      for (let column = 0; column < COLUMNS; column++) {
        const green = data[((row * SIDE + SIDE / 2) * canvas.width + column * SIDE + SIDE / 2) * 4 + 1];
        byte = byte * 2 + (green > 127 ? 1 : 0);
      }
      bytes.push(byte);
    }
    let sum = 0x5aa5;
    for (const byte of bytes.slice(0, 6)) sum = (sum * 31 + byte) & 0xffff;
    if (sum !== bytes[6] * 256 + bytes[7]) return null;
    return bytes.slice(0, 6).reduce((time, byte) => time * 256 + byte, 0);
  }

  function follow(video) {
    let stall = null;
    let played = false;
    video.addEventListener("playing", () => {
      played = true;
      if (stall) stall.ms = performance.now() - stall.at;
      stall = null;
    });
    video.addEventListener("waiting", () => {
      // A seek waits too; only running dry is a stall.
      if (!played || stall || video.seeking) return;
      stall = { at: Math.round(performance.now()), media: video.currentTime, ms: null, believed: null };
      watched.stalls.push(stall);
    });
    video.addEventListener("error", () => watched.errors.push(`media error ${video.error?.code}: ${video.error?.message}`));
    let shownAt = null;
    const onFrame = () => {
      watched.firstFrameMs ??= Math.round(performance.now());
      // Whatever the player says of itself: this is how long the picture stood still.
      const still = Math.round(performance.now() - (shownAt ?? performance.now()));
      shownAt = performance.now();
      if (still >= STILL_MS) watched.stills.push({ at: Math.round(shownAt), ms: still });
      const shown = Date.now();
      const drawn = readClock(video);
      if (drawn === null) watched.unreadable++;
      else watched.drawn.push([Math.round(performance.now()), shown - drawn]);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
    setInterval(() => {
      const quality = video.getVideoPlaybackQuality();
      watched.frames = quality.totalVideoFrames;
      watched.dropped = quality.droppedVideoFrames;
      watched.width = video.videoWidth;
      watched.height = video.videoHeight;
      if (stall && performance.now() - stall.at > LONG_STALL_MS) stall.believed ??= window.ownState?.();
      const { buffered } = video;
      const ahead = buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : 0;
      let own = null;
      try { own = window.ownLatency?.() ?? (Number(document.getElementById("stage")?.dataset.latency) || null); } catch { /* The player is not ready to say. */ }
      watched.samples.push({ at: Math.round(performance.now()), time: video.currentTime, ahead, rate: video.playbackRate, own, paused: video.paused, ended: video.ended, muted: video.muted });
      if (watched.samples.length > 5000) watched.samples.shift();
    }, 250);
  }

  const look = setInterval(() => {
    const video = document.querySelector("video");
    if (!video) return;
    clearInterval(look);
    follow(video);
  }, 10);
})();
