// What hls.js 1.7.4 needs to be helped with to play low-latency streams without standing still. For any page with hls.js: docs/players.md.

// Times in playlists and in the buffer differ by rounding, and by up to a picture.
const BARELY_S = 0.04;

/**
 * When hls.js drops old media while it loads a segment part by part, it forgets which parts of that segment it has (FragmentTracker takes
 * the unfinished segment for evicted). At the segment's end it then waits, for ten seconds or so, for parts that it will not load again, since
 * the buffer has them. What lies in the buffer is marked as loaded here, at every reload of the playlist.
 */
function remindOfParts(details, type, ranges) {
  for (const part of details.partList ?? []) {
    if (part.loaded || !ranges) continue;
    const { start, end } = part;
    for (let i = 0; i < ranges.length; i++) {
      if (ranges.start(i) > start + BARELY_S || ranges.end(i) < end - BARELY_S) continue;
      part.elementaryStreams[type] = { startPTS: start, endPTS: end, startDTS: start, endDTS: end, partial: false };
    }
  }
}

/**
 * Where the picture stands at a gap: where to go on behind it, in seconds, else null. hls.js does not take up the parts behind a gap but waits for
 * their whole segment, until it is sent there; and it jumps over gaps that it has met one by one, not over those that it finds in the first
 * playlist after an outage.
 */
function behindGap(details, { buffered, currentTime, paused, readyState, seeking }) {
  if (paused || seeking || readyState > 2) return null;
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) > currentTime + BARELY_S) return buffered.start(i) + BARELY_S;
  }
  const parts = details?.partList ?? [];
  const behind = parts.find((part, i) => !part.gap && part.start > currentTime && parts[i - 1]?.gap);
  return behind ? behind.start + BARELY_S : null;
}

/**
 * Watches over `hls`, which plays in `video`, for as long as it lives. Call it before `loadSource`.
 *
 * @param {typeof window.Hls} Hls
 * @param {() => boolean} mayJump whether the playhead may be moved now
 */
export function helpHls(Hls, hls, video, mayJump = () => true) {
  let ranges = {};
  const jump = () => {
    const to = mayJump() ? behindGap(hls.latestLevelDetails, video) : null;
    if (to !== null) video.currentTime = to;
  };
  hls.on(Hls.Events.BUFFER_APPENDED, (_, { timeRanges }) => {
    ranges = timeRanges;
    jump();
  });
  hls.on(Hls.Events.AUDIO_TRACK_UPDATED, (_, { details }) => remindOfParts(details, "audio", ranges.audio));
  hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
    remindOfParts(details, "video", ranges.video);
    jump();
  });
}
