// Writes the chart library of the report's page, ../html/vendor: the parts of Observable Plot that the page uses in one minified
// file that begins with the licences of everything in it, these licences, and checksums. "make charts" calls it.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const source = `
import { dot, line, link, plot, ruleY, text } from "@observablehq/plot";
globalThis.Plot = { dot, line, link, plot, ruleY, text };
`;
const { metafile, outputFiles } = await build({
  stdin: { contents: source, resolveDir: new URL(".", import.meta.url).pathname },
  bundle: true, minify: true, format: "iife", target: "es2020", charset: "ascii", legalComments: "none", write: false, metafile: true, outdir: ".",
});

// The packages of which something is in the file, by the text of their licence.
const [{ inputs }] = Object.values(metafile.outputs);
const used = Object.keys(inputs).filter((path) => inputs[path].bytesInOutput > 0);
const packages = new Set(used.map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean));
const licences = new Map();
for (const name of [...packages].sort()) {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version } = JSON.parse(readFileSync(new URL("package.json", folder)));
  const file = readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
  if (!file) throw new Error(`${name} has no licence`);
  const text = readFileSync(new URL(file, folder), "utf8").trim();
  licences.set(text, [...(licences.get(text) ?? []), `${name} ${version}`]);
}
const notice = [...licences].map(([text, names]) => `${names.join(", ")}\n\n${text}\n`).join(`\n${"-".repeat(72)}\n\n`);

const vendor = new URL("../html/vendor/", import.meta.url);
const files = { "plot.min.js": `/*!\n${notice}*/\n${outputFiles[0].text}`, LICENCES: notice };
let sums = "";
for (const [name, text] of Object.entries(files)) {
  writeFileSync(new URL(name, vendor), text);
  sums += `${createHash("sha256").update(text).digest("hex")}  ${name}\n`;
}
writeFileSync(new URL("SHA256SUMS", vendor), sums);
