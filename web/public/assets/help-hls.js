// What hls.js 1.7.4 needs to be helped with to play low-latency streams without standing still. For any page with hls.js: docs/players.md.

// Times in playlists and in the buffer differ by rounding, and by up to a picture.
const BARELY_S = 0.04;
// So long sound may be listed after the picture that it belongs to.
const SOUND_MS = 600;

/**
 * At a segment's end hls.js waits, for ten seconds or so, for parts of that segment that it takes for missing and will not load. Two kinds are:
 * - parts that it has loaded. When it drops old media while it loads a segment part by part, it forgets what it has of that segment (FragmentTracker takes
 *   the unfinished segment for evicted);
 * - parts of sound that lie before the place where it began to play.
 * Both are marked as loaded here at every reload of the playlist: what lies in the buffer, and what lies before the range that is being played.
 */
function remindOfParts(details, type, ranges, time) {
  for (const part of details.partList ?? []) {
    if (part.loaded || !ranges) continue;
    const { start, end } = part;
    for (let i = 0; i < ranges.length; i++) {
      const playing = ranges.start(i) <= time + BARELY_S && time <= ranges.end(i) + BARELY_S;
      if (ranges.end(i) < end - BARELY_S || (!playing && ranges.start(i) > start + BARELY_S)) continue;
      part.elementaryStreams[type] = { startPTS: start, endPTS: end, startDTS: start, endDTS: end, partial: false };
    }
  }
}

/**
 * A segment whose last parts are shorter than 0.2 s together counts as loaded for hls.js without them where the playlist lists it as complete before they are
 * loaded. Then hls.js does not load them, nor what lies behind them, for ten seconds. It is told here to look again, where it is idle for that reason.
 */
function takeUpLastParts(controller, details) {
  const tracker = controller?.fragmentTracker;
  if (!tracker || controller.state !== "IDLE") return;
  details.partList?.forEach(({ fragment, loaded, gap }, i, parts) => {
    const follows = parts[i - 1]?.loaded && parts[i - 1].fragment === fragment;
    if (follows && !loaded && !gap && tracker.getState(fragment) === "OK") tracker.removeFragment(fragment);
  });
}

const firstBehindGap = (details, time) => (details?.partList ?? []).find((part, i, parts) => !part.gap && part.start > time && parts[i - 1]?.gap);

/**
 * Watches over `hls`, which plays in `video`, for as long as it lives. Call it before `loadSource`.
 *
 * @param {typeof window.Hls} Hls
 * @param {() => boolean} mayJump whether the playhead may be moved now
 */
export function helpHls(Hls, hls, video, mayJump = () => true) {
  let ranges = {};
  let sound = null;
  let foundAt = null;

  /**
   * Where the picture stands at a gap: on to what lies behind it. hls.js does not take up the parts behind a gap but waits for their whole segment, until
   * it is sent there; and it jumps over gaps that it has met one by one, not over those that it finds in the first playlist after an outage.
   */
  const jump = () => {
    const { buffered, currentTime, paused, readyState, seeking } = video;
    if (paused || seeking || readyState > 2 || !mayJump()) return;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) > currentTime + BARELY_S) return void (video.currentTime = buffered.start(i) + BARELY_S);
    }
    const behind = firstBehindGap(hls.latestLevelDetails, currentTime);
    if (!behind) return void (foundAt = null);
    // Sent there before its playlist of the sound is, hls.js would wait for a whole segment of sound. That track may have fallen silent, too.
    foundAt ??= performance.now();
    if (sound && !firstBehindGap(sound, currentTime) && performance.now() - foundAt < SOUND_MS) return;
    foundAt = null;
    video.currentTime = behind.start + BARELY_S;
  };

  hls.on(Hls.Events.BUFFER_APPENDED, (_, { timeRanges }) => {
    ranges = timeRanges;
    jump();
  });
  hls.on(Hls.Events.MANIFEST_LOADING, () => { sound = null; });
  hls.on(Hls.Events.AUDIO_TRACK_UPDATED, (_, { details }) => {
    sound = details;
    remindOfParts(details, "audio", ranges.audio, video.currentTime);
    takeUpLastParts(hls.audioStreamController, details);
    jump();
  });
  hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
    remindOfParts(details, "video", ranges.video, video.currentTime);
    takeUpLastParts(hls.streamController, details);
    jump();
  });
}
