// Writes the chart library of the report's page, ../html/vendor: the parts of Observable Plot that the page uses in one minified
// file, the licences of everything in it, and checksums. "make charts" calls it.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const vendor = new URL("../html/vendor/", import.meta.url);
const source = `
import { dot, line, link, plot, ruleY, text } from "@observablehq/plot";
globalThis.Plot = { dot, line, link, plot, ruleY, text };
`;

const made = await build({
  stdin: { contents: source, resolveDir: new URL(".", import.meta.url).pathname },
  bundle: true, minify: true, format: "iife", target: "es2020", charset: "ascii", legalComments: "none", write: false, metafile: true, outdir: ".",
});

const packages = new Set(Object.keys(made.metafile.inputs).map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean));
const licences = [...packages].sort().map((name) => {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(readFileSync(new URL("package.json", folder)));
  const file = readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
  const text = file ? readFileSync(new URL(file, folder), "utf8").trim() : `Licence: ${license}`;
  return `${name} ${version}\n\n${text}\n`;
});

const files = { "plot.min.js": made.outputFiles[0].text, LICENCES: licences.join(`\n${"-".repeat(72)}\n\n`) };
let sums = "";
for (const [name, text] of Object.entries(files)) {
  writeFileSync(new URL(name, vendor), text);
  sums += `${createHash("sha256").update(text).digest("hex")}  ${name}\n`;
}
writeFileSync(new URL("SHA256SUMS", vendor), sums);
