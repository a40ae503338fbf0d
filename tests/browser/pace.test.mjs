// web/public/assets/pace.js by itself: a simulated line and a simulated playhead. Run by tests/players.
import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

// Node 18 takes a bare .js file for CommonJS; the page's scripts are modules.
const source = fs.readFileSync(new URL("../../web/public/assets/pace.js", import.meta.url), "utf8");
const { Pace } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const PART = 0.2;
const HOLD = 0.645;

/** Media that exists at its end time arrives `late(number)` seconds later, in order; plays for `seconds` and tells what happened. */
function play(pace, seconds, late, from = 0, at = null) {
  const arrivals = [];
  let came = 0;
  const parts = Math.round(seconds / PART);
  for (let number = 1; number <= parts; number++) {
    const end = from + number * PART;
    arrivals.push([(came = Math.max(came, end + late(number))), end]);
  }
  let head = at ?? from - HOLD;
  let end = from;
  let dry = 0;
  for (let now = from; now < from + seconds; now += 0.01) {
    while (arrivals.length && arrivals[0][0] <= now) {
      end = arrivals.shift()[1];
      pace.arrived(now, end, end);
    }
    const aim = pace.aim(now, HOLD);
    const rate = aim === null ? 1 : pace.rate(now - head - aim);
    if (head + 0.01 * rate > end && now > from + 1) dry++;
    head = Math.min(end, head + 0.01 * rate);
  }
  return { behind: from + seconds - head, dry, head };
}

test("on a good line it plays at PART-HOLD-BACK", () => {
  const { behind, dry } = play(new Pace(), 30, () => 0.05, 0, -2);
  assert.equal(dry, 0);
  // The age of the newest media, the hold-back, and what it does not bother to correct.
  assert.ok(Math.abs(behind - (0.05 + HOLD)) < 0.06, `${behind}`);
});

test("late arrivals send it back, and it returns when they are forgotten", () => {
  const pace = new Pace();
  const bad = play(pace, 40, (number) => (number % 20 === 0 ? 0.7 : 0.05));
  assert.ok(bad.behind > 0.7 + PART && bad.behind < 0.7 + PART + 0.35, `${bad.behind}`);
  const good = play(pace, 70, () => 0.05, 40, bad.head);
  assert.equal(good.dry, 0);
  assert.ok(Math.abs(good.behind - (0.05 + HOLD)) < 0.06, `${good.behind}`);
});

test("a distant server gets room for repairs", () => {
  const [near, far] = [new Pace(), new Pace()];
  far.answered(0, 0.1);
  for (const pace of [near, far]) play(pace, 10, (number) => (number % 5 === 0 ? 0.5 : 0.05));
  assert.ok(Math.abs(far.aim(10, HOLD) - near.aim(10, HOLD) - 0.2) < 0.001);
});

test("an outage of the publisher is not held against the network", () => {
  const pace = new Pace();
  play(pace, 10, () => 0.05);
  pace.arrived(25.05, 25, 25);
  pace.arrived(25.25, 25.2, 25.2);
  assert.ok(pace.aim(25.25, HOLD) < 0.05 + HOLD + 0.01, `${pace.aim(25.25, HOLD)}`);
});

test("however bad, there is an end to it", () => {
  const pace = new Pace();
  play(pace, 20, () => 0.05);
  pace.arrived(23.5, 20.2, 23.4);
  assert.ok(pace.aim(23.5, HOLD) <= 0.05 + HOLD + 3.001);
});

test("speeds stay where nobody hears them", () => {
  const pace = new Pace();
  assert.equal(pace.rate(0.04), 1);
  assert.equal(pace.rate(10), 1.15);
  assert.equal(pace.rate(-10), 0.92);
  assert.ok(pace.rate(0.02) > 1, "a correction goes on until it is done");
  assert.equal(pace.rate(0.01), 1);
});
