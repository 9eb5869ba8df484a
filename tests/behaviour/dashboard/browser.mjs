// What an operator does with the dashboard, in a real browser. dashboard.rs starts one scenario with
// what it needs in DASHBOARD; a scenario that ends without an error has seen what its name says.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const given = JSON.parse(process.env.DASHBOARD);
const require = createRequire(join(given.modules, "from-here.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;
const PATIENCE = 80_000;
const begun = Date.now();

/** How far it came, for a run that does not come to its end. */
const note = (what) => console.log(`${((Date.now() - begun) / 1000).toFixed(1)} s: ${what}`);

const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox"] });

/** A tab, with what it must not do noted: complain, and ask anybody but the app. */
async function tab({ width = 1280, height = 900, dark = false, expected = /$^/ } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [], requests = [], answers = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request));
  page.on("response", (response) => answers.push(response));
  const check = async () => {
    assert.deepEqual(complaints, [], "the console");
    for (const request of requests) {
      const url = request.url();
      if (url.startsWith("data:") || url.startsWith("blob:")) continue;
      assert.ok(url.startsWith(`${given.url}/`) || url.startsWith("file:"), `a request left for ${url}`);
      assert.ok(!url.includes(given.key), "the key is in a URL");
    }
    assert.equal(await page.evaluate(() => localStorage.length), 0);
    assert.deepEqual(await context.cookies(), []);
    await context.close();
  };
  return { context, page, requests, answers, check };
}

/** Nothing for axe to find, in every rule that it has. */
async function accessible(page, where) {
  note(where);
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  assert.ok(passes.length > 10, "axe looked at nothing");
  assert.deepEqual(violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(" ")}`), [], where);
}

async function enter(page, key = given.key) {
  await page.getByLabel("Host key").fill(key);
  await page.keyboard.press("Enter");
}

async function shot(page, name) {
  if (given.screenshots) await page.screenshot({ path: join(given.screenshots, `${name}.png`) });
}

const recovery = () => `${given.url}/api/dashboard/${given.id}`;
async function state(page, name) {
  await page.locator("#state").filter({ hasText: name }).waitFor();
  note(name);
}
const rows = (page) => page.locator("#tables tbody tr");

const scenarios = {
  /** From the list to one recovery; it moves, and ends with a table that failed. */
  async follows() {
    const { page, requests, check } = await tab();
    await page.goto(`${given.url}/api/dashboard`);
    await accessible(page, "the key's form");
    await enter(page);
    await page.getByRole("link", { name: given.id }).waitFor();
    await accessible(page, "the list");
    await shot(page, "dashboard-list");
    await page.getByRole("link", { name: given.id }).click();
    const seen = new Set();
    await state(page, "running");
    for (const end = Date.now() + PATIENCE; Date.now() < end;) {
      const now = await page.evaluate(() => [document.getElementById("state").textContent, document.getElementById("overall").value]);
      seen.add(now[1]);
      if (seen.size === 4) {
        await accessible(page, "a running recovery");
        await shot(page, "dashboard-running");
      }
      if (now[0].includes("failed")) break;
      await page.waitForTimeout(200);
    }
    assert.ok(seen.size >= 4, `it did not move: ${[...seen]}`);
    await state(page, "failed");
    assert.equal(await page.locator("#overall").evaluate((it) => it.value), 1);
    // What failed comes first, with its reason.
    assert.match(await rows(page).first().innerText(), /customers[\s\S]*failed[\s\S]*not customers/);
    assert.equal(await rows(page).count(), given.tables);
    assert.match(await page.locator("#verdict").innerText(), /proven/);
    for (const chart of ["#rows-chart", "#changes-chart", "#bars"]) {
      assert.ok((await page.locator(`${chart} svg`).getAttribute("aria-label")).length > 10, chart);
    }
    await page.getByText("row-versions").first().click();
    await accessible(page, "a failed recovery");
    await shot(page, "dashboard-failed");
    // The key went as a header, with every request to the API and none for the page.
    for (const request of requests) {
      const api = request.url().includes("/api/recoveries");
      assert.equal((await request.allHeaders())["x-functions-key"], api ? given.key : undefined, request.url());
    }
    await check();
    for (const [name, size] of [["dark", { dark: true }], ["phone", { width: 375, height: 800 }], ["phone-dark", { width: 320, height: 700, dark: true }]]) {
      const { page, check } = await tab(size);
      await page.goto(recovery());
      await enter(page);
      await state(page, "failed");
      await rows(page).first().waitFor();
      await accessible(page, name);
      const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(wide <= window, `${name}: ${wide} wide in ${window}`);
      await shot(page, `dashboard-${name}`);
      await check();
    }
  },

  /** By keyboard alone: retry what failed, see it complete, save it. */
  async retries() {
    const { page, check } = await tab();
    await page.goto(recovery());
    await enter(page);
    await state(page, "failed");
    await page.getByRole("button", { name: "Retry what failed…" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await accessible(page, "the dialog");
    // The harmless answer is the first one.
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Leave it");
    await page.keyboard.press("Escape");
    assert.match(await page.locator("#state").innerText(), /failed/);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await state(page, "completed");
    assert.match(await page.locator("#said").textContent(), /completed/);
    assert.equal(await page.getByRole("button", { name: /Retry|Cancel/ }).count(), 0);
    await page.getByLabel("Find").fill("customers");
    assert.equal(await rows(page).count(), 1);
    const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save as a file" }).click()]);
    assert.equal(saved.suggestedFilename(), `recovery-${given.id}.html`);
    const file = await saved.path(), text = await readFile(file, "utf8");
    for (const absent of [given.key, "<script", "<button", "<input", "sessionStorage"]) assert.ok(!text.includes(absent), absent);
    await page.getByLabel("Find").fill("");
    const all = await tab();
    const [whole] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save as a file" }).click()]);
    const path = `${await whole.path()}.html`;
    await whole.saveAs(path);
    await all.page.goto(pathToFileURL(path).href);
    assert.equal(await rows(all.page).count(), given.tables);
    assert.match(await all.page.title(), new RegExp(`${given.id}: completed`));
    await accessible(all.page, "the saved page");
    assert.equal(all.requests.length, 1, "the saved page asks for nothing");
    await all.context.close();
    await check();
  },

  /** Nothing happens unless it is confirmed; then it ends. */
  async cancels() {
    const { page, requests, check } = await tab();
    await page.goto(recovery());
    await enter(page);
    await state(page, "running");
    const cancel = page.getByRole("button", { name: "Cancel the recovery…" });
    await cancel.click();
    await page.getByRole("button", { name: "Let it go on" }).click();
    assert.ok(!requests.some((request) => request.method() === "POST"));
    await cancel.click();
    await page.getByRole("button", { name: "Cancel the recovery", exact: true }).click();
    await state(page, "cancelled");
    await cancel.waitFor({ state: "hidden" });
    await check();
  },

  /** A key that is wrong is not kept; a recovery that is not there is said to be so. */
  async refuses() {
    const { page, check } = await tab({ expected: /status of (401|404)|requires 'TrustedHTML'/ });
    await page.goto(`${given.url}/api/dashboard/00000000-0000-4000-8000-000000000000`);
    await enter(page, "wrong");
    await page.getByRole("alert").filter({ hasText: "does not take this key" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await enter(page);
    await page.getByRole("alert").filter({ hasText: "there is no recovery" }).waitFor();
    await page.goto(`${given.url}/api/dashboard`);
    await page.getByRole("button", { name: "Forget the key" }).click();
    await page.getByLabel("Host key").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    // Nothing runs here but the page's own script.
    const stopped = await page.evaluate(() => {
      try { document.body.innerHTML = "<b>text</b>"; return "markup was taken"; } catch { return "refused"; }
    });
    assert.equal(stopped, "refused");
    await check();
  },

  /** 5,000 tables: one page of them at a time, found and sorted over all of them, asked for once. */
  async many() {
    const { page, answers, check } = await tab();
    await page.goto(recovery());
    const since = Date.now();
    await enter(page);
    await page.getByText("1 to 50 of 5,000").waitFor();
    const took = Date.now() - since;
    assert.equal(await rows(page).count(), 50);
    await accessible(page, "many tables");
    await page.getByRole("button", { name: "Inserts" }).click();
    assert.match(await rows(page).first().innerText(), /t_5000/);
    assert.equal(await page.getByRole("columnheader", { name: "Inserts" }).getAttribute("aria-sort"), "descending");
    await page.getByRole("button", { name: "Inserts" }).click();
    assert.match(await rows(page).first().innerText(), /t_0001/);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("51 to 100 of 5,000").waitFor();
    const typed = Date.now();
    await page.getByLabel("Find").fill("t_42");
    await page.getByText("1 to 50 of 100 (5,000 in all)").waitFor();
    const found = Date.now() - typed;
    await page.getByLabel("Find").fill("");
    await page.getByLabel("Show").selectOption("failed");
    await page.getByText("1 to 50 of 50 (5,000 in all)").waitFor();
    // The second round brings nothing anew.
    const before = answers.length;
    for (const end = Date.now() + PATIENCE; answers.length < before + 6 && Date.now() < end;) await page.waitForTimeout(200);
    assert.deepEqual([...new Set(answers.slice(before).map((answer) => answer.status()))], [304]);
    await page.getByLabel("Show").selectOption("");
    // All of them on paper.
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.equal(await rows(page).count(), 5000);
    assert.equal(await page.locator("details:not([open])").count(), 0, "reasons are printed too");
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    assert.equal(await rows(page).count(), 50);
    assert.notEqual(await page.locator("details:not([open])").count(), 0, "and folded again");
    console.log(`5,000 tables: shown after ${took} ms, found after ${found} ms`);
    assert.ok(took < 30_000 && found < 5_000, "too slow");
    await check();
  },
};

try {
  await scenarios[process.argv[2]]();
} finally {
  await browser.close();
}
