// Opens pages of reports in Chromium and checks what readers rely on: node test.mjs CHROMIUM FOLDER [SCREENSHOTS]
// FOLDER holds 1.html, 8.html, 14.html and 200.html, reports of as many points. Those of 8 are four models, each timed at two batch sizes.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, folder, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

const views = {
  1280: { viewport: { width: 1280, height: 900 } },
  390: { viewport: { width: 390, height: 844 }, hasTouch: true },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  print: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
};

// open opens a page; anything on the console and any request is a fault.
async function open(points, view) {
  const context = await browser.newContext(views[view]);
  const page = await context.newPage();
  const faults = [];
  const url = pathToFileURL(`${folder}/${points}.html`).href;
  page.on("console", (m) => faults.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => faults.push(`error: ${e.message}`));
  page.on("request", (r) => r.url() === url || faults.push(`request: ${r.url()}`));
  await page.goto(url);
  await page.waitForSelector("#chart > svg");
  if (view === "print") { // a page of paper, of a window that is wider
    await page.emulateMedia({ media: "print" });
    await page.setViewportSize({ width: 688, height: 1000 });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  }
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  return { page, close: async () => { assert.deepEqual(faults, [], `${points} points at ${view}`); await context.close(); } };
}

// The page is no wider than the window, and no element with text hides a part of it.
async function nothingIsCutOff(page, what) {
  const cut = await page.evaluate(() => {
    const bad = [];
    const room = document.documentElement;
    if (room.scrollWidth > room.clientWidth) bad.push(`the page is ${room.scrollWidth} wide in ${room.clientWidth}`);
    for (const e of document.body.querySelectorAll("*")) {
      const style = getComputedStyle(e);
      const text = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
      if (!text || e.closest("[hidden], .hidden, .skip, script, details:not([open]) > :not(summary)") || style.display === "none" || !e.checkVisibility()) continue;
      if (e instanceof SVGElement) {
        const box = e.getBoundingClientRect();
        if (e instanceof SVGTextElement && (box.left < -1 || box.right > room.clientWidth + 1)) bad.push(`text of a chart: ${e.textContent}`);
      } else if (style.display !== "inline" && (e.scrollWidth > e.clientWidth + 1 || (style.overflowY === "hidden" && e.scrollHeight > e.clientHeight + 1))) {
        bad.push(`<${e.localName} class="${e.className}">: ${e.textContent.trim().slice(0, 60)}`);
      }
    }
    for (const e of document.querySelectorAll(".scroll")) if (e.checkVisibility() && e.scrollWidth > e.clientWidth) bad.push(`a table is ${e.scrollWidth} wide in ${e.clientWidth}`);
    for (const e of document.querySelectorAll("select")) {
      if (!e.checkVisibility()) continue;
      const probe = e.cloneNode();
      probe.append(new Option(e.selectedOptions[0].text));
      Object.assign(probe.style, { position: "absolute", maxWidth: "none", width: "auto", flex: "none" });
      e.after(probe);
      if (probe.offsetWidth > e.offsetWidth + 1) bad.push(`select: ${e.selectedOptions[0].text}`);
      probe.remove();
    }
    return bad;
  });
  assert.deepEqual(cut, [], what);
}

async function noSeriousViolation(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const serious = violations.filter((v) => ["serious", "critical"].includes(v.impact));
  assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`), [], what);
}

const marksOf = (page) => page.locator("#chart .point");
const tipOf = (page) => page.evaluate(() => (document.getElementById("tip").hidden ? "" : document.getElementById("tip").innerText));

async function hover(page) {
  const mark = marksOf(page).last();
  await mark.scrollIntoViewIfNeeded();
  const box = await mark.boundingBox();
  await page.mouse.move(box.x + box.width / 2 + 6, box.y + box.height / 2 + 6);
  const tip = await tipOf(page);
  for (const title of ["Loss (nats/token)", "KV cache per token", "Parameters"]) assert.ok(tip.includes(title), `no ${title} in ${tip}`);
  await page.keyboard.press("Escape");
  assert.equal(await tipOf(page), "");
  await page.mouse.move(0, 0);
}

async function tap(page) {
  const mark = marksOf(page).last();
  await mark.scrollIntoViewIfNeeded();
  const box = await mark.boundingBox();
  await page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
  assert.ok((await tipOf(page)).includes("Loss (nats/token)"), "no tip after a tap");
}

// Every figure can be on an axis, on every scale, with marks at other places. Only some are tried of a report with many points.
async function axes(page) {
  const places = () => marksOf(page).evaluateAll((all) => all.map((m) => m.getAttribute("transform")).join());
  const names = await page.locator("#x option").evaluateAll((all) => all.map((o) => o.value));
  assert.ok(names.length >= 8, `figures ${names}`);
  const before = await places();
  const count = await marksOf(page).count();
  for (const name of count > 100 ? names.slice(0, 3) : names) {
    await page.selectOption("#x", name);
    for (const scale of ["linear", "near", "log"]) {
      await page.selectOption("#x-scale", scale);
      assert.equal(await marksOf(page).count(), count, `marks over ${name}, ${scale}`);
      assert.ok(!(await page.locator("#chart").innerHTML()).includes("NaN"), `NaN over ${name}, ${scale}`);
    }
  }
  await page.selectOption("#x", "params");
  assert.ok((await places()) !== before || count === 1, "the marks did not move");
}

async function keyboard(page) {
  await page.locator("#chart .point[tabindex='0']").focus();
  const first = await tipOf(page);
  await page.keyboard.press("ArrowRight");
  const second = await tipOf(page);
  assert.ok(first && second && (first !== second || (await marksOf(page).count()) === 1), `${first} / ${second}`);
  const label = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  assert.ok(label.includes("Loss (nats/token)"), label);
  await page.keyboard.press("Escape");
  assert.equal(await tipOf(page), "");
}

// The table is sorted from the keyboard, and says so.
async function sorting(page) {
  const button = page.locator("#table th button", { hasText: "Loss" }).first();
  const losses = () => page.locator("#table tbody td[data-name=loss]").evaluateAll((all) => all.map((c) => +c.dataset.sort));
  for (const [order, key] of [["ascending", "Enter"], ["descending", "Space"]]) {
    await button.focus();
    await page.keyboard.press(key);
    assert.equal(await page.locator("#table th[data-name=loss]").getAttribute("aria-sort"), order);
    const got = await losses();
    assert.deepEqual(got, [...got].sort((a, b) => (order === "ascending" ? a - b : b - a)));
  }
  assert.equal(await page.locator("#table th[aria-sort]").count(), 1);
}

// Columns can be added and removed, and curves hidden.
async function choices(page) {
  await page.locator(".chooser summary").click();
  await page.locator(".chooser input[value=params]").setChecked(false);
  assert.equal(await page.locator("#table td[data-name=params]:visible").count(), 0);
  await page.locator(".chooser input[value=params]").setChecked(true);
  assert.ok((await page.locator("#table td[data-name=params]:visible").count()) > 0);
  const marks = await marksOf(page).count();
  await page.locator("#legend button").last().click();
  assert.ok((await marksOf(page).count()) < marks);
  await page.locator("#legend button").last().click();
}

// Another batch size shows the same models at other places.
async function settings(page) {
  const times = () => page.evaluate(() => [...document.querySelectorAll("#chart .point")].map((m) => m.getAttribute("aria-label")).join());
  const before = await times();
  await page.selectOption("#setting", { index: 1 });
  assert.ok((await times()) !== before, "the marks did not change");
  assert.equal(await page.locator("section[aria-labelledby=latencies] tbody tr").count(), 4);
}

for (const points of [1, 8, 14, 200]) {
  for (const view of Object.keys(views)) {
    if (points < 14 && !/^\d/.test(view)) continue; // they have nothing that 14 points have not
    const { page, close } = await open(points, view);
    assert.equal(await marksOf(page).count(), points === 8 ? 4 : points);
    assert.equal(await page.locator("#table tbody tr").count(), points);
    await nothingIsCutOff(page, `${points} points at ${view}`);
    if (view === "1280" || points === 14 && view !== "print") await noSeriousViolation(page, `${points} points at ${view}`);
    if (screenshots) await page.screenshot({ path: `${screenshots}/${points}-${view}.png`, fullPage: true });
    if (view === "390") await tap(page);
    if (view === "1280") {
      await hover(page);
      await keyboard(page);
      await sorting(page);
      if (points > 1) await choices(page);
      if (points === 8) await settings(page);
      await axes(page);
    }
    await close();
  }
  console.log(`${points} points: ok`);
}
await browser.close();
