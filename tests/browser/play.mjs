// Plays a stream in Debian's Chromium and says what a viewer saw.
//
//   node play.mjs --player page|hls|dash|shaka --url URL [--autoplay allowed|refused] [--insecure] [--width N] [--height N] [--theme dark|light]
//
// Talks in lines. Out: {"event":"state","state":"live"}, {"event":"frame"} at the first picture, {"event":"answer", …}, {"event":"report", …}.
// In, one command a line: `shot PATH`, `click SELECTOR`, `key KEY`, `text SELECTOR` (what stands there once it is visible), `report`, `quit`. Ends when its input ends.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const packages = path.join(path.dirname(createRequire(import.meta.url).resolve("playwright-core/package.json")), "..");
const { values: options } = parseArgs({
  options: {
    player: { type: "string" }, url: { type: "string" }, autoplay: { type: "string", default: "allowed" }, insecure: { type: "boolean", default: false },
    width: { type: "string", default: "1280" }, height: { type: "string", default: "720" }, theme: { type: "string", default: "dark" },
  },
});
const LIBRARIES = {
  "hls.js": "hls.js/dist/hls.min.js",
  "shaka.js": "shaka-player/dist/shaka-player.compiled.js",
  "dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
};
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  // A page on one loopback port plays from another.
  "--disable-features=LocalNetworkAccessChecks,HttpsUpgrades",
  // Headless Chromium lets everything play unless told what browsers on desks do.
  `--autoplay-policy=${options.autoplay === "allowed" ? "no-user-gesture-required" : "document-user-activation-required"}`,
];
if (options.insecure) FLAGS.push("--ignore-certificate-errors");

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

function servePlayers() {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const library = LIBRARIES[pathname.replace("/library/", "")];
    const file = pathname === "/" ? path.join(here, "player.html") : pathname === "/player.js" ? path.join(here, "player.js") : library ? path.join(packages, library) : null;
    response.writeHead(file ? 200 : 404, { "content-type": file?.endsWith(".html") ? "text/html" : "text/javascript" });
    if (file) fs.createReadStream(file).pipe(response);
    else response.end();
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

function quantiles(values) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  const at = (p) => (sorted.length ? +sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))].toFixed(3) : null);
  return { count: sorted.length, min: at(0), p50: at(0.5), p95: at(0.95), max: at(1) };
}

const server = await servePlayers();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", headless: true, args: FLAGS });
let code = 0;
try {
  const page = await browser.newPage({ viewport: { width: Number(options.width), height: Number(options.height) }, colorScheme: options.theme, ignoreHTTPSErrors: options.insecure });
  const origin = `http://127.0.0.1:${server.address().port}`;
  const network = { protocols: {}, failures: [], console: [] };
  page.on("console", (message) => { if (message.type() === "error" && network.console.length < 30) network.console.push(message.text().slice(0, 300)); });
  page.on("pageerror", (error) => network.console.push(`uncaught: ${String(error).slice(0, 300)}`));
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  devtools.on("Network.responseReceived", ({ response }) => {
    if (response.url.startsWith(origin)) return;
    network.protocols[response.protocol ?? "?"] = (network.protocols[response.protocol ?? "?"] ?? 0) + 1;
    if (response.status >= 400 && network.failures.length < 30) network.failures.push(`${response.status} ${response.url}`);
  });
  await page.addInitScript({ path: path.join(here, "watch.js") });
  await page.goto(options.player === "page" ? options.url : `${origin}/?${new URLSearchParams({ player: options.player, url: options.url })}`);

  // By the protocol, since Playwright's own evaluate() counts as a click, after which a browser that refuses sound allows it.
  const ask = async (question) => {
    const { result, exceptionDetails } = await devtools.send("Runtime.evaluate", { expression: `(${question})()`, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  let state = null;
  let framed = false;
  const poll = setInterval(async () => {
    try {
      const now = await ask(() => ({ state: document.getElementById("stage")?.dataset.state ?? null, frame: window.watched.firstFrameMs !== null }));
      if (now.state !== state) say("state", { state: (state = now.state) });
      if (now.frame && !framed) say("frame", { framed: (framed = true) });
    } catch { /* The page is going away. */ }
  }, 100);

  const report = async () => {
    const { watched, own } = await ask(() => ({
      watched: window.watched,
      own: { version: window.playerVersion ?? window.Hls?.version ?? null, state: document.getElementById("stage")?.dataset.state ?? null, unmute: document.getElementById("unmute")?.hidden === false },
    }));
    // The first two seconds are start-up, which startup_ms judges; what follows is the steady state.
    const settled = (at) => watched.firstFrameMs !== null && at > watched.firstFrameMs + 2000;
    const samples = watched.samples.filter((sample) => settled(sample.at));
    // Shorter than two pictures, nobody sees it; the list has all of them.
    const stalls = watched.stalls.filter((stall) => stall.ms === null || stall.ms >= 66);
    const first = samples[0];
    const last = samples.at(-1);
    return {
      browser: browser.version(), player: options.player, version: own.version, state: own.state, unmute_offered: own.unmute,
      startup_ms: watched.firstFrameMs, width: watched.width, height: watched.height, frames: watched.frames, dropped: watched.dropped,
      stalls: stalls.length, stall_ms: Math.round(stalls.reduce((sum, stall) => sum + (stall.ms ?? 0), 0)), stall_list: watched.stalls,
      still_list: watched.stills.filter((still) => settled(still.at)), now_ms: last?.at ?? 0,
      played_s: first ? +(last.time - first.time).toFixed(3) : 0, wall_s: first ? +((last.at - first.at) / 1000).toFixed(3) : 0,
      muted: last?.muted ?? null, paused: last?.paused ?? null, ended: last?.ended ?? null,
      drawn_ms: quantiles(watched.drawn.filter(([at]) => settled(at)).map(([, latency]) => latency)), unreadable: watched.unreadable, last_drawn_ms: watched.drawn.at(-1)?.[1] ?? null,
      own_s: quantiles(samples.map((sample) => sample.own)), ahead_s: quantiles(samples.map((sample) => sample.ahead)), rate: quantiles(samples.map((sample) => sample.rate)),
      errors: watched.errors, ...network,
    };
  };

  say("open");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, ...rest] = line.trim().split(" ");
    const what = rest.join(" ");
    if (verb === "shot") await page.screenshot({ path: what });
    else if (verb === "click") await page.click(what, { timeout: 5000 });
    else if (verb === "key") await page.keyboard.press(what);
    else if (verb === "text") { say("answer", { to: verb, text: await (await page.waitForSelector(what, { timeout: 20000 })).innerText() }); continue; }
    else if (verb === "report") { say("report", await report()); continue; }
    else if (verb === "quit") break;
    else throw new Error(`unknown command ${verb}`);
    say("answer", { to: verb });
  }
  clearInterval(poll);
} catch (error) {
  console.error(String(error?.stack ?? error));
  code = 1;
} finally {
  await browser.close();
  server.close();
}
process.exit(code);
