// How far from the live edge to play: near enough to be live, far enough not to run dry, learned from when media arrives.
// Pure: is told what arrives when, and answers. Knows no video, no hls.js.
//
// Distances are `now - currentTime` on the page's own clock, in seconds. What that clock says means nothing, only how the distances differ:
// no server's clock is needed, and a playlist's age has no part in it.
//
//   media          ...──────────┤ end before   ├── arrival ──┤ end after
//   the playhead must not have reached "end before" when the arrival came: need = now - end before
//   at the best of times media is this old when it can be played:          age  = now - end after

// Arrivals are remembered this long: after a bad moment the page stays careful for as long.
const MEMORY_S = 45;
// Media left when the worst arrival of the memory comes: a decoder wants some pictures ahead.
const SAFETY_S = 0.2;
// A lost packet is repaired one round trip later, its lost repair two; what the memory holds may not have been the worst.
const ROUND_TRIPS = 2;
// Further back than this a bad network is not followed.
const MOST_S = 3;
// A pause as long as this is the publisher's, not the network's, and says nothing about what comes after it.
const PAUSE_S = 4;
// Arrivals count once the buffer has reached the playlist's end this far: before that, what arrives is old.
const CAUGHT_UP_S = 0.5;
// Video and audio end at slightly different times; less than this is no arrival.
const STEP_S = 0.01;

// Speeds are not heard: the browser keeps the pitch.
const FASTEST = 1.15;
const SLOWEST = 0.92;
// Off by more than the first, the speed changes until it is off by less than the second: a speed that changes all the time costs smoothness.
const BEGIN_S = 0.05;
const DONE_S = 0.015;
// Further off by one second, faster by this much.
const GAIN = 0.4;

/** The greatest (or with `sign` -1 the least) number of the last MEMORY_S seconds. */
class Extreme {
  constructor(sign) {
    this.sign = sign;
    /** Candidates, the best first: each later one is worse than those before it. */
    this.held = [];
  }

  add(now, value) {
    while (this.held.length && this.sign * (value - this.held.at(-1).value) >= 0) this.held.pop();
    this.held.push({ now, value });
  }

  at(now) {
    while (this.held.length > 1 && now - this.held[0].now > MEMORY_S) this.held.shift();
    return this.held[0]?.value ?? null;
  }
}

export class Pace {
  constructor() {
    this.roundTrips = new Extreme(-1);
    this.reset();
  }

  /** Forgets the arrivals, as after a seek: what comes next is not what came before. */
  reset() {
    this.end = null;
    this.caughtUp = false;
    this.correcting = false;
    this.ages = new Extreme(-1);
    this.needs = new Extreme(1);
  }

  /** A short question was answered after `took` seconds. */
  answered(now, took) {
    this.roundTrips.add(now, took);
  }

  /** The buffer now ends at `end`, the newest playlist at `edge`. */
  arrived(now, end, edge) {
    const before = this.end;
    if (before !== null && end > before && end < before + STEP_S) return;
    this.end = end;
    if (before === null || end < before) return;
    if (now - before - (this.ages.at(now) ?? Infinity) > PAUSE_S) {
      this.reset();
      this.end = end;
    }
    this.ages.add(now, now - end);
    if (this.caughtUp) this.needs.add(now, now - before);
    else this.caughtUp = edge - end < CAUGHT_UP_S;
  }

  /** The distance to keep, or null before anything has arrived; never nearer than `holdBack` to the newest media. */
  aim(now, holdBack) {
    const age = this.ages.at(now);
    if (age === null) return null;
    const repairs = ROUND_TRIPS * (this.roundTrips.at(now) ?? 0);
    const nearest = age + holdBack;
    const need = this.needs.at(now);
    if (need === null) return nearest + repairs;
    return Math.max(nearest, Math.min(need + SAFETY_S + repairs, nearest + MOST_S));
  }

  /** The speed for a playhead that is further back than it should be by `off` (negative: too near). */
  rate(off) {
    this.correcting = Math.abs(off) > (this.correcting ? DONE_S : BEGIN_S);
    if (!this.correcting) return 1;
    const rate = 1 + Math.sign(off) * 0.01 + off * GAIN;
    return Math.round(Math.min(FASTEST, Math.max(SLOWEST, rate)) * 100) / 100;
  }
}
